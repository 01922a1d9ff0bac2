"""Batches of files in the state store. Which files are in one, each attachment says, so a batch can
never disagree with what is attached.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, func, select, update

from regate_adapters.state.database import Database
from regate_adapters.state.documents.orphaned_chunks import leave_behind
from regate_adapters.state.tables import attachments, file_batches, vector_stores
from regate_adapters.state.visibility import (
    attached_file_unexpired,
    attached_store_unexpired,
    named,
    visible_store,
    within,
)
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import FileBatch, Totals
from regate_orchestrator.values import BatchId, JsonObject, StoreId

_IN_PROGRESS: Final = attachments.c.status == "in_progress"


class FileBatchState:
    """The part of the state store that keeps batches of files."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, principal: Principal, store: StoreId, batch: BatchId) -> FileBatch | None:
        """Return the batch, looked up by the pair and within the principal's tenant."""
        own = (
            named(file_batches.c.id, batch),
            named(file_batches.c.store_id, store),
            within(file_batches.c.tenant, principal.tenant),
        )
        wanted = select(file_batches).join(vector_stores, vector_stores.c.id == file_batches.c.store_id)
        async with self._database.reading(principal.tenant) as connection:
            row = (
                await connection.execute(wanted.where(*own, visible_store(principal.tenant)))
            ).one_or_none()
        return None if row is None else FileBatch(row.id, row.store_id, row.created_at, row.tenant, row.owner)

    async def totals(self, batch: FileBatch) -> Totals:
        """Return what has become of the batch's files that are still attached by it."""
        counted = (
            select(attachments.c.status, func.count().label("files"))
            .where(self._of(batch))
            .group_by(attachments.c.status)
        )
        async with self._database.reading(batch.tenant) as connection:
            counts: Mapping[str, Any] = {row.status: row.files for row in await connection.execute(counted)}
        return Totals(**counts)

    async def stamps(self, batch: FileBatch) -> list[JsonObject]:
        """Return the different stamps of the batch's files that are in progress."""
        wanted = select(attachments.c.stamp).where(self._of(batch), _IN_PROGRESS)
        stamps: list[JsonObject] = []
        async with self._database.reading(batch.tenant) as connection:
            for stamp in await connection.scalars(wanted):
                if stamp not in stamps:
                    stamps.append(stamp)
        return stamps

    async def cancel(self, batch: FileBatch) -> int:
        """Cancel the batch's files that are in progress, and return how many. What workers have
        written of them is orphaned.
        """
        running = and_(self._of(batch), _IN_PROGRESS)
        async with self._database.writing(batch.tenant) as connection:
            await leave_behind(connection, running, now=self._database.now())
            cancelled = await connection.execute(
                update(attachments).where(running).values(status="cancelled", leased_until=0)
            )
        return cancelled.rowcount

    def _of(self, batch: FileBatch) -> ColumnElement[bool]:
        now = self._database.now()
        ours = and_(attachments.c.batch_id == batch.id, attachments.c.tenant == batch.tenant)
        return and_(ours, attached_file_unexpired(now), attached_store_unexpired(now))
