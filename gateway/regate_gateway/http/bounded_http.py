"""One HTTP connection: uvicorn's httptools protocol, of which every phase ends by itself.

    nothing sent, or a head that is incomplete    head_timeout_s       408, closed
    a body that makes no progress                 receive_timeout_s    408, closed
    an answer that is not read                    write_timeout_s      aborted
    an idle connection                            keep_alive_s         closed
    a body still coming after the answer          a few seconds        closed

The one offer to switch protocols that is taken is a WebSocket's (`bounded_socket.py`, the counterpart). Any
other is ignored.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from regate_gateway.config.listen_settings import Listen
from regate_gateway.http.connection import tls_extension
from regate_gateway.http.presence import Presence, tell
from regate_gateway.http.refusals import refusal

_log = logging.getLogger("regate.server")

_MIN_PROGRESS: Final = 4_096

_LINGER_SECONDS: Final = 5.0
"""How long a client may go on sending a body that was answered without being read: enough to send it
and then read the answer.
"""

_REFUSED_LINGER_SECONDS: Final = 1.0
"""How long what still comes from a refused client is thrown away: closing over unread bytes would
destroy our answer on its way.
"""


class BoundedHttp(HttpToolsProtocol):  # type: ignore[misc] # uvicorn's protocols are not typed for us
    """uvicorn's httptools protocol with deadlines for receiving and writing, limits on the head, and a
    cap on connections.
    """

    def __init__(self, *args: Any, listen: Listen, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._listen = listen
        self.parser = _parser(self)
        self._receiving: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._in_head = True
        self._in_body = False
        self._head_bytes = 0
        self._unparsed_bytes = 0
        self._window_bytes = 0
        self._refusal = 400
        self._refused = False
        self._presence = Presence()
        self._tls: dict[str, Any] | None = None

    # ---------------------------------------------------------------- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for a request; one connection too many is answered and closed at once."""
        super().connection_made(transport)
        self._tls = tls_extension(transport)
        if len(self.connections) > self._listen.max_connections:
            _log.warning("connection refused: there are %d already", self._listen.max_connections)
            self._refuse(503)
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget all timers."""
        self._end_receiving()
        self._end_writing()
        super().connection_lost(exc)
        self._presence.end()

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the head is larger than allowed."""
        if self._refused:
            return
        if self._in_head:
            self._unparsed_bytes += len(data)
        self._window_bytes += len(data)
        self._unset_keepalive_if_required()
        self._parse(data)
        if self._in_head and self._unparsed_bytes > self._listen.max_head_bytes and not self._refused:
            self._refuse(431)

    def _parse(self, data: bytes) -> None:
        """Parse all of it. httptools stops behind the head of a request that offers to switch
        protocols, and means to go no further.
        """
        while data:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as stopped:
                rest = data[stopped.args[0] :]
                if self._begins_socket():
                    self._hand_over(rest)
                    return
                data = self._head_without_offer() + rest
                self.parser = _parser(self)
            except httptools.HttpParserError:
                self._refuse(self._refusal)
                return
            else:
                return

    # ---------------------------------------------------------------- the request

    def on_message_begin(self) -> None:
        """A head begins; its deadline counts from the first byte."""
        super().on_message_begin()
        tell(self.scope, self._presence)
        if self._tls is not None:
            self.scope["extensions"] = {"tls": self._tls}
        self._in_head, self._in_body = True, False
        self._head_bytes = 0
        self._await_head()

    def on_url(self, url: bytes) -> None:
        """Count the request line."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count the header."""
        self._count(len(name) + len(value) + 4)
        if len(self.headers) >= self._listen.max_headers:
            self._refusal = 431
            raise httptools.HttpParserError("too many headers")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """The head is whole: the body's deadline begins. What becomes of an offer to switch protocols
        is decided in `_parse`.
        """
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise httptools.HttpParserError("not a proxy")
            return
        self._in_head, self._in_body = False, True
        self._unparsed_bytes = 0
        super().on_headers_complete()
        self._await_body()

    def on_message_complete(self) -> None:
        """The request is whole: the application has its own deadlines from here on."""
        if self.parser.should_upgrade():
            return  # a head with an offer; the request goes on behind it
        self._in_body = False
        self._end_receiving()
        super().on_message_complete()
        if self.cycle.response_complete and not self.transport.is_closing():
            self._await_next()

    def on_response_complete(self) -> None:
        """The answer is written: wait for the rest of the request, or for the next one, or for the
        client to read.
        """
        super().on_response_complete()
        if self.transport.is_closing():
            self._end_receiving()
            self._await_reader()
        elif self._in_body and self.cycle.response_complete:
            self._set_receiving(_LINGER_SECONDS, self._close)
        elif not self._in_head and self.cycle.response_complete:
            self._await_next()

    # ---------------------------------------------------------------- offers to switch protocols

    def _begins_socket(self) -> bool:
        """Whether the request begins a WebSocket: a GET without a body that offers nothing else, with
        no answer owed before it.
        """
        offered = [value.strip().lower() for name, value in self.headers if name == b"upgrade"]
        has_body = any(
            (name == b"content-length" and int(value)) or name == b"transfer-encoding"
            for name, value in self.headers
        )
        is_get = (self.parser.get_method(), self.parser.get_http_version()) == (b"GET", "1.1")
        return (
            is_get
            and offered == [b"websocket"]
            and not has_body
            and (self.cycle is None or self.cycle.response_complete)
        )

    def _head_without_offer(self) -> bytes:
        """Return the head as though nothing had been offered: a server may ignore an `Upgrade` (RFC
        9110, section 7.8).
        """
        return self._head(
            self.parser.get_http_version(), [header for header in self.headers if header[0] != b"upgrade"]
        )

    def _head(self, version: str, headers: list[tuple[bytes, bytes]]) -> bytes:
        first = b"%s %s HTTP/%s\r\n" % (self.parser.get_method(), self.url, version.encode())
        return first + b"".join(b"%s: %s\r\n" % header for header in headers) + b"\r\n"

    def _hand_over(self, early: bytes) -> None:
        """Leave the connection to the WebSocket's protocol, with what came behind the head."""
        self._end_receiving()
        self._end_writing()
        self.connections.discard(self)
        protocol = self.ws_protocol_class(
            config=self.config, server_state=self.server_state, app_state=self.app_state
        )
        self.transport.set_protocol(protocol)
        protocol.connection_made(self.transport)
        protocol.begin(self._head("1.1", self.headers), early)

    # ---------------------------------------------------------------- slow readers

    def pause_writing(self) -> None:
        """The client does not read as fast as it is answered; it has limited time to catch up."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """The client caught up."""
        self._end_writing()
        super().resume_writing()

    def shutdown(self) -> None:
        """Finish the running request, if any, and close."""
        super().shutdown()
        if self.transport.is_closing():
            self._end_receiving()
            self._await_reader()

    # ---------------------------------------------------------------- deadlines

    def _await_head(self) -> None:
        self._set_receiving(self._listen.head_timeout_s, self._head_is_late)

    def _await_body(self) -> None:
        self._window_bytes = 0
        self._set_receiving(self._listen.receive_timeout_s, self._body_is_late)

    def _await_next(self) -> None:
        self._in_head = False
        self._set_receiving(self._listen.keep_alive_s, self._close)

    def _await_reader(self) -> None:
        self._end_writing()
        self._writing = self.loop.call_later(self._listen.write_timeout_s, self._reader_is_late)

    def _head_is_late(self) -> None:
        self._refuse(408)

    def _body_is_late(self) -> None:
        """Time during which we did not read ourselves, because the application was busy, is not the
        client's.
        """
        if self.flow.read_paused or self._window_bytes >= _MIN_PROGRESS:
            self._await_body()
        else:
            self._refuse(408)

    def _reader_is_late(self) -> None:
        _log.warning("connection cut: the client did not read its answer")
        self.transport.abort()

    def _set_receiving(self, seconds: float, late: Callable[[], None]) -> None:
        self._end_receiving()
        self._receiving = self.loop.call_later(seconds, late)

    def _end_receiving(self) -> None:
        if self._receiving is not None:
            self._receiving.cancel()
            self._receiving = None

    def _end_writing(self) -> None:
        if self._writing is not None:
            self._writing.cancel()
            self._writing = None

    # ---------------------------------------------------------------- refusing

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self._listen.max_head_bytes:
            self._refusal = 431
            raise httptools.HttpParserError("head too large")

    def _refuse(self, status: int) -> None:
        """End the connection: with an answer of our own where none was begun, else by cutting it."""
        self._refused = True
        self._end_receiving()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            if cycle.response_started:
                self.transport.abort()
                return
            cycle.disconnected = True
            cycle.message_event.set()
            self._presence.end()
        if self.transport.is_closing():
            return
        self.transport.write(refusal(status))
        if status == 503 or not self.transport.can_write_eof():
            self._close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._set_receiving(_REFUSED_LINGER_SECONDS, self._close)

    def _close(self) -> None:
        """Close once what was written is read, for which the client has limited time."""
        self.transport.close()
        self._await_reader()


def _parser(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(
        lenient_data_after_close=True
    )  # as uvicorn has it: it answers the request before what is then ignored
    return parser
