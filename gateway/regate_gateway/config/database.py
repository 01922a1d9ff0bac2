"""Where the state store's database is."""

from __future__ import annotations

from regate_adapters.state.dialects import ServerOptions
from regate_gateway.config.secret import secret_from_environment
from regate_gateway.config.settings import Settings


def state_url(settings: Settings) -> tuple[str, str]:
    """Return the setting that says where the database is, and its URL, which may hold a password.

    Raises `ConfigurationError` when the variable that holds it is not set.
    """
    if (variable := settings.state.url_env) is not None:
        return f"state.url_env ({variable})", secret_from_environment(
            variable, setting="state.url_env"
        ).reveal()
    assert settings.state.url is not None  # noqa: S101 — INVARIANT: settings demand one of the two
    return "state.url", settings.state.url


def server_options(settings: Settings) -> ServerOptions:
    """Return what the settings say of a database that is a server."""
    state = settings.state
    return ServerOptions(
        pool_size=state.pool_size,
        connect_s=state.connect_timeout_s,
        statement_s=state.statement_timeout_s,
        idle_in_transaction_s=state.idle_in_transaction_timeout_s,
        row_security=state.row_security,
    )
