"""SQLite behind the state store: one connection writes and a few read, so that no reader waits for a writer
(WAL).

The counterpart is `postgres.py`; `database.py` chooses between them by the URL.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final, cast

import aiosqlite
from sqlalchemy import URL, Connection, Table, create_engine, event, func, select
from sqlalchemy.engine.interfaces import AdaptedConnection, DBAPIConnection
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from regate_adapters.state.dialects import Engines, cause, prepare, standing
from regate_adapters.state.encoding import decode, encode
from regate_adapters.state.filters.sqlite_json import SqliteJson
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
    reader = _engine(url, begin="BEGIN", connections=_READERS, deadline_s=deadline_s)
    writer = _engine(url, begin="BEGIN IMMEDIATE", connections=1, deadline_s=deadline_s)
    try:
        yield Engines(
            SqliteJson(),
            lambda _scope: reader.connect(),
            lambda _scope: writer.begin(),
            is_shared=False,
            next_ordinal=_next_ordinal,
            widened=lambda _connection: nullcontext(),
            raise_wall=_raise_wall,
            told=cause,
            pool_use=dict,
        )
    finally:
        await reader.dispose()
        await writer.dispose()


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
    return URL.create("sqlite+aiosqlite", database=str(Path(url.database).absolute()))


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
    event.listen(engine.sync_engine, "invalidate", _roll_back)
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


def _roll_back(
    connection: DBAPIConnection, _entry: ConnectionPoolEntry, _error: BaseException | None
) -> None:
    """End the transaction of a connection that is thrown away, because its caller was cancelled in the middle
    of a statement.

    Closing alone does not: SQLite keeps a closed connection, and its write lock, for as long as Python keeps
    one of its statements.
    """

    async def roll_back(driver: aiosqlite.Connection) -> None:
        with suppress(
            asyncio.CancelledError, sqlite3.Error, ValueError
        ):  # cancelled again, or closed already: it is thrown away in any case
            await driver.rollback()

    cast("AdaptedConnection", connection).run_async(roll_back)


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
