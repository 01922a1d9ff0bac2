"""What an operator reads when PostgreSQL cannot be used as configured: where it was sought, what it
said, which right is missing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, LiteralString

import pytest
from psycopg import sql
from tests.patience import PATIENT_SECONDS
from tests.postgres import Postgres

from regate_adapters.state.database import examine
from regate_adapters.state.store import SqlStateStore
from regate_adapters.testing.ports import free_port
from regate_adapters.vector.pgvector.store import PgVectorStore
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.filters.schema import RowSchema

SCHEMA = RowSchema("chunk", {})
SETTING = "state.url_env (DATABASE_URL)"


async def opened_state(url: str) -> None:
    async with SqlStateStore.open(url, setting=SETTING, deadline_s=PATIENT_SECONDS):
        pass


async def opened_vectors(url: str) -> None:
    async with PgVectorStore(url, SCHEMA, setting=SETTING):
        pass


async def examined_state(url: str) -> None:
    await examine(url, setting=SETTING, deadline_s=PATIENT_SECONDS)


async def examined_vectors(url: str) -> None:
    await PgVectorStore(url, SCHEMA, setting=SETTING).examine()


ALL = [opened_state, opened_vectors, examined_state, examined_vectors]


def nobody_listens(postgres: Postgres) -> tuple[str, tuple[str, ...]]:
    port = free_port()
    return f"postgresql://regate:swordfish@127.0.0.1:{port}/regate", (
        "127.0.0.1",
        f"port {port}",
        "Connection refused",
    )


def no_such_database(postgres: Postgres) -> tuple[str, tuple[str, ...]]:
    return f"postgresql://postgres:swordfish@127.0.0.1:{postgres.port}/nowhere", (
        f"port {postgres.port}",
        'database "nowhere" does not exist',
    )


def no_such_user(postgres: Postgres) -> tuple[str, tuple[str, ...]]:
    return f"postgresql://carl:swordfish@127.0.0.1:{postgres.port}/postgres", (
        f"port {postgres.port}",
        'role "carl" does not exist',
    )


@pytest.mark.parametrize("use", ALL)
@pytest.mark.parametrize("case", [nobody_listens, no_such_database, no_such_user])
async def test_a_connection_that_does_not_come_about_is_told_with_place_and_reason_and_without_the_password(
    postgres: Postgres,
    case: Callable[[Postgres], tuple[str, tuple[str, ...]]],
    use: Callable[[str], Awaitable[Any]],
) -> None:
    url, words = case(postgres)
    with pytest.raises(ConfigurationError) as refused:
        await use(url)
    said = refused.value.message

    assert said.startswith(f"{SETTING}: the PostgreSQL database cannot be used: ")
    assert [word for word in (*words, "swordfish") if word not in said] == ["swordfish"]
    assert "\n" not in said


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A database in which the user `tenant` may do nothing."""
    if not postgres.execute(sql.SQL("SELECT 1 FROM pg_roles WHERE rolname = 'tenant'")):
        postgres.execute(sql.SQL("CREATE ROLE tenant LOGIN"))
    with postgres.database() as name:
        yield name


def do(postgres: Postgres, database: str, *statements: LiteralString) -> None:
    for statement in statements:
        postgres.execute(sql.SQL(statement), database=database)


@pytest.mark.parametrize("use", [opened_state, examined_state])
async def test_the_right_to_make_tables_is_named_when_it_is_missing(
    postgres: Postgres, database: str, use: Callable[[str], Awaitable[Any]]
) -> None:
    with pytest.raises(
        ConfigurationError,
        match=r"state\.url_env \(DATABASE_URL\): .*(CREATE on schema|GRANT USAGE, CREATE ON SCHEMA) public",
    ):
        await use(postgres.url(database, user="tenant"))


@pytest.mark.parametrize("use", [opened_state, examined_state])
async def test_the_right_to_a_table_is_named_when_it_is_missing(
    postgres: Postgres, database: str, use: Callable[[str], Awaitable[Any]]
) -> None:
    await opened_state(postgres.url(database))
    do(postgres, database, "GRANT CREATE ON SCHEMA public TO tenant")
    with pytest.raises(ConfigurationError, match=r"table schema_revision"):
        await use(postgres.url(database, user="tenant"))


async def test_extension_that_is_missing_is_named(postgres: Postgres, database: str) -> None:
    do(postgres, database, "GRANT CREATE ON SCHEMA public TO tenant")
    with pytest.raises(ConfigurationError, match="CREATE EXTENSION vector"):
        await examined_vectors(postgres.url(database, user="tenant"))


async def test_right_to_make_a_schema_is_named_when_it_is_missing(postgres: Postgres, database: str) -> None:
    do(postgres, database, "CREATE EXTENSION vector")
    with pytest.raises(ConfigurationError, match="needs CREATE on the database"):
        await examined_vectors(postgres.url(database, user="tenant"))


async def test_examining_says_what_is_there_and_makes_nothing(postgres: Postgres, database: str) -> None:
    url = postgres.url(database)
    vectors = PgVectorStore(url, SCHEMA)
    before = await examine(url), await vectors.examine()
    await opened_state(url)
    await opened_vectors(url)
    after = await examine(url), await vectors.examine()

    assert ("no tables yet" in before[0], "no tables yet" in before[1]) == (True, True)
    assert ("tables of this version" in after[0], "no tables yet" in after[1], "pgvector 0." in after[1]) == (
        True,
        False,
        True,
    )
