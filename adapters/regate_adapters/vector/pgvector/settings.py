"""The settings of pgvector."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from regate_adapters.settings_types import EnvironmentName
from regate_adapters.vector.kind import EngineSettings


class PgVectorSettings(EngineSettings):
    """PostgreSQL with pgvector."""

    kind: Literal["pgvector"] = "pgvector"
    url_env: EnvironmentName = Field(
        description=(
            "Environment variable with the database's URL, as `postgresql://user:password@host/database`; "
            "required with `kind: pgvector`."
        )
    )
    pool_size: int = Field(
        default=8,
        ge=1,
        description="Connections to the database of a pgvector engine, at most; more searches than that "
        "wait.",
        json_schema_extra={"default_text": "8"},
    )
    connect_timeout_s: float = Field(
        default=5,
        gt=0,
        description="Longest wait for a new connection to it, unless the URL says so (`connect_timeout`).",
        json_schema_extra={"default_text": "5"},
    )
    statement_timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="Longest time for one statement there, after which PostgreSQL ends it; adding chunks may "
        "take eight times as long.",
        json_schema_extra={"default_text": "6.4"},
    )
    memory_mb: int = Field(
        default=256,
        ge=16,
        description="Memory for the words of what was searched last in a pgvector engine, in MiB.",
        json_schema_extra={"default_text": "256"},
    )
