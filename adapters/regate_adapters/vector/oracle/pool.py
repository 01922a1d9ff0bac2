"""A small pool of connections to Oracle: it serves transactions only, each with one deadline.

A server that does not answer must not outlast the deadline. The driver answers a cancellation by asking the
server to break off, and waits for that; so each exchange has a limit of its own, and a connection is ended,
without a word to the server, when its time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, TypeAlias

import oracledb

Connection: TypeAlias = Any
"""`oracledb.AsyncConnection`, as far as it is used here."""

Cursor: TypeAlias = Any
Connect: TypeAlias = Callable[[], Awaitable[Connection]]

_EXCHANGE_SHARE: Final = 0.4
"""Of the deadline: twice that passes before the driver gives up on a server that does not break off."""

_PING_AFTER_S: Final = 5
_CLOSE_S: Final = 2


class Pool:
    """At most `size` connections."""

    def __init__(self, connect: Connect, *, size: int) -> None:
        self._connect = connect
        self._free = asyncio.Semaphore(size)
        self._idle: list[tuple[Connection, float]] = []
        self._closed = False

    @asynccontextmanager
    async def transaction(self, reach: str, *, within_s: float) -> AsyncIterator[Cursor]:
        """Yield a cursor in a transaction of a session that reaches what the client identifier says. It is
        committed on leaving, and on any error the connection is ended, which undoes it.

        Raises `TimeoutError` when everything together takes longer, and what the driver raises.
        """
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(within_s), self._free:
            connection = await self._ready(within_s)
            end = loop.call_later(within_s, _end, connection)
            try:
                connection.call_timeout = _milliseconds(within_s)
                connection.client_identifier = reach
                with connection.cursor() as cursor:
                    yield cursor
                await connection.commit()
            except BaseException:
                _end(connection)
                raise
            finally:
                end.cancel()
            if self._closed:
                _end(connection)
            else:
                self._idle.append((connection, loop.time()))

    async def aclose(self) -> None:
        """Close the idle connections; those in use are ended with their transaction."""
        self._closed = True
        idle, self._idle = self._idle, []
        for connection, _ in idle:
            try:
                async with asyncio.timeout(_CLOSE_S):
                    await connection.close()
            except (oracledb.Error, OSError):
                _end(connection)

    async def _ready(self, within_s: float) -> Connection:
        """Return an idle connection that still leads to the server, or a new one."""
        now = asyncio.get_running_loop().time()
        while self._idle:
            connection, since = self._idle.pop()
            if connection.is_healthy():
                if now - since < _PING_AFTER_S:
                    return connection
                with suppress(oracledb.Error, OSError):
                    connection.call_timeout = _milliseconds(within_s / 4)
                    await connection.ping()
                    return connection
            _end(connection)
        return await self._connect()


def _milliseconds(within_s: float) -> int:
    return max(1, round(within_s * _EXCHANGE_SHARE * 1_000))  # 0 would be no limit


def _end(connection: Connection) -> None:
    with suppress(oracledb.Error, OSError):
        connection.terminate()
