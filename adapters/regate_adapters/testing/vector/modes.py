"""What a vector store promises about the modes of search. A part of the suite.

A mode that is not served is refused by its name. What a mode that is served finds must not depend on what
others stored, may be nothing that the plan does not permit, and must be by words or by both as
`ports.Query` says.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, get_args

from regate_adapters.testing.conformance import ConformanceFailure, expect
from regate_adapters.testing.vector.corpus import DIMENSIONS, QUERY, hostile_chunks
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Compare, Everything, FilterPlan, Matching, Overlaps, all_of
from regate_orchestrator.ports import Candidate, Chunk, Found, Fusion, Mode, Query, VectorStore
from regate_orchestrator.values import StoreId

_STORE: Final = StoreId("vs_modes")
_ALL: Final = 1_000
_WORDS: Final = ("lighthouse", "keeper", "Storm", "the", "oil", "ledger", "Überfahrt", "灯台守", "lamp2")
_TEXT: Final = "Storm oil 灯台 lamp2 nowhere"
_EVENLY: Final = Fusion()
_FUSIONS: Final = (
    Fusion(0.2, 0.8),
    Fusion(0.5, 0.5, by="rank"),
    Fusion(0.0, 1.0),
    Fusion(1.0, 0.0, by="rank"),
)


async def _a_mode_is_served_or_refused_by_its_name(store: VectorStore) -> None:
    await store.create(_STORE, dimensions=DIMENSIONS)
    await store.add(_STORE, hostile_chunks(count=3))
    served = await store.modes(_STORE)
    for mode in get_args(Mode):
        said = await _refusal(store, mode)
        expect(f"{mode} is served", expected=mode in served, actual=said is None)
        expect(f"{mode} is refused by its name", expected=True, actual=said is None or mode in said)
    expect("the mode vector is served", expected=True, actual="vector" in served)


async def _a_search_by_words_finds_the_permitted_chunks_with_one_of_them(store: VectorStore) -> None:
    chunks = await _filled(store)
    if "keyword" not in await store.modes(_STORE):
        return
    for name, plan, permitted in _plans(chunks):
        found = await _search(store, "keyword", plan)
        wanted = sorted(chunk.id for chunk in permitted if _has_a_word(chunk))
        expect(f"{name}: hits", expected=wanted, actual=sorted(one.id for one in found.candidates))
        _require_order(name, found.candidates)
    nowhere = await store.search(
        _STORE, Query(QUERY, _ALL, text="nowhere ... ", mode="keyword"), plan=Everything()
    )
    expect("a word that no text has", expected=((), True), actual=(nowhere.candidates, nowhere.exhausted))
    await store.drop(_STORE)
    await store.create(_STORE, dimensions=DIMENSIONS)
    last = replace(chunks[0], text="nothing", context="Storm")
    await store.add(_STORE, [last])
    found = await _search(store, "keyword", Everything())
    expect("a store that is made again", expected=[last.id], actual=[one.id for one in found.candidates])
    expect("a text without its context", expected=["nothing"], actual=[one.text for one in found.candidates])


async def _a_hybrid_search_finds_all_that_is_permitted(store: VectorStore) -> None:
    chunks = await _filled(store)
    if "hybrid" not in await store.modes(_STORE):
        return
    for name, plan, permitted in _plans(chunks):
        for fusion in _FUSIONS:
            found = await _search(store, "hybrid", plan, fusion)
            wanted = sorted(chunk.id for chunk in permitted)
            expect(f"{name}, {fusion}", expected=wanted, actual=sorted(one.id for one in found.candidates))
            _require_order(f"{name}, {fusion}", found.candidates)
        similar = await _search(store, "vector", plan)
        by_vector = await _search(store, "hybrid", plan, Fusion(1.0, 0.0))
        expect(f"{name}: by vectors alone", expected=_scores(similar), actual=_scores(by_vector))
        by_words = await _search(store, "hybrid", plan, Fusion(0.0, 1.0))
        worded = await _search(store, "keyword", plan)
        expect(
            f"{name}: by words alone",
            expected=_scores(worded),
            actual=_scores(
                replace(by_words, candidates=tuple(one for one in by_words.candidates if one.score))
            ),
        )


async def _foreign_chunks_change_nothing_in_any_mode(store: VectorStore) -> None:
    ours = await _filled(store)
    plan = Matching(Compare("eq", ("tenant",), "acme"))
    asked: list[tuple[Mode, Fusion]] = [("keyword", _EVENLY), *(("hybrid", one) for one in _FUSIONS)]
    served = [(mode, fusion) for mode, fusion in asked if mode in await store.modes(_STORE)]
    limits = (3, _ALL)
    alone = [await _search(store, mode, plan, fusion, limit) for mode, fusion in served for limit in limits]
    foreign = [
        replace(
            chunk,
            id=f"0/{chunk.id}",
            stamp={**chunk.stamp, "tenant": "globex"},
            text=f"{chunk.text} Storm",
        )
        for chunk in ours
    ]
    await store.add(_STORE, foreign)
    for _ in range(2):
        together = [
            await _search(store, mode, plan, fusion, limit) for mode, fusion in served for limit in limits
        ]
        for before, after in zip(alone, together, strict=True):
            expect("hits, order and scores", expected=before.candidates, actual=after.candidates)
            expect(
                "what is told of them",
                expected=(before.exhausted, before.permitted),
                actual=(after.exhausted, after.permitted),
            )
        await store.remove(_STORE, foreign[0].file_id)
        await store.add(_STORE, [one for one in ours if one.file_id == foreign[0].file_id])


async def _refusal(store: VectorStore, mode: Mode) -> str | None:
    try:
        await store.search(_STORE, Query(QUERY, limit=1, text="lighthouse", mode=mode), plan=Everything())
    except VectorStoreUnavailable as error:
        return error.detail
    return None


async def _filled(store: VectorStore) -> list[Chunk]:
    """Put texts of some words into the store, all of one tenant."""
    dice = random.Random(11)  # noqa: S311 — repeatable, not secret
    chunks = [
        replace(
            chunk,
            text=" ".join(dice.choices(_WORDS, k=dice.randrange(9))),
            stamp={**chunk.stamp, "tenant": "acme"},
        )
        for chunk in hostile_chunks()
    ]
    await store.create(_STORE, dimensions=DIMENSIONS)
    await store.add(_STORE, chunks)
    return chunks


def _plans(chunks: Sequence[Chunk]) -> list[tuple[str, FilterPlan, list[Chunk]]]:
    tenant, held = Compare("eq", ("tenant",), "acme"), Compare("eq", ("legal_hold",), True)
    few = Overlaps(("teams",), ("hr",))
    return [
        ("everything", Everything(), list(chunks)),
        ("half", Matching(all_of([tenant, held])), [one for one in chunks if one.stamp["legal_hold"]]),
        ("few", Matching(few), [one for one in chunks if "hr" in one.stamp["teams"]]),  # type: ignore[operator]
        ("none", Matching(Compare("eq", ("tenant",), "globex")), []),
    ]


def _has_a_word(chunk: Chunk) -> bool:
    return any(word in chunk.text.split() for word in ("Storm", "oil", "lamp2", "灯台守"))


async def _search(
    store: VectorStore, mode: Mode, plan: FilterPlan, fusion: Fusion = _EVENLY, limit: int = _ALL
) -> Found:
    query = Query(QUERY, limit, text=_TEXT, mode=mode, fusion=fusion)
    return await store.search(_STORE, query, plan=plan)


def _scores(found: Found) -> list[tuple[str, float]]:
    return [(one.id, round(one.score, 6)) for one in found.candidates]


def _require_order(name: str, candidates: Sequence[Candidate]) -> None:
    keys = [(-one.score, one.id) for one in candidates]
    expect(f"{name}: best first", expected=sorted(keys), actual=keys)
    if not all(0 <= one.score <= 1 for one in candidates):
        raise ConformanceFailure(f"{name}: a score is not between 0 and 1")


MODE_CHECKS: Final[tuple[Callable[[VectorStore], Awaitable[None]], ...]] = (
    _a_mode_is_served_or_refused_by_its_name,
    _a_search_by_words_finds_the_permitted_chunks_with_one_of_them,
    _a_hybrid_search_finds_all_that_is_permitted,
    _foreign_chunks_change_nothing_in_any_mode,
)
