"""A Chroma store per test, in a directory of its own; real PostgreSQL servers, and a database of its
own for each test on them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql
from tests.postgres import VERSIONS, Postgres

from regate_adapters.testing.vector.suite import SCHEMA
from regate_adapters.vector.chroma.store import ChromaVectorStore
from regate_adapters.vector.pgvector.store import PgVectorStore


@pytest.fixture
async def chroma(tmp_path: Path) -> AsyncIterator[ChromaVectorStore]:
    async with ChromaVectorStore(tmp_path / "chroma", SCHEMA) as store:
        yield store


@pytest.fixture(scope="session", params=VERSIONS, ids=lambda version: f"pg{version}")
def postgres(request: pytest.FixtureRequest, postgres_of_version: Callable[[int], Postgres]) -> Postgres:
    return postgres_of_version(request.param)


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as name:
        yield name


@pytest.fixture
def plain_database(postgres: Postgres, database: str) -> str:
    """A database as an operator prepares it: the extension is there, and the user `plain` may make a
    schema and nothing else.
    """
    if not postgres.execute(sql.SQL("SELECT 1 FROM pg_roles WHERE rolname = 'plain'")):
        postgres.execute(sql.SQL("CREATE ROLE plain LOGIN"))
    postgres.execute(sql.SQL("CREATE EXTENSION vector"), database=database)
    postgres.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO plain").format(sql.Identifier(database)))
    return database


@pytest.fixture
async def pgvector(postgres: Postgres, database: str) -> AsyncIterator[PgVectorStore]:
    async with PgVectorStore(postgres.url(database), SCHEMA) as store:
        yield store
