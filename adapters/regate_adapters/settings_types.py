"""What settings are made of: the closed section, and the types of single values. An adapter's own settings
lie beside the adapter; `regate_gateway.config.settings` puts all of them together.
"""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]
ModelName = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,256}$")]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class Section(BaseModel):
    """A group of settings: immutable, and closed to keys it does not know."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def below_data_dir(name: str) -> dict[str, Any]:
    """Mark a setting whose default is a path below `data_dir`, for the reference in the documentation."""
    return {"default_text": f"<data_dir>/{name}"}


def plain_address(value: str, *, instead: str) -> str:
    """Return an address without its last slash; raises `ValueError`, saying which setting to use
    instead, for one that holds a secret.
    """
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("must be an http or https address with a host, without query or fragment")
    if "@" in parts.netloc:
        raise ValueError(f"must not hold a user name or password; use {instead}")
    return value.rstrip("/")
