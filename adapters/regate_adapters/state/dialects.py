"""What `sqlite.py` and `postgres.py` have in common: what they open, the tables in it, and how a
failure is told. No database is named here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, column, insert, inspect, select, table
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from regate_adapters.state.filters.json_sql import JsonSql
from regate_adapters.state.tables import REVISION, metadata, schema_revision
from regate_orchestrator.errors import ConfigurationError

_FIRST: Final = table("schema_version", column("version"))
"""What said the version before there were migrations; the first migration after it drops it."""


@dataclass(frozen=True, slots=True)
class Engines:
    """An open database: how to look into its JSON, what reads of it (one consistent state each), and what
    writes.

    `is_shared` says whether other programs may use it at the same time; `in_turn` lets the transactions that
    ask for the same thing do so one after the other, each until its end.
    """

    json: JsonSql
    reader: AsyncEngine
    writer: AsyncEngine
    is_shared: bool
    in_turn: Callable[[AsyncConnection, str], Awaitable[None]]


UPGRADE_SECONDS: Final = 600.0
"""How long opening waits for an upgrade, its own or another program's: large tables take longer than
any call may.
"""


def is_ready(connection: Connection) -> bool:
    """Return whether the tables are there and of this program's revision. An upgrade under way holds
    nothing that this asks for.
    """
    if not inspect(connection).has_table(schema_revision.name):
        return False
    return list(connection.scalars(select(schema_revision.c.revision))) == [REVISION]


def prepare(connection: Connection, place: str) -> bool:
    """Make the tables if there are none and upgrade old ones; return whether any were altered.

    All happens in the connection's transaction, which must exclude every other writer.

    Raises `ConfigurationError`, naming the place, when they are something else's or were upgraded by a later
    program.
    """
    present = _revision(connection, place)
    if present == REVISION:
        return False
    if present is None:
        metadata.create_all(connection)
        connection.execute(insert(schema_revision).values(revision=REVISION))
        return False
    from regate_adapters.state.migrations import upgrade  # loads Alembic, which no other start needs

    upgrade(connection, present, place=place)
    return True


def standing(connection: Connection, place: str) -> str:
    """Return in words what the next start finds there. Raises `ConfigurationError` where that would
    refuse it; changes nothing.
    """
    present = _revision(connection, place)
    if present is None:
        return "no tables yet, which the first start makes"
    if present == REVISION:
        return "tables of this version"
    from regate_adapters.state.migrations import later_than

    return (
        "tables of an earlier version, which the next start upgrades in "
        f"{len(later_than(present, place=place))} steps"
    )


def _revision(connection: Connection, place: str) -> str | None:
    """Return the revision of the tables, or None when there are none."""
    present = set(inspect(connection).get_table_names())
    if not present:
        return None
    if schema_revision.name in present:
        revisions: list[str] = list(connection.scalars(select(schema_revision.c.revision)))
    elif _FIRST.name in present:
        revisions = [f"version_{version}" for version in connection.scalars(select(_FIRST.c.version))]
    else:
        raise ConfigurationError(f"{place} is a database of something else")
    if len(revisions) != 1:
        raise ConfigurationError(f"{place} does not say which revision its tables are of")
    return revisions[0]


def origin(error: BaseException) -> BaseException:
    """Return the driver's own error, which SQLAlchemy's may hold."""
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def cause(error: BaseException) -> str:
    """Return what the database said, without the statement and its values; of PostgreSQL, whose words
    quote values, the code alone.
    """
    said = origin(error)
    if hasattr(said, "sqlstate"):
        return f"{type(said).__name__} ({said.sqlstate or 'no code'})"
    return f"{type(said).__name__}: {said}" if said is not error else type(said).__name__
