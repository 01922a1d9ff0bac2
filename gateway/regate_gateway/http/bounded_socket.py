"""One WebSocket connection: uvicorn's protocol with the deadlines it lacks. Its own pings end one whose
client is gone.

    a handshake that is not answered              receive_timeout_s    aborted
    frames that are not read                      write_timeout_s      aborted
    a connection that was ended, yet stays        write_timeout_s      aborted
    what still comes behind a broken frame        a moment             closed

How long a WebSocket may last, its route says. It is begun by `bounded_http.py`.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.http11 import Request

from regate_gateway.config.listen_settings import Listen
from regate_gateway.http.connection import tls_extension
from regate_gateway.http.refusals import refusal

_log = logging.getLogger("regate.server")

_LINGER_SECONDS: Final = 1.0
"""How long what still comes behind a frame that breaks the protocol is thrown away: closing over it
would destroy our reason on its way.
"""
_NOT_UTF_8: Final = 1007


# Uvicorn's protocols are not typed for us
class BoundedSocket(WebSocketsSansIOProtocol):  # type: ignore[misc]
    """uvicorn's WebSocket protocol with deadlines for the handshake and for writing."""

    def __init__(self, *args: Any, listen: Listen, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._listen = listen
        self._deadline: asyncio.TimerHandle | None = None
        self._early = b""
        self.frames: list[bytes] = []

    def begin(self, head: bytes, early: bytes) -> None:
        """Begin the handshake with the whole head of its request. What the client sent behind it is
        read when the connection stands.
        """
        self._early = early
        self.read_paused = True
        self.transport.pause_reading()
        self._set_deadline(self._listen.receive_timeout_s, "the handshake was not answered in time")
        super().data_received(head)
        if not self.handshake_initiated:  # what websockets does not take, it says nothing to
            self._refuse(431, "A header is too long for a WebSocket.")

    def handle_connect(self, event: Request) -> None:
        """Have the application answer the handshake; one that breaks RFC 6455 is refused."""
        if self.conn.accept(event).status_code == 101:
            super().handle_connect(event)
            if (tls := tls_extension(self.transport)) is not None:  # the application has not begun yet
                self.scope["extensions"]["tls"] = tls
            return
        self.handshake_initiated = True
        self._refuse(400, f"The request does not begin a WebSocket: {self.conn.handshake_exc}.")

    async def send(self, message: Any) -> None:
        """Send what the application says; with its acceptance the connection stands."""
        await super().send(message)
        if message["type"] == "websocket.accept":
            self._end_deadline()
            early, self._early = self._early, b""
            if early:
                self.data_received(early)

    # ---------------------------------------------------------------- broken frames

    def data_received(self, data: bytes) -> None:
        """Read what came, unless the connection is ending for what came before."""
        if self.conn.parser_exc is None:
            super().data_received(data)

    def send_receive_event_to_app(self) -> None:
        """Hand a whole message over; a text must be UTF-8 (RFC 6455, section 8.1)."""
        message = b"".join(self.frames)
        self.frames = [message]
        if self.curr_msg_data_type == "text" and not _is_utf8(message):
            self.conn.fail(_NOT_UTF_8, "the text is not UTF-8")
            self.handle_parser_exception()
        else:
            super().send_receive_event_to_app()

    def handle_parser_exception(self) -> None:
        """Say why the connection ends, and give the client a moment to read it."""
        why = self.conn.close_sent
        assert why is not None  # noqa: S101 — INVARIANT: websockets sends a close with every failure
        self.queue.put_nowait({"type": "websocket.disconnect", "code": why.code, "reason": why.reason})
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.transport.resume_reading()
        self.close_timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    # ---------------------------------------------------------------- slow readers

    def pause_writing(self) -> None:
        """The client does not read as fast as it is sent to; it has limited time to catch up."""
        super().pause_writing()
        self._await_reader()

    def resume_writing(self) -> None:
        """The client caught up."""
        if not self.transport.is_closing():
            self._end_deadline()
        super().resume_writing()

    def handle_ping(self) -> None:
        """Answer a ping, unless the client reads no answers: they would pile up."""
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()

    # ---------------------------------------------------------------- the end

    def keepalive_timeout(self) -> None:
        """End a connection whose client answers no ping."""
        super().keepalive_timeout()
        self._await_reader()

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application is done: what it wrote last is read within limited time, or not at all."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._await_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the deadline."""
        self._end_deadline()
        super().connection_lost(exc)

    def _refuse(self, status: int, message: str) -> None:
        self.handshake_complete = self.close_sent = True
        self.transport.write(refusal(status, message))
        self.transport.close()
        self._await_reader()

    def _await_reader(self) -> None:
        self._set_deadline(self._listen.write_timeout_s, "the client did not read")

    def _set_deadline(self, seconds: float, why: str) -> None:
        self._end_deadline()
        self._deadline = self.loop.call_later(seconds, self._is_late, why)

    def _end_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _is_late(self, why: str) -> None:
        _log.warning("WebSocket cut: %s", why)
        self.transport.abort()


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
