"""Chunks in a vector engine that no attachment counts, in the state store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from regate_orchestrator.rows import OrphanedChunks
from regate_orchestrator.values import StoreId


class OrphanedChunkState(Protocol):
    """Knows which generations of chunks are orphaned, or would be."""

    async def reserve(self, chunks: OrphanedChunks, *, ttl_s: int) -> None:
        """Write down that this is about to be stored: after that time it is orphaned, unless by then
        an attachment, or a store, counts it.
        """
        ...

    async def take(self, *, limit: int) -> list[OrphanedChunks]:
        """Return orphaned chunks that are due, which from now on can never count again. What is not
        forgotten is returned again, a while later.
        """
        ...

    async def forget(self, chunks: OrphanedChunks) -> None:
        """Forget what was orphaned, since it is gone from the vector engine."""
        ...

    async def waiting(self) -> int:
        """Return how many orphaned generations, and places of stores, wait to be removed."""
        ...

    async def unknown_generations(self, store: StoreId, generations: Iterable[str]) -> list[str]:
        """Return those of the generations that neither count nor are orphaned."""
        ...
