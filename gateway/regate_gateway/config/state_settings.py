"""The settings of what gateways keep and share: the state store, with where its database is, and Redis."""

from __future__ import annotations

import importlib.util
from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from regate_adapters.settings_types import EnvironmentName, Name, Section
from regate_adapters.state.dialects import ServerOptions
from regate_gateway.config.secret import secret_from_environment


class State(Section):
    """Where responses, files and stores are recorded."""

    url: str | None = Field(
        default=None,
        pattern=r"^(sqlite(\+aiosqlite)?:///[^?#]+|postgresql(\+psycopg)?://[^#]+)$",
        description=(
            "The database: `sqlite:///path`, or `postgresql+psycopg://user@host/database` without a password."
        ),
        json_schema_extra={"default_text": "sqlite:///<data_dir>/regate.db"},
    )
    url_env: EnvironmentName | None = Field(
        default=None,
        description=(
            "Environment variable that holds the URL instead, for a PostgreSQL that asks for a password."
        ),
    )

    pool_size: int = Field(
        default=10,
        ge=1,
        description="Connections to PostgreSQL, at most; more calls than that wait. With SQLite it says "
        "nothing, nor do the next four.",
    )
    connect_timeout_s: float = Field(
        default=5,
        gt=0,
        description="Longest wait for a new connection, unless the URL says so (`connect_timeout`).",
    )
    statement_timeout_s: float | None = Field(
        default=None,
        gt=0,
        description="Longest time for one statement, after which PostgreSQL ends it; a call of several may "
        "take a quarter more in all.",
        json_schema_extra={"default_text": "4"},
    )
    idle_in_transaction_timeout_s: float = Field(
        default=5,
        gt=0,
        description="Longest time that a transaction may do nothing, after which PostgreSQL ends it.",
    )
    row_security: bool = Field(
        default=True,
        description="Have PostgreSQL keep tenants apart as well (row-level security). "
        "`false` switches nothing off that is on.",
    )

    sealing_key_env: EnvironmentName | None = Field(
        default=None,
        description="Environment variable with the secret, 32 bytes or more, under which what clients keep "
        "(`encrypted_content`) is sealed. "
        "Absent: one of this gateway's own, in `data_dir`; gateways that share a database must share it.",
    )

    @field_validator("url")
    @classmethod
    def _without_password(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("postgresql"):
            parts = urlsplit(value)
            if parts.password is not None or "password" in parts.query:
                raise ValueError(
                    "must not hold a password; put the whole URL into an environment variable and name "
                    "that in url_env"
                )
        return value

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if (self.url is None) == (self.url_env is None):
            raise ValueError("exactly one of url and url_env must be set")
        return self


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


def state_url(state: State) -> tuple[str, str]:
    """Return the setting that says where the database is, and its URL, which may hold a password.

    Raises `ConfigurationError` when the variable that holds it is not set.
    """
    if (variable := state.url_env) is not None:
        return f"state.url_env ({variable})", secret_from_environment(
            variable, setting="state.url_env"
        ).reveal()
    assert state.url is not None  # noqa: S101 — INVARIANT: one of the two is set
    return "state.url", state.url


def server_options(state: State) -> ServerOptions:
    """Return what the settings say of a database that is a server."""
    return ServerOptions(
        pool_size=state.pool_size,
        connect_s=state.connect_timeout_s,
        statement_s=state.statement_timeout_s,
        idle_in_transaction_s=state.idle_in_transaction_timeout_s,
        row_security=state.row_security,
    )
