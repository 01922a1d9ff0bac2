"""The collectors of vector stores: what has expired, what was orphaned in the vector engines, and what nobody
knows of there.

The counterpart is `garbage_collection.py`, which runs them. A chunk that is collected was found by nobody
before: its generation does not count (ADR 0008).
"""

from __future__ import annotations

import logging
from typing import Final

from regate_orchestrator.documents.generations import file_of
from regate_orchestrator.errors import RegateError
from regate_orchestrator.ports import AuditLog, OrphanedChunkState, VectorStore, VectorStoreState
from regate_orchestrator.rows import OrphanedChunks
from regate_orchestrator.values import Clock, StoreId, wall_clock

_log = logging.getLogger("regate.garbage_collection")
_BATCH: Final = 100
_ROUND_SECONDS: Final = 3_600
"""A round through all stores, looking for chunks that nobody knows of, begins at most so often."""


class VectorGarbage:
    """The collectors of vector stores. What cannot be removed now is kept for later, and keeps nothing
    else from being collected.
    """

    def __init__(
        self,
        *,
        stores: VectorStoreState,
        orphaned_chunks: OrphanedChunkState,
        vectors: VectorStore,
        audit: AuditLog,
        clock: Clock = wall_clock,
    ) -> None:
        self._stores = stores
        self._orphaned_chunks = orphaned_chunks
        self._vectors = vectors
        self._audit = audit
        self._clock = clock
        self._last = StoreId("")
        self._rests_until = 0.0
        self._missed = 0
        self._saw_all = False
        self.waiting = 0
        """Orphaned chunks that the last collector could not remove, or had not come to."""

    async def expired(self) -> int:
        """Let go of all that expired stores hold, after a record of it. Return how many files that were."""
        emptied = 0
        while batch := await self._stores.expired(limit=_BATCH):
            for store in batch:
                await self._audit.record(
                    {
                        "kind": "sweep",
                        "phase": "store.expire",
                        "tenant": store.tenant,
                        "about": store.store_id,
                    }
                )
                emptied += await self._stores.empty_expired(store)
        return emptied

    async def orphaned(self) -> int:
        """Remove from the engines what was orphaned. Return how many generations and stores that were."""
        removed = 0
        while batch := await self._orphaned_chunks.take(limit=_BATCH):
            for chunks in batch:
                try:
                    await self._remove(chunks)
                    removed += 1
                except RegateError as error:
                    _log.warning(
                        "chunks_left_behind",
                        extra={"store": chunks.store_id, "cause": getattr(error, "detail", "")},
                    )
        self.waiting = await self._orphaned_chunks.waiting()
        return removed

    async def unknown(self) -> int:
        """Look through one store, and remove what nobody knows of there, such as what an old backup of an
        engine brought back.

        Return how many generations that were. After the last store nothing is looked at until an hour has
        passed. An engine that only this program writes to needs no second look: looking makes it read the
        store's index, and nothing can have come there since.
        """
        if self._clock() < self._rests_until:
            return 0
        store = await self._stores.next_after(self._last)
        if store is None:
            self._last, self._rests_until = StoreId(""), self._clock() + _ROUND_SECONDS
            self._saw_all, self._missed = self._saw_all or self._missed == 0, 0
            return 0
        self._last = store
        if self._saw_all and not await self._vectors.is_shared(store):
            return 0
        self._missed += 1
        removed = await self._remove_unknown(store)
        self._missed -= 1
        return removed

    async def _remove_unknown(self, store: StoreId) -> int:
        # What is written meanwhile is not among these; what is among them was written down before it was
        # written.
        unknown = await self._orphaned_chunks.unknown_generations(
            store, await self._vectors.generations(store)
        )
        for generation in unknown:
            await self._vectors.remove(store, file_of(generation), generation=generation)
        if unknown:
            _log.warning("unknown_chunks_removed", extra={"store": store, "count": len(unknown)})
        return len(unknown)

    async def _remove(self, chunks: OrphanedChunks) -> None:
        if chunks.file_id:
            await self._vectors.remove(chunks.store_id, chunks.file_id, generation=chunks.generation or None)
        else:
            await self._vectors.drop(chunks.store_id)
        await self._orphaned_chunks.forget(chunks)
