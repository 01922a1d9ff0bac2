"""The database behind the state store: opening it safely, transactions with a deadline, and the translation of its errors.

SQLite now: one connection writes and a few read, so that no reader waits for a writer (WAL). Another database needs its own `_engines_for`
and its own JSON functions (`sqlite_json.py`); nothing else here or beside knows which one it is.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, create_engine, event, insert, inspect, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from regate_adapters.state.encoding import decode, encode
from regate_adapters.state.sqlite_json import JsonSql, SqliteJson
from regate_adapters.state.tables import VERSION, metadata, schema_version
from regate_orchestrator.errors import ConfigurationError, StateUnavailable

_READERS: Final = 4
_BUSY_SHARE: Final = 0.8

_PRAGMAS: Final = (
    "PRAGMA foreign_keys=ON",
    "PRAGMA journal_mode=WAL",
    # Each commit is on the disk when it returns: FULL survives a loss of power, where WAL with NORMAL may lose the last commits.
    "PRAGMA synchronous=FULL",
    "PRAGMA trusted_schema=OFF",
)


@dataclass(frozen=True, slots=True)
class Database:
    """An open database. Reads see what was committed when they began; writes are one at a time, each one transaction."""

    json: JsonSql
    _reader: AsyncEngine
    _writer: AsyncEngine
    _deadline_s: float

    @classmethod
    @asynccontextmanager
    async def open(cls, url: str, *, deadline_s: float) -> AsyncIterator[Database]:
        """Yield the database, its tables made if it is new. Raises `ConfigurationError` when it cannot serve or is of another version."""
        parsed = _sqlite_url(url)
        await asyncio.to_thread(_prepare_file, parsed, deadline_s)
        reader = _engine(parsed, begin="BEGIN", connections=_READERS, deadline_s=deadline_s)
        writer = _engine(parsed, begin="BEGIN IMMEDIATE", connections=1, deadline_s=deadline_s)
        try:
            yield cls(SqliteJson(), reader, writer, deadline_s)
        finally:
            await reader.dispose()
            await writer.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection that sees one consistent state. Raises `StateUnavailable` when the database fails or the deadline passes."""
        async with self._translated(), self._reader.connect() as connection:
            yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a write transaction, committed on leaving and rolled back on any error. Raises `StateUnavailable`."""
        async with self._translated(), self._writer.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._deadline_s):
                yield
        except TimeoutError as error:
            raise StateUnavailable(f"no answer within {self._deadline_s} s") from error
        except (SQLAlchemyError, sqlite3.Error, OSError, UnicodeError) as error:
            raise StateUnavailable(_cause(error)) from error


def _sqlite_url(url: str) -> URL:
    """Return the URL of the database file. Its file must be a plain path: what several connections cannot share is refused."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError("state.url is not a database URL, such as sqlite:///regate.db") from error
    if parsed.drivername not in ("sqlite", "sqlite+aiosqlite"):
        raise ConfigurationError(f"state.url: {parsed.drivername} is not a database that this version can use; use sqlite:///path")
    if not parsed.database or parsed.database.startswith((":", "file:")) or parsed.query:
        raise ConfigurationError("state.url must name a file, such as sqlite:///regate.db, without options")
    return URL.create("sqlite+aiosqlite", database=str(Path(parsed.database).absolute()))


def _prepare_file(url: URL, deadline_s: float) -> None:
    """Make the file and its tables if they are not there, readable by this user alone, and check that they are of this version."""
    path = Path(url.database or "")
    engine = create_engine(url.set(drivername="sqlite"), connect_args=_connect_args(deadline_s), hide_parameters=True)
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _begin_with("BEGIN IMMEDIATE"))
    try:
        # The file first, then the database: the write-ahead log and its index take their mode from it.
        path.touch(mode=0o600)
        path.chmod(0o600)
        with engine.begin() as connection:
            _make_tables(connection, path)
    except (OSError, SQLAlchemyError, sqlite3.Error) as error:
        raise ConfigurationError(f"state.url: {path} cannot be used: {_cause(error)}") from error
    finally:
        engine.dispose()


def _make_tables(connection: Connection, path: Path) -> None:
    present = set(inspect(connection).get_table_names())
    if not present:
        metadata.create_all(connection)
        connection.execute(insert(schema_version).values(version=VERSION))
        return
    if schema_version.name not in present:
        raise ConfigurationError(f"state.url: {path} is a database of something else")
    versions = list(connection.scalars(select(schema_version.c.version)))
    if versions != [VERSION]:
        raise ConfigurationError(f"state.url: {path} has schema version {versions}, and this program needs {VERSION}")


def _engine(url: URL, *, begin: str, connections: int, deadline_s: float) -> AsyncEngine:
    engine = create_async_engine(
        url,
        connect_args=_connect_args(deadline_s),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=deadline_s,
        json_serializer=encode,
        json_deserializer=decode,
        hide_parameters=True,  # an error's text would otherwise carry ids and document text
    )
    event.listen(engine.sync_engine, "connect", _on_connect)
    event.listen(engine.sync_engine, "begin", _begin_with(begin))
    return engine


def _connect_args(deadline_s: float) -> dict[str, object]:
    # Waiting for another process's lock ends before our own deadline does. Transactions begin where `_begin_with` says, not implicitly.
    return {"timeout": deadline_s * _BUSY_SHARE, "isolation_level": None}


def _on_connect(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _begin_with(statement: str) -> Callable[[Connection], None]:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return begin


def _cause(error: BaseException) -> str:
    """Return what the database said, without the statement and its values."""
    origin = error.orig if isinstance(error, DBAPIError) else None
    return f"{type(origin or error).__name__}: {origin}" if origin else type(error).__name__
