"""SQLite behind the state store: one connection writes and a few read, so that no reader waits for a writer
(WAL).

The counterpart is `postgres.py`; `database.py` chooses between them by the URL.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext
from pathlib import Path
from typing import Final

from sqlalchemy import URL, Connection, Engine, NullPool, Table, create_engine, event, func, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.pool import ConnectionPoolEntry

from regate_adapters.state.dialects import Engines, cause, prepare, standing
from regate_adapters.state.encoding import decode, encode
from regate_adapters.state.filters.sqlite_json import SqliteJson
from regate_adapters.state.sqlite_sessions import Sessions
from regate_orchestrator.errors import ConfigurationError

_READERS: Final = 4
_BUSY_SHARE: Final = 0.8
_PATIENCE_SECONDS: Final = 60.0
"""How long opening waits for another program that is making or upgrading the tables."""

_PRAGMAS: Final = (
    "PRAGMA foreign_keys=ON",
    "PRAGMA journal_mode=WAL",
    # Each commit is on the disk when it returns: FULL survives a loss of power, where WAL with NORMAL may
    # lose the last commits.
    "PRAGMA synchronous=FULL",
    "PRAGMA trusted_schema=OFF",
)


@asynccontextmanager
async def open_sqlite(url: URL, *, deadline_s: float) -> AsyncIterator[Engines]:
    """Yield the engines of the file (`file_url`), its tables made or upgraded as needed.

    Raises `ConfigurationError` when it cannot serve or is a later program's.
    """
    await asyncio.to_thread(_prepare_file, url, deadline_s)
    engines = [_engine(url, begin=begin, deadline_s=deadline_s) for begin in ("BEGIN", "BEGIN IMMEDIATE")]
    readers = Sessions(engines[0], count=_READERS, name="regate-read")
    writer = Sessions(engines[1], count=1, name="regate-write")
    try:
        yield Engines(
            SqliteJson(),
            lambda _scope: readers.reading(),
            lambda _scope: writer.writing(),
            is_shared=False,
            next_ordinal=_next_ordinal,
            widened=lambda _connection: nullcontext(),
            raise_wall=_raise_wall,
            told=cause,
            pool_use=dict,
        )
    finally:
        await readers.close()
        await writer.close()


async def _next_ordinal(connection: AsyncConnection, table: Table) -> int:
    """No turns need be taken: SQLite has one writer at a time."""
    last: int | None = await connection.scalar(select(func.max(table.c.ordinal)))
    return 1 if last is None else last + 1


async def _raise_wall() -> None:
    """Nothing is to be done: SQLite cannot tell one tenant's rows from another's."""


def file_url(url: URL) -> URL:
    """Return the URL of the database file. Its file must be a plain path: what several connections
    cannot share is refused.
    """
    if not url.database or url.database.startswith((":", "file:")) or url.query:
        raise ConfigurationError("must name a file, such as sqlite:///regate.db, without options")
    return URL.create("sqlite", database=str(Path(url.database).absolute()))


def _prepare_file(url: URL, deadline_s: float) -> None:
    """Make the file and its tables if they are not there, readable by this user alone, and upgrade
    what an earlier program made.
    """
    path = Path(url.database or "")
    patience = max(deadline_s, _PATIENCE_SECONDS)
    engine = create_engine(
        url.set(drivername="sqlite"), connect_args=_connect_args(patience), hide_parameters=True
    )
    event.listen(engine, "connect", _without_foreign_keys)
    event.listen(engine, "begin", _begin_with("BEGIN IMMEDIATE"))
    try:
        # The file first, then the database: the write-ahead log and its index take their mode from it.
        path.touch(mode=0o600)
        path.chmod(0o600)
        with engine.begin() as connection:
            altered = prepare(connection, str(path))
            if altered and connection.exec_driver_sql("PRAGMA foreign_key_check").first() is not None:
                raise ConfigurationError(f"{path} holds rows that refer to rows which are not there")
    except (OSError, SQLAlchemyError, sqlite3.Error) as error:
        raise ConfigurationError(f"{path} cannot be used: {cause(error)}") from error
    finally:
        engine.dispose()


def examine_sqlite(url: URL) -> str:
    """Return in words what is there. Raises `ConfigurationError` when it cannot serve; changes nothing."""
    path = Path(url.database or "")
    if not path.exists():
        return "no file yet, which the first start makes"
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True))
    try:
        with engine.connect() as connection:
            return f"SQLite, {standing(connection, str(path))}"
    except (OSError, SQLAlchemyError, sqlite3.Error) as error:
        raise ConfigurationError(f"{path} cannot be used: {cause(error)}") from error
    finally:
        engine.dispose()


def _engine(url: URL, *, begin: str, deadline_s: float) -> Engine:
    engine = create_engine(
        url.set(drivername="sqlite"),
        # A session keeps its one connection, and gives it to its thread.
        connect_args=_connect_args(deadline_s) | {"check_same_thread": False},
        poolclass=NullPool,
        json_serializer=encode,
        json_deserializer=decode,
        hide_parameters=True,  # an error's text would otherwise carry ids and document text
    )
    event.listen(engine, "connect", _on_connect)
    event.listen(engine, "begin", _begin_with(begin))
    return engine


def _connect_args(deadline_s: float) -> dict[str, object]:
    # Waiting for another process's lock ends before our own deadline does. Transactions begin where
    # `_begin_with` says, not implicitly.
    return {"timeout": deadline_s * _BUSY_SHARE, "isolation_level": None}


def _on_connect(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    for pragma in _PRAGMAS:
        cursor.execute(pragma)
    cursor.close()


def _without_foreign_keys(connection: DBAPIConnection, entry: ConnectionPoolEntry) -> None:
    """Set a connection up for changing tables: a table that is rebuilt must not take the rows with it
    that refer to it.
    """
    _on_connect(connection, entry)
    cursor = connection.cursor()
    cursor.execute("PRAGMA foreign_keys=OFF")
    cursor.close()


def _begin_with(statement: str) -> Callable[[Connection], None]:
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(statement)

    return begin
