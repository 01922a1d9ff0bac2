"""Connections to PostgreSQL, as the adapters on it need them. What is asked of it is theirs:
`vector/pgvector/store.py` and `state/postgres.py`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any, Final

from psycopg import AsyncConnection, OperationalError, conninfo, waiting
from psycopg import Error as PostgresError
from psycopg.abc import RV, PQGen
from psycopg.errors import ConnectionTimeout, InsufficientPrivilege

from regate_orchestrator.errors import ConfigurationError

_SQLALCHEMY_SCHEME: Final = "postgresql+psycopg://"
_CONNECT_SECONDS: Final = "5"
_WAIT_INTERVAL_SECONDS: Final = 0.1
_PORT: Final = 5432
_RIGHTS: Final = {
    "schema": "USAGE, CREATE",
    "database": "CREATE",
    "table": "SELECT, INSERT, UPDATE, DELETE",
    "sequence": "USAGE, SELECT, UPDATE",
}
_DEFAULTS: Final = {
    "application_name": "regate",
    "connect_timeout": _CONNECT_SECONDS,
    "client_encoding": "UTF8",
    # A server that vanished is noticed on connections that lie idle, too.
    "keepalives_idle": "30",
    "keepalives_interval": "5",
    "keepalives_count": "3",
}


IS_REPLICA: Final = (
    "the server is a replica, which may be behind: the URL must lead to the primary (with several hosts: "
    "target_session_attrs=read-write)"
)
_WRITABLE: Final = "the URL must lead to a server that takes writes (target_session_attrs=read-write)"
_WHAT_TO_DO: Final = {
    "25006": f"the server takes no writes; {_WRITABLE}",
    "25P03": "a transaction was left idle for longer than idle_in_transaction_timeout_s",
    "42501": "row-level security refused a row, or the user lacks a right, which regate doctor names",
    "42703": "a column is missing: was the database restored? A restart brings its tables up to date",
    "42883": "a function is missing: was the database restored? A restart brings its tables up to date",
    "42P01": "a table is missing: was the database restored? A restart brings its tables up to date",
    "53100": "the server's disk is full",
    "53300": "the server has no connection left: lower pool_size, or raise its max_connections",
    "55P03": "another transaction held a lock for too long",
    "57014": "a statement took longer than statement_timeout_s",
    "57P01": "the server ends its connections",
    "57P03": "the server is starting or stopping",
}


class NoConnection(OperationalError):
    """No connection came about. Its text says why, and of whom that was sought, without the password."""


class PromptConnection(AsyncConnection[Any]):
    """A connection that gives up at once when its task is cancelled.

    psycopg's own would first ask the server to cancel the query, over a new connection, and wait for both: up
    to 10 seconds when the network swallows packets, which is when deadlines matter most. This one is closed
    instead; `statement_timeout` ends the query at the server.
    """

    was_used = False
    """Whether a transaction has begun on it before."""

    async def wait(
        self,
        gen: PQGen[RV],
        interval: float = _WAIT_INTERVAL_SECONDS,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> RV:
        """Return what the exchange returns. On cancellation the connection is closed before the error
        goes on.
        """
        limit = {} if timeout is None else {"timeout": timeout}
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, **limit)
        except (asyncio.CancelledError, KeyboardInterrupt):
            self.pgconn.finish()
            raise


def connection_parameters(url: str, *, connect_s: float | None = None) -> dict[str, Any]:
    """Return the parameters of a `postgresql://` URL, with our defaults where it is silent. Raises
    `ConfigurationError`, never with the URL.
    """
    plain = (
        "postgresql://" + url.removeprefix(_SQLALCHEMY_SCHEME) if url.startswith(_SQLALCHEMY_SCHEME) else url
    )
    if not plain.startswith(("postgresql://", "postgres://")):
        raise ConfigurationError("not a URL of PostgreSQL, such as postgresql://user@host/database")
    try:
        given = conninfo.conninfo_to_dict(plain)
    except PostgresError:
        raise ConfigurationError("not a URL that PostgreSQL's library can read") from None
    # libpq counts whole seconds, and takes 0 for ever.
    limit = {} if connect_s is None else {"connect_timeout": str(max(1, round(connect_s)))}
    return {**_DEFAULTS, **limit, **given}


def in_words(error: BaseException, parameters: Mapping[str, Any]) -> str:
    """Return why the database cannot be used, for its operator at the start: what the connection came to, or
    which right is missing.

    Only there: these words name hosts, users and tables, and none of them a value or a password. Later
    failures are told by `cause`.
    """
    host, port = parameters.get("host", "the local socket"), parameters.get("port", _PORT)
    if isinstance(error, TimeoutError | ConnectionTimeout):
        return f"no answer in time from {host}, port {port}"
    if isinstance(error, InsufficientPrivilege):
        said = error.diag.message_primary or "a right is missing"
        return f"{said}{_grant(said, parameters.get('user'))}"
    if isinstance(error, NoConnection):
        return str(error)
    if isinstance(error, OperationalError) and error.sqlstate is None and str(error):
        return str(error).splitlines()[0].removeprefix("connection failed: ")
    return cause(error)


def _grant(said: str, user: str | None) -> str:
    """Return what would grant the right that PostgreSQL misses, where its words say of what."""
    found = re.fullmatch(r"permission denied for (schema|database|table|sequence) (\S+)", said)
    if found is None:
        return ""
    kind, name = found.groups()
    return f"; its owner may GRANT {_RIGHTS[kind]} ON {kind.upper()} {name} TO {user or 'the user'}"


def cause(error: BaseException) -> str:
    """Return the kind of a failure and PostgreSQL's code for it: its words would quote values, so they
    are left out.
    """
    code = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} ({code})" if code else type(error).__name__


def told(error: BaseException) -> str:
    """Return what happened, for the log: the kind of a failure and PostgreSQL's code for it, and what to do
    about it where that is known. Never a value, and never PostgreSQL's own words, which quote values.
    """
    if isinstance(error, NoConnection):
        return f"no connection: {error}"
    advice = _WHAT_TO_DO.get(getattr(error, "sqlstate", None) or "")
    return cause(error) if advice is None else f"{cause(error)}: {advice}"
