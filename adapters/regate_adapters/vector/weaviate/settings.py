"""The settings of Weaviate."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from regate_adapters.settings_types import EnvironmentName, Seconds, plain_address
from regate_adapters.vector.kind import EngineSettings


class WeaviateSettings(EngineSettings):
    """A Weaviate server."""

    kind: Literal["weaviate"] = "weaviate"
    url: str = Field(
        description="Address of a Weaviate server, as `http://host:8080`; required with `kind: weaviate`."
    )
    api_key_env: EnvironmentName | None = Field(
        default=None, description="Environment variable with an API key of Weaviate."
    )
    collections: str = Field(
        default="Regate",
        pattern=r"^[A-Z][A-Za-z]{0,31}$",
        description="Beginning of the names of the collections in Weaviate, a capital letter and more "
        "letters; deployments that share a server need different ones.",
        json_schema_extra={"default_text": "Regate"},
    )
    timeout_s: Seconds = Field(
        default=8,
        description="Longest wait for each answer of Weaviate.",
        json_schema_extra={"default_text": "8"},
    )

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        return plain_address(url, instead="api_key_env")
