"""What goes on below the SDK: failures of the connection and statuses, of which it keeps only words; the GETs
that it would hold open for what a server might ask, which are not made; and an end at once when an answer is
too long.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final, cast

import httpx2

_GOODBYE_SECONDS: Final = 0.5
_CANCELLED: Final = b'"notifications/cancelled"'


@dataclass(slots=True)
class Watch:
    """What was seen of one exchange."""

    status: int = 0
    """The last status that was no success."""
    failure: Exception | None = None
    """What broke the connection."""
    told_cancelled: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the server has taken the word that a call is cancelled."""
    cut: Callable[[], None] = lambda: None
    """Ends the exchange now."""

    def broke(self, error: Exception) -> None:
        """Note a failure of the connection, and end the exchange: the SDK would try again."""
        self.failure = self.failure or error
        self.cut()


class WatchedTransport(httpx2.AsyncBaseTransport):
    """Passes requests on, and tells the watch."""

    def __init__(self, transport: httpx2.AsyncBaseTransport, watch: Watch, *, holds_stream: bool) -> None:
        self._transport = transport
        self._watch = watch
        self._holds_stream = holds_stream
        """Whether the protocol is the older one, whose GET is the way back."""

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer."""
        if request.method == "GET" and not self._holds_stream and "last-event-id" not in request.headers:
            return httpx2.Response(405, request=request)
        if request.method == "DELETE":
            async with asyncio.timeout(_GOODBYE_SECONDS):
                return await self._transport.handle_async_request(request)
        try:
            answer = await self._transport.handle_async_request(request)
        except httpx2.TransportError as error:
            self._watch.broke(error)
            raise
        if answer.status_code >= 300:
            self._watch.status = answer.status_code
        if request.method == "POST" and _CANCELLED in request.content:
            self._watch.told_cancelled.set()
        body = _WatchedBody(cast("httpx2.AsyncByteStream", answer.stream), self._watch)
        return httpx2.Response(answer.status_code, headers=answer.headers, stream=body)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.aclose()


class _WatchedBody(httpx2.AsyncByteStream):
    def __init__(self, body: httpx2.AsyncByteStream, watch: Watch) -> None:
        self._body = body
        self._watch = watch

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in self._body:
                yield piece
        except httpx2.TransportError as error:
            self._watch.broke(error)
            raise

    async def aclose(self) -> None:
        await self._body.aclose()
