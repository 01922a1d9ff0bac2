"""What uses MCP servers: their client behind the guard, with the operator's tokens. The SDK is imported with
the first use.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import partial

from regate_adapters.egress.guard import EgressGuard
from regate_adapters.mcp.client import McpClient
from regate_adapters.mcp.settings import Mcp, McpIdentity
from regate_gateway.composition.outside.egress import McpWayOut
from regate_gateway.config.secret import (
    header_secret,
    header_secret_from_environment,
    secret_from_environment,
    secret_from_file,
)
from regate_orchestrator.documents.urls import read_url
from regate_orchestrator.errors import ConfigurationError, InvalidRequest
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import McpServers


def make_mcp_servers(settings: Mcp, guard: EgressGuard, metrics: Metrics) -> McpServers:
    """Return the servers that may be used. Raises `ConfigurationError` for a token that is not where it
    should be.
    """
    check_mcp(settings)
    secrets = {
        label: secret_from_environment(
            identity.client_secret_env, setting=f"tools.mcp.servers.{label}.identity.client_secret_env"
        ).reveal()
        for label, identity in _identities(settings)
        if identity.client_secret_env is not None
    }
    tokens = {
        label: _token(label, identity)
        for label, identity in _identities(settings)
        if identity.kind == "static"
    }
    return McpClient(settings, McpWayOut(guard), metrics, tokens=tokens, secrets=secrets)


def check_mcp(settings: Mcp) -> None:
    """Raise `ConfigurationError` for servers that could not be used as configured. Connects nowhere."""
    if (settings.servers or settings.server_urls) and importlib.util.find_spec("mcp") is None:
        raise ConfigurationError("tools.mcp: MCP servers need their client: install regate[mcp]")
    for label, server in settings.servers.items():
        _check_address(server.url, f"tools.mcp.servers.{label}.url")
        if server.identity.token_url is not None:
            _check_address(server.identity.token_url, f"tools.mcp.servers.{label}.identity.token_url")
        if server.identity.kind == "static":
            _token(label, server.identity)()


def _identities(settings: Mcp) -> Iterator[tuple[str, McpIdentity]]:
    yield from ((label, server.identity) for label, server in settings.servers.items())


def _token(label: str, identity: McpIdentity) -> Callable[[], str]:
    """Return what gives the operator's token for a server: a file is read anew each time, as tokens in files
    are replaced while a gateway runs.
    """
    place = f"tools.mcp.servers.{label}.identity"
    if identity.token_file is not None:
        return partial(_in_file, identity, f"{place}.token_file")
    assert identity.token_env is not None  # noqa: S101 — INVARIANT: the settings demand one of the two
    secret = header_secret_from_environment(identity.token_env, setting=f"{place}.token_env")
    return secret.reveal


def _in_file(identity: McpIdentity, setting: str) -> str:
    assert identity.token_file is not None  # noqa: S101 — INVARIANT: whoever asks looked
    return header_secret(secret_from_file(identity.token_file, setting=setting), setting=setting).reveal()


def _check_address(address: str, setting: str) -> None:
    try:
        read_url(address)
    except InvalidRequest as error:
        raise ConfigurationError(f"{setting}: {error.message}") from error
