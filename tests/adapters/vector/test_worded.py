"""Two engines as one keep the contract, and find what one engine with both would find."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

import pytest
from tests.adapters.vector.marked_memory import MemoryEngine

from regate_adapters.testing.vector.corpus import QUERY, unit
from regate_adapters.testing.vector.suite import (
    DIMENSIONS,
    SCHEMA,
    Check,
    hostile_chunks,
    vector_store_conformance,
)
from regate_adapters.vector.kind import MARKED_REFUSES
from regate_adapters.vector.marked.store import MarkedVectorStore
from regate_adapters.vector.memory.store import MemoryVectorStore
from regate_adapters.vector.worded.merging import merged
from regate_adapters.vector.worded.store import WordedVectorStore
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Compare, Everything, FilterPlan, Matching
from regate_orchestrator.ports import Candidate, Chunk, Found, Fusion, Query
from regate_orchestrator.values import FileId, StoreId

VS = StoreId("vs_1")


@pytest.mark.parametrize("check", vector_store_conformance(), ids=str)
async def test_two_engines_keep_the_contract_of_one(check: Check) -> None:
    vectors = MarkedVectorStore(MemoryEngine(), SCHEMA, shared=False)
    await check(WordedVectorStore(vectors, MemoryVectorStore(SCHEMA)), exempt=MARKED_REFUSES)


def many(count: int) -> list[Chunk]:
    dice = random.Random(3)
    stamp = hostile_chunks(count=1)[0].stamp
    return [
        Chunk(
            f"acme/file-1/1/{number:06d}",
            FileId("file-1"),
            number,
            " ".join(dice.choices(("the", "the", "the", "lamp", "oil", "storm", f"w{number % 40}"), k=6)),
            unit(dice),
            {**stamp, "tenant": "acme", "level": number % 3},
            {},
        )
        for number in range(count)
    ]


async def test_a_hybrid_search_by_scores_finds_what_one_engine_would_find() -> None:
    whole, chunks = MemoryVectorStore(SCHEMA), many(700)
    both = WordedVectorStore(MemoryVectorStore(SCHEMA), MemoryVectorStore(SCHEMA))
    for store in (whole, both):
        await store.create(VS, dimensions=DIMENSIONS)
        await store.add(VS, chunks)
    plans: list[FilterPlan] = [Everything(), Matching(Compare("eq", ("level",), 1))]
    texts = ("the storm of w7", "w3", "nothing", "the")
    for text, plan, embedding in itertools.product(texts, plans, (0.0, 0.2, 0.5, 0.9, 1.0)):
        query = Query(QUERY, 5, text, "hybrid", Fusion(embedding, 1 - embedding))
        expected, found = [await store.search(VS, query, plan=plan) for store in (whole, both)]

        assert [one.id for one in found.candidates] == [one.id for one in expected.candidates]
        assert [one.score for one in found.candidates] == pytest.approx(
            [one.score for one in expected.candidates]
        )
        assert (found.exhausted, found.permitted) == (expected.exhausted, expected.permitted)


def listed(scores: dict[str, float], *, exhausted: bool) -> Found:
    candidates = [Candidate(one, FileId("f"), 0, "", score, {}, {}) for one, score in scores.items()]
    return Found(tuple(candidates), total=9, permitted=9, exhausted=exhausted)


@pytest.mark.parametrize(
    ("near", "worded", "limit", "best", "settled"),
    [
        # Both name all that there is.
        (({"a": 0.9, "b": 0.1}, True), ({"b": 0.5}, True), 2, ["a", "b"], True),
        # What neither names has 0.5 and 0.2 at most, and may be better than b.
        (({"a": 0.9, "b": 0.5}, False), ({"a": 0.3, "b": 0.2}, False), 1, ["a"], True),
        (({"a": 0.9, "b": 0.5}, False), ({"a": 0.3, "b": 0.2}, False), 2, ["a", "b"], False),
        # What c has of vectors is not known, and may make it the best.
        (({"a": 0.9, "b": 0.8}, False), ({"c": 0.9, "a": 0.2}, True), 1, ["c"], False),
        # What c has of vectors cannot.
        (({"a": 0.9, "b": 0.1}, False), ({"a": 0.9, "c": 0.3}, True), 1, ["a"], True),
        # Fewer than are wanted are settled only when there are no others.
        (({"a": 0.9}, False), ({"a": 0.9}, True), 2, ["a"], False),
        (({}, True), ({}, True), 2, [], True),
    ],
)
def test_the_best_are_settled_when_no_other_can_be_better(
    near: tuple[dict[str, float], bool],
    worded: tuple[dict[str, float], bool],
    limit: int,
    best: Sequence[str],
    settled: bool,
) -> None:
    lists = [listed(scores, exhausted=exhausted) for scores, exhausted in (near, worded)]
    found, is_settled = merged(lists[0], lists[1], Fusion(), limit)

    assert ([one.id for one in found], is_settled) == (best, settled)


def test_ranks_of_equal_scores_are_one() -> None:
    near = listed({"a": 0.9, "b": 0.9, "c": 0.1}, exhausted=True)
    found, _ = merged(near, listed({"c": 0.4}, exhausted=True), Fusion(1, 1, by="rank"), 3)

    assert [(one.id, one.score) for one in found] == [
        ("c", pytest.approx((61 / 63 + 1) / 2)),
        ("a", pytest.approx(0.5)),
        ("b", pytest.approx(0.5)),
    ]


class Failing(MemoryVectorStore):
    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        raise VectorStoreUnavailable("down")


@pytest.mark.parametrize("lacking", [0, 1])
async def test_chunks_that_one_of_them_lacks_are_not_counted_as_stamped_anew(lacking: int) -> None:
    engines = MemoryVectorStore(SCHEMA), MemoryVectorStore(SCHEMA)
    both = WordedVectorStore(*engines)
    chunks = many(3)
    await both.create(VS, dimensions=DIMENSIONS)
    await both.add(VS, chunks)
    names = {"generation": "acme/file-1/1", "target": "acme/file-1/2"}
    whole = await both.restamp(VS, FileId("file-1"), stamp=chunks[0].stamp, attributes={}, **names)
    await engines[lacking].remove(VS, FileId("file-1"), generation="acme/file-1/1")
    left = await both.restamp(VS, FileId("file-1"), stamp=chunks[0].stamp, attributes={}, **names)

    assert (whole, left) == (3, 0)


async def test_a_failure_of_either_is_a_failure_and_not_half_an_answer() -> None:
    for one, other in ((Failing, MemoryVectorStore), (MemoryVectorStore, Failing)):
        both = WordedVectorStore(one(SCHEMA), other(SCHEMA))
        await both.create(VS, dimensions=DIMENSIONS)
        with pytest.raises(VectorStoreUnavailable):
            await both.search(VS, Query(QUERY, 1, "x", "hybrid"), plan=Everything())
