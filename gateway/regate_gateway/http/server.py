"""The HTTP server: uvicorn with the deadlines and limits it lacks (`bounded_http.py`, `bounded_socket.py`),
begun and ended in order.

Not what is served (`app.py`), and not body sizes (`bodies.py`).
"""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import uvicorn
from starlette.types import ASGIApp
from uvicorn.lifespan.on import LifespanOn, LifespanSendMessage

from regate_gateway.config.listen_settings import Listen
from regate_gateway.config.tls import ServerTls
from regate_gateway.http.bounded_http import BoundedHttp
from regate_gateway.http.bounded_socket import BoundedSocket
from regate_orchestrator.errors import ConfigurationError

_BACKLOG: Final = 2_048
_TICK_SECONDS: Final = 0.05
_CERTIFICATE_SECONDS: Final = 30
"""How often the files of the certificate are looked at."""
_PING_SECONDS: Final = 20.0
"""How often a WebSocket is pinged, and how long its answer may take."""

LAST_WORDS_SECONDS: Final = 6.0
"""How long a request that is cut at shutdown has to end: somewhat more than a response has to store
what there was.
"""


class _Lifespan(LifespanOn):
    """uvicorn's lifespan, which keeps why the application did not start, for whoever started it to
    tell; uvicorn logs it, and that it did.
    """

    failure = "the gateway did not start; the reason is in the log above"

    async def startup(self) -> None:
        """Start the application, and return when it has started or failed to."""
        # As uvicorn has it: it ends with `shutdown`
        self._living = asyncio.create_task(self.main())  # noqa: TID251
        await self.receive_queue.put({"type": "lifespan.startup"})
        await self.startup_event.wait()
        self.should_exit = self.startup_failed or self.error_occurred

    async def send(self, message: LifespanSendMessage) -> None:
        """Take what the application says of its start and end."""
        if message["type"] == "lifespan.startup.failed":
            self.failure = message.get("message") or self.failure
            message = {"type": "lifespan.startup.failed", "message": ""}
        await super().send(message)


class _Server(uvicorn.Server):
    """uvicorn's server, which says when it has started, and never ends the process by itself."""

    def __init__(
        self,
        config: uvicorn.Config,
        *,
        tls: ServerTls | None,
        handshake_s: float,
        notice_s: float = 0,
        when_listening: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()
        self.is_abandoned = False
        """Whether the application ended by itself: without it nothing can be answered any more."""
        self._handshake_s = handshake_s
        self._notice_s = notice_s
        self._when_listening = when_listening
        config.load()
        config.lifespan_class = _Lifespan
        if tls is not None:
            config.ssl = tls.context
            config.callback_notify, config.timeout_notify = tls.refresh, _CERTIFICATE_SECONDS

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and listen. Raises `ConfigurationError` where uvicorn would leave the
        process.
        """
        try:
            with _handshakes_within(self._handshake_s):
                await super().startup(sockets)
        except SystemExit:
            raise ConfigurationError(self.lifespan.failure) from None
        except OSError as error:  # another had the address too, and was first to listen
            await self.lifespan.shutdown()
            raise ConfigurationError(f"listen: {error.strerror}") from error
        if self._when_listening is not None:
            await self._when_listening()
        self.listening.set()

    async def on_tick(self, counter: int) -> bool:
        """Return whether to stop, also because the application has ended by a fault of its own."""
        self.is_abandoned = self.lifespan.error_occurred
        return self.is_abandoned or await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop: after a SIGTERM, give notice before. Applications find it in their scope's `state`,
        under `ending`.
        """
        self.lifespan.state["ending"] = True
        if signal.SIGTERM in self._captured_signals:
            until, signals = time.monotonic() + self._notice_s, len(self._captured_signals)
            # Signals come outside of the loop
            while time.monotonic() < until and len(self._captured_signals) == signals:  # noqa: ASYNC110
                await asyncio.sleep(_TICK_SECONDS)
        await super().shutdown(sockets)

    async def _wait_tasks_to_complete(self) -> None:
        """Wait for what runs. What is cut when the grace is over may still store its end: uvicorn
        itself would close the application first.
        """
        try:
            await super()._wait_tasks_to_complete()
        except asyncio.CancelledError:
            running = set(self.server_state.tasks)
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running, timeout=LAST_WORDS_SECONDS)
            raise


@contextmanager
def _handshakes_within(seconds: float) -> Iterator[None]:
    """Have a server that is made meanwhile end a TLS handshake that takes longer. uvicorn makes it, and does
    not say; the loop's own limit is a minute.
    """
    loop = asyncio.get_running_loop()
    usual = loop.create_server

    def create_server(*args: Any, **kwargs: Any) -> Any:
        if kwargs.get("ssl") is not None:
            kwargs["ssl_handshake_timeout"] = seconds
        return usual(*args, **kwargs)

    loop.create_server = create_server  # type: ignore[method-assign]
    try:
        yield
    finally:
        loop.create_server = usual  # type: ignore[method-assign]


def bind(listen: Listen) -> socket.socket:
    """Return a socket that has the address. It listens once it is served: who connects before is refused, and
    not kept waiting. Raises `ConfigurationError` when the address cannot be had.
    """
    return _bound(listen)


def reserve(listen: Listen) -> socket.socket:
    """Return a socket that keeps the address for those who `share` it. Raises `ConfigurationError` when
    somebody listens there already.
    """
    if listen.port:
        bind(listen).close()
    return share(listen)


def share(listen: Listen) -> socket.socket:
    """Return a socket of the address that does not listen yet. Each of this user that listens gets a share of
    the connections. Raises `ConfigurationError` when the address cannot be had.
    """
    return _bound(listen, shared=True)


def _bound(listen: Listen, *, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    bound = socket.socket(family)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if listen.port:  # connections of a server that has just ended may still be closing
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Else any free port, which whoever asks for one with that option would be given, too, until we listen
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # Accepted connections inherit it; asyncio sets it only on sockets made with an explicit protocol, and
        # an answer would wait for an ACK.
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        bound.bind((listen.host, listen.port))
    except OSError as error:
        bound.close()
        raise ConfigurationError(
            f"listen: {authority(listen.host, listen.port)} cannot be bound: {error.strerror}"
        ) from error
    return bound


def authority(host: str, port: int) -> str:
    """Return host and port as a URL has them: an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def address_of(listener: socket.socket, listen: Listen) -> str:
    """Return where clients find what listens here, as `http://host:port` (or `https`)."""
    return f"{listen.scheme}://{authority(listen.host, listener.getsockname()[1])}"


def serve(
    app: ASGIApp,
    listen: Listen,
    *,
    when_listening: Callable[[str], Awaitable[None]],
    listener: socket.socket | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM, then let running requests finish. Blocks; the application's lifespan
    runs within it.

    `listener` is a socket that has an address already; without it one is bound. `when_listening` is called
    with the address once requests are answered there. Raises `ConfigurationError` when the address cannot be
    had or the application does not start, and `SystemExit` when it ended by a fault of its own, so that a
    supervisor starts it again.
    """
    bound = bind(listen) if listener is None else listener
    address = address_of(bound, listen)
    config, tls = _configuration(app, listen), _tls(listen)

    async def run() -> bool:
        server = _Server(
            config,
            tls=tls,
            handshake_s=listen.head_timeout_s,
            notice_s=listen.shutdown_notice_s,
            when_listening=lambda: when_listening(address),
        )
        await server.serve(sockets=[bound])
        return server.is_abandoned

    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
        if runner.run(run()):
            raise SystemExit(1)


class Running:
    """The server inside this event loop: `async with Running(app, listen) as server`, then
    `server.url`. For the demonstration and for tests.
    """

    def __init__(self, app: ASGIApp, listen: Listen) -> None:
        self._socket = bind(listen)
        self._server = _Server(
            _configuration(app, listen), tls=_tls(listen), handshake_s=listen.head_timeout_s
        )
        self._group = asyncio.TaskGroup()
        self.port: int = self._socket.getsockname()[1]
        self.url = address_of(self._socket, listen)

    async def __aenter__(self) -> Self:
        await self._group.__aenter__()
        # Serve() takes the process's signals
        serving = self._group.create_task(self._server._serve([self._socket]))  # noqa: SLF001
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def _end(self) -> None:
        """Stop in order, whatever ended the block: the application's lifespan is closed even when the
        block was cancelled.
        """
        self._server.should_exit = True
        try:
            await self._group.__aexit__(None, None, None)
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            self._socket.close()


def _tls(listen: Listen) -> ServerTls | None:
    return None if listen.tls is None else ServerTls(listen.tls)


def _configuration(app: ASGIApp, listen: Listen) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=partial(BoundedHttp, listen=listen),  # type: ignore[arg-type] # uvicorn only calls it
        ws=partial(BoundedSocket, listen=listen),  # type: ignore[arg-type] # likewise
        ws_max_size=listen.max_body_bytes,
        ws_ping_interval=_PING_SECONDS,
        ws_ping_timeout=_PING_SECONDS,
        # A text beside a secret, compressed together, tells of the secret by its size
        ws_per_message_deflate=False,
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
