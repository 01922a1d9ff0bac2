"""How the gateway authenticates to a server: which headers it sends, of whom. What belongs to one server is
sent to no other.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from regate_adapters.mcp.exchange import TokenExchange
from regate_adapters.mcp.failures import NO_TOKEN, McpFailed, http_error
from regate_adapters.mcp.settings import McpServerSettings, may_be_given
from regate_orchestrator.errors import ConfigurationError, InvalidRequest, NotPermitted
from regate_orchestrator.ports import Identity, McpServer
from regate_orchestrator.principal import Context

_log = logging.getLogger("regate.mcp")

_MAX_HEADERS: Final = 20
_MAX_VALUE: Final = 8_192


@dataclass(frozen=True, slots=True)
class Target:
    """A server with its settings, as the operator or a request names it."""

    label: str
    url: str
    settings: McpServerSettings
    operator_named: bool


@dataclass(frozen=True, slots=True)
class Authenticated:
    """What is sent to a server so that it knows who asks."""

    identity: Identity
    headers: Mapping[str, str] = field(repr=False)

    @property
    def secrets(self) -> list[str]:
        """Return what must not come back in a text: the credentials, with their schemes and without. Other
        headers that a client gives are its own to be told of.
        """
        values = [
            value
            for name, value in self.headers.items()
            if name == "authorization" or self.identity == "static"
        ]
        return [part for value in values for part in (value, value.rpartition(" ")[2])]

    @property
    def digest(self) -> str:
        """Return what tells these headers from others, and nothing about them."""
        return hashlib.sha256(json.dumps(sorted(self.headers.items())).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Identities:
    """Makes the headers. `tokens` give the operator's tokens by the label of the server."""

    tokens: Mapping[str, Callable[[], str]] = field(repr=False)
    exchange: TokenExchange

    async def of(self, context: Context, target: Target, server: McpServer) -> Authenticated:
        """Return what is sent. Raises `InvalidRequest` for what the server may not be given, `NotPermitted`
        where the caller's token may not be used, and `McpFailed` for a token that cannot be had.
        """
        settings = target.settings.identity
        if settings.kind != "client":
            _require_nothing_given(server)
        match settings.kind:
            case "none":
                return Authenticated("none", {})
            case "static":
                token = self._operators(target.label)
                value = f"Bearer {token}" if settings.header == "authorization" else token
                return Authenticated("static", {settings.header: value})
            case "client":
                allowed = None if not target.operator_named else frozenset(settings.headers)
                return Authenticated("client", _given(server, allowed))
            case "forward":
                return Authenticated("forward", _bearer(_token_for(context, target, settings.audience)))
            case "exchange":
                _token_for(context, target, None)
                return Authenticated(
                    "exchange", _bearer(await self.exchange.token(context, target.label, settings))
                )

    def _operators(self, label: str) -> str:
        """Return the operator's token for the server, as it is now. Raises `McpFailed` when it is gone."""
        try:
            return self.tokens[label]()
        except ConfigurationError as error:
            _log.error("mcp_token_gone", extra={"cause": error.message})
            raise McpFailed(http_error(NO_TOKEN, 502)) from None


def _bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


def _token_for(context: Context, target: Target, audience: str | None) -> str:
    """Return the caller's own token. Raises `NotPermitted` for one that is not for this audience."""
    credential = context.credential
    if credential is None:
        raise NotPermitted(
            f"The MCP server '{target.label}' is used with the caller's own token. Send a bearer token."
        )
    if audience is not None and audience not in credential.audiences:
        raise NotPermitted(
            f"Your token is not meant for the MCP server '{target.label}'. Send one that has it in its 'aud'."
        )
    return credential.token


def _require_nothing_given(server: McpServer) -> None:
    if server.authorization or server.headers:
        raise InvalidRequest(
            f"The MCP server '{server.label}' takes no 'authorization' and no 'headers' of a request: the "
            "operator says how it is authenticated to. Leave them out.",
            param="tools",
        )


def _given(server: McpServer, allowed: frozenset[str] | None) -> dict[str, str]:
    """Return the client's headers for its server; None allows all that may be given at all. Raises
    `InvalidRequest`.
    """
    headers = {name.lower(): value for name, value in server.headers.items()}
    if len(headers) > _MAX_HEADERS or len(headers) < len(server.headers):
        raise InvalidRequest("'headers' of an MCP server are too many, or name one twice.", param="tools")
    for name, value in headers.items():
        if not may_be_given(name) or not (allowed is None or name in allowed):
            raise InvalidRequest(
                f"The header '{name[:64]}' cannot be given to an MCP server here. Leave it out.",
                param="tools",
            )
        _require_header(name, value)
    if server.authorization:
        scheme = "" if " " in server.authorization.strip() else "Bearer "
        headers["authorization"] = _require_header("authorization", f"{scheme}{server.authorization.strip()}")
    return headers


def _require_header(name: str, value: str) -> str:
    is_name = bool(name) and name.isascii() and all(one.isalnum() or one in "-_" for one in name)
    is_value = value.isascii() and value.isprintable() and len(value) <= _MAX_VALUE
    if not (is_name and is_value):
        raise InvalidRequest("A header of an MCP server holds what no header can hold.", param="tools")
    return value
