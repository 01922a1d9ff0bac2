"""The `redis` section of the settings: what gateways share beside their database. A part of `settings.py`."""

from __future__ import annotations

import importlib.util
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from regate_adapters.settings_types import EnvironmentName, Name, Section


class Redis(Section):
    """A Redis in which gateways count quotas together and tell each other of background responses. Without
    one each gateway counts for itself.
    """

    url: str | None = Field(
        default=None,
        pattern=r"^(rediss?://[^?#]+|unix:///[^?#]+)$",
        description="Address of the Redis that gateways share, as `redis://host:6379/0` or `rediss://…`, "
        "without a password. Absent: each gateway counts quotas for itself.",
    )
    url_env: EnvironmentName | None = Field(
        default=None,
        description="Environment variable that holds the address instead, for a Redis that asks for a "
        "password.",
    )
    prefix: Name = Field(
        default="regate",
        description="What all keys and channels begin with; gateways that share it share what is counted.",
    )
    timeout_ms: int = Field(default=250, ge=10, le=10_000, description="Longest wait for an answer of Redis.")

    @property
    def is_used(self) -> bool:
        """Whether there is one."""
        return self.url is not None or self.url_env is not None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.url is not None and self.url_env is not None:
            raise ValueError("only one of url and url_env may be set")
        if self.url is not None and urlsplit(self.url).password is not None:
            raise ValueError(
                "url must not hold a password; put the whole URL into an environment variable and name that "
                "in url_env"
            )
        if self.is_used and importlib.util.find_spec("redis") is None:
            raise ValueError("needs the client of Redis: install regate[redis]")
        return self
