"""PostgreSQL behind the state store, for any number of gateways. The counterpart is `sqlite.py`;
`database.py` chooses by the URL.

Writers run side by side here, where SQLite lets one at a time: what must not overlap takes row locks
(`with_for_update`, which SQLite leaves out). Reads are REPEATABLE READ and read-only, so that each sees one
consistent state, as in SQLite.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from sqlalchemy import func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from regate_adapters.postgres import PromptConnection, connection_parameters, in_words
from regate_adapters.state.dialects import UPGRADE_SECONDS, Engines, is_ready, origin, prepare, standing
from regate_adapters.state.encoding import decode, encode
from regate_adapters.state.filters.postgres_json import PostgresJson
from regate_adapters.state.tables import metadata
from regate_orchestrator.errors import ConfigurationError

_CONNECTIONS: Final = 10
_PREPARING: Final = 7164783610293
"""The advisory lock under which tables are made and upgraded: two gateways that start at once do so
one after the other.
"""
_TURNS: Final = 716478
"""The kind of the advisory locks by which transactions take turns."""
_LIMITS: Final = ("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout")
_UPGRADE_LIMIT: Final = f"{round(UPGRADE_SECONDS)}s"
_PLACE: Final = "the PostgreSQL database"
_RIGHTS: Final = text(
    """SELECT current_setting('server_version'), current_user,
              concat_ws(', ',
                (SELECT 'CREATE on schema ' || current_schema()
                 WHERE NOT has_schema_privilege(current_schema(), 'CREATE')),
                (SELECT 'any schema on its search_path' WHERE current_schema() IS NULL),
                (SELECT string_agg(lacking, ', ') FROM (
                   SELECT privilege || ' on table ' || relname AS lacking
                   FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE']) AS privilege
                   WHERE relnamespace = current_schema()::regnamespace AND relkind = 'r'
                     AND relname = ANY (:tables)
                     AND NOT has_table_privilege(pg_class.oid, privilege)
                   ORDER BY relname, privilege) AS missing))"""
).bindparams(tables=sorted(metadata.tables))


class _NumberLoader(Loader):
    """Reads PostgreSQL's `numeric`, which is what it adds integers up to, as SQLite gives its numbers:
    never as a `Decimal`.
    """

    def load(self, data: Buffer) -> int | float:
        """Return the number; a whole one is an integer, however large."""
        text = bytes(data)
        return int(text) if text.removeprefix(b"-").isdigit() else float(text)


@asynccontextmanager
async def open_postgres(url: str, *, deadline_s: float) -> AsyncIterator[Engines]:
    """Yield the engines, the tables made or upgraded as needed. Raises `ConfigurationError` when it
    cannot serve or is a later program's.
    """
    parameters = connection_parameters(url)
    engine = _engine(parameters, deadline_s)
    try:
        await _prepare(engine, parameters, deadline_s)
        reader = engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        yield Engines(PostgresJson(), reader, engine, is_shared=True, in_turn=_in_turn)
    finally:
        await engine.dispose()


async def _in_turn(connection: AsyncConnection, what: str) -> None:
    await connection.execute(select(func.pg_advisory_xact_lock(_TURNS, zlib.crc32(what.encode()) >> 1)))


async def _prepare(engine: AsyncEngine, parameters: dict[str, Any], deadline_s: float) -> None:
    try:
        async with asyncio.timeout(deadline_s), engine.begin() as connection:
            if await connection.run_sync(is_ready):
                return
        async with asyncio.timeout(UPGRADE_SECONDS), engine.begin() as connection:
            await connection.execute(
                select(*(func.set_config(name, _UPGRADE_LIMIT, True) for name in _LIMITS))
            )
            await connection.execute(select(func.pg_advisory_xact_lock(_PREPARING)))
            await connection.run_sync(prepare, _PLACE)
    except (OSError, TimeoutError, SQLAlchemyError, psycopg.Error) as error:
        raise ConfigurationError(f"{_PLACE} cannot be used: {in_words(origin(error), parameters)}") from error


async def examine_postgres(url: str, *, deadline_s: float) -> str:
    """Return in words what is there. Raises `ConfigurationError` when it cannot serve; changes nothing."""
    parameters = connection_parameters(url)
    engine = _engine(parameters, deadline_s)
    try:
        async with asyncio.timeout(deadline_s), engine.connect() as connection:
            found = await connection.run_sync(standing, _PLACE)
            version, user, lacking = (await connection.execute(_RIGHTS)).one()
    except (OSError, TimeoutError, SQLAlchemyError, psycopg.Error) as error:
        raise ConfigurationError(f"{_PLACE} cannot be used: {in_words(origin(error), parameters)}") from error
    finally:
        await engine.dispose()
    if lacking:
        raise ConfigurationError(f"user {user} lacks rights there: {lacking}")
    return f"PostgreSQL {version}, {found}"


def _engine(parameters: dict[str, Any], deadline_s: float) -> AsyncEngine:
    return create_async_engine(
        "postgresql+psycopg://",
        connect_args={"async_creator_fn": _creator(parameters, deadline_s)},
        use_native_hstore=False,
        pool_size=_CONNECTIONS,
        max_overflow=0,
        pool_timeout=deadline_s,
        pool_pre_ping=True,  # a connection that lay idle may be dead without knowing it
        json_serializer=encode,
        json_deserializer=decode,
        hide_parameters=True,  # an error's text would otherwise carry ids and document text
    )


def _creator(parameters: dict[str, Any], deadline_s: float) -> Callable[..., Awaitable[PromptConnection]]:
    """Return what SQLAlchemy connects with. It hands over its own adapters, among them those for JSON."""
    limit = f"{round(deadline_s * 1000)}ms"
    # Who gives up here closes the connection; these are what makes the server give up as well, and let go of
    # its locks.
    settings = {**dict.fromkeys(_LIMITS, limit), "jit": "off"}
    calls = sql.SQL(", ").join(
        sql.SQL("pg_catalog.set_config({}, {}, false)").format(*[sql.Placeholder()] * 2) for _ in settings
    )
    values = [part for pair in settings.items() for part in pair]

    async def connect(_conninfo: str, *, context: AdaptContext) -> PromptConnection:
        connection = await PromptConnection.connect(
            **parameters, context=context, autocommit=True, prepare_threshold=None
        )
        connection.adapters.register_loader("numeric", _NumberLoader)
        try:
            await connection.execute(sql.SQL("SELECT {}").format(calls), values)
            await connection.set_autocommit(False)
        except BaseException:
            connection.pgconn.finish()
            raise
        return connection

    return connect
