"""A pool of kept connections to one place: a host and port, plain or with TLS, or a unix socket.

No cookies, redirects, proxies, compression or retries: what is sent is what is given. A request that met a
kept connection which the other side had just closed is told apart (`BrokenOff.unanswered`), for whoever may
repeat it.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from yarl import URL

from regate_adapters.http_client.connection import Answer, Connection
from regate_adapters.http_client.errors import AllInUse, BrokenOff, NotConnected, NotConnectedInTime


@dataclass(frozen=True, slots=True)
class Limits:
    """How many connections at once, how long one is kept that nobody uses, and how long may pass until one is
    there (a free one, or a new one). Seconds.
    """

    connections: int
    keep_alive_s: float
    connect_s: float


class Pool:
    """Connections to the place of an http(s) URL, or to the unix socket that stands for it."""

    def __init__(self, url: str, limits: Limits, *, socket: Path | None = None) -> None:
        parts = URL(url)
        self._host = parts.raw_host or ""
        self._port = parts.port or 0
        self._socket = socket
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._limits = limits
        self._idle: deque[Connection] = deque()
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._held = 0
        self._closed = False
        host = f"[{self._host}]" if ":" in self._host else self._host
        self.authority = host if parts.is_default_port() else f"{host}:{parts.port}"
        """The host, and the port where one is named, as the header `Host` has it."""

    async def send(self, head: bytes, body: bytes, *, silence_s: float) -> Answer:
        """Return the answer to a request, to be given to `release`. Raises `HttpFailure`: `NotConnected`
        where certainly nothing was sent.
        """
        connection = await self._connection()
        try:
            return await connection.exchange(head, body, silence_s=silence_s)
        except BaseException as error:
            self._free()  # the connection has closed itself
            if isinstance(error, BrokenOff) and connection.exchanges == 1:
                error.unanswered = False  # a new connection was not closed for having been kept
            raise

    def release(self, answer: Answer) -> None:
        """Give the answer's connection back, or close it at once when there is more to read on it."""
        connection = answer.connection
        if answer.is_read and connection.is_open and not self._closed:
            connection.end_exchange()
            self._idle.append(connection)
        else:
            connection.abort()
        self._free()

    async def close(self) -> None:
        """Close all connections that are not in use, and those in use as they come back."""
        self._closed = True
        while self._idle:
            self._idle.pop().abort()
        await asyncio.sleep(0)  # the transports end in the next turn of the loop

    async def _connection(self) -> Connection:
        if self._held >= self._limits.connections:
            await self._wait_for_room()
        self._held += 1
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and now - connection.idle_since < self._limits.keep_alive_s:
                return connection
            connection.abort()
        try:
            return await self._connect()
        except BaseException:
            self._free()
            raise

    async def _connect(self) -> Connection:
        if self._closed:
            raise NotConnected("the pool is closed")
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._limits.connect_s):
                if self._socket is not None:
                    _, made = await loop.create_unix_connection(lambda: Connection(loop), str(self._socket))
                else:
                    _, made = await loop.create_connection(
                        lambda: Connection(loop), self._host, self._port, ssl=self._tls
                    )
        except TimeoutError as error:
            raise NotConnectedInTime(f"no connection to {self.authority} in time") from error
        except OSError as error:
            refused = error.errno == errno.ECONNREFUSED
            raise NotConnected(f"no connection to {self.authority}: {error}", refused=refused) from error
        return made

    async def _wait_for_room(self) -> None:
        waiter = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(self._limits.connect_s):
                await waiter
        except TimeoutError as error:
            raise AllInUse(f"all {self._limits.connections} connections are in use") from error
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _free(self) -> None:
        self._held -= 1
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
