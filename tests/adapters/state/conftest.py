from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from tests.adapters.state.samples import PATIENT_SECONDS
from tests.postgres import Postgres

from regate_adapters.state.store import SqlStateStore


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    with postgres.database() as name:
        yield postgres.url(name).replace("postgresql://", "postgresql+psycopg://")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that the store can use. Another kind joins the conformance tests
    by one more branch here.
    """
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path / 'state.db'}"
        case "postgres":
            found: str = request.getfixturevalue("postgres_url")
            return found
        case other:
            raise AssertionError(other)


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStateStore]:
    async with SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as opened:
        yield opened
