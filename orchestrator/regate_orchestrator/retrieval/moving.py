"""Moves a vector store from the engine that its row names to another, while no gateway runs.

Chunks of a generation never change (ADR 0008). So what is written to the target before the row names it is
found by nobody, and a move that was broken off goes on where it was: generations that are there whole are
kept, all others are written again. The row changes in one transaction, which fails when anything was
attached, changed or removed meanwhile. Until then the source is what counts, and it is left as it was but for
chunks that count no more; only afterwards it is dropped.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.documents.generations import file_of, generation_of
from regate_orchestrator.errors import FilterNotExpressible, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Compare, FilterPlan, Matching, all_of
from regate_orchestrator.ports import Candidate, Chunk, Found, Query, VectorStore, VectorStoreState
from regate_orchestrator.rows import StoreContents
from regate_orchestrator.values import StoreId

_SAMPLED: Final = 20
_LIMIT: Final = 20
_EXACT_UP_TO: Final = 20_000
"""Where more are permitted, an engine may leave the choice to an approximate index."""
_SAME_SCORE: Final = 1e-4

Tell = Callable[[int, int], None]
"""Takes how many chunks are at the target, and how many there are."""


class MoveRefused(Exception):
    """The store was not moved, and is where it was. The message says why, to an operator."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A store that is at its target: how many chunks it has there, how many of them were written by this
    call, and how many plans found the same on both sides. `was_there` says that an earlier call had moved it.
    """

    chunks: int
    written: int
    compared: int
    was_there: bool = False


class StoreMover:
    """Moves stores between these engines. Nothing else may write to a store that is moved, or use it."""

    def __init__(
        self, stores: VectorStoreState, engines: Mapping[str, VectorStore], tell: Tell = lambda *_: None
    ) -> None:
        self._stores = stores
        self._engines = engines
        self._tell = tell

    async def move(self, store: StoreId, target: str) -> Moved:
        """Move the store, or finish a move that was broken off. Raises `MoveRefused`, and
        `VectorStoreUnavailable` when an engine fails; the same call goes on then.
        """
        contents = await self._stores.contents(store)
        if contents is None:
            raise MoveRefused(f"there is no vector store {store}")
        for engine in (target, contents.engine):
            if engine not in self._engines:
                raise MoveRefused(f"the engine {engine!r} is not among vector.stores")
        if contents.in_progress:
            raise MoveRefused(
                f"{contents.in_progress} files of {store} are in progress: let a gateway finish them, or "
                "cancel them"
            )
        await self._require_a_place_of_its_own(store, target, contents.dimensions)
        count = sum(contents.generations.values())
        if contents.engine == target:
            await self._drop_elsewhere(store, target)
            return Moved(count, written=0, compared=0, was_there=True)
        source, place = self._engines[contents.engine], self._engines[target]
        await _remove_what_counts_no_more(source, store, contents)
        written, sample = await self._copy(store, contents, source, place)
        _require_all(await _counted(place, store), contents, f"the engine {target}")
        compared = await _compared(store, sample, source, place)
        if not await self._stores.move(store, expected=contents, engine=target):
            raise MoveRefused(f"{store} was changed meanwhile: does a gateway run? Begin again")
        await self._drop_elsewhere(store, target)
        return Moved(count, written, compared)

    async def _require_a_place_of_its_own(self, store: StoreId, target: str, dimensions: int) -> None:
        """Raise `MoveRefused` when another engine is the same place under another name, where dropping the
        source would drop the target.
        """
        probe = StoreId(f"{store}-probe")
        others = {name: engine for name, engine in self._engines.items() if name != target}
        for engine in others.values():
            await engine.drop(probe)
        await self._engines[target].create(probe, dimensions=dimensions)
        try:
            for name, engine in others.items():
                if await _has_place(engine, probe):
                    raise MoveRefused(f"the engines {name!r} and {target!r} are one place under two names")
        finally:
            await self._engines[target].drop(probe)

    async def _copy(
        self, store: StoreId, contents: StoreContents, source: VectorStore, place: VectorStore
    ) -> tuple[int, list[Chunk]]:
        """Write what the target lacks; return how many chunks that were, and some of the store's."""
        await place.create(store, dimensions=contents.dimensions)
        await _remove_what_counts_no_more(place, store, contents)
        there = await _counted(place, store)
        whole = {name for name, count in there.items() if count == contents.generations[name]}
        total, done, written = sum(contents.generations.values()), sum(there[name] for name in whole), 0
        found: Counter[str] = Counter()
        sample = _Sample()
        async for page in source.chunks(store):
            found.update(generation_of(chunk.id) for chunk in page)
            sample.take(page)
            lacking = [chunk for chunk in page if generation_of(chunk.id) not in whole]
            if lacking:
                await place.add(store, lacking)
                written, done = written + len(lacking), done + len(lacking)
            self._tell(done, total)
        _require_all(found, contents, f"the engine {contents.engine}")
        return written, sample.chunks

    async def _drop_elsewhere(self, store: StoreId, target: str) -> None:
        """Drop the store's places in all other engines: an id is only ever one store's."""
        for name, engine in self._engines.items():
            if name != target:
                await engine.drop(store)


class _Sample:
    """Some of the chunks that pass by, each of them as likely as any other (Vitter, "Random sampling with a
    reservoir", ACM TOMS 1985).
    """

    def __init__(self) -> None:
        self.chunks: list[Chunk] = []
        self._passed = 0
        self._chance = random.Random()  # noqa: S311 — what is looked at, not what is kept secret

    def take(self, page: Sequence[Chunk]) -> None:
        """Let these pass."""
        for chunk in page:
            self._passed += 1
            if len(self.chunks) < _SAMPLED:
                self.chunks.append(chunk)
            elif (place := self._chance.randrange(self._passed)) < _SAMPLED:
                self.chunks[place] = chunk


async def _has_place(engine: VectorStore, store: StoreId) -> bool:
    """Return whether the engine has a place of this store. Raises `VectorStoreUnavailable` for one that does
    not answer.
    """
    await engine.check()
    try:
        async for _ in engine.chunks(store):
            pass
    except VectorStoreUnavailable:
        await engine.check()
        return False
    return True


async def _remove_what_counts_no_more(engine: VectorStore, store: StoreId, contents: StoreContents) -> None:
    for generation in sorted(await engine.generations(store) - set(contents.generations)):
        await engine.remove(store, file_of(generation), generation=generation)


async def _counted(engine: VectorStore, store: StoreId) -> Counter[str]:
    """Return how many chunks of each generation can be read."""
    counted: Counter[str] = Counter()
    async for page in engine.chunks(store):
        counted.update(generation_of(chunk.id) for chunk in page)
    return counted


def _require_all(counted: Counter[str], contents: StoreContents, where: str) -> None:
    for generation, count in contents.generations.items():
        if counted[generation] != count:
            raise MoveRefused(
                f"of file {file_of(generation)} {counted[generation]} of {count} chunks can be read from "
                f"{where}. If they were stamped under an earlier schema, attach the file anew"
            )


async def _compared(store: StoreId, sample: Sequence[Chunk], source: VectorStore, place: VectorStore) -> int:
    """Return how many plans find the same chunks on both sides. Raises `MoveRefused` for one that does
    not.
    """
    compared = 0
    for chunk in sample:
        query = Query(chunk.vector, _LIMIT)
        for plan in _plans(chunk):
            try:
                one = await source.search(store, query, plan=plan)
                other = await place.search(store, query, plan=plan)
            except FilterNotExpressible:
                continue  # one of the engines never answers it
            if not _agree(one, other):
                raise MoveRefused(
                    f"a search for chunk {chunk.id} does not find the same in both engines; the store stays "
                    "where it is"
                )
            compared += 1
    return compared


def _plans(chunk: Chunk) -> Iterator[FilterPlan]:
    """Yield plans that permit the chunk: its tenant's, and all that have the same plain fields."""
    own = Compare("eq", ("tenant",), str(chunk.stamp.get("tenant", "")))
    yield Matching(own)
    alike = [
        Compare("eq", (name,), value)
        for name, value in chunk.stamp.items()
        if name != "tenant" and isinstance(value, str | bool | int)
    ]
    yield Matching(all_of([own, *alike]))


def _agree(one: Found, other: Found) -> bool:
    """Return whether two answers are the same, but for chunks that are equally near as the last."""
    if one.permitted is None or other.permitted is None:
        return True
    if one.permitted != other.permitted:
        return False
    if one.permitted > _EXACT_UP_TO:
        return True
    return _only_ties(one.candidates, other.candidates) and _only_ties(other.candidates, one.candidates)


def _only_ties(found: Sequence[Candidate], others: Sequence[Candidate]) -> bool:
    known = {candidate.id for candidate in others}
    last = others[-1].score if others else 0.0
    return all(one.id in known or abs(one.score - last) <= _SAME_SCORE for one in found) and len(
        found
    ) == len(others)
