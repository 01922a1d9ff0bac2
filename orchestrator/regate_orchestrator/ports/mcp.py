"""What lists and calls the tools of MCP servers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from regate_orchestrator.errors import RegateError
from regate_orchestrator.principal import Context
from regate_orchestrator.values import JsonObject

Identity: TypeAlias = Literal["none", "static", "client", "forward", "exchange"]
"""How the gateway authenticates to a server: not at all, with a token of the operator, with what the client
gave for it, with the caller's own token, or with one that the caller's was exchanged for.
"""


class McpListFailed(RegateError):
    """A server did not say which tools it has. The message is plain, for the caller."""

    code = "mcp_list_failed"


@dataclass(frozen=True, slots=True)
class McpServer:
    """A server as one request names it."""

    label: str
    url: str = ""
    """A client's own `server_url`; empty for one that the operator named by its label."""
    authorization: str = field(default="", repr=False)
    """The client's own, for that server alone."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Annotations:
    """What a tool does, as the operator recorded it and never as its server claims. What is not recorded is
    assumed to be the worst.
    """

    read_only: bool = False
    destructive: bool = True
    idempotent: bool = False
    open_world: bool = True


@dataclass(frozen=True, slots=True)
class McpTool:
    """A tool of a server. The texts are clean: without control and invisible characters, and bounded."""

    name: str
    description: str
    input_schema: JsonObject
    claimed: JsonObject
    """The annotations as the server claims them, only to be shown."""
    recorded: Annotations


@dataclass(frozen=True, slots=True)
class McpOutcome:
    """What became of a call. `error` is None for a result that is no error."""

    text: str = field(repr=False)
    structured: JsonObject | None = field(repr=False)
    is_error: bool
    error: JsonObject | None
    """`{"type": "mcp_protocol_error", "code", "message"}`, `{"type": "mcp_tool_execution_error", "content"}`,
    or `{"type": "http_error", "code", "message"}`.
    """
    identity: Identity
    mime: str = "text/plain"
    size: int = 0
    """The bytes of the text, in UTF-8."""


class McpServers(Protocol):
    """The MCP servers that may be used. Proven by `tests/adapters/mcp`.

    Each connection must be decided for the caller (`regate.egress`) before it is made. What a server fails in
    must never hold an address, a token or a header in its message.
    """

    def knows(self, server: McpServer) -> bool:
        """Return whether the operator named the server, or lets clients name theirs by `server_url`."""
        ...

    async def tools(self, context: Context, server: McpServer) -> Sequence[McpTool]:
        """Return the tools of the server, as it lists them now or did a short while ago.

        Raises `McpListFailed`, `EgressDenied`, `InvalidRequest` for what the server may not be given, and
        `NotPermitted` where the caller's token may not be used for it.
        """
        ...

    async def call(
        self,
        context: Context,
        server: McpServer,
        name: str,
        arguments: JsonObject,
        *,
        deadline_s: float | None,
        max_bytes: int,
    ) -> McpOutcome:
        """Return what the tool of exactly this name answered, or how that failed.

        The deadline holds for all of it, whatever progress the server tells. When cancelled, the server must
        be told, and the connection closed within a second. Raises as `tools` does, but for `McpListFailed`.
        """
        ...
