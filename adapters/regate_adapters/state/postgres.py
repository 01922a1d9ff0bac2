"""PostgreSQL behind the state store, for any number of gateways. The counterpart is `sqlite.py`;
`database.py` chooses by the URL.

Writers run side by side here, where SQLite lets one at a time: what must not overlap takes row locks
(`with_for_update`, which SQLite leaves out). Reads are REPEATABLE READ and read-only, so that each sees one
consistent state, as in SQLite. The database keeps tenants apart by itself (`walls/`).

There are two engines: one of a few connections as the user that the URL names, which makes and upgrades the
tables, and one as the role that the gateway works as.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg import sql
from psycopg.abc import AdaptContext, Buffer
from psycopg.adapt import Loader
from sqlalchemy import Function, NullPool, Table, func, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from regate_adapters.postgres import (
    NoConnection,
    PromptConnection,
    connection_parameters,
    in_words,
    told,
)
from regate_adapters.state.dialects import (
    SERVER_OPTIONS,
    STATEMENT_SHARE,
    UPGRADE_SECONDS,
    Engines,
    ServerOptions,
    is_ready,
    origin,
    prepare,
    standing,
)
from regate_adapters.state.encoding import decode, encode
from regate_adapters.state.filters.postgres_json import PostgresJson
from regate_adapters.state.tables import metadata
from regate_adapters.state.walls.policies import NEXT_ORDINAL, draw, lower
from regate_adapters.state.walls.raising import (
    Wall,
    login_of,
    may_act,
    owner_words,
    problem_of,
    wall_in_words,
    working_role,
)
from regate_adapters.state.walls.sessions import Sessions, widened
from regate_orchestrator.errors import ConfigurationError

_log = logging.getLogger("regate.state")

_LOCK_SHARE: Final = 0.6
"""Of a call's deadline, which is less than a statement may take."""
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


_READ_ONLY: Final = text("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only') = 'on'")


class _NumberLoader(Loader):
    """Reads PostgreSQL's `numeric`, which is what it adds integers up to, as SQLite gives its numbers:
    never as a `Decimal`.
    """

    def load(self, data: Buffer) -> int | float:
        """Return the number; a whole one is an integer, however large."""
        text = bytes(data)
        return int(text) if text.removeprefix(b"-").isdigit() else float(text)


@asynccontextmanager
async def open_postgres(
    url: str, *, deadline_s: float, server: ServerOptions = SERVER_OPTIONS
) -> AsyncIterator[Engines]:
    """Yield the engines, the tables made or upgraded as needed. Raises `ConfigurationError` when it
    cannot serve or is a later program's.
    """
    parameters = connection_parameters(url, connect_s=server.connect_s)
    login = _login_engine(parameters, deadline_s)
    wall = Wall(login)
    try:
        role = await _prepare(login, parameters, deadline_s, wall if server.row_security else None)
        engine = _engine(parameters, server.call_s(deadline_s), server, role)
        try:
            yield _engines(Sessions(engine), wall, server)
        finally:
            await engine.dispose()
    finally:
        await login.dispose()


def _engines(sessions: Sessions, wall: Wall, server: ServerOptions) -> Engines:
    async def raise_wall() -> None:
        if server.row_security:
            await wall.raise_if_free()

    def told_of(error: BaseException) -> str:
        if isinstance(error, PoolTimeout):
            return f"all {server.pool_size} connections were in use for too long: raise pool_size"
        return told(origin(error))

    return Engines(
        PostgresJson(),
        sessions.reading,
        sessions.writing,
        is_shared=True,
        next_ordinal=_next_ordinal,
        widened=widened,
        raise_wall=raise_wall,
        told=told_of,
        pool_use=sessions.pool_use,
    )


async def _next_ordinal(connection: AsyncConnection, table: Table) -> int:
    turn = zlib.crc32(table.name.encode()) >> 1
    found: int | None = await connection.scalar(select(Function(NEXT_ORDINAL, table.name, _TURNS, turn)))
    assert found is not None  # noqa: S101 — INVARIANT: it returns a number
    return found


async def _prepare(
    engine: AsyncEngine, parameters: dict[str, Any], deadline_s: float, wall: Wall | None
) -> str | None:
    """Make or upgrade the tables, raise the wall, and return the role that the gateway works as."""
    try:
        async with asyncio.timeout(deadline_s), engine.begin() as connection:
            if await connection.scalar(_READ_ONLY):
                raise ConfigurationError(f"{_PLACE} is a replica, or takes no writes: name the primary")
            is_prepared = await connection.run_sync(is_ready)
        if not is_prepared:
            async with asyncio.timeout(UPGRADE_SECONDS), engine.begin() as connection:
                await connection.execute(
                    select(*(func.set_config(name, _UPGRADE_LIMIT, True) for name in _LIMITS))
                )
                await connection.execute(select(func.pg_advisory_xact_lock(_PREPARING)))
                if not await connection.run_sync(is_ready):  # nobody else was quicker
                    raised = await connection.run_sync(lower)
                    await connection.run_sync(prepare, _PLACE)
                    await connection.run_sync(draw, raised)
        if wall is None:
            _log.warning("row_security_off", extra={"detail": "state.row_security is off"})
            return None
        async with asyncio.timeout(deadline_s):
            role = await working_role(engine)
            await wall.raise_if_free()
            return role
    except (OSError, TimeoutError, SQLAlchemyError, psycopg.Error) as error:
        raise ConfigurationError(f"{_PLACE} cannot be used: {in_words(origin(error), parameters)}") from error


async def examine_postgres(url: str, *, deadline_s: float, row_security: bool = True) -> str:
    """Return in words what is there. Raises `ConfigurationError` when it cannot serve; changes nothing."""
    parameters = connection_parameters(url)
    engine = _login_engine(parameters, deadline_s)
    try:
        async with asyncio.timeout(deadline_s), engine.connect() as connection:
            found = await connection.run_sync(standing, _PLACE)
            is_there = await connection.run_sync(is_ready)
            version, user, lacking = (await connection.execute(_RIGHTS)).one()
            login = await login_of(connection)
            wall = await wall_in_words(connection) if is_there else ""
        acts = await may_act(engine) or login.makes_roles
    except (OSError, TimeoutError, SQLAlchemyError, psycopg.Error) as error:
        raise ConfigurationError(f"{_PLACE} cannot be used: {in_words(origin(error), parameters)}") from error
    finally:
        await engine.dispose()
    if lacking and not (is_there and lacking.startswith("CREATE on schema") and "," not in lacking):
        raise ConfigurationError(f"user {user} lacks rights there: {lacking}")
    if row_security and not acts and (problem := problem_of(login)):
        raise ConfigurationError(problem)
    if not row_security:
        wall = "row-level security is not asked for (state.row_security)"
    elif login.owns and not acts:
        wall += f"; {owner_words(login)}"
    return "; ".join(part for part in (f"PostgreSQL {version}, {found}", wall) if part)


def _login_engine(parameters: dict[str, Any], deadline_s: float) -> AsyncEngine:
    """Return an engine of connections as the user that the URL names, each made when it is needed."""
    return create_async_engine(
        "postgresql+psycopg://",
        connect_args={
            "async_creator_fn": _creator(parameters, deadline_s, SERVER_OPTIONS, None, autocommit=False)
        },
        use_native_hstore=False,
        poolclass=NullPool,
        hide_parameters=True,
    )


def _engine(
    parameters: dict[str, Any], deadline_s: float, server: ServerOptions, role: str | None
) -> AsyncEngine:
    """Return the engine of the connections that serve, in which `Sessions` begins the transactions."""
    return create_async_engine(
        "postgresql+psycopg://",
        connect_args={"async_creator_fn": _creator(parameters, deadline_s, server, role, autocommit=True)},
        use_native_hstore=False,
        pool_size=server.pool_size,
        max_overflow=0,
        pool_timeout=deadline_s * STATEMENT_SHARE,
        json_serializer=encode,
        json_deserializer=decode,
        hide_parameters=True,  # an error's text would otherwise carry ids and document text
    )


def _creator(
    parameters: dict[str, Any],
    deadline_s: float,
    server: ServerOptions,
    role: str | None,
    *,
    autocommit: bool,
) -> Callable[..., Awaitable[PromptConnection]]:
    """Return what SQLAlchemy connects with. It hands over its own adapters, among them those for JSON."""
    # Who gives up here closes the connection; these are what makes the server give up as well, and let go of
    # its locks.
    seconds = (deadline_s * STATEMENT_SHARE, deadline_s * _LOCK_SHARE, server.idle_in_transaction_s)
    settings = {name: f"{round(limit * 1000)}ms" for name, limit in zip(_LIMITS, seconds, strict=True)}
    settings |= {"jit": "off"} | ({} if role is None else {"role": role})
    calls = sql.SQL(", ").join(
        sql.SQL("pg_catalog.set_config({}, {}, false)").format(*[sql.Placeholder()] * 2) for _ in settings
    )
    values = [part for pair in settings.items() for part in pair]

    async def connect(_conninfo: str, *, context: AdaptContext) -> PromptConnection:
        try:
            connection = await PromptConnection.connect(
                **parameters, context=context, autocommit=True, prepare_threshold=None
            )
        except psycopg.OperationalError as error:
            raise NoConnection(in_words(error, parameters)) from error
        connection.adapters.register_loader("numeric", _NumberLoader)
        try:
            await connection.execute(sql.SQL("SELECT {}").format(calls), values)
            await connection.set_autocommit(autocommit)
        except BaseException:
            connection.pgconn.finish()
            raise
        return connection

    return connect
