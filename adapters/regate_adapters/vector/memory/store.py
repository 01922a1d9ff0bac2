"""The reference vector store: every row in memory, the filter read by `meaning.holds` itself. Not for data
that must survive a restart.

What the other stores do differently is their bug (its proof and theirs is
`regate_adapters.testing.vector.suite`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from regate_adapters.vector.guard import TENANT
from regate_adapters.vector.keywords import Posting, bm25, fused
from regate_adapters.vector.ranking import best, cosines
from regate_adapters.vector.words import sought_words, words_of
from regate_orchestrator.documents.generations import generation_of, renamed
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import Expression, FilterPlan, Nothing, Scalar, expression_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Candidate, Chunk, Found, Mode, Query
from regate_orchestrator.values import FileId, JsonObject, StoreId


@dataclass(slots=True)
class _Store:
    dimensions: int
    chunks: dict[str, Chunk] = field(default_factory=dict)


class MemoryVectorStore:
    """Holds chunks of one row schema in memory, and finds them exactly."""

    def __init__(self, schema: RowSchema) -> None:
        self._schema = schema
        self._stores: dict[StoreId, _Store] = {}

    async def create(self, store: StoreId, *, dimensions: int) -> None:
        """Make the store's place. Raises `VectorStoreUnavailable` when it is there with other dimensions."""
        if self._stores.setdefault(store, _Store(dimensions)).dimensions != dimensions:
            raise VectorStoreUnavailable(f"store {store} has vectors of another length than {dimensions}")

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        """Store the chunks whole, all or none of them."""
        place = self._place(store)
        for chunk in chunks:
            if faults := self._schema.faults(chunk.stamp):
                raise VectorStoreUnavailable(
                    f"chunk {chunk.id} is not stamped as declared: {'; '.join(faults)}"
                )
            if len(chunk.vector) != place.dimensions:
                raise VectorStoreUnavailable(
                    f"chunk {chunk.id} has a vector of another length than {place.dimensions}"
                )
        place.chunks.update({chunk.id: chunk for chunk in chunks})

    async def modes(self, store: StoreId) -> frozenset[Mode]:  # noqa: ARG002 — of every store the same
        """Return all there are."""
        return frozenset({"vector", "keyword", "hybrid"})

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        """Return the chunks that fit best among those for which the plan holds."""
        if isinstance(plan, Nothing):
            return Found((), total=0, permitted=0, exhausted=True)
        place = self._place(store)
        if len(query.vector) != place.dimensions:
            raise VectorStoreUnavailable(f"the query has a vector of another length than {place.dimensions}")
        expression = expression_of(plan)
        permitted = {chunk.id: chunk for chunk in place.chunks.values() if self._holds(expression, chunk)}
        scores = _scores(list(permitted.values()), query)
        ranked = best(list(permitted), np.array(list(scores.values()), dtype=np.float64), query.limit)
        if query.mode == "keyword":
            ranked = [(identifier, score) for identifier, score in ranked if score > 0]
        return Found(
            tuple(self._candidate(permitted[identifier], score) for identifier, score in ranked),
            total=len(place.chunks),
            permitted=len(permitted),
            exhausted=_matching(scores, query) <= query.limit,
        )

    async def texts(self, store: StoreId, ids: Sequence[str], *, tenant: str) -> Mapping[str, str]:
        """Return the texts of those of these chunks of the tenant that are there."""
        chunks = self._place(store).chunks
        found = [chunks[identifier] for identifier in ids if identifier in chunks]
        return {chunk.id: chunk.text for chunk in found if chunk.stamp.get(TENANT) == tenant}

    async def restamp(
        self,
        store: StoreId,
        file: FileId,
        *,
        generation: str,
        target: str,
        stamp: JsonObject,
        attributes: Mapping[str, Scalar],
    ) -> int:
        """Store each chunk of the generation once more, with this stamp and these attributes."""
        chunks = [chunk for chunk in self._place(store).chunks.values() if _is_of(chunk, file, generation)]
        await self.remove(store, file, generation=target)
        await self.add(
            store,
            [
                replace(one, id=renamed(one.id, target=target), stamp=stamp, attributes=attributes)
                for one in chunks
            ],
        )
        return len(chunks)

    async def remove(self, store: StoreId, file: FileId, *, generation: str | None = None) -> None:
        """Remove the chunks of the file, or of one generation of it."""
        if place := self._stores.get(store):
            place.chunks = {
                identifier: chunk
                for identifier, chunk in place.chunks.items()
                if not _is_of(chunk, file, generation)
            }

    async def generations(self, store: StoreId) -> frozenset[str]:
        """Return which generations have chunks in the store."""
        place = self._stores.get(store)
        return frozenset() if place is None else frozenset(map(generation_of, place.chunks))

    async def chunks(self, store: StoreId) -> AsyncIterator[Sequence[Chunk]]:
        """Yield all chunks of the store."""
        yield list(self._place(store).chunks.values())

    async def is_shared(self, store: StoreId) -> bool:  # noqa: ARG002 — of every store the same
        """Return False: this memory is this program's alone."""
        return False

    async def drop(self, store: StoreId) -> None:
        """Remove the store and all its chunks."""
        self._stores.pop(store, None)

    async def check(self) -> None:
        """Never raise: memory always answers."""

    def _place(self, store: StoreId) -> _Store:
        try:
            return self._stores[store]
        except KeyError as error:
            raise VectorStoreUnavailable(f"store {store} has no place here") from error

    def _holds(self, expression: Expression, chunk: Chunk) -> bool:
        return holds(expression, row_of(self._schema, chunk))

    def _candidate(self, chunk: Chunk, score: float) -> Candidate:
        stamp = self._schema.canonical(chunk.stamp)
        return Candidate(
            chunk.id, chunk.file_id, chunk.index, chunk.text, score, stamp, dict(chunk.attributes)
        )


def _scores(chunks: Sequence[Chunk], query: Query) -> dict[str, float]:
    """Return the chunks' scores by their ids, in the order of the chunks."""
    rows = np.array([chunk.vector for chunk in chunks], dtype=np.float32).reshape(-1, len(query.vector))
    similarities = cosines(rows, np.array(query.vector, dtype=np.float32))
    if query.mode == "vector":
        scores = similarities
    else:
        counted = [words_of(chunk.sought) for chunk in chunks]
        lengths = np.array([float(counts.total()) for counts in counted])
        by_words = bm25([_posting(word, counted) for word in sought_words(query.text)], lengths, len(chunks))
        scores = by_words if query.mode == "keyword" else fused(similarities, by_words, query.fusion)
    return dict(zip((chunk.id for chunk in chunks), scores.tolist(), strict=True))


def _posting(word: str, counted: Sequence[Counter[str]]) -> Posting:
    places = [place for place, counts in enumerate(counted) if word in counts]
    often = [float(counted[place][word]) for place in places]
    return Posting(np.array(places, dtype=np.int64), np.array(often, dtype=np.float64))


def _matching(scores: Mapping[str, float], query: Query) -> int:
    return sum(score > 0 for score in scores.values()) if query.mode == "keyword" else len(scores)


def _is_of(chunk: Chunk, file: FileId, generation: str | None) -> bool:
    return chunk.file_id == file and generation in (None, generation_of(chunk.id))


def row_of(schema: RowSchema, chunk: Chunk) -> Mapping[str, object]:
    """Return the chunk as filters see it: the stamp in the canonical view, the client's attributes
    below `attributes`.
    """
    return {**schema.canonical(chunk.stamp), "attributes": dict(chunk.attributes)}
