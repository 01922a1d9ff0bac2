"""Membership is renewed for as long as a gateway lives, whatever the database does meanwhile, and ends
with it.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from tests.adapters.state.samples import PATIENT_SECONDS

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.maintenance.membership import Membership
from regate_orchestrator.values import GatewayId


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@asynccontextmanager
async def opened(
    path: Path, name: str, *, deadline_s: float = PATIENT_SECONDS
) -> AsyncIterator[SqlStateStore]:
    async with SqlStateStore.open(
        f"sqlite:///{path}", gateway=GatewayId(name), deadline_s=deadline_s
    ) as state:
        yield state


@asynccontextmanager
async def gateway(path: Path, name: str) -> AsyncIterator[Membership]:
    async with opened(path, name) as state:
        yield Membership(state.membership, renew_s=0.02)


def present(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT id, present_until FROM gateways"))


async def until_present(path: Path, name: str, *, beyond: int = 0) -> None:
    async with asyncio.timeout(PATIENT_SECONDS):
        while present(path).get(name, 0) <= beyond:
            await asyncio.sleep(0.01)


async def test_gateway_is_present_from_its_beginning_to_its_end(path: Path) -> None:
    async with gateway(path, "gw_1") as membership:
        seen = [set(present(path))]
        await membership.begin()
        seen.append(set(present(path)))
        await membership.end()
        seen.append(set(present(path)))
    assert seen == [set(), {"gw_1"}, set()]


async def test_gateway_on_a_database_of_its_own_is_alone_from_its_beginning(path: Path) -> None:
    async with gateway(path, "gw_1") as killed, gateway(path, "gw_2") as next_one:
        await killed.begin()
        await next_one.begin()
        assert set(present(path)) == {"gw_2"}


async def test_presence_that_was_taken_away_is_back_at_the_next_renewal(path: Path) -> None:
    async with (
        gateway(path, "gw_1") as membership,
        gateway(path, "gw_2") as other,
        asyncio.TaskGroup() as group,
    ):
        await membership.begin()
        working = group.create_task(membership.work())
        await other.begin()
        await until_present(path, "gw_1")
        working.cancel()


async def test_presence_outlasts_a_database_that_does_not_answer(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        opened(path, "gw_1") as state,
        opened(path, "gw_1", deadline_s=0.5) as hasty,
        asyncio.TaskGroup() as group,
    ):
        await Membership(state.membership, lease_s=1).begin()
        before = present(path)["gw_1"]
        with closing(sqlite3.connect(path, isolation_level=None)) as blocking:
            blocking.execute("BEGIN IMMEDIATE")
            working = group.create_task(Membership(hasty.membership, renew_s=0.02).work())
            async with asyncio.timeout(PATIENT_SECONDS):
                while "membership_not_renewed" not in caplog.messages:
                    await asyncio.sleep(0.01)
        await until_present(
            path, "gw_1", beyond=before
        )  # it tries again and again, so that one that is fast enough suffices
        working.cancel()
