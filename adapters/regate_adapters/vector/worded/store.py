"""A `VectorStore` of two engines: one finds by vectors, the other keeps the same chunks and finds by words.

Both are given the same plan. A hybrid search asks each for its best, and for more while one that neither
named might still belong among the best; `merging.py`, the counterpart, says when.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Final

from regate_adapters.vector.worded.merging import hybrid
from regate_orchestrator.filters.expression import FilterPlan, Nothing, Scalar
from regate_orchestrator.ports import Chunk, Found, Mode, Query, VectorStore
from regate_orchestrator.values import FileId, JsonObject, StoreId

_NO_VECTOR: Final = (1.0,)


class WordedVectorStore:
    """Chunks in two engines. `words` must serve the mode `keyword`; it keeps no vectors."""

    def __init__(self, vectors: VectorStore, words: VectorStore) -> None:
        self._vectors = vectors
        self._words = words

    async def create(self, store: StoreId, *, dimensions: int) -> None:
        """Make the store's place in both."""
        await self._words.create(store, dimensions=len(_NO_VECTOR))
        await self._vectors.create(store, dimensions=dimensions)

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        """Store the chunks in both. What a broken-off call left in one of them is of a generation that
        does not count.
        """
        await self._vectors.add(store, chunks)
        await self._words.add(store, [replace(chunk, vector=_NO_VECTOR) for chunk in chunks])

    async def modes(self, store: StoreId) -> frozenset[Mode]:  # noqa: ARG002 — of every store the same
        """Return all there are."""
        return frozenset({"vector", "keyword", "hybrid"})

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        """Return what the engine of the mode finds, or the best of both."""
        if query.mode == "vector" or isinstance(plan, Nothing):
            return await self._vectors.search(store, replace(query, mode="vector"), plan=plan)
        if query.mode == "keyword":
            return await self._words.search(store, replace(query, vector=_NO_VECTOR), plan=plan)
        return await hybrid(
            lambda depth: self._vectors.search(store, replace(query, mode="vector", limit=depth), plan=plan),
            lambda depth: self._words.search(
                store, replace(query, mode="keyword", vector=_NO_VECTOR, limit=depth), plan=plan
            ),
            query,
        )

    async def texts(self, store: StoreId, ids: Sequence[str], *, tenant: str) -> Mapping[str, str]:
        """Return the texts of those of these chunks of the tenant that are there."""
        return await self._vectors.texts(store, ids, tenant=tenant)

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
        """Store each chunk of the generation once more in both, with this stamp and these attributes. Return
        how many the one has that has fewer: chunks from before the words were kept are in one alone.
        """
        return min(
            [
                await place.restamp(
                    store, file, generation=generation, target=target, stamp=stamp, attributes=attributes
                )
                for place in (self._words, self._vectors)
            ]
        )

    async def remove(self, store: StoreId, file: FileId, *, generation: str | None = None) -> None:
        """Remove the chunks of the file, or of one generation of it, from both."""
        for place in (self._vectors, self._words):
            await place.remove(store, file, generation=generation)

    async def generations(self, store: StoreId) -> frozenset[str]:
        """Return which generations have chunks in either."""
        return await self._vectors.generations(store) | await self._words.generations(store)

    def chunks(self, store: StoreId) -> AsyncIterator[Sequence[Chunk]]:
        """Yield the store's chunks, as the engine has them that keeps their vectors."""
        return self._vectors.chunks(store)

    async def is_shared(self, store: StoreId) -> bool:
        """Return whether other programs may write to either."""
        return await self._vectors.is_shared(store) or await self._words.is_shared(store)

    async def drop(self, store: StoreId) -> None:
        """Remove the store and all its chunks from both."""
        for place in (self._vectors, self._words):
            await place.drop(store)

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when either would not answer."""
        for place in (self._vectors, self._words):
            await place.check()
