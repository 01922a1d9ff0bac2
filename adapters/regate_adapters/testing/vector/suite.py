"""The conformance suite for vector stores: what `ports.VectorStore` promises, checked on any implementation.
Not a test module itself.

To prove a new adapter:

    @pytest.mark.parametrize("check", vector_store_conformance(), ids=str)
    async def test_my_store_keeps_the_contract(check, tmp_path):
        async with MyVectorStore(tmp_path, SCHEMA) as store:
            await check(store, exempt={"text": "my engine has no string predicates"})

What a filter should find is never written down here: the oracle is
`regate_orchestrator.filters.evaluate.holds`, over rows chosen to be hostile. An adapter that refuses a kind
of filter says so under `exempt`, with its reason; it must then refuse *every* such filter, before any IO.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from operator import mul
from typing import Final

from regate_adapters.testing.conformance import ConformanceFailure, expect
from regate_adapters.testing.vector.clients import CLIENT_CHECKS
from regate_adapters.testing.vector.corpus import DIMENSIONS, QUERY, SCHEMA, Exemption, hostile_chunks
from regate_adapters.testing.vector.filters import (
    ALL,
    FILTER_CHECKS,
    PLAN_CHECKS,
    STORE,
    Exempt,
    fill,
    ids_permitted,
    row_of,
)
from regate_adapters.testing.vector.generations import GENERATION_CHECKS
from regate_adapters.testing.vector.interference import INTERFERENCE_CHECKS
from regate_adapters.testing.vector.modes import MODE_CHECKS
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import Compare, Defined, Everything, Matching, Overlaps
from regate_orchestrator.ports import Candidate, Chunk, Query, VectorStore
from regate_orchestrator.values import FileId, StoreId

__all__ = [
    "DIMENSIONS",
    "SCHEMA",
    "Check",
    "ConformanceFailure",
    "Exempt",
    "Exemption",
    "hostile_chunks",
    "vector_store_conformance",
]


_OTHER: Final = StoreId("vs_conformance_other")


@dataclass(frozen=True, slots=True)
class Check:
    """One promise of the port. Call it with a fresh, empty store made with `SCHEMA`; it raises
    `ConformanceFailure` when broken.
    """

    name: str
    run: Callable[[VectorStore, Exempt], Awaitable[None]]

    def __str__(self) -> str:
        return self.name

    async def __call__(self, store: VectorStore, *, exempt: Exempt) -> None:
        """Run the check. `exempt` names what the store cannot express, and why; `{}` is a claim to
        express everything.
        """
        await self.run(store, exempt)


def vector_store_conformance() -> tuple[Check, ...]:
    """Return all checks. An adapter is proven when each passes on a store of its own."""
    plain = (Check(_name(run), partial(_without_exemptions, run)) for run in _PLAIN_CHECKS)
    return (*(Check(_name(run), run) for run in FILTER_CHECKS), *plain)


def _name(run: Callable[..., object]) -> str:
    return run.__name__.removeprefix("_")


async def _without_exemptions(
    run: Callable[[VectorStore], Awaitable[None]], store: VectorStore, _exempt: Exempt
) -> None:
    await run(store)


# ---------------------------------------------------------------- the checks


async def _chunks_come_back_as_they_were_stored(store: VectorStore) -> None:
    chunks = {chunk.id: chunk for chunk in hostile_chunks()}
    await fill(store, list(chunks.values()))
    found = await store.search(STORE, Query(QUERY, limit=ALL), plan=Everything())
    for candidate in found.candidates:
        chunk = chunks[candidate.id]
        expect(f"text of {chunk.id}", expected=_shown(chunk), actual=_shown(candidate))
        expect(
            f"stamp of {chunk.id}",
            expected=_typed(SCHEMA.canonical(chunk.stamp)),
            actual=_typed(candidate.stamp),
        )
        expect(
            f"attributes of {chunk.id}",
            expected=_typed(chunk.attributes),
            actual=_typed(candidate.attributes),
        )
    expect("all came back", expected=len(chunks), actual=len(found.candidates))


def _shown(chunk: Chunk | Candidate) -> tuple[object, ...]:
    return chunk.file_id, chunk.index, chunk.text


def _typed(values: Mapping[str, object]) -> dict[str, tuple[bool, object]]:
    return {key: (isinstance(value, bool), value) for key, value in values.items()}  # in Python 1 equals True


async def _the_nearest_come_first_and_ties_are_broken_by_id(store: VectorStore) -> None:
    chunks = hostile_chunks()
    twins = [
        Chunk(
            f"acme/file-ffff/{number:06d}",
            FileId("file-ffff"),
            number,
            "twin",
            chunks[0].vector,
            chunks[0].stamp,
            {},
        )
        for number in (5, 3, 4, 1)
    ]
    await fill(store, [*twins, *chunks])
    scores = {chunk.id: max(0.0, sum(map(mul, chunk.vector, QUERY))) for chunk in (*chunks, *twins)}
    found = await store.search(STORE, Query(chunks[0].vector, limit=5), plan=Everything())
    expect(
        "ties",
        expected=sorted([chunks[0].id, *(twin.id for twin in twins)]),
        actual=[one.id for one in found.candidates],
    )
    found = await store.search(STORE, Query(QUERY, limit=ALL), plan=Everything())
    for candidate in found.candidates:
        if not math.isclose(candidate.score, scores[candidate.id], abs_tol=1e-5):
            raise ConformanceFailure(
                f"score of {candidate.id}: expected {scores[candidate.id]}, got {candidate.score}"
            )
    keys = [(-candidate.score, candidate.id) for candidate in found.candidates]
    expect("best first", expected=sorted(keys), actual=keys)
    few = await store.search(STORE, Query(QUERY, limit=7), plan=Everything())
    expect("a limit cuts", expected=found.candidates[:7], actual=few.candidates)
    expect("what is left out is not exhausted", expected=False, actual=few.exhausted)


async def _foreign_chunks_change_nothing_that_is_seen(store: VectorStore) -> None:
    ours = [_with_tenant(chunk, "acme") for chunk in hostile_chunks()]
    plan = Matching(Compare("eq", ("tenant",), "acme"))
    await fill(store, ours)
    alone = [await store.search(STORE, Query(QUERY, limit=limit), plan=plan) for limit in (1, 7, ALL)]
    foreign = [
        _with_tenant(chunk, "globex")
        for seed in range(5)
        for chunk in hostile_chunks(tenant=f"globex{seed}", seed=seed)
    ]
    copies = [_renamed(chunk) for chunk in ours]  # the worst neighbours: the same vectors
    await store.add(STORE, [*copies, *foreign])
    together = [await store.search(STORE, Query(QUERY, limit=limit), plan=plan) for limit in (1, 7, ALL)]
    for before, after in zip(alone, together, strict=True):
        expect("hits, order and scores", expected=before.candidates, actual=after.candidates)
        expect("exhausted", expected=before.exhausted, actual=after.exhausted)


def _with_tenant(chunk: Chunk, tenant: str) -> Chunk:
    stamp = {**chunk.stamp, "tenant": tenant}
    return Chunk(
        chunk.id,
        chunk.file_id,
        chunk.index,
        chunk.text,
        chunk.vector,
        stamp=stamp,
        attributes=chunk.attributes,
    )


def _renamed(chunk: Chunk) -> Chunk:
    moved = _with_tenant(chunk, "globex")
    return Chunk(
        "0/" + moved.id,
        moved.file_id,
        moved.index,
        moved.text,
        moved.vector,
        stamp=moved.stamp,
        attributes=moved.attributes,
    )


async def _a_chunk_is_replaced_whole_and_never_merged(store: VectorStore) -> None:
    first, second = hostile_chunks()[:2]
    old = _with_tenant(first, "acme")
    old = Chunk(
        old.id,
        old.file_id,
        0,
        "old",
        old.vector,
        {**old.stamp, "region": "eu", "teams": ["hr"]},
        {"colour": "red", "size": 1},
    )
    stamp = {key: value for key, value in old.stamp.items() if SCHEMA.fields[key].required} | {"teams": []}
    new = Chunk(old.id, FileId("file-1"), 3, "new", second.vector, stamp, {"size": 2})
    await fill(store, [old])
    await store.add(STORE, [new])
    found = await store.search(STORE, Query(QUERY, limit=ALL), plan=Everything())
    expect("one chunk", expected=1, actual=len(found.candidates))
    (candidate,) = found.candidates
    expect("its content", expected=_shown(new), actual=_shown(candidate))
    expect("its stamp", expected=_typed(new.stamp), actual=_typed(candidate.stamp))
    expect("its attributes", expected=_typed(new.attributes), actual=_typed(candidate.attributes))
    for gone in (Overlaps(("teams",), ("hr",)), Defined(("region",)), Defined(("attributes", "colour"))):
        expect(
            f"nothing is left of the old one ({gone!r})", expected=[], actual=await ids_permitted(store, gone)
        )


async def _a_chunk_with_a_stamp_not_as_declared_is_not_stored(store: VectorStore) -> None:
    (good,) = hostile_chunks(count=1)
    await store.create(STORE, dimensions=DIMENSIONS)
    for name, stamp in (
        ("missing", {key: value for key, value in good.stamp.items() if key != "level"}),
        ("of another type", {**good.stamp, "level": "1"}),
        ("undeclared", {**good.stamp, "clearance": 9}),
    ):
        bad = Chunk(good.id, good.file_id, 0, good.text, good.vector, stamp, {})
        try:
            await store.add(STORE, [bad])
        except VectorStoreUnavailable:
            continue
        raise ConformanceFailure(f"a stamp with a field that is {name} was stored")
    expect("nothing was stored", expected=[], actual=await ids_permitted(store, Defined(("tenant",))))


async def _stores_are_apart_and_dropping_one_leaves_the_other(store: VectorStore) -> None:
    chunks = hostile_chunks()
    await fill(store, chunks)
    await store.create(_OTHER, dimensions=DIMENSIONS)
    for _ in range(2):
        await store.drop(_OTHER)
    await store.create(_OTHER, dimensions=DIMENSIONS)
    found = await store.search(_OTHER, Query(QUERY, limit=ALL), plan=Everything())
    expect("the other store is empty", expected=(), actual=found.candidates)
    for _ in range(2):
        await store.drop(STORE)
    await store.create(STORE, dimensions=DIMENSIONS)
    expect(
        "a dropped store is empty when made again",
        expected=[],
        actual=await ids_permitted(store, Defined(("tenant",))),
    )


async def _creating_again_keeps_what_is_there(store: VectorStore) -> None:
    chunks = hostile_chunks(count=3)
    await fill(store, chunks)
    await store.create(STORE, dimensions=DIMENSIONS)
    expect(
        "kept",
        expected=sorted(chunk.id for chunk in chunks),
        actual=await ids_permitted(store, Defined(("tenant",))),
    )


async def _a_vector_of_another_length_is_a_failure(store: VectorStore) -> None:
    (chunk,) = hostile_chunks(count=1)
    await fill(store, [chunk])
    short = Chunk("acme/file-1/1", chunk.file_id, 0, "x", chunk.vector[:-1], chunk.stamp, {})
    for attempt in (
        lambda: store.add(STORE, [short]),
        lambda: store.search(STORE, Query(QUERY[:-1], limit=1), plan=Everything()),
        lambda: store.create(STORE, dimensions=DIMENSIONS + 1),
    ):
        try:
            await attempt()
        except VectorStoreUnavailable:
            continue
        raise ConformanceFailure("a vector of another length was taken")


async def _counts_are_of_the_store_and_of_the_plan(store: VectorStore) -> None:
    chunks = hostile_chunks()
    await fill(store, chunks)
    expression = Compare("eq", ("legal_hold",), True)
    found = await store.search(STORE, Query(QUERY, limit=2), plan=Matching(expression))
    permitted = sum(holds(expression, row_of(chunk)) for chunk in chunks)
    expect("total", expected=len(chunks), actual=found.total)
    if found.permitted is not None:
        expect("permitted", expected=permitted, actual=found.permitted)


async def _it_answers_the_readiness_check(store: VectorStore) -> None:
    await store.check()
    await fill(store, hostile_chunks(count=1))
    await store.check()


_PLAIN_CHECKS: Final[tuple[Callable[[VectorStore], Awaitable[None]], ...]] = (
    *PLAN_CHECKS,
    _chunks_come_back_as_they_were_stored,
    _the_nearest_come_first_and_ties_are_broken_by_id,
    _foreign_chunks_change_nothing_that_is_seen,
    _a_chunk_is_replaced_whole_and_never_merged,
    _a_chunk_with_a_stamp_not_as_declared_is_not_stored,
    _stores_are_apart_and_dropping_one_leaves_the_other,
    _creating_again_keeps_what_is_there,
    _a_vector_of_another_length_is_a_failure,
    _counts_are_of_the_store_and_of_the_plan,
    _it_answers_the_readiness_check,
    *GENERATION_CHECKS,
    *CLIENT_CHECKS,
    *MODE_CHECKS,
    *INTERFERENCE_CHECKS,
)
