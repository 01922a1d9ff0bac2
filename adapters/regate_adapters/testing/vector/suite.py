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
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from operator import mul
from typing import Final, TypeAlias

from regate_adapters.testing.conformance import ConformanceFailure, expect
from regate_adapters.testing.vector.clients import CLIENT_CHECKS
from regate_adapters.testing.vector.corpus import (
    DIMENSIONS,
    QUERY,
    SCHEMA,
    Exemption,
    atoms,
    exemption,
    expression_of_depth,
    hostile_chunks,
)
from regate_adapters.testing.vector.generations import GENERATION_CHECKS
from regate_adapters.testing.vector.modes import MODE_CHECKS
from regate_orchestrator.errors import FilterNotExpressible, VectorStoreUnavailable
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import (
    Compare,
    CompareFields,
    Defined,
    Everything,
    Expression,
    Matching,
    Not,
    Nothing,
    Or,
    Overlaps,
    Text,
    atoms_of,
    plan_of,
)
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

Exempt: TypeAlias = Mapping[Exemption, str]
"""What the adapter cannot express, and why."""

_STORE: Final = StoreId("vs_conformance")
_OTHER: Final = StoreId("vs_conformance_other")
_ABSENT: Final = StoreId("vs_conformance_absent")
_ALL: Final = 1_000


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
    return (*(Check(_name(run), run) for run in _FILTER_CHECKS), *plain)


def _name(run: Callable[..., object]) -> str:
    return run.__name__.removeprefix("_")


async def _without_exemptions(
    run: Callable[[VectorStore], Awaitable[None]], store: VectorStore, _exempt: Exempt
) -> None:
    await run(store)


# ---------------------------------------------------------------- asking


def _row(chunk: Chunk) -> Mapping[str, object]:
    return {**SCHEMA.canonical(chunk.stamp), "attributes": dict(chunk.attributes)}


async def _filled(store: VectorStore, chunks: Sequence[Chunk]) -> None:
    await store.create(_STORE, dimensions=DIMENSIONS)
    await store.add(_STORE, chunks)


async def _ids(store: VectorStore, expression: Expression) -> list[str]:
    found = await store.search(_STORE, Query(QUERY, limit=_ALL), plan=plan_of(expression))
    return sorted(candidate.id for candidate in found.candidates)


async def _agrees(
    store: VectorStore, chunks: Sequence[Chunk], expression: Expression, allowed: set[Exemption]
) -> bool:
    """Return whether the store answered; raise unless the answer is the oracle's or the refusal is one
    that is allowed.
    """
    try:
        actual = await _ids(store, expression)
    except FilterNotExpressible as refusal:
        if not allowed:
            raise ConformanceFailure(
                f"refused without exemption: {expression!r}: {refusal.detail}"
            ) from refusal
        if not refusal.detail:
            raise ConformanceFailure(f"refused without a reason: {expression!r}") from refusal
        return False
    expected = sorted(chunk.id for chunk in chunks if holds(expression, _row(chunk)))
    expect(f"filter {expression!r}", expected=expected, actual=actual)
    return True


# ---------------------------------------------------------------- the checks


async def _every_atom_and_its_complement_finds_what_it_means(store: VectorStore, exempt: Exempt) -> None:
    chunks = hostile_chunks()
    await _filled(store, chunks)
    telling = 0
    refused: set[Exemption] = set()
    for atom in atoms():
        kind = exemption(atom)
        matched = sum(holds(atom, _row(chunk)) for chunk in chunks)
        telling += 0 < matched < len(chunks)
        for expression in (atom, Not(atom)):
            answered = await _agrees(
                store, chunks, expression, {kind} if kind is not None and kind in exempt else set()
            )
            if kind is not None and not answered:
                refused.add(kind)
            if kind in exempt and answered:
                raise ConformanceFailure(f"exempt as {kind!r}, yet answered: {expression!r}")
    expect("every exemption is needed", expected=set(exempt), actual=refused)
    if telling < 300:
        raise ConformanceFailure(f"only {telling} atoms tell rows apart, so agreement proves nothing")


async def _random_expressions_find_what_they_mean(store: VectorStore, exempt: Exempt) -> None:
    chunks = hostile_chunks()
    await _filled(store, chunks)
    dice = random.Random(20_240)  # noqa: S311
    all_atoms = list(atoms())
    exact = [atom for atom in all_atoms if exemption(atom) not in exempt]
    answered = telling = 0
    for turn in range(150):
        pool = all_atoms if turn % 10 == 0 else exact
        expression = expression_of_depth(dice, pool, depth=dice.randrange(1, 4))
        allowed = {
            kind for kind in map(exemption, atoms_of(expression)) if kind is not None and kind in exempt
        }
        if await _agrees(store, chunks, expression, allowed):
            answered += 1
            telling += 0 < sum(holds(expression, _row(chunk)) for chunk in chunks) < len(chunks)
    if answered < 120 or telling < 60:
        raise ConformanceFailure(
            f"{answered} of 150 random filters were answered and {telling} told rows apart: too few to "
            "prove anything"
        )


async def _everything_is_every_chunk_and_nothing_is_none(store: VectorStore) -> None:
    chunks = hostile_chunks()
    await _filled(store, chunks)
    everything = await store.search(_STORE, Query(QUERY, limit=_ALL), plan=Everything())
    expect(
        "Everything",
        expected=sorted(chunk.id for chunk in chunks),
        actual=sorted(one.id for one in everything.candidates),
    )
    nothing = await store.search(_STORE, Query(QUERY, limit=_ALL), plan=Nothing())
    expect("Nothing", expected=((), True), actual=(nothing.candidates, nothing.exhausted))


async def _nothing_does_no_io(store: VectorStore) -> None:
    # The store is not there, so whoever looks must fail.
    try:
        found = await store.search(_ABSENT, Query(QUERY, limit=1), plan=Nothing())
    except VectorStoreUnavailable as error:
        raise ConformanceFailure("a plan of nothing was taken to the engine") from error
    expect("Nothing, on a store that is not there", expected=(), actual=found.candidates)


async def _an_absent_store_is_a_failure_and_never_empty(store: VectorStore) -> None:
    for plan in (Everything(), Matching(Compare("eq", ("tenant",), "acme"))):
        try:
            await store.search(_ABSENT, Query(QUERY, limit=1), plan=plan)
        except VectorStoreUnavailable:
            continue
        raise ConformanceFailure("a search of a store that is not there was answered")


async def _a_refusal_comes_before_any_io(store: VectorStore, exempt: Exempt) -> None:
    for kind, atom in _REFUSABLE.items():
        if kind not in exempt:
            continue
        for expression in (atom, Not(atom), Or((Compare("eq", ("tenant",), "acme"), atom))):
            try:
                await store.search(_ABSENT, Query(QUERY, limit=1), plan=Matching(expression))
            except FilterNotExpressible:
                continue
            raise ConformanceFailure(f"exempt as {kind!r}, yet not refused: {expression!r}")


_REFUSABLE: Final[Mapping[Exemption, Expression]] = {
    "text": Text("startswith", ("owner",), "a"),
    "string_order": Compare("lt", ("owner",), "m"),
    "two_fields": CompareFields("eq", ("owner",), ("tenant",)),
    "undeclared": Compare("eq", ("nowhere",), "x"),
}


async def _chunks_come_back_as_they_were_stored(store: VectorStore) -> None:
    chunks = {chunk.id: chunk for chunk in hostile_chunks()}
    await _filled(store, list(chunks.values()))
    found = await store.search(_STORE, Query(QUERY, limit=_ALL), plan=Everything())
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
    await _filled(store, [*twins, *chunks])
    scores = {chunk.id: max(0.0, sum(map(mul, chunk.vector, QUERY))) for chunk in (*chunks, *twins)}
    found = await store.search(_STORE, Query(chunks[0].vector, limit=5), plan=Everything())
    expect(
        "ties",
        expected=sorted([chunks[0].id, *(twin.id for twin in twins)]),
        actual=[one.id for one in found.candidates],
    )
    found = await store.search(_STORE, Query(QUERY, limit=_ALL), plan=Everything())
    for candidate in found.candidates:
        if not math.isclose(candidate.score, scores[candidate.id], abs_tol=1e-5):
            raise ConformanceFailure(
                f"score of {candidate.id}: expected {scores[candidate.id]}, got {candidate.score}"
            )
    keys = [(-candidate.score, candidate.id) for candidate in found.candidates]
    expect("best first", expected=sorted(keys), actual=keys)
    few = await store.search(_STORE, Query(QUERY, limit=7), plan=Everything())
    expect("a limit cuts", expected=found.candidates[:7], actual=few.candidates)
    expect("what is left out is not exhausted", expected=False, actual=few.exhausted)


async def _foreign_chunks_change_nothing_that_is_seen(store: VectorStore) -> None:
    ours = [_with_tenant(chunk, "acme") for chunk in hostile_chunks()]
    plan = Matching(Compare("eq", ("tenant",), "acme"))
    await _filled(store, ours)
    alone = [await store.search(_STORE, Query(QUERY, limit=limit), plan=plan) for limit in (1, 7, _ALL)]
    foreign = [
        _with_tenant(chunk, "globex")
        for seed in range(5)
        for chunk in hostile_chunks(tenant=f"globex{seed}", seed=seed)
    ]
    copies = [_renamed(chunk) for chunk in ours]  # the worst neighbours: the same vectors
    await store.add(_STORE, [*copies, *foreign])
    together = [await store.search(_STORE, Query(QUERY, limit=limit), plan=plan) for limit in (1, 7, _ALL)]
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
    await _filled(store, [old])
    await store.add(_STORE, [new])
    found = await store.search(_STORE, Query(QUERY, limit=_ALL), plan=Everything())
    expect("one chunk", expected=1, actual=len(found.candidates))
    (candidate,) = found.candidates
    expect("its content", expected=_shown(new), actual=_shown(candidate))
    expect("its stamp", expected=_typed(new.stamp), actual=_typed(candidate.stamp))
    expect("its attributes", expected=_typed(new.attributes), actual=_typed(candidate.attributes))
    for gone in (Overlaps(("teams",), ("hr",)), Defined(("region",)), Defined(("attributes", "colour"))):
        expect(f"nothing is left of the old one ({gone!r})", expected=[], actual=await _ids(store, gone))


async def _a_chunk_with_a_stamp_not_as_declared_is_not_stored(store: VectorStore) -> None:
    (good,) = hostile_chunks(count=1)
    await store.create(_STORE, dimensions=DIMENSIONS)
    for name, stamp in (
        ("missing", {key: value for key, value in good.stamp.items() if key != "level"}),
        ("of another type", {**good.stamp, "level": "1"}),
        ("undeclared", {**good.stamp, "clearance": 9}),
    ):
        bad = Chunk(good.id, good.file_id, 0, good.text, good.vector, stamp, {})
        try:
            await store.add(_STORE, [bad])
        except VectorStoreUnavailable:
            continue
        raise ConformanceFailure(f"a stamp with a field that is {name} was stored")
    expect("nothing was stored", expected=[], actual=await _ids(store, Defined(("tenant",))))


async def _stores_are_apart_and_dropping_one_leaves_the_other(store: VectorStore) -> None:
    chunks = hostile_chunks()
    await _filled(store, chunks)
    await store.create(_OTHER, dimensions=DIMENSIONS)
    for _ in range(2):
        await store.drop(_OTHER)
    await store.create(_OTHER, dimensions=DIMENSIONS)
    found = await store.search(_OTHER, Query(QUERY, limit=_ALL), plan=Everything())
    expect("the other store is empty", expected=(), actual=found.candidates)
    for _ in range(2):
        await store.drop(_STORE)
    await store.create(_STORE, dimensions=DIMENSIONS)
    expect(
        "a dropped store is empty when made again",
        expected=[],
        actual=await _ids(store, Defined(("tenant",))),
    )


async def _creating_again_keeps_what_is_there(store: VectorStore) -> None:
    chunks = hostile_chunks(count=3)
    await _filled(store, chunks)
    await store.create(_STORE, dimensions=DIMENSIONS)
    expect(
        "kept", expected=sorted(chunk.id for chunk in chunks), actual=await _ids(store, Defined(("tenant",)))
    )


async def _a_vector_of_another_length_is_a_failure(store: VectorStore) -> None:
    (chunk,) = hostile_chunks(count=1)
    await _filled(store, [chunk])
    short = Chunk("acme/file-1/1", chunk.file_id, 0, "x", chunk.vector[:-1], chunk.stamp, {})
    for attempt in (
        lambda: store.add(_STORE, [short]),
        lambda: store.search(_STORE, Query(QUERY[:-1], limit=1), plan=Everything()),
        lambda: store.create(_STORE, dimensions=DIMENSIONS + 1),
    ):
        try:
            await attempt()
        except VectorStoreUnavailable:
            continue
        raise ConformanceFailure("a vector of another length was taken")


async def _counts_are_of_the_store_and_of_the_plan(store: VectorStore) -> None:
    chunks = hostile_chunks()
    await _filled(store, chunks)
    expression = Compare("eq", ("legal_hold",), True)
    found = await store.search(_STORE, Query(QUERY, limit=2), plan=Matching(expression))
    permitted = sum(holds(expression, _row(chunk)) for chunk in chunks)
    expect("total", expected=len(chunks), actual=found.total)
    if found.permitted is not None:
        expect("permitted", expected=permitted, actual=found.permitted)


async def _it_answers_the_readiness_check(store: VectorStore) -> None:
    await store.check()
    await _filled(store, hostile_chunks(count=1))
    await store.check()


_FILTER_CHECKS: Final[tuple[Callable[[VectorStore, Exempt], Awaitable[None]], ...]] = (
    _every_atom_and_its_complement_finds_what_it_means,
    _random_expressions_find_what_they_mean,
    _a_refusal_comes_before_any_io,
)
_PLAIN_CHECKS: Final[tuple[Callable[[VectorStore], Awaitable[None]], ...]] = (
    _everything_is_every_chunk_and_nothing_is_none,
    _nothing_does_no_io,
    _an_absent_store_is_a_failure_and_never_empty,
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
)
