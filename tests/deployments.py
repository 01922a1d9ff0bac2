"""What a gateway of the tests keeps its state and its vectors in. What a client is told must not depend on
it.

embedded    SQLite and the local engine in the gateway's own directory, as without configuration
postgres    one PostgreSQL database with pgvector, of a plain user, as an operator prepares it
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import psycopg
import pytest
from psycopg import sql
from tests.patience import PATIENT_SECONDS
from tests.postgres import Postgres

from regate_adapters.state.store import SqlStateStore
from regate_adapters.state.walls.raising import ROLE
from regate_adapters.testing.vector.suite import SCHEMA
from regate_adapters.vector.pgvector.store import PgVectorStore

NAMES: Final = ("embedded", "postgres")
VARIABLE: Final = "DATABASE_URL"
"""The environment variable that names the database, where there is one."""

_USER: Final = "gateway"
_PREPARED: Final = "prepared"


@dataclass(frozen=True, slots=True)
class Deployment:
    """One of these: what a gateway's settings say of its state, and of a vector store."""

    name: str
    url: str = ""

    @property
    def state(self) -> dict[str, Any]:
        """Settings of `state`."""
        return {"url_env": VARIABLE} if self.url else {}

    @property
    def store(self) -> dict[str, Any]:
        """Settings of one vector store."""
        return {"kind": "pgvector", "url_env": VARIABLE} if self.url else {}

    @property
    def settings(self) -> dict[str, Any]:
        """Settings of a gateway with one vector store."""
        return {"state": self.state, "vector": {"stores": {"main": self.store}}}

    def query(self, statement: LiteralString) -> list[tuple[Any, ...]]:
        """Ask the database, as the gateway's own user, of the rows of all tenants in its state."""
        with psycopg.connect(self.url, autocommit=True, options="-c regate.scope=maintenance") as connection:
            return connection.execute(statement).fetchall()


EMBEDDED: Final = Deployment("embedded")


@contextmanager
def on_postgres(server: Postgres) -> Iterator[Deployment]:
    """Yield a deployment with a database of its own, which is gone at the end: as the first start of a
    gateway leaves it, without rows.
    """
    _prepare(server)
    with server.database(_PREPARED, owner=_USER) as name:
        yield Deployment("postgres", server.url(name, user=_USER))


def _prepare(server: Postgres) -> None:
    """Make, once, the user and what all databases are copies of: to copy an extension and tables is quicker
    than to make them.
    """
    if server.execute(sql.SQL("SELECT 1 FROM pg_roles WHERE rolname = {}").format(_USER)):
        return
    server.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(_USER)))
    if not server.execute(sql.SQL("SELECT 1 FROM pg_roles WHERE rolname = {}").format(ROLE)):
        server.execute(sql.SQL("CREATE ROLE {} NOLOGIN").format(sql.Identifier(ROLE)))
    server.execute(sql.SQL("GRANT {} TO {}").format(sql.Identifier(ROLE), sql.Identifier(_USER)))
    assert server.template(_PREPARED, owner=_USER, extensions=["vector"])
    url = server.url(_PREPARED, user=_USER)
    opened_once(lambda: SqlStateStore.open(url, deadline_s=PATIENT_SECONDS))
    opened_once(lambda: PgVectorStore(url, SCHEMA, deadline_s=PATIENT_SECONDS))


def opened_once(opening: Callable[[], AbstractAsyncContextManager[object]]) -> None:
    """Enter and leave what makes its tables where there are none."""

    async def open_and_close() -> None:
        async with opening():
            pass

    with ThreadPoolExecutor(1) as beside:  # the loop of a test may be the thread's own
        beside.submit(asyncio.run, open_and_close()).result()


def only_on(name: str) -> pytest.MarkDecorator:
    """Mark tests that are about this deployment, or to which it makes no difference: once is enough."""
    return pytest.mark.parametrize("deployment", [name], indirect=True)
