"""Files in vector stores, in the state store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Attachment, FileBatch, LiveFile, Page, Rows, Totals
from regate_orchestrator.values import BatchId, FileId, StoreId


class AttachmentState(Protocol):
    """Keeps attachments."""

    async def put(self, rows: Sequence[Attachment], *, batch: FileBatch | None = None) -> None:
        """Store the attachments, which are all of one tenant and store, and the batch they come in; all or
        none, in one transaction.

        An earlier attachment of the same file in the same store is replaced whole, and its chunks are
        orphaned. Where it was completed, the row that is stored names them in `made`, and they are kept for
        an hour, or until that row is finished or gone. Raises `NotFound` when the store or a file has gone,
        or expired, meanwhile.
        """
        ...

    async def amend(self, row: Attachment, *, expected: Attachment) -> bool:
        """Replace the attachment by this row; return False, and change nothing, when its status or generation
        is not as `expected`.

        In one transaction with it the generation that `expected` names is orphaned, and the one that the row
        names, which must have been reserved, counts; False as well when that was orphaned for too long.
        """
        ...

    async def in_progress_among(
        self, principal: Principal, store: StoreId, files: Sequence[FileId]
    ) -> frozenset[FileId]:
        """Return those of these files whose attachment to the store is in progress."""
        ...

    async def get(self, principal: Principal, store: StoreId, file: FileId) -> Attachment | None:
        """Return the attachment, looked up by the pair and within the principal's tenant."""
        ...

    async def stores_holding(self, principal: Principal, file: FileId) -> list[StoreId]:
        """Return the vector stores in which the principal's tenant has this file, whatever came of its
        ingestion.
        """
        ...

    async def page(
        self,
        principal: Principal,
        store: StoreId,
        plan: FilterPlan,
        page: Page,
        *,
        status: str | None,
        batch: BatchId | None = None,
    ) -> Rows[Attachment]:
        """Return a page of the store's attachments of the principal's tenant that the plan permits (the chunk
        rule decides on their stamp).

        With a batch, only of those that came in it.
        """
        ...

    async def delete(self, principal: Principal, store: StoreId, file: FileId) -> Attachment | None:
        """Delete the attachment and return it as it was. From the moment this returns, no search may
        return its chunks, which are orphaned.
        """
        ...

    async def totals(self, principal: Principal, stores: Sequence[StoreId]) -> Mapping[StoreId, Totals]:
        """Return, for each store, what the principal's tenant has in it."""
        ...

    async def live(
        self, principal: Principal, pairs: Sequence[tuple[StoreId, FileId]]
    ) -> Mapping[tuple[StoreId, FileId], LiveFile]:
        """Return the completed attachments among these pairs, with their present stamp and generation and the
        file's name. Retrieval joins on it.

        Nothing of a store that has expired for the principal's tenant may be among them.
        """
        ...
