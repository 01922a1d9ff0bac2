"""Small policies and an OPA of its own for each test; modules that only read make one for all of theirs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from tests.adapters.opa.policies import CHUNK, write_policies

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.install import require_opa
from regate_adapters.testing.opa import RunningOpa, running_opa


@pytest.fixture(scope="session")
def opa() -> Path:
    return require_opa()


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    return write_policies(tmp_path / "policies", {"chunk/chunk.rego": CHUNK})


@pytest.fixture
def managed(policies: Path) -> RunningOpa:
    return running_opa(policies, deadline_s=10)


@pytest_asyncio.fixture
async def running(managed: RunningOpa) -> AsyncIterator[OpaEngine]:
    async with managed as engine:
        yield engine
