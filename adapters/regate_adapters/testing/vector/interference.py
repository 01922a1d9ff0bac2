"""Noninterference: what a tenant is told does not depend on what other tenants have stored. A part of the
suite.

Others add, replace and remove chunks at random, among them copies of what the tenant has. After each step the
tenant's searches, in every mode that the store serves, must be told exactly what they were told before: hits,
order, scores to the last bit, counts of what is permitted, and whether there is more.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

from regate_adapters.testing.conformance import expect
from regate_adapters.testing.vector.corpus import DIMENSIONS, hostile_chunks, unit
from regate_orchestrator.filters.expression import Compare, FilterPlan, Matching, Overlaps, all_of
from regate_orchestrator.ports import Chunk, Found, Fusion, Mode, Query, VectorStore
from regate_orchestrator.values import FileId, StoreId

_STORE: Final = StoreId("vs_interference")
_STEPS: Final = 10
_WORDS: Final = ("lamp", "oil", "storm", "ledger", "keeper")
_TENANT: Final = Compare("eq", ("tenant",), "acme")
_PLANS: Final[tuple[FilterPlan, ...]] = (
    Matching(_TENANT),
    Matching(all_of([_TENANT, Overlaps(("teams",), ("hr", "eng"))])),
)


async def _what_others_do_at_random_changes_nothing(store: VectorStore) -> None:
    dice = random.Random(29)  # noqa: S311 — repeatable, not secret
    ours = [_of(chunk, "acme", dice) for chunk in hostile_chunks(count=40)]
    await store.create(_STORE, dimensions=DIMENSIONS)
    await store.add(_STORE, ours)
    queries = [
        Query(unit(dice), limit, "storm lamp keeper", mode, fusion)
        for mode, fusion in _modes(await store.modes(_STORE))
        for limit in (1, 5, 100)
    ]
    before = await _told(store, queries)
    for step in range(_STEPS):
        await _foreign_change(store, dice, ours, step)
        for query, one, other in zip(queries * len(_PLANS), before, await _told(store, queries), strict=True):
            expect(f"step {step}: what {query.mode} is told", expected=one, actual=other)


def _modes(served: frozenset[Mode]) -> list[tuple[Mode, Fusion]]:
    asked: list[tuple[Mode, Fusion]] = [
        ("vector", Fusion()),
        ("keyword", Fusion()),
        ("hybrid", Fusion(0.3, 0.7)),
        ("hybrid", Fusion(0.3, 0.7, by="rank")),
    ]
    return [(mode, fusion) for mode, fusion in asked if mode in served]


async def _told(store: VectorStore, queries: list[Query]) -> list[Found]:
    """Return what the tenant is told; how many chunks the store has is for the record alone."""
    found = [await store.search(_STORE, query, plan=plan) for plan in _PLANS for query in queries]
    return [replace(one, total=0) for one in found]


async def _foreign_change(store: VectorStore, dice: random.Random, ours: list[Chunk], step: int) -> None:
    tenant = dice.choice(("globex", "acme ", "ACME"))
    file = FileId(f"file-foreign{dice.randrange(3)}")
    match dice.randrange(4):
        case 0:
            await store.remove(_STORE, file)
        case 1:  # the same vectors and words, which come before ours by their ids
            copies = [_of(replace(one, id=f"0/{one.id}", file_id=file), tenant, None) for one in ours]
            await store.add(_STORE, copies)
        case _:
            made = hostile_chunks(tenant=f"t{step}", seed=step, count=30)
            await store.add(_STORE, [_of(replace(one, file_id=file), tenant, dice) for one in made])


def _of(chunk: Chunk, tenant: str, dice: random.Random | None) -> Chunk:
    """Return the chunk as the tenant's, with other words where dice say which."""
    text = chunk.text if dice is None else " ".join(dice.choices(_WORDS, k=dice.randrange(12)))
    return replace(chunk, stamp={**chunk.stamp, "tenant": tenant}, text=text)


INTERFERENCE_CHECKS: Final[tuple[Callable[[VectorStore], Awaitable[None]], ...]] = (
    _what_others_do_at_random_changes_nothing,
)
