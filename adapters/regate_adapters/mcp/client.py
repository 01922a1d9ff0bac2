"""The client of MCP servers: the port `McpServers` over the official SDK. Lists are used again for a while,
by server and by how it was authenticated to; calls never are.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias, TypeVar

from regate_adapters.mcp.cleaning import Cleaner
from regate_adapters.mcp.exchange import TokenExchange
from regate_adapters.mcp.failures import McpFailed, http_error
from regate_adapters.mcp.identity import Authenticated, Identities, Target
from regate_adapters.mcp.settings import Mcp, McpIdentity, McpServerSettings
from regate_adapters.mcp.way_out import WayOut
from regate_adapters.remembering import Remembered
from regate_orchestrator.errors import FetchFailed, NotFound
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.places import Places
from regate_orchestrator.ports import Identity, McpListFailed, McpOutcome, McpServer, McpTool
from regate_orchestrator.principal import Context
from regate_orchestrator.values import Clock, JsonObject, wall_clock

if TYPE_CHECKING:
    from mcp.client.session import ClientSession

    from regate_adapters.mcp.session import Line

Result = TypeVar("Result")
Work: TypeAlias = Callable[["ClientSession", Cleaner], Awaitable[Result]]
"""What is done with a session, whose texts are cleaned."""
Key: TypeAlias = tuple[str, str, str]

_AT_ONCE: Final = 64
_MAX_LISTS: Final = 512
_MAX_LISTS_BYTES: Final = 64 * 1024 * 1024
_MAX_LIST: Final = 4 * 1024 * 1024
_ENVELOPE: Final = 64 * 1024
"""What an answer has beside its content, at most, where it is counted as it comes."""
_OF_A_CLIENT: Final = McpServerSettings(url="https://client.invalid", identity=McpIdentity(kind="client"))
"""How a server is used that a client names by its address."""


@dataclass(frozen=True, slots=True)
class _Use:
    """A server as one request uses it, for its caller."""

    context: Context
    server: McpServer
    target: Target

    @property
    def identity(self) -> Identity:
        """Return how it is authenticated to."""
        kind = self.target.settings.identity.kind
        is_given = self.server.authorization or self.server.headers
        return "none" if kind == "client" and not is_given else kind


class McpClient:
    """Lists and calls the tools of the servers that are configured, and of those that clients name, where
    they may.
    """

    def __init__(
        self,
        settings: Mcp,
        way_out: WayOut,
        metrics: Metrics,
        *,
        tokens: Mapping[str, Callable[[], str]] | None = None,
        secrets: Mapping[str, str] | None = None,
        clock: Clock = wall_clock,
    ) -> None:
        self._settings = settings
        self._way_out = way_out
        self._exchange = TokenExchange(way_out, secrets or {}, clock=clock)
        self._identities = Identities(tokens or {}, self._exchange)
        self._clock = clock
        self._places = Places(_AT_ONCE)
        self._lists: Remembered[Key, tuple[McpTool, ...]] = Remembered(
            entries=_MAX_LISTS, most_bytes=_MAX_LISTS_BYTES, clock=clock
        )
        self._exchanges = metrics.counter("regate_mcp", "Exchanges with MCP servers.", ("what", "outcome"))

    def knows(self, server: McpServer) -> bool:
        """Return whether the server may be used at all."""
        return self._settings.server_urls if server.url else server.label in self._settings.servers

    async def tools(self, context: Context, server: McpServer) -> Sequence[McpTool]:
        """Return the tools of the server; see the port (`ports/mcp.py`)."""
        use = self._use(context, server)
        await self._way_out.require(context, use.target.url, operator_named=use.target.operator_named)
        try:
            return await self._known_or_listed(use)
        except McpFailed as failed:
            self._exchanges.add("list", str(failed.error["type"]))
            raise McpListFailed(
                f"The tools of the MCP server '{server.label}' could not be listed. {failed}"
            ) from None

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
        """Return what the tool answered; see the port (`ports/mcp.py`)."""
        from regate_adapters.mcp.results import called, failed_call

        use = self._use(context, server)
        settings, identity = use.target.settings, use.identity
        seconds = settings.deadline_s if deadline_s is None else min(deadline_s, settings.deadline_s)
        limit = min(max_bytes, settings.max_result_bytes)

        async def work(session: ClientSession, cleaner: Cleaner) -> McpOutcome:
            return await called(session, name, arguments, identity, cleaner, max_bytes=limit)

        try:
            outcome = await self._done(use, work, seconds=seconds, limit_bytes=limit + _ENVELOPE)
        except McpFailed as failed:
            outcome = failed_call(failed.error, identity)
        self._exchanges.add("call", "ok" if outcome.error is None else str(outcome.error["type"]))
        return outcome

    def _use(self, context: Context, server: McpServer) -> _Use:
        """Return the server with its settings. Raises `NotFound` for one that is not known."""
        if not self.knows(server):
            raise NotFound.of("MCP server", server.label, param="tools")
        if server.url:
            return _Use(context, server, Target(server.label, server.url, _OF_A_CLIENT, operator_named=False))
        settings = self._settings.servers[server.label]
        return _Use(context, server, Target(server.label, settings.url, settings, operator_named=True))

    async def _known_or_listed(self, use: _Use) -> Sequence[McpTool]:
        from regate_adapters.mcp.listing import listed

        settings = use.target.settings
        key = _key(use.target, await self._identities.of(use.context, use.target, use.server))
        if (known := self._lists.recall(key)) is not None:
            return known

        async def work(session: ClientSession, cleaner: Cleaner) -> tuple[McpTool, ...]:
            return await listed(session, settings.tools, cleaner)

        tools = await self._done(use, work, seconds=settings.deadline_s, limit_bytes=_MAX_LIST)
        self._exchanges.add("list", "ok")
        self._lists.remember(key, tools, until=self._clock() + settings.list_ttl_s)
        return tools

    async def _done(self, use: _Use, work: Work[Result], *, seconds: float, limit_bytes: int) -> Result:
        """Return what the work did with a session. A token that was exchanged and is not accepted is
        exchanged once more: nothing was done for it.
        """
        ends = asyncio.get_running_loop().time() + seconds
        try:
            return await self._done_once(use, work, ends, limit_bytes)
        except McpFailed as failed:
            if not failed.unauthorized or use.identity != "exchange":
                raise
        self._exchange.drop(use.context, use.target.label)
        return await self._done_once(use, work, ends, limit_bytes)

    async def _done_once(self, use: _Use, work: Work[Result], ends: float, limit_bytes: int) -> Result:
        from regate_adapters.mcp.session import exchanged

        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout_at(ends):
                    await stack.enter_async_context(self._places.in_turn(use.context.principal.tenant))
                    line, cleaner = await self._line(use, ends, limit_bytes)
            except TimeoutError:
                raise McpFailed(http_error("The server did not answer in time.", 504)) from None
            except FetchFailed:
                raise McpFailed(http_error("The server cannot be found.", 502)) from None
            return await exchanged(line, lambda session: work(session, cleaner), cleaner)

    async def _line(self, use: _Use, ends: float, limit_bytes: int) -> tuple[Line, Cleaner]:
        """Return the way to the server, let out and with what it is sent, and what cleans its texts."""
        from regate_adapters.mcp.session import Line

        target = use.target
        auth = await self._identities.of(use.context, target, use.server)
        transport, url = await self._way_out.transport(
            use.context, target.url, operator_named=target.operator_named, limit_bytes=limit_bytes
        )
        line = Line(
            transport=transport,
            url=url,
            older=target.settings.transport == "sse",
            headers=auth.headers,
            deadline_s=max(ends - asyncio.get_running_loop().time(), 0.001),
            limit_bytes=limit_bytes,
            changed=partial(self._forget, _key(target, auth)),
        )
        return line, Cleaner(auth.secrets)

    def _forget(self, key: Key) -> None:
        """Have the next response list the tools anew."""
        self._lists.remember(key, (), until=float("-inf"))


def _key(target: Target, auth: Authenticated) -> Key:
    return (target.label if target.operator_named else "", target.url, auth.digest)
