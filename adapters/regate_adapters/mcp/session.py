"""One exchange with a server: a session of the SDK that is opened for it, bounded by a deadline, and closed.

Sessions are not kept: a call that is cancelled ends its own connection and nobody else's, and no server knows
two callers as one. What a server asks for itself (sampling, elicitation, roots) is refused by the SDK, as
nothing here offers it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any, Final, TypeVar

import httpx2
import mcp_types as types
from mcp.client.session import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError

from regate_adapters.mcp.cleaning import Cleaner
from regate_adapters.mcp.failures import McpFailed, http_error, protocol_error
from regate_adapters.mcp.watching import Watch, WatchedTransport

_log = logging.getLogger("regate.mcp")

Result = TypeVar("Result")

_TELLING_SECONDS: Final = 0.5
_GATEWAY: Final = types.Implementation(name="regate", version=version("regate"))
_HTTP_WORDS: Final = frozenset({"Server returned an error response", "Not Found", "Session terminated"})
"""What the SDK says in place of a status."""
_SDK_WORDS: Final = ("Unexpected content type", "server answered a request with 202", "Redirect to ")
"""What the SDK says, in an error of the server's, of an answer that is none."""


@dataclass(frozen=True, slots=True)
class Line:
    """The way to a server, and with what to speak."""

    transport: httpx2.AsyncBaseTransport
    url: str
    older: bool
    """Whether it speaks HTTP with SSE, as before streamable HTTP."""
    headers: Mapping[str, str] = field(repr=False)
    deadline_s: float
    limit_bytes: int
    changed: Callable[[], None] = lambda: None
    """Called when the server says that its list of tools changed."""


async def exchanged(
    line: Line, work: Callable[[ClientSession], Awaitable[Result]], cleaner: Cleaner
) -> Result:
    """Return what the work did with a session that is open for it. Raises `McpFailed`, whatever fails."""
    watch, deadline, task = Watch(), asyncio.timeout(line.deadline_s), asyncio.current_task()
    assert task is not None  # noqa: S101 — INVARIANT: this is awaited in one
    cancelled_before = task.cancelling()
    watch.cut = partial(_cut, deadline)
    try:
        async with deadline, _opened(line, watch) as session:
            return await _cancelling(work(session), watch)
    # Whatever the SDK raises on a server's word, alone or in groups, is a failure of that server
    except Exception as error:  # noqa: BLE001
        if task.cancelling() > cancelled_before:  # what failed meanwhile must not hide it
            raise asyncio.CancelledError from None
        raise _failure(error, watch, cleaner, is_late=deadline.expired()) from None


def _cut(deadline: asyncio.Timeout) -> None:
    if not deadline.expired():
        deadline.reschedule(0)


async def _cancelling(working: Awaitable[Result], watch: Watch) -> Result:
    """Return what the work returns. When it is cancelled, the server has a moment to take the word of it."""
    try:
        return await working
    except asyncio.CancelledError:
        if watch.failure is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TELLING_SECONDS):
                    await watch.told_cancelled.wait()
        raise


@asynccontextmanager
async def _opened(line: Line, watch: Watch) -> AsyncIterator[ClientSession]:
    async with (
        _streams(line, watch) as (read, write),
        ClientSession(
            read, write, client_info=_GATEWAY, message_handler=lambda message: _heard(message, line)
        ) as session,
    ):
        try:
            await session.initialize()
        except MCPError as error:
            if error.code != types.METHOD_NOT_FOUND:
                raise
            await session.discover()  # a server of the protocol without sessions
        yield session


@asynccontextmanager
async def _streams(line: Line, watch: Watch) -> AsyncIterator[tuple[Any, Any]]:
    client = httpx2.AsyncClient(
        transport=WatchedTransport(line.transport, watch, holds_stream=line.older),
        headers=dict(line.headers),
        timeout=line.deadline_s,
        trust_env=False,
        max_redirects=0,
    )
    if line.older:
        async with sse_client(line.url, httpx_client_factory=_Made(client)) as streams:
            yield streams
        return
    async with (
        client,
        streamable_http_client(line.url, http_client=client, max_sse_event_size=line.limit_bytes) as streams,
    ):
        yield streams


@dataclass(frozen=True, slots=True)
class _Made:
    """Hands the SDK the client that is there already, which it closes itself."""

    client: httpx2.AsyncClient

    def __call__(
        self,
        headers: dict[str, str] | None = None,  # noqa: ARG002 — as the SDK calls it
        timeout: httpx2.Timeout | None = None,  # noqa: ARG002
        auth: httpx2.Auth | None = None,  # noqa: ARG002
    ) -> httpx2.AsyncClient:
        return self.client


async def _heard(message: object, line: Line) -> None:
    if isinstance(message, types.ToolListChangedNotification):
        line.changed()


def _failure(error: Exception, watch: Watch, cleaner: Cleaner, *, is_late: bool) -> McpFailed:
    causes = list(_leaves(error))
    cause = next((one for one in causes if isinstance(one, McpFailed | MCPError)), causes[0])
    if isinstance(cause, McpFailed):
        return cause
    if isinstance(watch.failure, httpx2.TimeoutException) or (is_late and watch.failure is None):
        return McpFailed(http_error("The server did not answer in time.", 504))
    if isinstance(watch.failure, httpx2.TransportError):
        return McpFailed(http_error(f"The exchange with the server failed: {watch.failure}.", 502))
    said = cause if isinstance(cause, MCPError) else None
    if 300 <= watch.status < 400 or (watch.status and (said is None or said.message in _HTTP_WORDS)):
        message = f"The server answered with status {watch.status}."
        return McpFailed(http_error(message, watch.status), unauthorized=watch.status == 401)
    if said is None:
        _log.warning("mcp_exchange_failed", extra={"cause": type(cause).__name__})
    if said is None or said.code == types.PARSE_ERROR or said.message.startswith(_SDK_WORDS):
        return McpFailed(protocol_error("The server's answer is not what the protocol says."))
    if said.code == types.CONNECTION_CLOSED:
        return McpFailed(protocol_error("The server closed the connection without an answer.", said.code))
    words = " ".join(cleaner.text(said.message).split())
    return McpFailed(protocol_error(f"The server says: {words}", said.code))


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the errors in a group, or the one that is none."""
    if isinstance(error, BaseExceptionGroup):
        for one in error.exceptions:
            yield from _leaves(one)
    else:
        yield error
