"""What `sqlite.py` and `postgres.py` have in common: what they open, the tables in it, and how a
failure is told. No database is named here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlalchemy import (
    Connection,
    Dialect,
    Table,
    column,
    create_mock_engine,
    insert,
    inspect,
    select,
    table,
)
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.schema import ExecutableDDLElement

from regate_adapters.state.filters.json_sql import JsonSql
from regate_adapters.state.tables import REVISION, metadata, schema_revision
from regate_orchestrator.errors import ConfigurationError

_STATEMENTS: Final[dict[str, tuple[str, ...]]] = {}
"""What makes the tables, by the name of the dialect: to write it takes longer than to carry it out."""

_FIRST: Final = table("schema_version", column("version"))
"""What said the version before there were migrations; the first migration after it drops it."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose rows a transaction reaches, where the database keeps tenants apart by itself (PostgreSQL): one
    tenant's, for maintenance all, and nobody's where neither is said.
    """

    tenant: str = ""
    is_maintenance: bool = False


STATEMENT_SHARE: Final = 0.8
"""Of a call's deadline: the server gives up first, so that it is it who says what took so long."""


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What an operator says of a database that is a server; a file has none of it. Times are in seconds."""

    pool_size: int = 10
    connect_s: float = 5.0
    """For a new connection, unless the URL says it (`connect_timeout`)."""
    statement_s: float | None = None
    """For one statement, after which the server ends it; absent, it follows from the deadline of a call."""
    idle_in_transaction_s: float = 5.0
    """After which the server ends a transaction in which nothing happens, and lets go of its locks."""
    row_security: bool = True
    """Whether the server is to keep tenants apart as well."""

    def call_s(self, deadline_s: float) -> float:
        """Return the deadline of a call, where this one holds unless the time for a statement is given."""
        return deadline_s if self.statement_s is None else self.statement_s / STATEMENT_SHARE


SERVER_OPTIONS: Final = ServerOptions()

MAINTENANCE: Final = Scope(is_maintenance=True)

Begins: TypeAlias = Callable[[Scope], AbstractAsyncContextManager[AsyncConnection]]
"""What yields a connection in a transaction of that scope."""


@dataclass(frozen=True, slots=True)
class Engines:
    """An open database: how to look into its JSON, what begins a read of it (one consistent state each),
    and what begins a write.

    `is_shared` says whether other programs may use it at the same time. `next_ordinal` returns the number of
    a table's next row, which nobody else gets until the transaction has ended. `widened` lets a transaction
    reach all tenants' rows meanwhile, and `raise_wall` has the database keep tenants apart by itself, where
    it can. `told` returns why it failed, for the log, and `pool_use` what its connections are doing.
    """

    json: JsonSql
    reading: Begins
    writing: Begins
    is_shared: bool
    next_ordinal: Callable[[AsyncConnection, Table], Awaitable[int]]
    widened: Callable[[AsyncConnection], AbstractAsyncContextManager[None]]
    raise_wall: Callable[[], Awaitable[None]]
    told: Callable[[BaseException], str]
    pool_use: Callable[[], Mapping[str, int]]


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
        for statement in _making_tables(connection.dialect):
            connection.exec_driver_sql(statement)
        connection.execute(insert(schema_revision).values(revision=REVISION))
        return False
    from regate_adapters.state.migrations import upgrade  # loads Alembic, which no other start needs

    upgrade(connection, present, place=place)
    return True


def _making_tables(dialect: Dialect) -> tuple[str, ...]:
    """Return the statements that make all tables, where there are none."""
    if (known := _STATEMENTS.get(dialect.name)) is not None:
        return known
    statements: list[str] = []

    def note(statement: ExecutableDDLElement, *_: object, **__: object) -> None:
        statements.append(str(statement.compile(dialect=dialect)))

    metadata.create_all(create_mock_engine(f"{dialect.name}+{dialect.driver}://", note), checkfirst=False)
    return _STATEMENTS.setdefault(dialect.name, tuple(statements))


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
