"""The `VectorStore` on any engine that holds marked rows. Its counterpart is the engine, which is asked by
marks alone.

Ranking is exact over the permitted rows, whatever else is stored. The engine proposes the nearest, and more
than are wanted; their scores are made anew here from their vectors, and more are asked for while one that was
not proposed might belong among the best.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

import numpy as np

from regate_adapters.vector.guard import TENANT, tenant_of
from regate_adapters.vector.marked.engine import MarkedEngine, MarkedRow, RankedRow
from regate_adapters.vector.marked.filter import USUAL, Limits, render
from regate_adapters.vector.marked.marks import Marking, of_file, of_generation, of_id
from regate_adapters.vector.marked.tree import Has, Tree, all_of
from regate_adapters.vector.ranking import best, cosines
from regate_orchestrator.documents.generations import generation_of, renamed
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Compare, FilterPlan, Matching, Scalar, expression_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Candidate, Chunk, Found, Mode, Query
from regate_orchestrator.values import FileId, JsonObject, StoreId

_SPARE: Final = 16
_WIDER: Final = 4
_PRECISION: Final = 1e-5
"""By how much an engine's similarity, of 32-bit floats, may differ from the one that is computed here."""


class MarkedVectorStore:
    """Chunks of one row schema in a marked engine."""

    def __init__(
        self, engine: MarkedEngine, schema: RowSchema, *, shared: bool, limits: Limits = USUAL
    ) -> None:
        self._engine = engine
        self._marking = Marking.of(schema)
        self._shared = shared
        self._render = partial(render, marking=self._marking, limits=limits)

    async def create(self, store: StoreId, *, dimensions: int) -> None:
        """Make the store's place. Raises `VectorStoreUnavailable` when it is there with other dimensions."""
        present = await self._engine.dimensions(store)
        if present is None:
            await self._engine.make(store, dimensions)
        elif present != dimensions:
            raise VectorStoreUnavailable(f"store {store} has vectors of another length than {dimensions}")

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        """Store the chunks whole; of several with one id, the last."""
        rows = [self._row(chunk) for chunk in {chunk.id: chunk for chunk in chunks}.values()]
        dimensions = await self._dimensions(store)
        if any(len(row.vector) != dimensions for row in rows):
            raise VectorStoreUnavailable(f"a vector has another length than the store's {dimensions}")
        if rows:
            await self._engine.put(store, rows)

    async def modes(self, store: StoreId) -> frozenset[Mode]:  # noqa: ARG002 — of every store the same
        """Return that chunks are found by their vectors alone."""
        return frozenset({"vector"})

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        """Return the most similar chunks among those that the plan permits."""
        query.require_mode("vector")
        where = self._render(plan)
        if where is False:
            return Found((), total=0, permitted=0, exhausted=True)
        dimensions = await self._dimensions(store)
        if len(query.vector) != dimensions:
            raise VectorStoreUnavailable(f"the query has another length than the store's {dimensions}")
        tenant = tenant_of(expression_of(plan))
        (ranked, known), total, counted = await asyncio.gather(
            self._ranked(store, query, where, tenant),
            self._engine.count(store, True, tenant=None),
            self._engine.count(store, where, tenant=tenant),
        )
        if total is None:
            raise VectorStoreUnavailable(f"the engine does not tell how many chunks store {store} has")
        permitted = known if counted is None else counted
        is_exhausted = permitted is not None and permitted <= len(ranked)
        return Found(tuple(ranked), total=total, permitted=permitted, exhausted=is_exhausted)

    async def texts(self, store: StoreId, ids: Sequence[str], *, tenant: str) -> Mapping[str, str]:
        """Return the texts of those of these chunks of the tenant that are there and of the present schema
        version.
        """
        await self._dimensions(store)
        of_tenant = render(Matching(Compare("eq", (TENANT,), tenant)), self._marking)
        found: dict[str, str] = {}
        if ids:
            where = all_of([of_tenant, Has(tuple(dict.fromkeys(map(of_id, ids))))])
            async for row in self._rows(store, where):
                found[row.id] = self._marking.chunk(row.id, row.document).text
        return found

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
        """Store each chunk of the generation once more, of the present schema version, with this stamp
        and these attributes.
        """
        await self._dimensions(store)
        source = all_of(
            [Has((mark,)) for mark in (self._marking.version, of_file(file), of_generation(generation))]
        )
        copies = []
        async for row in self._rows(store, source, vectors=True):
            chunk = self._marking.chunk(row.id, row.document)
            copies.append(
                self._row(
                    Chunk(
                        renamed(row.id, target=target),
                        file,
                        chunk.index,
                        chunk.text,
                        row.vector,
                        stamp,
                        attributes,
                    )
                )
            )
        await self.remove(store, file, generation=target)
        if copies:
            await self._engine.put(store, copies)
        return len(copies)

    async def remove(self, store: StoreId, file: FileId, *, generation: str | None = None) -> None:
        """Remove the chunks of the file, or of one generation of it, of any schema version."""
        marks = [of_file(file)] if generation is None else [of_file(file), of_generation(generation)]
        await self._engine.delete(store, all_of([Has((mark,)) for mark in marks]))

    async def generations(self, store: StoreId) -> frozenset[str]:
        """Return which generations have chunks in the store, of any schema version."""
        if await self._engine.dimensions(store) is None:
            return frozenset()
        return frozenset([generation_of(row.id) async for row in self._rows(store, True)])

    async def chunks(self, store: StoreId) -> AsyncIterator[Sequence[Chunk]]:
        """Yield the store's chunks of the present schema version, with the engine's pages."""
        await self._dimensions(store)
        async for page in self._engine.rows(store, Has((self._marking.version,)), vectors=True):
            yield [replace(self._marking.chunk(row.id, row.document), vector=row.vector) for row in page]

    async def is_shared(self, store: StoreId) -> bool:  # noqa: ARG002 — of every store the same
        """Return whether other programs may write to the engine."""
        return self._shared

    async def drop(self, store: StoreId) -> None:
        """Remove the store and all its chunks."""
        await self._engine.drop(store)

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the engine does not answer."""
        await self._engine.check()

    async def _dimensions(self, store: StoreId) -> int:
        found = await self._engine.dimensions(store)
        if found is None:
            raise VectorStoreUnavailable(f"store {store} has no place here")
        return found

    def _row(self, chunk: Chunk) -> MarkedRow:
        marks = self._marking.marks(chunk)
        tenant = str(chunk.stamp.get(TENANT, ""))
        return MarkedRow(chunk.id, tenant, marks, self._marking.document(chunk), chunk.vector)

    async def _rows(self, store: StoreId, where: Tree, *, vectors: bool = False) -> AsyncIterator[RankedRow]:
        async for page in self._engine.rows(store, where, vectors=vectors):
            for row in page:
                yield row

    async def _ranked(
        self, store: StoreId, query: Query, where: Tree, tenant: str | None
    ) -> tuple[list[Candidate], int | None]:
        """Return the best rows, after as many questions as it takes that no other can be among them; and how
        many there are, if the engine proposed all.
        """
        one = np.array(query.vector, dtype=np.float32)
        wanted = 2 * query.limit + _SPARE
        while True:
            if one.any():
                rows = await self._engine.nearest(store, query.vector, where, tenant=tenant, limit=wanted)
                is_all = len(rows) < wanted
            else:  # to which everything is equally near, and which some engines refuse
                rows = [row async for row in self._rows(store, where, vectors=True)]
                is_all = True
            scores = cosines(
                np.array([row.vector for row in rows], dtype=np.float32).reshape(-1, len(one)), one
            )
            ranked = best([row.id for row in rows], scores, query.limit)
            if is_all or (ranked and scores.min() < ranked[-1][1] - _PRECISION):
                documents = {row.id: row.document for row in rows}
                candidates = [
                    self._marking.candidate(identifier, documents[identifier], score=score)
                    for identifier, score in ranked
                ]
                return candidates, len(rows) if is_all else None
            wanted *= _WIDER
