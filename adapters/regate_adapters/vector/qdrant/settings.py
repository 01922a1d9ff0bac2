"""The settings of a Qdrant server."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from regate_adapters.settings_types import EnvironmentName, plain_address
from regate_adapters.vector.kind import EngineSettings


class QdrantSettings(EngineSettings):
    """A Qdrant server."""

    kind: Literal["qdrant"] = "qdrant"
    url: str = Field(
        description="Address of a Qdrant server's HTTP API, as `https://host:6333` (without a port 6333); "
        "required with `kind: qdrant`."
    )
    api_key_env: EnvironmentName | None = Field(
        default=None,
        description="Environment variable with the API key of a Qdrant server, one that may write; without, "
        "none is sent.",
    )
    collections: str = Field(
        default="regate",
        pattern=r"^[A-Za-z0-9_-]{1,64}$",
        description="Beginning of the names of the collections that a Qdrant server keeps for Regate.",
        json_schema_extra={"default_text": "regate"},
    )
    timeout_s: float = Field(
        default=4,
        gt=0,
        description="Longest wait for a Qdrant server's answer; adding chunks may take eight times as long.",
        json_schema_extra={"default_text": "4"},
    )

    @field_validator("url")
    @classmethod
    def _plain(cls, value: str) -> str:
        return plain_address(value, instead="api_key_env")
