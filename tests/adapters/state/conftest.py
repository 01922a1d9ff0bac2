from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regate_adapters.state.store import SqlStateStore


@pytest.fixture(params=["sqlite"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind that the store can use. Another kind joins the conformance tests by one more branch here."""
    match request.param:
        case "sqlite":
            return f"sqlite:///{tmp_path / 'state.db'}"
        case other:
            raise AssertionError(other)


@pytest.fixture
async def store(url: str) -> AsyncIterator[SqlStateStore]:
    async with SqlStateStore.open(url) as opened:
        yield opened
