"""The sweep of chunks that belong to nothing: of a detached or deleted file, or a deleted store, whose gateway died, or whose engine failed.

No search finds them, since their rows are gone (ADR 0005); they only take room. The other sweeps, and what runs them, are in `sweeping.py`.
"""

from __future__ import annotations

import logging
from typing import Protocol

from regate_orchestrator.errors import StateUnavailable, VectorStoreUnavailable
from regate_orchestrator.ports import VectorStore
from regate_orchestrator.rows import LooseChunks

_log = logging.getLogger("regate.sweeping")


class SweptChunks(Protocol):
    """The state store as this sweep needs it."""

    async def next_loose_chunks(self, *, after: LooseChunks | None) -> LooseChunks | None:
        """Return the loose chunks that are due and come next, of whatever tenant."""
        ...

    async def forget_loose_chunks(self, chunks: LooseChunks) -> None:
        """Forget loose chunks that are due, since they are gone."""
        ...


class ChunkSweep:
    """Removes chunks that belong to nothing, at once where it can be and else by a sweep."""

    def __init__(self, state: SweptChunks, vectors: VectorStore) -> None:
        self._state = state
        self._vectors = vectors

    async def loose(self) -> int:
        """Remove the chunks that are due and return of how many files or stores. Each is read right before: it may be attached again."""
        removed, last = 0, None
        while chunks := await self._state.next_loose_chunks(after=last):
            last = chunks
            removed += await self.remove(chunks)
        return removed

    async def remove(self, chunks: LooseChunks) -> bool:
        """Remove the chunks and return True, or log why not: then they are removed by a later sweep."""
        try:
            if chunks.file is None:
                await self._vectors.drop(chunks.store)
            else:
                await self._vectors.remove(chunks.store, chunks.file)
            await self._state.forget_loose_chunks(chunks)
        except (StateUnavailable, VectorStoreUnavailable) as error:
            _log.warning("chunks_left_behind", extra={"store": chunks.store, "file": chunks.file, "cause": error.detail})
            return False
        return True
