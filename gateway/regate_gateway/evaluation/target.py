"""Which gateway is measured, and as whom: an address, and for each tenant a token and a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from regate_gateway.config.secret import (
    Secret,
    header_secret,
    header_secret_from_environment,
    secret_from_file,
)
from regate_orchestrator.errors import ConfigurationError


class TenantEntry(BaseModel):
    """Where the token of a tenant's member is, and which store the tenant's questions are asked of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    token_env: str | None = None
    token_file: Path | None = None
    store: str | None = None

    @model_validator(mode="after")
    def _require_one_place(self) -> Self:
        if (self.token_env is None) == (self.token_file is None):
            raise ValueError("say token_env or token_file")
        return self

    def token(self, tenant: str) -> Secret:
        """Return the token. Raises `ConfigurationError`."""
        setting = f"tenants.{tenant}"
        if self.token_file is not None:
            setting = f"{setting}.token_file"
            return header_secret(secret_from_file(self.token_file, setting=setting), setting=setting)
        return header_secret_from_environment(self.token_env or "", setting=f"{setting}.token_env")


class Target(BaseModel):
    """A deployment: its base URL up to and including `/v1`, and its tenants. `store` is that of all tenants
    that name none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str = "http://127.0.0.1:8080/v1"
    store: str | None = None
    tenants: Mapping[str, TenantEntry] = Field(min_length=1)

    @field_validator("url")
    @classmethod
    def _require_http(cls, url: str) -> str:
        if not url.startswith(("http://", "https://")):
            raise ValueError("it must begin with http:// or https://")
        return url.rstrip("/")

    def store_of(self, tenant: str) -> str | None:
        """Return the store that the tenant's questions are asked of."""
        return self.tenants[tenant].store or self.store


def read_target(
    file: Path | None, *, url: str | None, store: str | None, tokens: Sequence[tuple[str, str]]
) -> Target:
    """Return what the file says, with the options (`tokens`: a tenant and an environment variable) before it.
    Raises `ConfigurationError`.
    """
    said: dict[str, Any] = {} if file is None else _content(file)
    said |= {name: value for name, value in (("url", url), ("store", store)) if value is not None}
    if tokens:
        tenants = said.get("tenants") or {}
        if isinstance(tenants, Mapping):  # what else it may be is refused below
            added = {tenant: {"token_env": variable} for tenant, variable in tokens}
            said["tenants"] = {**tenants, **added}
    try:
        return Target.model_validate(said)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors(include_url=False)
        ]
        raise ConfigurationError("\n".join([f"{file or 'the options'}:", *faults])) from None


def _content(file: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{file} cannot be read as YAML or JSON: {type(error).__name__}") from None
    if not isinstance(found, dict):
        raise ConfigurationError(f"{file} must hold url and tenants")
    return found
