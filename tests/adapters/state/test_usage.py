"""What was used, on each database: sums by whatever is asked for, to which several gateways add at once."""

from __future__ import annotations

import asyncio
from typing import Any

from sqlalchemy import Engine, event

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.ports import UsageRow


def used(tenant: str, principal: str, model: str, day: int = 10, requests: int = 1) -> UsageRow:
    return UsageRow(tenant, principal, model, day, requests, 10 * requests, 5 * requests, requests)


ROWS = [
    used("acme", "ann", "small"),
    used("acme", "ann", "large", 11),
    used("acme", "bob", "small", 11, 2),
    used("globex", "ann", "small", 12),
    used("acme", "Ann", "small", 12),
]


async def test_it_is_summed_by_what_is_asked_for_within_the_days(store: SqlStateStore) -> None:
    await store.usage.add(ROWS)
    await store.usage.add(ROWS[:1])
    by_tenant = await store.usage.report(first=10, last=11, by=["tenant"])
    by_person = await store.usage.report(first=10, last=99, by=["tenant", "principal"])
    by_model = await store.usage.report(first=11, last=12, by=["model"])

    assert by_tenant == [UsageRow("acme", "", "", 10, 5, 50, 25, 5)]
    assert {(one.tenant, one.principal): one.requests for one in by_person} == {
        ("acme", "ann"): 3,
        ("acme", "bob"): 2,
        ("acme", "Ann"): 1,
        ("globex", "ann"): 1,
    }
    assert [(one.model, one.requests) for one in by_model] == [("large", 1), ("small", 4)]


async def test_what_was_spent_is_that_of_the_name_alone(store: SqlStateStore) -> None:
    await store.usage.add(ROWS)
    found = [
        (await store.usage.spent(first=first, tenant=tenant, person=who, model=model)).requests
        for first, tenant, who, model in (
            (10, "acme", "ann", ""),
            (11, "acme", "ann", ""),
            (10, "acme", "", ""),
            (10, "acme", "", "small"),
            (10, "", "", "small"),
            (10, "hooli", "", ""),
        )
    ]

    assert found == [2, 1, 5, 4, 5, 0]


async def test_additions_at_once_lose_nothing_and_old_days_are_forgotten(store: SqlStateStore) -> None:
    await asyncio.gather(*(store.usage.add(ROWS if turn % 2 else ROWS[::-1]) for turn in range(12)))
    before = sum(one.requests for one in await store.usage.report(first=0, last=99, by=["tenant"]))
    gone = await store.usage.forget(before=11)

    assert (before, gone) == (72, 1)
    assert sum(one.requests for one in await store.usage.report(first=0, last=99, by=["tenant"])) == 60


async def test_what_many_persons_used_is_written_in_one_statement(store: SqlStateStore) -> None:
    many = [used("acme", f"p{number:04}", "small") for number in range(500)]
    statements: list[str] = []

    def hear(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("INSERT INTO usage"):
            statements.append(statement)

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        await store.usage.add(many)
        await store.usage.add(many)
        await store.usage.add([])
    finally:
        event.remove(Engine, "before_cursor_execute", hear)
    found = await store.usage.report(first=0, last=99, by=["principal"])

    assert [one.requests for one in found] == [2] * 500
    assert len(statements) == 2
