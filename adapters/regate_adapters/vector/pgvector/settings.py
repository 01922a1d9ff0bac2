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
