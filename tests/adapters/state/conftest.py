from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.adapters.state.samples import PATIENT_SECONDS
from tests.deployments import opened_once
from tests.postgres import Postgres

from regate_adapters.state.store import SqlStateStore

_WITH_TABLES: Final = "with_tables"


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as name:
        yield postgres.url(name).replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture
def postgres_url_with_tables(postgres: Postgres) -> Iterator[str]:
    """A database as the first opening leaves it: to copy tables is quicker than to make them."""
    if postgres.template(_WITH_TABLES):
        made = postgres.url(_WITH_TABLES)
        opened_once(lambda: SqlStateStore.open(made, deadline_s=PATIENT_SECONDS))
    with postgres.database(_WITH_TABLES) as name:
        yield postgres.url(name).replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without rows of each kind that the store can use. Another kind joins the conformance tests
    by one more branch here, and one below.
    """
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path / 'state.db'}"
        case "postgres":
            found: str = request.getfixturevalue("postgres_url_with_tables")
            return found
        case other:
            raise AssertionError(other)


@pytest.fixture(params=["sqlite", "postgres"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database of each kind without tables."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state.db'}"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStateStore]:
    async with SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as opened:
        yield opened
