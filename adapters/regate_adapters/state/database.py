"""The database behind the state store: transactions with a deadline, and the translation of its errors.

Which database it is, its URL says: `sqlite.py` and `postgres.py` open one each, and nothing else here or
beside knows the difference.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from sqlalchemy import URL, Table, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.dialects import MAINTENANCE, SERVER_OPTIONS, Begins, Engines, Scope, ServerOptions
from regate_adapters.state.encoding import is_text
from regate_adapters.state.filters.json_sql import JsonSql
from regate_orchestrator.errors import ConfigurationError, StateUnavailable, naming
from regate_orchestrator.values import Clock, GatewayId, mint, wall_clock


@dataclass(frozen=True, slots=True)
class Database:
    """An open database. A read sees what was committed when it began; each write is one transaction."""

    _engines: Engines
    _deadline_s: float
    _clock: Clock
    gateway: GatewayId
    """As whom rows are written that are in flight: whoever opened the database, from then until it is
    closed.
    """

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str,
        *,
        deadline_s: float,
        setting: str = "state.url",
        clock: Clock = wall_clock,
        gateway: GatewayId | None = None,
        server: ServerOptions = SERVER_OPTIONS,
    ) -> AsyncIterator[Database]:
        """Yield the database, its tables made or upgraded as needed.

        Raises `ConfigurationError`, naming the setting that holds the URL, when it cannot serve or is a later
        program's.
        """
        async with AsyncExitStack() as stack:
            with naming(setting):
                engines = await stack.enter_async_context(_opened(url, deadline_s=deadline_s, server=server))
            call_s = server.call_s(deadline_s) if engines.is_shared else deadline_s
            yield cls(engines, call_s, clock, gateway or GatewayId(mint("gw_")))

    def now(self) -> int:
        """Return the time by which rows expire, in epoch seconds."""
        return int(self._clock())

    @property
    def is_shared(self) -> bool:
        """Whether other programs may use this database at the same time."""
        return self._engines.is_shared

    async def next_ordinal(self, connection: AsyncConnection, table: Table) -> int:
        """Return the number of the next row of the table, of whatever tenant. Nobody else gets one until
        this transaction has ended.
        """
        return await self._engines.next_ordinal(connection, table)

    def pool_use(self) -> Mapping[str, int]:
        """Return how many connections are `in_use` and `idle`, and how many calls are `waiting` for one;
        nothing where that has no limit that matters.
        """
        return self._engines.pool_use()

    async def raise_wall(self) -> None:
        """Have the database keep tenants apart as well, as soon as no gateway is present that would be
        shut out by that. Does nothing where it does already, or cannot.
        """
        async with self._translated():
            await self._engines.raise_wall()

    @property
    def maintenance(self) -> Maintenance:
        """Return the way to the rows of all tenants, for the program's own work alone."""
        return Maintenance(self._engines, self._transaction)

    @property
    def json(self) -> JsonSql:
        """Return how this database looks into JSON."""
        return self._engines.json

    def reading(self, tenant: str) -> AbstractAsyncContextManager[AsyncConnection]:
        """Yield a connection that sees one consistent state, for this tenant. Raises `StateUnavailable` when
        the database fails or the deadline passes.
        """
        return self._transaction(self._engines.reading, _scope_of(tenant))

    def writing(self, tenant: str) -> AbstractAsyncContextManager[AsyncConnection]:
        """Yield a connection in a write transaction for this tenant, committed on leaving and rolled back on
        any error. Raises `StateUnavailable`.

        Other writers may run meanwhile, unless the database excludes them: what depends on a row must lock it
        (`with_for_update`).
        """
        return self._transaction(self._engines.writing, _scope_of(tenant))

    @asynccontextmanager
    async def _transaction(self, begins: Begins, scope: Scope) -> AsyncIterator[AsyncConnection]:
        async with self._translated(), begins(scope) as connection:
            yield connection

    @asynccontextmanager
    async def _translated(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(self._deadline_s):
                yield
        except TimeoutError as error:
            raise StateUnavailable(f"no answer within {self._deadline_s} s") from error
        except (SQLAlchemyError, sqlite3.Error, OSError, UnicodeError) as error:
            raise StateUnavailable(self._engines.told(error)) from error


@dataclass(frozen=True, slots=True)
class Maintenance:
    """The transactions that see the rows of all tenants: for garbage collection, leases, expiry, membership,
    and what else is the program's own work. Never for what a caller asked for.

    `tests/adapters/state/test_walls.py` lists who enters here, with the reason.
    """

    _engines: Engines
    _transaction: Callable[[Begins, Scope], AbstractAsyncContextManager[AsyncConnection]]

    def reading(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Yield a connection as `Database.reading` does, for the rows of all tenants."""
        return self._transaction(self._engines.reading, MAINTENANCE)

    def writing(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """Yield a connection as `Database.writing` does, for the rows of all tenants."""
        return self._transaction(self._engines.writing, MAINTENANCE)

    def within(self, connection: AsyncConnection) -> AbstractAsyncContextManager[None]:
        """Let what is done meanwhile in a tenant's transaction reach the rows of all tenants."""
        return self._engines.widened(connection)


def _scope_of(tenant: str) -> Scope:
    """Return the scope of the tenant. A text that no database can hold is nobody's, and is never sent."""
    return Scope(tenant if is_text(tenant) else "")


async def examine(
    url: str, *, setting: str = "state.url", deadline_s: float = 5.0, row_security: bool = True
) -> str:
    """Return in words what the database holds, for its operator. Raises `ConfigurationError` when it
    cannot serve; changes nothing.
    """
    with naming(setting):
        place = check_url(url)
        if place.drivername.startswith("sqlite"):
            from regate_adapters.state.sqlite import examine_sqlite

            return await asyncio.to_thread(examine_sqlite, place)
        from regate_adapters.state.postgres import examine_postgres

        return await examine_postgres(url, deadline_s=deadline_s, row_security=row_security)


def check_url(url: str) -> URL:
    """Return the URL read. Raises `ConfigurationError` for one that names no database which can be used;
    nothing is connected to.

    What PostgreSQL needs is loaded here: its driver is optional.
    """
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise ConfigurationError("not a database URL, such as sqlite:///regate.db") from error
    match parsed.drivername:
        case "sqlite" | "sqlite+aiosqlite":
            from regate_adapters.state.sqlite import file_url

            return file_url(parsed)
        case "postgres" | "postgresql" | "postgresql+psycopg":
            try:
                from regate_adapters.postgres import connection_parameters
            except ModuleNotFoundError as error:
                raise ConfigurationError("PostgreSQL needs its driver: install regate[postgres]") from error
            connection_parameters(url)
            return parsed
        case other:
            raise ConfigurationError(
                f"{other} is not a database that this version can use; use sqlite:///path or "
                "postgresql+psycopg://host/database"
            )


def _opened(url: str, *, deadline_s: float, server: ServerOptions) -> AbstractAsyncContextManager[Engines]:
    """Return the context that opens the database which the URL names."""
    place = check_url(url)
    if place.drivername.startswith("sqlite"):
        from regate_adapters.state.sqlite import open_sqlite

        return open_sqlite(place, deadline_s=deadline_s)
    from regate_adapters.state.postgres import open_postgres

    return open_postgres(url, deadline_s=deadline_s, server=server)
