"""Batches in which files come into vector stores, in the state store."""

from __future__ import annotations

from typing import Protocol

from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import FileBatch, Totals
from regate_orchestrator.values import BatchId, JsonObject, StoreId


class FileBatchState(Protocol):
    """Keeps the batches that attachments come in."""

    async def get(self, principal: Principal, store: StoreId, batch: BatchId) -> FileBatch | None:
        """Return the batch, looked up by the pair and within the principal's tenant."""
        ...

    async def totals(self, batch: FileBatch) -> Totals:
        """Return what has become of the batch's files, as far as they are still attached by it."""
        ...

    async def stamps(self, batch: FileBatch) -> list[JsonObject]:
        """Return the different stamps of the batch's files that are in progress."""
        ...

    async def cancel(self, batch: FileBatch) -> int:
        """Cancel the batch's files that are in progress; return how many. No worker may complete one
        of them after this returns.
        """
        ...
