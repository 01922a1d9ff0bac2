"""What the suite asks of filters: that a store finds what the oracle does, or refuses before any IO.

Its counterpart is `suite.py`.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

from regate_adapters.testing.conformance import ConformanceFailure, expect
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
from regate_orchestrator.errors import FilterNotExpressible, VectorStoreUnavailable
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import (
    Compare,
    CompareFields,
    Everything,
    Expression,
    Matching,
    Not,
    Nothing,
    Or,
    Text,
    atoms_of,
    plan_of,
)
from regate_orchestrator.ports import Chunk, Query, VectorStore
from regate_orchestrator.values import StoreId

Exempt: TypeAlias = Mapping[Exemption, str]
"""What the adapter cannot express, and why."""
STORE: Final = StoreId("vs_conformance")
ABSENT: Final = StoreId("vs_conformance_absent")
ALL: Final = 1_000


def row_of(chunk: Chunk) -> Mapping[str, object]:
    """Return the chunk as the oracle sees it."""
    return {**SCHEMA.canonical(chunk.stamp), "attributes": dict(chunk.attributes)}


async def fill(store: VectorStore, chunks: Sequence[Chunk]) -> None:
    """Store the chunks in a store of their own."""
    await store.create(STORE, dimensions=DIMENSIONS)
    await store.add(STORE, chunks)


async def ids_permitted(store: VectorStore, expression: Expression) -> list[str]:
    """Return the ids of the chunks that the store finds under the filter, sorted."""
    found = await store.search(STORE, Query(QUERY, limit=ALL), plan=plan_of(expression))
    return sorted(candidate.id for candidate in found.candidates)


async def _agrees(
    store: VectorStore, chunks: Sequence[Chunk], expression: Expression, allowed: set[Exemption]
) -> bool:
    """Return whether the store answered; raise unless the answer is the oracle's or the refusal is one
    that is allowed.
    """
    try:
        actual = await ids_permitted(store, expression)
    except FilterNotExpressible as refusal:
        if not allowed:
            raise ConformanceFailure(
                f"refused without exemption: {expression!r}: {refusal.detail}"
            ) from refusal
        if not refusal.detail:
            raise ConformanceFailure(f"refused without a reason: {expression!r}") from refusal
        return False
    expected = sorted(chunk.id for chunk in chunks if holds(expression, row_of(chunk)))
    expect(f"filter {expression!r}", expected=expected, actual=actual)
    return True


async def _every_atom_and_its_complement_finds_what_it_means(store: VectorStore, exempt: Exempt) -> None:
    chunks = hostile_chunks()
    await fill(store, chunks)
    telling = 0
    refused: set[Exemption] = set()
    for atom in atoms():
        kind = exemption(atom)
        matched = sum(holds(atom, row_of(chunk)) for chunk in chunks)
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
    await fill(store, chunks)
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
            telling += 0 < sum(holds(expression, row_of(chunk)) for chunk in chunks) < len(chunks)
    if answered < 120 or telling < 60:
        raise ConformanceFailure(
            f"{answered} of 150 random filters were answered and {telling} told rows apart: too few to "
            "prove anything"
        )


async def _everything_is_every_chunk_and_nothing_is_none(store: VectorStore) -> None:
    chunks = hostile_chunks()
    await fill(store, chunks)
    everything = await store.search(STORE, Query(QUERY, limit=ALL), plan=Everything())
    expect(
        "Everything",
        expected=sorted(chunk.id for chunk in chunks),
        actual=sorted(one.id for one in everything.candidates),
    )
    nothing = await store.search(STORE, Query(QUERY, limit=ALL), plan=Nothing())
    expect("Nothing", expected=((), True), actual=(nothing.candidates, nothing.exhausted))


async def _nothing_does_no_io(store: VectorStore) -> None:
    # The store is not there, so whoever looks must fail.
    try:
        found = await store.search(ABSENT, Query(QUERY, limit=1), plan=Nothing())
    except VectorStoreUnavailable as error:
        raise ConformanceFailure("a plan of nothing was taken to the engine") from error
    expect("Nothing, on a store that is not there", expected=(), actual=found.candidates)


async def _an_absent_store_is_a_failure_and_never_empty(store: VectorStore) -> None:
    for plan in (Everything(), Matching(Compare("eq", ("tenant",), "acme"))):
        try:
            await store.search(ABSENT, Query(QUERY, limit=1), plan=plan)
        except VectorStoreUnavailable:
            continue
        raise ConformanceFailure("a search of a store that is not there was answered")


async def _a_refusal_comes_before_any_io(store: VectorStore, exempt: Exempt) -> None:
    for kind, atom in _REFUSABLE.items():
        if kind not in exempt:
            continue
        for expression in (atom, Not(atom), Or((Compare("eq", ("tenant",), "acme"), atom))):
            try:
                await store.search(ABSENT, Query(QUERY, limit=1), plan=Matching(expression))
            except FilterNotExpressible:
                continue
            raise ConformanceFailure(f"exempt as {kind!r}, yet not refused: {expression!r}")


_REFUSABLE: Final[Mapping[Exemption, Expression]] = {
    "text": Text("startswith", ("owner",), "a"),
    "string_order": Compare("lt", ("owner",), "m"),
    "two_fields": CompareFields("eq", ("owner",), ("tenant",)),
    "undeclared": Compare("eq", ("nowhere",), "x"),
}

FILTER_CHECKS: Final[tuple[Callable[[VectorStore, Exempt], Awaitable[None]], ...]] = (
    _every_atom_and_its_complement_finds_what_it_means,
    _random_expressions_find_what_they_mean,
    _a_refusal_comes_before_any_io,
)
PLAN_CHECKS: Final[tuple[Callable[[VectorStore], Awaitable[None]], ...]] = (
    _everything_is_every_chunk_and_nothing_is_none,
    _nothing_does_no_io,
    _an_absent_store_is_a_failure_and_never_empty,
)
