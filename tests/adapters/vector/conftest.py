"""A Chroma store per test, in a directory of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regate_adapters.testing.vector import SCHEMA
from regate_adapters.vector.chroma import ChromaVectorStore


@pytest.fixture
async def chroma(tmp_path: Path) -> AsyncIterator[ChromaVectorStore]:
    async with ChromaVectorStore(tmp_path / "chroma", SCHEMA) as store:
        yield store
