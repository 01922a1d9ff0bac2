"""Answers that pass through: their bytes as they come, once they are known to be an answer, so that no
upstream's error passes for one.

A plain answer is held until it is whole, or too large to be held, and is then looked at. A stream goes on
from its first event, in whole events (`vouched_events.py`). What a JSON object must be to be an error is in
`told_errors.py`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Final, Protocol

from regate_adapters.backend.failures import misunderstood
from regate_adapters.backend.stream.told_errors import read_loosely, reported, tells_error
from regate_adapters.backend.stream.vouched_events import VouchedEvents
from regate_adapters.backend.upstream_response import BLANK, UpstreamResponse
from regate_orchestrator.errors import UpstreamError

_MAX_HELD: Final = 1024 * 1024
_LARGE: Final = 64 * 1024
_PATIENCE_SECONDS: Final = 15.0
"""How long a stream's first event is waited for before the client is told that there is a stream:
others on the way have deadlines too.
"""


class PassingAnswer(Protocol):
    """An answer that passes through."""

    @property
    def is_stream(self) -> bool:
        """Whether it is a stream of events."""
        ...

    @property
    def failure(self) -> UpstreamError | None:
        """How the upstream said that it failed amid its answer, known when the chunks have ended; None
        where it did not say so.
        """
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """Return the bytes: all of an answer that is held, or whole events. Raises `UpstreamError`
        when they break off or stay away.
        """
        ...


async def passing(response: UpstreamResponse, *, member: str, streamed: bool) -> PassingAnswer:
    """Return the answer once it is known to be one: a JSON object with this member, or, where a stream was
    asked for, a stream of them.

    Raises `UpstreamError` for everything else that comes with a status of success, told errors among it.
    """
    chunks = response.chunks()
    if not streamed:
        return await _plain(response, chunks, b"", member)
    stream = _Stream(response, chunks)
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            head = await response.beginning()
            if not head.startswith(b"{"):
                await stream.begin(head)
                return stream
    except TimeoutError:
        return stream
    return await _plain(response, chunks, head, member)


# ---------------------------------------------------------------- plain answers


class _Plain:
    """A plain answer: what was held of it, then the rest."""

    is_stream = False
    failure: UpstreamError | None = None

    def __init__(self, held: bytes, rest: AsyncIterator[bytes]) -> None:
        self._held = held
        self._rest = rest

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        held, self._held = self._held, b""
        return held or await anext(self._rest)


async def _plain(
    response: UpstreamResponse, chunks: AsyncIterator[bytes], head: bytes, member: str
) -> _Plain:
    held = bytearray(head)
    while len(held) <= _MAX_HELD:
        chunk = await anext(chunks, b"")
        if not chunk:
            body = bytes(held)
            _require_answer(response, body, member)
            return _Plain(body, chunks)
        held += chunk
    if not _begins_as_answer(held, member):
        raise misunderstood(response.upstream, f"more than {_MAX_HELD} bytes that do not begin as an answer")
    return _Plain(bytes(held), chunks)


def _require_answer(response: UpstreamResponse, body: bytes, member: str) -> None:
    if len(body) > _LARGE and b'"error"' not in body and _begins_as_answer(body, member):
        return  # reading it would take longer than it is worth
    document = read_loosely(body)
    if not isinstance(document, dict):
        raise misunderstood(response.upstream, "an answer that is no JSON object")
    if tells_error(document):
        raise response.without_key(reported(response.upstream, document))
    if not isinstance(document.get(member), list):
        raise misunderstood(response.upstream, f"an answer without {member!r}")


def _begins_as_answer(held: bytes | bytearray, member: str) -> bool:
    """Return whether a body begins as an answer, and with no error before it. Inside a JSON text every
    quotation mark is escaped.
    """
    place = held.find(b'"%s"' % member.encode())
    return held.lstrip(BLANK).startswith(b"{") and place >= 0 and b'"error"' not in held[:place]


# ---------------------------------------------------------------- streams


class _Stream:
    """A stream, in whole events."""

    is_stream = True

    def __init__(self, response: UpstreamResponse, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._events = VouchedEvents(response)
        self._ready: deque[bytes] = deque()
        self._ended = False

    @property
    def failure(self) -> UpstreamError | None:
        return self._events.failure

    def chunks(self) -> AsyncIterator[bytes]:
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            if self._ended:
                raise StopAsyncIteration
            self._take(await anext(self._chunks, b""))
        return self._ready.popleft()

    async def begin(self, head: bytes) -> None:
        """Return with the first event at hand. Raises `UpstreamError` for an error in its place. May
        be cancelled, and read from all the same.
        """
        self._take(head)
        while not (self._events.begun or self._ended):
            self._take(await anext(self._chunks, b""))
        if self.failure is not None and not self._events.begun:
            raise self.failure

    def _take(self, chunk: bytes) -> None:
        if passed := self._events.feed(chunk) if chunk else self._events.finish():
            self._ready.append(passed)
        self._ended = not chunk or self.failure is not None
