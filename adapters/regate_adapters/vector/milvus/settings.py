"""The settings of a Milvus server."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from regate_adapters.settings_types import EnvironmentName, plain_address
from regate_adapters.vector.kind import EngineSettings


class MilvusSettings(EngineSettings):
    """A Milvus server."""

    kind: Literal["milvus"] = "milvus"
    url: str = Field(
        description="Address of a Milvus server, as `http://host:19530`, or with `https` for TLS; required "
        "with `kind: milvus`."
    )
    token_env: EnvironmentName | None = Field(
        default=None,
        description="Environment variable with what a Milvus server is given to know the gateway: "
        "`user:password`, or an API key; without, nothing.",
    )
    database: str = Field(
        default="default",
        pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,254}$",
        description="Database of a Milvus server; it must be there.",
        json_schema_extra={"default_text": "default"},
    )
    collections: str = Field(
        default="regate",
        pattern=r"^[a-zA-Z_][a-zA-Z0-9_]{0,63}$",
        description="Beginning of the names of the collections that a Milvus server keeps for Regate.",
        json_schema_extra={"default_text": "regate"},
    )
    timeout_s: float = Field(
        default=4,
        gt=0,
        description="Longest wait for a Milvus server's answer; adding and removing chunks may take eight "
        "times as long.",
        json_schema_extra={"default_text": "4"},
    )

    @field_validator("url")
    @classmethod
    def _plain(cls, value: str) -> str:
        return plain_address(value, instead="token_env")
