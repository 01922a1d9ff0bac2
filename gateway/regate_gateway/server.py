"""The HTTP server: uvicorn with the deadlines and limits it lacks. Every phase of a connection ends by itself.

    nothing sent, or a head that is incomplete    head_timeout_s       408, closed
    a body that makes no progress                 receive_timeout_s    408, closed
    an answer that is not read                    write_timeout_s      aborted
    an idle connection                            keep_alive_s         closed
    a body still coming after the answer          a few seconds        closed

Not what is served (`app.py`), and not body sizes (`bodies.py`).
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import httptools
import orjson
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from regate_gateway.settings import Listen
from regate_orchestrator.errors import ConfigurationError

_log = logging.getLogger("regate.server")

_BACKLOG: Final = 2_048
_LEAST_PROGRESS: Final = 4_096
_PING_S: Final = 20.0
"""How often a WebSocket is pinged, and how long its answer may take."""

_LAST_WORDS_S: Final = 6.0
"""How long a request that is cut at shutdown has to end: somewhat more than a response has to store what there was."""

_LINGER_S: Final = 5.0
"""How long a client may go on sending a body that was answered without being read: enough to send it and then read the answer."""

_REFUSED_LINGER_S: Final = 1.0
"""How long what still comes from a refused client is thrown away: closing over unread bytes would destroy our answer on its way."""

_REASONS: Final = {
    400: ("Bad Request", "The request is not valid HTTP."),
    408: ("Request Timeout", "The request did not arrive in time."),
    431: ("Request Header Fields Too Large", "The request's head is too large."),
    503: ("Service Unavailable", "There are too many connections. Try again later."),
}


class BoundedProtocol(HttpToolsProtocol):  # type: ignore[misc] # uvicorn's protocols are not typed for us
    """uvicorn's httptools protocol with deadlines for receiving and writing, limits on the head, and a cap on connections."""

    def __init__(self, *args: Any, listen: Listen, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._listen = listen
        self._receiving: asyncio.TimerHandle | None = None
        self._writing: asyncio.TimerHandle | None = None
        self._in_head = True
        self._in_body = False
        self._head_bytes = 0
        self._unparsed_bytes = 0
        self._window_bytes = 0
        self._refusal = 400
        self._refused = False

    # ---------------------------------------------------------------- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Begin to wait for a request; one connection too many is answered and closed at once."""
        super().connection_made(transport)
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

    def data_received(self, data: bytes) -> None:
        """Parse what came, unless the head is larger than allowed."""
        if self._refused:
            return
        if self._in_head:
            self._unparsed_bytes += len(data)
        self._window_bytes += len(data)
        super().data_received(data)
        if self._in_head and self._unparsed_bytes > self._listen.max_head_bytes and not self._refused:
            self._refuse(431)

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser did not accept."""
        del msg
        self._refuse(self._refusal)

    # ---------------------------------------------------------------- the request

    def on_message_begin(self) -> None:
        """A head begins; its deadline counts from the first byte."""
        super().on_message_begin()
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
        """The head is whole: the body's deadline begins. An upgrade to anything but a WebSocket is not followed."""
        self._in_head, self._in_body = False, True
        self._unparsed_bytes = 0
        super().on_headers_complete()
        if self.parser.should_upgrade():
            if self._should_upgrade():
                return  # to a WebSocket, which has no body
            self.cycle.keep_alive = False
        self._await_body()

    def handle_websocket_upgrade(self) -> None:
        """Hand the connection over: uvicorn's own pings end one that is silent, and the route one that lasts too long."""
        self._end_receiving()
        self._end_writing()
        super().handle_websocket_upgrade()

    def on_message_complete(self) -> None:
        """The request is whole: the application has its own deadlines from here on."""
        self._in_body = False
        self._end_receiving()
        super().on_message_complete()
        if self.cycle is None:
            return  # the request became a WebSocket
        if self.cycle.response_complete and not self.transport.is_closing():
            self._await_next()

    def on_response_complete(self) -> None:
        """The answer is written: wait for the rest of the request, or for the next one, or for the client to read."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._end_receiving()
            self._await_reader()
        elif self._in_body and self.cycle.response_complete:
            self._set_receiving(_LINGER_S, self._close)
        elif not self._in_head and self.cycle.response_complete:
            self._await_next()

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
        """Time during which we did not read ourselves, because the application was busy, is not the client's."""
        if self.flow.read_paused or self._window_bytes >= _LEAST_PROGRESS:
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
        if self.transport.is_closing():
            return
        self.transport.write(_refusal(status))
        if status == 503 or not self.transport.can_write_eof():
            self._close()
            return
        self.transport.write_eof()
        self.flow.resume_reading()
        self._set_receiving(_REFUSED_LINGER_S, self._close)

    def _close(self) -> None:
        """Close once what was written is read, for which the client has limited time."""
        self.transport.close()
        self._await_reader()


def _refusal(status: int) -> bytes:
    reason, message = _REASONS[status]
    kind = "server_error" if status >= 500 else "invalid_request_error"
    body = orjson.dumps({"error": {"message": message, "type": kind, "param": None, "code": None}})
    retry = "retry-after: 5\r\n" if status == 503 else ""
    head = (
        f"HTTP/1.1 {status} {reason}\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
    )
    return head.encode() + body


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it has started, and never ends the process by itself."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and listen. Raises `ConfigurationError` where uvicorn would leave the process."""
        try:
            await super().startup(sockets)
        except SystemExit:
            raise ConfigurationError("the gateway did not start; the reason is in the log above") from None
        self.listening.set()

    async def _wait_tasks_to_complete(self) -> None:
        """Wait for what runs. What is cut when the grace is over may still store its end: uvicorn itself would close the application first."""
        try:
            await super()._wait_tasks_to_complete()
        except asyncio.CancelledError:
            running = set(self.server_state.tasks)
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running, timeout=_LAST_WORDS_S)
            raise


def bind(listen: Listen) -> socket.socket:
    """Return the listening socket. Raises `ConfigurationError` when the address cannot be had."""
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        listener = socket.create_server((listen.host, listen.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigurationError(f"listen: {listen.host}:{listen.port} cannot be bound: {error.strerror}") from error
    # Accepted connections inherit it; asyncio sets it only on sockets made with an explicit protocol, and an answer would wait for an ACK.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def serve(app: ASGIApp, listen: Listen, *, listener: socket.socket | None = None) -> None:
    """Serve until SIGINT or SIGTERM, then let running requests finish. Blocks; the application's lifespan runs within it.

    Raises `ConfigurationError` when the address cannot be had or the application does not start.
    """
    sockets = [listener or bind(listen)]
    config = _configuration(app, listen)

    async def run() -> None:
        await _Server(config).serve(sockets=sockets)

    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        runner.run(run())


class Running:
    """The server inside this event loop: `async with Running(app, listen) as server`, then `server.url`. For the demonstration and for tests."""

    def __init__(self, app: ASGIApp, listen: Listen) -> None:
        self._socket = bind(listen)
        self._server = _Server(_configuration(app, listen))
        self._group = asyncio.TaskGroup()
        host = f"[{listen.host}]" if ":" in listen.host else listen.host
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{host}:{self.port}"

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        serving = self._group.create_task(self._server._serve([self._socket]))  # noqa: SLF001 - serve() takes the process's signals
        listening = self._group.create_task(self._server.listening.wait())
        try:
            await asyncio.wait((serving, listening), return_when=asyncio.FIRST_COMPLETED)
        except BaseException:
            await self._end()
            raise
        finally:
            listening.cancel()
        if serving.done():
            await self._end()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._end()

    async def _end(self) -> None:
        """Stop in order, whatever ended the block: the application's lifespan is closed even when the block was cancelled."""
        self._server.should_exit = True
        try:
            await self._group.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._socket.close()


def _configuration(app: ASGIApp, listen: Listen) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(BoundedProtocol, listen=listen),  # type: ignore[arg-type] # uvicorn only calls it
        ws="websockets-sansio",
        ws_max_size=listen.max_body_bytes,
        ws_ping_interval=_PING_S,
        ws_ping_timeout=_PING_S,
        ws_per_message_deflate=False,  # a text beside a secret, compressed together, tells of the secret by its size
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_keep_alive=int(listen.keep_alive_s) + 1,
        timeout_graceful_shutdown=max(1, int(listen.shutdown_grace_s)),
        backlog=_BACKLOG,
    )
