"""The backend as the loop sees it: one chat completion at a time, streamed. Implements `ports.Backend` over
`Upstreams`.

Opens, reads and closes; `backend/stream/sse_reader.py` finds the events in the bytes and
`backend/stream/chat_events.py` says what they tell.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Final

from regate_adapters.backend.failures import misunderstood
from regate_adapters.backend.stream.chat_events import ChatTranslator
from regate_adapters.backend.stream.merging import merged
from regate_adapters.backend.stream.sse_reader import MAX_EVENT_BYTES, EventTooLarge, SseReader
from regate_adapters.backend.stream.tool_slots import NotUnderstood
from regate_adapters.backend.upstream_response import UpstreamResponse
from regate_adapters.backend.upstreams import Upstreams
from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.model_events import ModelEvent, ModelFailed
from regate_orchestrator.values import JsonObject

MAX_STREAM_BYTES: Final = 64 * 1024 * 1024
MAX_COMPLETION_BYTES: Final = 16 * 1024 * 1024
_USAGE_SECONDS: Final = 2.0
"""How long the usage is waited for when the turn's end was told: some upstreams send neither it nor an
end mark, and keep the connection.
"""
_LAST_SECONDS: Final = 0.25
"""How long anything is waited for when the usage was told too."""
_SETTLE_SECONDS: Final = 0.05
_DONE: Final = b"[DONE]"
_MAX_DONE: Final = 16


class ChatBackend:
    """Chat completions by the configured upstreams."""

    def __init__(self, upstreams: Upstreams) -> None:
        self._upstreams = upstreams

    @asynccontextmanager
    async def chat(
        self, upstream: str, payload: JsonObject, *, alternates: Sequence[str] = ()
    ) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Open a streamed chat completion and enter with its events, the last being `ModelEnded` or
        `ModelFailed`.

        Raises `UpstreamError` unless the upstream, or an alternate asked in its place, answers 2xx. Leaving
        before the end closes the connection at once.
        """
        asked = {**payload, "stream": True, "stream_options": {"include_usage": True}}
        async with self._upstreams.open(
            upstream, "/chat/completions", asked, accept_stream=True, alternates=alternates
        ) as response:
            translator = ChatTranslator(response.upstream)
            async with aclosing(_events(upstream, response, translator)) as events:
                yield events
            if (
                translator.finished
            ):  # the end of the body follows the last event; seeing it is what keeps the connection
                await response.settle(within_s=_SETTLE_SECONDS)


async def _events(
    upstream: str, response: UpstreamResponse, translator: ChatTranslator
) -> AsyncGenerator[ModelEvent, None]:
    failure: UpstreamError | None = None
    try:
        stream = _Payloads()
        pieces = _Pieces(await response.beginning(), response.chunks(), translator)
        if pieces.begin_as_json:  # not streamed, though asked to be; what it is labelled as says little
            for event in translator.read(await _whole(upstream, pieces)):
                yield event
        else:
            async for piece in pieces:
                for event in merged(translator.read_all(stream.feed(piece))):
                    pieces.until = math.inf  # what was called the end was not: some call every chunk so
                    yield event
                if stream.done:
                    break
            for event in _unended(stream, translator):
                yield event
    except UpstreamError as error:
        # Once the upstream has said how its turn ended, a connection that then breaks or idles loses at most
        # the usage.
        failure = None if translator.finished else response.without_key(error)
    except NotUnderstood as error:
        failure = misunderstood(upstream, str(error))
    except EventTooLarge:
        failure = misunderstood(
            upstream, f"more than {MAX_EVENT_BYTES} bytes in an event, or {MAX_STREAM_BYTES} in all"
        )
    for event in _last_events(upstream, translator) if failure is None else [ModelFailed(failure)]:
        yield event


async def _whole(upstream: str, pieces: _Pieces) -> bytes:
    body = bytearray()
    async for piece in pieces:
        body += piece
        if len(body) > MAX_COMPLETION_BYTES:
            raise misunderstood(upstream, f"a body of more than {MAX_COMPLETION_BYTES} bytes")
    return bytes(body)


def _unended(stream: _Payloads, translator: ChatTranslator) -> list[ModelEvent]:
    """Return what an event tells that the body's end has cut short of its blank line; after the end
    was told, what is damaged is not missed.
    """
    try:
        return [event for data in stream.finish() for event in translator.read(data)]
    except NotUnderstood:
        if translator.finished:
            return []
        raise


def _last_events(upstream: str, translator: ChatTranslator) -> list[ModelEvent]:
    try:
        return translator.end()
    except NotUnderstood as error:
        return [ModelFailed(misunderstood(upstream, str(error)))]


class _Pieces:
    """The pieces of a body. Once the upstream has said how its turn ended they are waited for a moment
    longer, and are then at their end.

    `until` is how long that is, by the loop's clock. A class, not a generator: one that is abandoned half-way
    needs no closing of its own.
    """

    def __init__(self, first: bytes, others: AsyncIterator[bytes], translator: ChatTranslator) -> None:
        self._first = first
        self._others = others
        self._translator = translator
        self.until = math.inf

    @property
    def begin_as_json(self) -> bool:
        """Whether the body is one JSON object rather than events."""
        return self._first.startswith(b"{")

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        if self._first:
            first, self._first = self._first, b""
            return first
        if not self._translator.finished:
            return await anext(self._others)
        patience = _LAST_SECONDS if self._translator.is_counted else _USAGE_SECONDS
        self.until = min(self.until, asyncio.get_running_loop().time() + patience)
        try:
            async with asyncio.timeout_at(self.until):
                return await anext(self._others)
        except TimeoutError:
            raise StopAsyncIteration from None


class _Payloads:
    """The payloads of a chat stream, up to its end mark."""

    def __init__(self) -> None:
        self._reader = SseReader(limit=MAX_EVENT_BYTES)
        self._size = 0
        self.done = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Return the payloads that these bytes complete. Raises `EventTooLarge`, for the stream as a
        whole too.
        """
        self._size += len(chunk)
        if self._size > MAX_STREAM_BYTES:
            raise EventTooLarge
        return self._until_done(self._reader.feed(chunk))

    def finish(self) -> list[bytes]:
        """Return what is left when the body has ended; nothing once the end mark was seen."""
        return [] if self.done else self._until_done(self._reader.finish())

    def _until_done(self, payloads: list[bytes]) -> list[bytes]:
        for place, payload in enumerate(payloads):
            if len(payload) < _MAX_DONE and payload.strip() == _DONE:
                self.done = True
                return payloads[:place]
        return payloads
