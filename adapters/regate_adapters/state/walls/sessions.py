"""How a transaction of the state store begins in PostgreSQL: on a live connection, and saying whose rows it
is about. What that means is in `policies.py`.

One exchange does all of it: it begins the transaction, names the tenant, and shows that the connection is
alive and leads to no replica, so that naming the tenant costs nothing on top. A connection that lay idle may
be dead without knowing it, or lead to a server that is not the primary any more: it is thrown away then, and
the next one is taken.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from psycopg import Error as PostgresError
from psycopg import OperationalError, sql
from sqlalchemy import AsyncAdaptedQueuePool, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from regate_adapters.postgres import IS_REPLICA, PromptConnection, told
from regate_adapters.state.dialects import Scope
from regate_adapters.state.walls.policies import MAINTENANCE_SCOPE, SCOPE_SETTING, TENANT_SETTING
from regate_orchestrator.errors import StateUnavailable

_NAMED: Final = (
    f"pg_catalog.set_config('{TENANT_SETTING}', {{}}, true),"
    f" pg_catalog.set_config('{SCOPE_SETTING}', {{}}, true)"
)
_READ: Final = sql.SQL(
    f"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT {_NAMED}, pg_catalog.pg_is_in_recovery()"
)
_WRITE: Final = sql.SQL(
    f"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SELECT {_NAMED}, pg_catalog.pg_is_in_recovery()"
)


class Sessions:
    """Transactions on the connections of one engine, whose driver must begin none by itself."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._waiting = 0

    def pool_use(self) -> Mapping[str, int]:
        """Return how many connections are in use and idle, and how many transactions wait for one."""
        pool = self._engine.pool
        assert isinstance(pool, AsyncAdaptedQueuePool)  # noqa: S101 — INVARIANT: an engine with a limit has it
        in_use = pool.checkedout()
        return {"in_use": in_use, "idle": pool.checkedin(), "waiting": self._waiting}

    @asynccontextmanager
    async def reading(self, scope: Scope) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that sees one consistent state and cannot write."""
        async with self._begun(_READ, scope) as connection:
            yield connection

    @asynccontextmanager
    async def writing(self, scope: Scope) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that is committed on leaving, and rolled back on any error."""
        async with self._begun(_WRITE, scope) as connection, connection.begin():
            yield connection

    @asynccontextmanager
    async def _begun(self, begin: sql.SQL, scope: Scope) -> AsyncIterator[AsyncConnection]:
        words = begin.format(
            sql.Literal(scope.tenant), sql.Literal(MAINTENANCE_SCOPE if scope.is_maintenance else "")
        )
        while True:
            async with AsyncExitStack() as stack:
                self._waiting += 1
                try:
                    connection = await stack.enter_async_context(self._engine.connect())
                finally:
                    self._waiting -= 1
                if await self._is_begun(connection, words):
                    yield connection
                    return

    async def _is_begun(self, connection: AsyncConnection, words: sql.Composed) -> bool:
        """Return whether the transaction has begun; when it has not, the connection is thrown away.

        Raises `StateUnavailable` when it is not the connection's age that is the cause.
        """
        driver = (await connection.get_raw_connection()).driver_connection
        assert isinstance(driver, PromptConnection)  # noqa: S101 — INVARIANT: what the engine connects with
        was_used, driver.was_used = driver.was_used, True
        try:
            cursor = await driver.execute(words)
            cursor.nextset()
            found = await cursor.fetchone()
            if found is not None and not found[-1]:
                return True
            problem = IS_REPLICA
        except PostgresError as error:
            if not isinstance(error, OperationalError):
                raise StateUnavailable(told(error)) from error
            problem = told(error)
        await connection.invalidate()
        if not was_used:
            raise StateUnavailable(problem)
        return False


@asynccontextmanager
async def widened(connection: AsyncConnection) -> AsyncIterator[None]:
    """Let what is done meanwhile reach the rows of all tenants. On an error the transaction must end."""
    await connection.execute(select(func.set_config(SCOPE_SETTING, MAINTENANCE_SCOPE, True)))
    yield
    await connection.execute(select(func.set_config(SCOPE_SETTING, "", True)))
