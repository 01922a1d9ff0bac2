"""Who the gateway is to PostgreSQL, and when the wall between tenants goes up. What the wall is,
`policies.py` says.

Connections act as the role `regate_state`, which owns nothing and cannot pass the wall, wherever the user
that the URL names may act as it. It is made where that user may make roles; elsewhere a superuser does. A
user that does not own the tables needs no such role. One that owns them is kept behind the wall as well, but
could take it down; one that passes every wall is refused.

A gateway of an earlier version says in no transaction whose rows that is about, so that it would find
nothing. So the wall goes up when none is present: with new tables at once, otherwise when the last one is
gone.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from psycopg.errors import InsufficientPrivilege, InvalidParameterValue, LockNotAvailable
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from regate_adapters.state.dialects import origin
from regate_adapters.state.tables import metadata
from regate_adapters.state.walls.policies import WALLED, raising
from regate_orchestrator.errors import ConfigurationError

ROLE: Final = "regate_state"

_log = logging.getLogger("regate.state")
_LOCK_WAIT: Final = "500ms"
"""How long one table may be waited for, and others wait behind; what fails is tried again a minute later."""

_WHO: Final = text(
    f"""SELECT user_.rolname, user_.rolsuper, user_.rolbypassrls, user_.rolcreaterole,
          (SELECT rolsuper OR rolbypassrls FROM pg_catalog.pg_roles WHERE rolname = '{ROLE}'),
          coalesce((SELECT bool_or(pg_has_role(relowner, 'USAGE')) FROM pg_catalog.pg_class
                    WHERE relnamespace = current_schema()::regnamespace AND relname = ANY (:tables)), false)
        FROM pg_catalog.pg_roles AS user_ WHERE user_.rolname = current_user"""  # noqa: S608 — of constants alone
).bindparams(tables=sorted(WALLED))
_LACKING: Final = text(
    f"""SELECT coalesce(string_agg(relname, ', ' ORDER BY relname), '') FROM pg_catalog.pg_class
        WHERE relnamespace = current_schema()::regnamespace AND relname = ANY (:tables)
          AND NOT (has_schema_privilege('{ROLE}', relnamespace, 'USAGE')
                   AND has_table_privilege('{ROLE}', oid, 'SELECT')
                   AND has_table_privilege('{ROLE}', oid, 'INSERT')
                   AND has_table_privilege('{ROLE}', oid, 'UPDATE')
                   AND has_table_privilege('{ROLE}', oid, 'DELETE'))"""  # noqa: S608 — of constants alone
).bindparams(tables=sorted(metadata.tables))
_MAKE_ROLE: Final = text(
    f"""DO $$ BEGIN CREATE ROLE {ROLE} NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"""
)
_SCHEMA: Final = text("SELECT quote_ident(current_schema())")
_DOWN: Final = text(
    """SELECT relname FROM pg_catalog.pg_class
       WHERE relnamespace = current_schema()::regnamespace AND relname = ANY (:tables)
         AND NOT (relrowsecurity AND relforcerowsecurity) ORDER BY relname"""
).bindparams(tables=sorted(WALLED))
_EARLIER: Final = text(
    "SELECT count(*) FROM gateways WHERE NOT scoped AND present_until > extract(epoch FROM clock_timestamp())"
)


@dataclass(frozen=True, slots=True)
class Login:
    """The user that the URL names, and what it could do to the wall. `role_passes` is whether the role
    passes it, and None where there is no such role.
    """

    name: str
    is_superuser: bool
    passes: bool
    makes_roles: bool
    role_passes: bool | None
    owns: bool


async def login_of(connection: AsyncConnection) -> Login:
    """Return who this connection is."""
    return Login(*(await connection.execute(_WHO)).one())


async def working_role(engine: AsyncEngine) -> str | None:
    """Return the role to act as, with the rights that it needs; None for a user who has no role but its own.

    Raises `ConfigurationError` when neither is kept behind the wall, or the role lacks rights that this user
    cannot grant.
    """
    async with engine.begin() as connection:
        login = await login_of(connection)
        if login.role_passes is None and (login.is_superuser or login.makes_roles):
            await connection.execute(_MAKE_ROLE)
            if not login.is_superuser:
                await connection.execute(text(f"GRANT {ROLE} TO CURRENT_USER"))
    if not await may_act(engine):
        if problem := problem_of(login):
            raise ConfigurationError(problem)
        if login.owns:
            _log.warning("row_security_owner", extra={"detail": owner_words(login)})
        return None
    if login.role_passes:
        raise ConfigurationError(
            f"the role {ROLE} is a superuser, or may bypass row-level security: take that away"
        )
    await _grant(engine)
    return ROLE


async def may_act(engine: AsyncEngine) -> bool:
    """Return whether the user may act as the role."""
    try:
        async with engine.begin() as connection:
            await connection.execute(select(func.set_config("role", ROLE, True)))
    except DBAPIError as error:
        if isinstance(origin(error), InsufficientPrivilege | InvalidParameterValue):
            return False
        raise
    return True


def problem_of(login: Login) -> str | None:
    """Return why a user who has no other role cannot serve, or None."""
    if not login.is_superuser and not login.passes:
        return None
    return (
        f"the user {login.name} bypasses row-level security, which keeps tenants apart: use one that does "
        f"not, or as a superuser CREATE ROLE {ROLE} NOLOGIN; GRANT {ROLE} TO {login.name}"
    )


def owner_words(login: Login) -> str:
    """Return what to do about a user that owns the tables and has no other role."""
    return (
        f"the user {login.name} owns the tables, so it could take row-level security down: "
        f"as a superuser CREATE ROLE {ROLE} NOLOGIN; GRANT {ROLE} TO {login.name}"
    )


async def _grant(engine: AsyncEngine) -> None:
    """Give the role the rights to all tables that it lacks, as their owner may."""
    async with engine.begin() as connection:
        if not await connection.scalar(_LACKING):
            return
        schema = await connection.scalar(_SCHEMA)
        await connection.execute(text("SELECT pg_advisory_xact_lock(7164783610293)"))
        names = ", ".join(sorted(metadata.tables))
        await connection.execute(text(f"GRANT USAGE ON SCHEMA {schema} TO {ROLE}"))
        await connection.execute(text(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {names} TO {ROLE}"))
        if lacking := await connection.scalar(_LACKING):
            raise ConfigurationError(
                f"the role {ROLE} lacks rights to {lacking}; their owner may GRANT SELECT, INSERT, UPDATE, "
                f"DELETE ON ALL TABLES IN SCHEMA {schema} TO {ROLE}"
            )


async def wall_in_words(connection: AsyncConnection) -> str:
    """Return whether the wall is up, and what it waits for."""
    down = list(await connection.scalars(_DOWN))
    if not down:
        return "row-level security on"
    earlier = await connection.scalar(_EARLIER)
    if earlier:
        return f"row-level security waits until {earlier} gateways of an earlier version are gone"
    return "row-level security off, which the next start switches on"


class Wall:
    """The wall of one database, as a gateway knows it."""

    def __init__(self, login: AsyncEngine) -> None:
        self._login = login
        self._is_up = False
        self._said: str | None = None

    async def raise_if_free(self) -> None:
        """Have the policies count for everybody, the owner of the tables included, unless a gateway of an
        earlier version is present. What cannot be done now is logged, and left to the next time.
        """
        if self._is_up:
            return
        async with self._login.begin() as connection:
            down = list(await connection.scalars(_DOWN))
            earlier = await connection.scalar(_EARLIER) if down else 0
        if earlier:
            self._say("row_security_waits", f"until {earlier} gateways of an earlier version are gone")
            return
        try:
            for table in down:
                await self._raise(table)
        except DBAPIError as error:
            match origin(error):
                case LockNotAvailable():
                    self._say("row_security_waits", "until no transaction holds one of the tables")
                case InsufficientPrivilege():
                    self._say("row_security_waits", "until a gateway starts as the owner of the tables")
                case _:
                    raise
            return
        self._is_up = True
        if down:
            _log.info("row_security_on", extra={"detail": f"on {len(down)} tables"})

    async def _raise(self, table: str) -> None:
        async with self._login.begin() as connection:
            await connection.execute(select(func.set_config("lock_timeout", _LOCK_WAIT, True)))
            await connection.execute(text(raising(table)))

    def _say(self, event: str, detail: str) -> None:
        if self._said != detail:
            self._said = detail
            _log.warning(event, extra={"detail": detail})
