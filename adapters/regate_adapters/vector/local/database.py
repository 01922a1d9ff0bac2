"""A file of SQLite as an engine uses it: threads with a connection each, one of which writes at a time."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from regate_adapters.vector.holding import hold
from regate_adapters.vector.local.schema import Connection, Library, connect, prepare
from regate_orchestrator.errors import VectorStoreUnavailable

_THREADS: Final = 4
T = TypeVar("T")


class Database:
    """The file below a folder, held for this process. Must be entered, which makes the file or brings it up
    to date, and raises `ConfigurationError` when it cannot be used.

    What fails in it is `VectorStoreUnavailable`.
    """

    def __init__(self, folder: Path, library: Library, *, engine: str) -> None:
        self._folder = folder
        self._library = library
        self._engine = engine
        self._writing = threading.Lock()
        self._local = threading.local()
        self._connections: list[Connection] = []
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="vectors")

    async def __aenter__(self) -> Self:
        self._held = await asyncio.to_thread(hold, self._folder, self._engine)
        try:
            await asyncio.to_thread(prepare, self._folder, self._library)
        except BaseException:
            os.close(self._held)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._executor.shutdown)
        for connection in self._connections:
            connection.close()
        os.close(self._held)

    async def run(self, work: Callable[[], T]) -> T:
        """Do the work in one of the threads."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except self._library.error as error:
            raise VectorStoreUnavailable(f"the vectors in {self._folder}: {error}") from error

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Do the work with a connection that sees the file as it is now."""

        def within() -> T:
            with self.reading() as connection:
                return work(connection)

        return await self.run(within)

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Do the work in a transaction, which is whole on the disk afterwards, or not there at all."""

        def within() -> T:
            with self._writing:
                connection = self._connection()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    done = work(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                return done

        return await self.run(within)

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """Yield a connection that sees the file as it is now until it is given back. For use in `run`."""
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")

    def _connection(self) -> Connection:
        """Return the connection of this thread."""
        connection: Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._folder, self._library)
            self._connections.append(connection)
        return connection
