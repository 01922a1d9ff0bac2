"""A small pool of PostgreSQL connections for the vector store. Not a general one: it serves transactions
only, each with one deadline.

A connection that lay idle may be dead without knowing it, or lead to a server that is not the primary any
more. So the first exchange of a transaction, which changes nothing, is what tries it: when that fails on a
used connection, all idle ones are closed and a new one is opened, within the same deadline. The settings of
the transaction are in that exchange, so that they cost none of their own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

from psycopg import AsyncCursor, OperationalError, sql
from psycopg.rows import TupleRow

from regate_adapters.postgres import IS_REPLICA, NoConnection, PromptConnection, in_words

STATEMENT_SHARE: Final = 0.8

Cursor: TypeAlias = AsyncCursor[TupleRow]

_BEGIN_READ: Final = sql.SQL("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
_BEGIN_WRITE: Final = sql.SQL("BEGIN ISOLATION LEVEL READ COMMITTED")
_COMMIT: Final = sql.SQL("COMMIT")
_SET_ONE: Final = sql.SQL("pg_catalog.set_config({}, {}, true)")
_BEGIN: Final = sql.SQL("{}; SELECT pg_catalog.pg_is_in_recovery(), {}")


class Pool:
    """At most `size` connections to one database, each prepared by `on_connect` statements."""

    def __init__(self, parameters: dict[str, Any], *, size: int) -> None:
        self._parameters = parameters
        self._free = asyncio.Semaphore(size)
        self._size = size
        self._waiting = 0
        self._in_use = 0
        self._idle: list[PromptConnection] = []
        self._closed = False
        self.on_connect: tuple[sql.SQL | sql.Composed, ...] = ()

    @asynccontextmanager
    async def transaction(
        self, settings: dict[str, str], *, write: bool, within_s: float
    ) -> AsyncIterator[Cursor]:
        """Yield a cursor in a transaction with these settings; it is committed on leaving, and rolled back
        whole on any error.

        Raises `TimeoutError` when everything together takes longer than the deadline, and whatever psycopg
        raises.
        """
        # The server gives up first, so that it is it who says what took so long.
        limit = {"statement_timeout": f"{round(within_s * STATEMENT_SHARE * 1000)}ms"}
        async with asyncio.timeout(within_s), self._place(within_s):
            connection, cursor = await self._begun(settings | limit, write=write)
            try:
                yield cursor
                await cursor.execute(_COMMIT)
            except BaseException:
                # Closing is the one way of ending a transaction that cannot itself fail or take time.
                connection.pgconn.finish()
                raise
            self._keep(connection)

    def use(self) -> dict[str, int]:
        """Return how many connections are in use and idle, and how many transactions wait for one."""
        return {"in_use": self._in_use, "idle": len(self._idle), "waiting": self._waiting}

    @asynccontextmanager
    async def _place(self, within_s: float) -> AsyncIterator[None]:
        """Wait for one of the places. Raises `NoConnection` when none becomes free for most of the time."""
        self._waiting += 1
        try:
            async with asyncio.timeout(within_s * STATEMENT_SHARE):
                await self._free.acquire()
        except TimeoutError as error:
            raise NoConnection(
                f"all {self._size} connections were in use for too long: raise pool_size"
            ) from error
        finally:
            self._waiting -= 1
        self._in_use += 1
        try:
            yield
        finally:
            self._in_use -= 1
            self._free.release()

    async def aclose(self) -> None:
        """Close the idle connections; those in use are closed when their transaction ends."""
        self._closed = True
        self._drop_idle()

    async def _begun(self, settings: dict[str, str], *, write: bool) -> tuple[PromptConnection, Cursor]:
        if self._idle:
            used = self._idle.pop()
            try:
                return used, await _begin(used, settings, write=write)
            except OperationalError:
                self._drop_idle()
        fresh = await self._connect()
        return fresh, await _begin(fresh, settings, write=write)

    async def _connect(self) -> PromptConnection:
        try:
            connection = await PromptConnection.connect(
                **self._parameters, autocommit=True, prepare_threshold=None
            )
        except OperationalError as error:
            raise NoConnection(in_words(error, self._parameters)) from error
        try:
            for statement in self.on_connect:
                await connection.execute(statement)
        except BaseException:
            connection.pgconn.finish()
            raise
        return connection

    def _keep(self, connection: PromptConnection) -> None:
        if self._closed:
            connection.pgconn.finish()
        else:
            self._idle.append(connection)

    def _drop_idle(self) -> None:
        for connection in self._idle:
            connection.pgconn.finish()
        self._idle.clear()


async def _begin(connection: PromptConnection, settings: dict[str, str], *, write: bool) -> Cursor:
    """Return a cursor in a new transaction. Settings are local to it, so that none of them outlives it
    on the connection.
    """
    cursor = connection.cursor()
    try:
        calls = [_SET_ONE.format(*map(sql.Literal, pair)) for pair in settings.items()]
        begin = _BEGIN_WRITE if write else _BEGIN_READ
        await cursor.execute(_BEGIN.format(begin, sql.SQL(", ").join(calls)))
        cursor.nextset()
        found = await cursor.fetchone()
        if found is None or found[0]:
            raise NoConnection(IS_REPLICA)
    except BaseException:
        connection.pgconn.finish()
        raise
    return cursor
