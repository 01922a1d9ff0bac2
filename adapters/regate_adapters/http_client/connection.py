"""One connection, which carries one exchange after the other (RFC 9112): a request out, an answer in, read no
faster than it is asked for.

Not which connection is used (`pool.py`, the counterpart). A connection is used again only when an answer was
read to its end and both sides want that; whatever comes unasked ends it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final, cast

import httptools

from regate_adapters.http_client.errors import BrokenOff, HttpFailure, NotHttp, Silent

_MAX_HEAD: Final = 64 * 1024
_MAX_BUFFERED: Final = 256 * 1024
"""How much of an answer is held that nobody has asked for yet."""
_PIECE: Final = 64 * 1024
_INFORMATIONAL: Final = range(100, 200)
_WITHOUT_BODY: Final = frozenset({204, 304})


class Answer:
    """An answer whose head is there; its body is read by `readany`. Header names are in lower case, and of a
    name that comes twice the first counts.
    """

    __slots__ = ("_connection", "_pieces", "_size", "failure", "headers", "is_whole", "status")

    def __init__(self, connection: Connection) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.is_whole = False
        """Whether all of it has come."""
        self.failure: HttpFailure | None = None
        self._connection = connection
        self._pieces: deque[bytes] = deque()
        self._size = 0

    @property
    def connection(self) -> Connection:
        """Return the connection that it comes on."""
        return self._connection

    @property
    def is_read(self) -> bool:
        """Return whether it has come whole and all of it was taken."""
        return self.is_whole and not self._pieces

    async def readany(self) -> bytes:
        """Return what has come of the body, waiting for the next of it; nothing at its end. Raises
        `HttpFailure`.
        """
        while not self._pieces:
            if self.is_whole:
                return b""
            if self.failure is not None:
                raise self.failure
            await self._connection.wait()
        pieces = self._pieces
        found = pieces.popleft() if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self._size > _MAX_BUFFERED:
            self._connection.resume_reading()
        self._size = 0
        return found

    def take(self, piece: bytes) -> None:
        """Hold a piece that came."""
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size > _MAX_BUFFERED:
            self._connection.pause_reading()


class Connection(asyncio.Protocol):
    """The protocol of one connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._taking: Answer | None = None
        """The answer, as long as it is not whole."""
        self._is_over = False
        self._waiter: asyncio.Future[None] | None = None
        self._flowing: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._waiting_since = 0.0
        self._silence_s = 0.0
        self._head_is_whole = False
        self._head_bytes = self._unparsed_bytes = 0
        self._is_answered = False
        self._is_informational = False
        self._has_length = False
        self._may_stay = False
        self.idle_since = 0.0
        self.exchanges = 0
        """How many exchanges were begun on it."""

    # ------------------------------------------------------------ the exchange

    @property
    def is_open(self) -> bool:
        """Return whether it can carry another exchange."""
        return self._may_stay and self._transport is not None and not self._transport.is_closing()

    async def exchange(self, head: bytes, body: bytes, *, silence_s: float) -> Answer:
        """Return the answer to a request as soon as its head is there. Raises `HttpFailure`; the connection
        is then closed. `silence_s` is the longest wait: for the request to be taken on, for the whole head,
        and then for each next bytes.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            raise BrokenOff("the connection was closed before it was used", unanswered=True)
        self.exchanges += 1
        self._silence_s = silence_s
        self._answer = self._taking = answer = Answer(self)
        self._is_answered = False
        self._begin_head()
        self._waiting_since = self._loop.time()
        self._timer = self._loop.call_later(silence_s, self._check_silence)
        try:
            if len(body) <= _PIECE:
                transport.write(head + body)
            else:
                await self._write(transport, head, body)
            while not self._head_is_whole:
                if answer.failure is not None:
                    raise answer.failure
                await self.wait()
        except BaseException:
            self.abort()
            raise
        return answer

    async def wait(self) -> None:
        """Return when something has come, or the connection has ended."""
        if self._head_is_whole:  # a head must come whole in the time, however it drips
            self._waiting_since = self._loop.time()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def end_exchange(self) -> None:
        """Make the connection ready for another exchange; the answer was read to its end."""
        self._answer = None
        self._end_timer()
        self.idle_since = self._loop.time()

    def abort(self) -> None:
        """Close the connection at once: whoever is at the other end learns that nobody listens any more."""
        self._may_stay = False
        self._end_timer()
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Read no more until `resume_reading`."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    async def _write(self, transport: asyncio.Transport, head: bytes, body: bytes) -> None:
        """Write a large request in pieces, as fast as it is taken: the loop goes on serving others."""
        transport.write(head)
        for start in range(0, len(body), _PIECE):
            transport.write(body[start : start + _PIECE])
            self._waiting_since = self._loop.time()
            if self._flowing is not None:
                await self._flowing
            else:
                await asyncio.sleep(0)
            if self._head_is_whole or (self._answer and self._answer.failure):
                return  # it was answered without being read to its end

    # ------------------------------------------------------------ what the transport tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)
        self._may_stay = True

    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        answer = self._answer
        if answer is None or answer.is_whole:
            self.abort()  # nobody asked for it
            return
        self._is_answered = True
        if not self._head_is_whole:
            self._unparsed_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(NotHttp(f"not HTTP/1.1: {error}"))
            self.abort()
            return
        if self._head_bytes > _MAX_HEAD or (not self._head_is_whole and self._unparsed_bytes > _MAX_HEAD):
            self._fail(NotHttp(f"a head of more than {_MAX_HEAD} bytes"))
            self.abort()
        elif self._is_over:
            self.abort()
        self._wake()

    def eof_received(self) -> bool:
        """The other side ends: so do we."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is over; an answer that says no length ends with it."""
        self._may_stay = False
        self._end_timer()
        answer = self._answer
        if answer is not None and not answer.is_whole:
            if exc is None and self._head_is_whole and not self._has_length:
                answer.is_whole = True
                self._taking = None
            else:
                unanswered = not self._is_answered
                when = "before it answered" if unanswered else "amid its answer"
                why = f": {exc}" if exc else ""
                self._fail(BrokenOff(f"the connection ended {when}{why}", unanswered=unanswered))
        self._wake()
        if self._flowing is not None and not self._flowing.done():
            self._flowing.set_result(None)

    def pause_writing(self) -> None:
        """The other side does not read as fast as we write."""
        self._flowing = self._loop.create_future()

    def resume_writing(self) -> None:
        """It caught up."""
        flowing, self._flowing = self._flowing, None
        if flowing is not None and not flowing.done():
            flowing.set_result(None)

    # ------------------------------------------------------------ what the parser tells

    def on_message_begin(self) -> None:
        """A message begins; one behind the answer is nobody's, and ends the connection."""
        if self._taking is None:
            self._may_stay = False
            self._is_over = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note a header."""
        if self._taking is not None and not self._head_is_whole:
            self._head_bytes += len(name) + len(value)
            key = name.decode("latin-1").lower()
            self._taking.headers.setdefault(key, value.decode("latin-1"))
            if key in ("content-length", "transfer-encoding"):
                self._has_length = True

    def on_headers_complete(self) -> None:
        """A head is whole: the answer's, or one of those that only go before it."""
        status = self._parser.get_status_code()
        self._is_informational = status in _INFORMATIONAL
        if self._is_informational or self._taking is None or self._head_bytes > _MAX_HEAD:
            return
        self._taking.status = status
        self._head_is_whole = True
        self._has_length = self._has_length or status in _WITHOUT_BODY
        self._may_stay = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        """Hold a piece of the body."""
        if self._taking is not None:
            self._taking.take(body)

    def on_message_complete(self) -> None:
        """The answer is whole."""
        if self._is_informational:
            if self._taking is not None:
                self._taking.headers.clear()
            self._begin_head()
        elif self._taking is not None:
            self._taking.is_whole = True
            self._taking = None

    # ------------------------------------------------------------ its own

    def _begin_head(self) -> None:
        self._head_is_whole = False
        self._head_bytes = self._unparsed_bytes = 0
        self._is_informational = False
        self._has_length = False

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _fail(self, failure: HttpFailure) -> None:
        if self._answer is not None and self._answer.failure is None:
            self._answer.failure = failure

    def _check_silence(self) -> None:
        """Fail the exchange if it has waited for too long; time in which nobody waited does not count."""
        now = self._loop.time()
        waits = self._waiter is not None or self._flowing is not None
        left = self._waiting_since + self._silence_s - now if waits else self._silence_s
        if left > 0:
            self._timer = self._loop.call_later(left, self._check_silence)
            return
        self._fail(Silent(f"nothing came for {self._silence_s:g} s"))
        self._wake()
        self.abort()

    def _end_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
