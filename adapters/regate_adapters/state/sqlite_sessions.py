"""Transactions on SQLite: each connection has a thread of its own, to which a statement goes once, to be
executed and read to its end.

Through a driver that is asynchronous itself a statement goes there four times (cursor, execution, rows,
closing), which costs more than SQLite does. What is here has the part of SQLAlchemy's `AsyncConnection` that
the state store uses. Not where the file is nor what is in it (`sqlite.py`).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias, TypeVar, cast

from sqlalchemy import (
    Connection,
    CursorResult,
    Dialect,
    Engine,
    Executable,
    NestedTransaction,
    Result,
    ScalarResult,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

_T = TypeVar("_T")
_Work: TypeAlias = Callable[[], Any]


class _Worker:
    """A thread that does one piece of work after the other."""

    def __init__(self, name: str) -> None:
        self._waiting: SimpleQueue[tuple[_Work, asyncio.Future[Any] | None] | None] = SimpleQueue()
        self._thread = Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def begin(self, work: Callable[[], _T]) -> asyncio.Future[_T]:
        """Have the work done after all that was begun before; the future tells what came of it."""
        future: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        self._waiting.put((work, future))
        return future

    def afterwards(self, work: _Work) -> None:
        """Have the work done after all that was begun before; it must not raise."""
        self._waiting.put((work, None))

    def end(self) -> None:
        """End the thread, once all is done that was begun."""
        self._waiting.put(None)

    def _run(self) -> None:
        while (begun := self._waiting.get()) is not None:
            work, future = begun
            if future is None:
                work()
                continue
            try:
                result, failure = work(), None
            except BaseException as error:  # noqa: BLE001 — told to whoever began it
                result, failure = None, error
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                future.get_loop().call_soon_threadsafe(_tell, future, result, failure)
            del work, future, result, failure, begun


def _tell(future: asyncio.Future[Any], result: object, failure: BaseException | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(result)
    else:
        future.set_exception(failure)


class Session:
    """One connection and its thread; a transaction at a time. It stands for an `AsyncConnection` itself."""

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._worker = _Worker(name)
        self._open: Connection | None = None
        self._driver: sqlite3.Connection | None = None
        self._in_transaction = False
        self._first: Callable[[], object] | None = None
        """What is to be done together with what comes next."""

    # ------------------------------------------------------------ as SQLAlchemy's AsyncConnection

    @property
    def dialect(self) -> Dialect:
        """Return how the database speaks."""
        return self._engine.dialect

    async def execute(self, statement: Executable, parameters: Any = None) -> Result[Any]:
        """Return the result, whose rows have all been read."""
        return await self._do(lambda: _whole(self._connection().execute(statement, parameters)))

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        """Return the first column of the first row; None where there is no row."""
        return await self._do(lambda: self._connection().scalar(statement, parameters))

    async def scalars(self, statement: Executable, parameters: Any = None) -> ScalarResult[Any]:
        """Return the first column of all rows."""
        return (await self.execute(statement, parameters)).scalars()

    @asynccontextmanager
    async def begin_nested(self) -> AsyncIterator[None]:
        """Undo what the block does where it raises, and nothing else of the transaction."""
        begun: list[NestedTransaction] = []
        self._first = lambda: begun.append(self._connection().begin_nested())
        try:
            yield
        except BaseException:
            if begun:
                await self._do(begun[0].rollback)
            raise
        finally:
            self._first = None
        if begun:
            await self._do(begun[0].commit)

    # ------------------------------------------------------------ the transaction

    async def commit(self) -> None:
        """End the transaction, what it did being on the disk at return."""
        if self._in_transaction:
            await self._do(lambda: self._connection().commit(), is_commit=True)
            self._in_transaction = False

    def roll_back(self) -> None:
        """End the transaction, and what it did; before anything else is done on the connection."""
        if self._in_transaction:
            self._in_transaction = False
            self._worker.afterwards(self._undo)

    async def close(self) -> None:
        """Close the connection and end its thread, once what it is at is done."""
        closing = self._worker.begin(self._let_go)
        self._worker.end()
        await closing

    # ------------------------------------------------------------ its own

    async def _do(self, work: Callable[[], _T], *, is_commit: bool = False) -> _T:
        """Return what the work returns. Whoever is cancelled leaves nothing running: a statement is
        interrupted, a commit comes to its end, and only then does this end.
        """
        self._in_transaction = True
        first, self._first = self._first, None
        future = self._worker.begin(work if first is None else lambda: (first(), work())[1])
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if not is_commit and (driver := self._driver) is not None:
                with suppress(sqlite3.Error):  # closed meanwhile
                    driver.interrupt()
            while not future.done():
                with suppress(asyncio.CancelledError):  # once more; the first is raised below
                    await asyncio.wait((future,))
            future.exception()  # heard, as nobody else will
            raise

    def _connection(self) -> Connection:
        """Return the connection in its transaction, opened and begun if it is not. In its thread."""
        if self._open is None:
            self._open = self._engine.connect()
            self._driver = cast("sqlite3.Connection", self._open.connection.driver_connection)
        if not self._open.in_transaction():
            try:
                self._open.begin()
            except BaseException:
                self._let_go()  # SQLAlchemy begins nothing more on it
                raise
        return self._open

    def _undo(self) -> None:
        if self._open is None:
            return
        try:
            self._open.rollback()
        except (SQLAlchemyError, sqlite3.Error):
            self._let_go()

    def _let_go(self) -> None:
        """Close the connection; another is opened when one is needed."""
        opened, self._open, self._driver = self._open, None, None
        if opened is not None:
            with suppress(SQLAlchemyError, sqlite3.Error):
                opened.invalidate()
                opened.close()


def _whole(result: CursorResult[Any]) -> Result[Any]:
    """Return the result with its rows read, so that nobody reads them elsewhere than in the thread."""
    return result.freeze()() if result.returns_rows else result


class Sessions:
    """A few sessions, of which each serves one transaction at a time, in the order in which they were asked
    for.
    """

    def __init__(self, engine: Engine, *, count: int, name: str) -> None:
        self._all: Sequence[Session] = [Session(engine, f"{name}-{number}") for number in range(count)]
        self._free = list(self._all)
        self._places = asyncio.Semaphore(count)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection whose transaction is rolled back in any case."""
        async with self._session() as session:
            yield cast("AsyncConnection", session)

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection whose transaction is committed on leaving, and rolled back on any error."""
        async with self._session() as session:
            yield cast("AsyncConnection", session)
            await session.commit()

    async def close(self) -> None:
        """Close all connections, once what they are at is done."""
        for session in self._all:
            await session.close()

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[Session]:
        async with self._places:
            session = self._free.pop()
            try:
                yield session
            finally:
                session.roll_back()  # nothing, where it was committed
                self._free.append(session)
