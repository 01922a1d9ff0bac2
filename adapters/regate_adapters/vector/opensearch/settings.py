"""The settings of OpenSearch and Elasticsearch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from regate_adapters.settings_types import EnvironmentName, Name, Seconds, plain_address
from regate_adapters.vector.kind import EngineSettings


class _SearchServerSettings(EngineSettings):
    """What both have in common."""

    url: str = Field(
        description="Address of OpenSearch or Elasticsearch, as `https://host:9200`; required with "
        "either kind."
    )
    username: str | None = Field(
        default=None, description="User name at OpenSearch or Elasticsearch; needs `password_env`."
    )
    password_env: EnvironmentName | None = Field(
        default=None, description="Environment variable with that user's password."
    )
    index_prefix: Name = Field(
        default="regate",
        description="Beginning of the names of the indices in OpenSearch or Elasticsearch; deployments that "
        "share a cluster need different ones.",
        json_schema_extra={"default_text": "regate"},
    )
    timeout_s: Seconds = Field(
        default=8,
        description="Longest wait for each answer of OpenSearch or Elasticsearch.",
        json_schema_extra={"default_text": "8"},
    )

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        return plain_address(url, instead="username and password_env")


class OpenSearchSettings(_SearchServerSettings):
    """OpenSearch."""

    kind: Literal["opensearch"] = "opensearch"


class ElasticsearchSettings(_SearchServerSettings):
    """Elasticsearch."""

    kind: Literal["elasticsearch"] = "elasticsearch"
    api_key_env: EnvironmentName | None = Field(
        default=None,
        description="Environment variable with an API key of Elasticsearch, in its encoded form, in place of "
        "a user name.",
    )
