"""Prompts and their versions: conformance with the port, beyond what `test_state_store.py` asks of
every kind of row.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from tests.adapters.state.samples import ANN, BOB, EVE, PATIENT_SECONDS, prompt_of, version_of

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.expression import Compare, Matching, Not, Overlaps, Text, any_of
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Page, PromptVersion, Rows
from regate_orchestrator.values import PromptId

PROMPT, OTHER = PromptId("pmpt_1"), PromptId("pmpt_2")


@pytest.fixture
async def stores(url: str) -> AsyncIterator[tuple[SqlStateStore, SqlStateStore]]:
    """Two gateways on one database, with one prompt of one version."""
    async with (
        SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as one,
        SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as other,
    ):
        await one.prompts.add(prompt_of(ANN), version_of(ANN))
        yield one, other


@pytest.fixture
def store(stores: tuple[SqlStateStore, SqlStateStore]) -> SqlStateStore:
    return stores[0]


async def add_version(
    store: SqlStateStore, who: Principal = BOB, *, text: str = "Hi.", prompt: PromptId = PROMPT
) -> PromptVersion | None:
    return await store.prompts.add_version(
        who, prompt, template={"instructions": text}, variables=("a", "b"), created_at=200
    )


async def test_prompt_comes_back_as_stored(store: SqlStateStore) -> None:
    row = prompt_of(ANN, "pmpt_2", title="Größe {{x}} '; DROP TABLE prompts; --", labels=["é"], level=3)
    await store.prompts.add(row, version_of(ANN, "pmpt_2"))
    assert (await store.prompts.get(BOB, OTHER), await store.prompts.version(BOB, OTHER, 1)) == (
        row,
        version_of(ANN, "pmpt_2"),
    )


@pytest.mark.parametrize("name", ["a\x00b", "a\ud800b"])
async def test_name_that_no_database_holds_is_the_callers_fault_and_stores_nothing(
    store: SqlStateStore, name: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await store.prompts.add(prompt_of(ANN, "pmpt_2", title=name), version_of(ANN, "pmpt_2"))
    with pytest.raises(InvalidRequest):
        await store.prompts.update(ANN, PROMPT, name=name, default_version=None)
    assert (
        refusal.value.param,
        await store.prompts.get(ANN, OTHER),
        await store.prompts.get(ANN, PROMPT),
    ) == (
        "name",
        None,
        prompt_of(ANN),
    )


async def test_versions_are_numbered_in_turn_and_none_is_changed(store: SqlStateStore) -> None:
    added = [await add_version(store, text="Second"), await add_version(store, ANN, text="Third")]
    kept = [await store.prompts.version(ANN, PROMPT, number) for number in (1, 2, 3, 4, 0, -1)]
    assert kept == [version_of(ANN), *added, None, None, None]
    assert [(one.version, one.created_by) for one in added if one is not None] == [(2, "bob"), (3, "ann")]


async def test_new_version_is_not_the_default_until_it_is_made_so(store: SqlStateStore) -> None:
    await add_version(store)
    before = await store.prompts.get(ANN, PROMPT)
    after = await store.prompts.update(ANN, PROMPT, name=None, default_version=2)
    assert (before, after) == (
        replace(prompt_of(ANN), latest_version=2),
        replace(prompt_of(ANN), latest_version=2, default_version=2),
    )
    assert await store.prompts.get(ANN, PROMPT) == after


async def test_change_of_the_name_changes_nothing_else(store: SqlStateStore) -> None:
    changed = await store.prompts.update(BOB, PROMPT, name="Other", default_version=None)
    assert (changed, await store.prompts.get(ANN, PROMPT)) == (replace(prompt_of(ANN), name="Other"),) * 2


@pytest.mark.parametrize("version", [2, 0, -1, 2**31 - 1])
async def test_version_that_there_is_not_cannot_be_the_default(store: SqlStateStore, version: int) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await store.prompts.update(ANN, PROMPT, name="Other", default_version=version)
    assert (refusal.value.param, await store.prompts.get(ANN, PROMPT)) == ("default_version", prompt_of(ANN))


async def test_versions_added_at_once_each_get_a_number(stores: tuple[SqlStateStore, SqlStateStore]) -> None:
    added = await asyncio.gather(*(add_version(stores[number % 2], text=str(number)) for number in range(12)))
    numbers = sorted(one.version for one in added if one is not None)
    row = await stores[0].prompts.get(ANN, PROMPT)
    assert (numbers, row and row.latest_version) == (list(range(2, 14)), 13)
    assert [
        await stores[1].prompts.version(ANN, PROMPT, one.version) for one in added if one is not None
    ] == added


async def test_deleted_prompt_takes_its_versions_along(store: SqlStateStore) -> None:
    await add_version(store)
    deleted = [await store.prompts.delete(ANN, PROMPT), await store.prompts.delete(ANN, PROMPT)]
    left = [
        await store.prompts.get(ANN, PROMPT),
        await store.prompts.version(ANN, PROMPT, 1),
        await add_version(store),
    ]
    assert (deleted, left, await store.prompts.versions(ANN, PROMPT, Page())) == (
        [True, False],
        [None] * 3,
        Rows((), has_more=False),
    )


async def test_foreign_caller_changes_nothing(store: SqlStateStore) -> None:
    tried = [
        await store.prompts.delete(EVE, PROMPT),
        await store.prompts.update(EVE, PROMPT, name="Mine", default_version=1),
        await add_version(store, EVE),
        await store.prompts.version(EVE, PROMPT, 1),
    ]
    assert (tried, await store.prompts.get(ANN, PROMPT), await store.prompts.version(ANN, PROMPT, 1)) == (
        [False, None, None, None],
        prompt_of(ANN),
        version_of(ANN),
    )


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_versions_are_listed_by_number_not_by_text(store: SqlStateStore, order: Any) -> None:
    await store.prompts.add(prompt_of(ANN, "pmpt_2"), version_of(ANN, "pmpt_2"))
    for _ in range(11):
        await add_version(store)
        await add_version(store, prompt=OTHER)
    seen, after, more = [], None, True
    while more:
        rows = await store.prompts.versions(BOB, PROMPT, Page(limit=5, order=order, after=after))
        seen += [(row.prompt_id, row.version) for row in rows.rows]
        after, more = str(seen[-1][1]), rows.has_more
    wanted = [(PROMPT, number) for number in range(1, 13)]
    assert seen == (wanted if order == "asc" else wanted[::-1])


@pytest.mark.parametrize("cursor", ["2", "01", "one", "", "\x00", "1.0", "-1", "99999999999999999999"])
async def test_cursor_that_is_no_version_is_refused(store: SqlStateStore, cursor: str) -> None:
    await store.prompts.versions(ANN, PROMPT, Page(after="1"))
    with pytest.raises(InvalidRequest) as refusal:
        await store.prompts.versions(ANN, PROMPT, Page(after=cursor))
    assert refusal.value.message == "'after' must be the id of an object in this list."


async def test_versions_of_another_tenant_give_no_cursor(store: SqlStateStore) -> None:
    with pytest.raises(InvalidRequest):
        await store.prompts.versions(EVE, PROMPT, Page(after="1"))


async def test_prompts_are_permitted_by_what_the_prompt_rule_sees(store: SqlStateStore) -> None:
    await store.prompts.add(
        prompt_of(ANN, "pmpt_2", title="Farewell", teams=["legal"], level=2), version_of(ANN, "pmpt_2")
    )
    seen = []
    for expression in (
        Compare("eq", ("name",), "Farewell"),
        Text("startswith", ("name",), "Greet"),
        any_of([Compare("eq", ("id",), "pmpt_1"), Compare("eq", ("owner",), "bob")]),
        Not(Overlaps(("teams",), ("sales",))),
        Compare("le", ("level",), 0),
        Compare("eq", ("default_version",), 1),
    ):
        seen.append([row.id for row in (await store.prompts.page(ANN, Matching(expression), Page())).rows])
    assert seen == [["pmpt_2"], ["pmpt_1"], ["pmpt_1"], ["pmpt_2"], ["pmpt_1"], []]
