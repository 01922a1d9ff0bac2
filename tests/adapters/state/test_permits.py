"""Approvals of calls, and uses of tools, in the state store."""

from __future__ import annotations

import asyncio

import pytest
from tests.adapters.state.samples import ANN, BOB

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.rows import ApprovalRow

DAY = 24 * 3600
ROW = ApprovalRow("mcpr_1", "tickets/close", "digest", expires_at=1_000, response_id="resp_1")


async def test_approval_is_used_once_whoever_is_first(store: SqlStateStore) -> None:
    await store.approvals.add(ANN, ROW)
    used = await asyncio.gather(*(store.approvals.use(ANN, ROW, at=10) for _ in range(8)))
    assert sorted(used) == [False] * 7 + [True]
    assert (await store.approvals.named(ANN, ["mcpr_1"]))["mcpr_1"].used_at == 10


@pytest.mark.parametrize(
    "altered",
    [
        ApprovalRow("mcpr_2", ROW.tool, ROW.digest, 1_000),
        ApprovalRow(ROW.id, "tickets/delete", ROW.digest, 1_000),
        ApprovalRow(ROW.id, "mail/close", ROW.digest, 1_000),
        ApprovalRow(ROW.id, ROW.tool, "other", 1_000),
    ],
)
async def test_approval_is_for_one_tool_and_one_set_of_arguments(
    store: SqlStateStore, altered: ApprovalRow
) -> None:
    await store.approvals.add(ANN, ROW)
    assert await store.approvals.use(ANN, altered, at=10) is False
    assert await store.approvals.use(ANN, ROW, at=10) is True


async def test_approval_is_its_callers_and_expires(store: SqlStateStore) -> None:
    await store.approvals.add(ANN, ROW)
    assert await store.approvals.use(BOB, ROW, at=10) is False
    assert await store.approvals.use(ANN, ROW, at=1_000) is False
    assert await store.approvals.use(ANN, ROW, at=999) is True
    assert await store.approvals.forget(at=999) == 0
    assert await store.approvals.forget(at=1_000) == 1


async def test_uses_are_counted_for_a_day_by_caller_and_tool(store: SqlStateStore) -> None:
    uses = store.tool_uses
    counts = [
        await uses.reserve(who, tool, call, at=at)
        for who, tool, call, at in (
            (ANN, "a/x", "mcp_1", 100),
            (ANN, "a/x", "mcp_2", 200),
            (ANN, "a/y", "mcp_3", 200),
            (BOB, "a/x", "mcp_4", 200),
            (ANN, "a/x", "mcp_5", 100 + DAY),
        )
    ]
    assert counts == [0, 1, 0, 0, 1]
    await uses.release(ANN, "mcp_5")
    assert await uses.reserve(ANN, "a/x", "mcp_6", at=300) == 2
    assert await uses.forget(at=150 + DAY) == 1


async def test_uses_at_the_same_time_count_each_other(store: SqlStateStore) -> None:
    counts = await asyncio.gather(
        *(store.tool_uses.reserve(ANN, "a/x", f"mcp_{n}", at=100) for n in range(6))
    )
    assert max(counts) == 5
    assert sum(count < 3 for count in counts) <= 3
