"""Attachments in the state store: which file is in which vector store, for whom, and how far its ingestion is.

Each belongs to the tenant of its stamp, which is its file's; in a shared store every tenant knows of its own only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import ColumnElement, and_, case, delete, func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.encoding import attachment_columns, attachment_row, is_identifier
from regate_adapters.state.listing import Listing, in_parts, page_of
from regate_adapters.state.loose_chunks import loosen, reclaim
from regate_adapters.state.row_filter import RowShape
from regate_adapters.state.tables import attachments, files, vector_stores
from regate_adapters.state.visibility import attached_file_unexpired, named, unexpired_file, visible_store, within
from regate_orchestrator.errors import NotFound
from regate_orchestrator.filters import FilterPlan
from regate_orchestrator.ports import LiveFile, Rows
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Attachment, Page, Totals
from regate_orchestrator.values import FileId, StoreId

_SHAPE = RowShape(texts={"tenant": attachments.c.tenant, "owner": attachments.c.owner}, numbers={}, document=attachments.c.stamp)
"""An attachment as `regate.chunk` sees it: the stamp that all its chunks carry."""

Pair = tuple[StoreId, FileId]


class AttachmentState:
    """The part of the state store that keeps attachments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put_attachment(self, row: Attachment) -> None:
        """Store the attachment, replacing an earlier one of the pair whole. Raises `NotFound` when its store or file has gone meanwhile."""
        columns = attachment_columns(row)
        tenant = str(columns["tenant"])
        async with self._database.writing() as connection:
            await _require_parents(connection, row, tenant=tenant, now=self._database.now())
            earlier = (attachments.c.store_id == row.store_id, attachments.c.file_id == row.file_id, attachments.c.tenant == tenant)
            await connection.execute(delete(attachments).where(*earlier))
            await connection.execute(insert(attachments).values(columns))
            await reclaim(connection, row.store_id, row.file_id)

    async def finish_attachment(
        self,
        store: StoreId,
        file: FileId,
        *,
        status: str,
        usage_bytes: int = 0,
        chunks: int = 0,
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> bool:
        """Set the outcome of an `in_progress` attachment; return False when it is gone or no longer in progress, and change nothing."""
        outcome = {
            "status": status,
            "usage_bytes": usage_bytes,
            "chunks": chunks,
            "error_code": error_code,
            "error_message": error_message,
        }
        open_one = (named(attachments.c.store_id, store), named(attachments.c.file_id, file), attachments.c.status == "in_progress")
        async with self._database.writing() as connection:
            changed = await connection.execute(update(attachments).where(*open_one).values(outcome))
        return changed.rowcount > 0

    async def attachment(self, principal: Principal, store: StoreId, file: FileId) -> Attachment | None:
        """Return the attachment, looked up by the pair and within the principal's tenant."""
        own = _own(principal, store, file, self._database.now())
        async with self._database.reading() as connection:
            row = (await connection.execute(select(attachments).where(*own))).one_or_none()
        return None if row is None else attachment_row(row)

    async def attachments(
        self, principal: Principal, store: StoreId, plan: FilterPlan, page: Page, *, status: str | None
    ) -> Rows[Attachment]:
        """Return a page of the store's attachments of the principal's tenant that the plan permits; cursors are file ids."""
        floor = and_(named(attachments.c.store_id, store), *_within(principal, self._database.now()))
        listing = Listing(attachments.c.file_id, attachments.c.created_at, floor=floor, shape=_SHAPE)
        statement = select(attachments)
        if status is not None:
            statement = statement.where(named(attachments.c.status, status))
        return await page_of(self._database, listing, statement, plan=plan, page=page, read=attachment_row)

    async def delete_attachment(self, principal: Principal, store: StoreId, file: FileId) -> bool:
        """Delete the attachment. From the moment this returns, `live` has nothing of it, and its chunks are loose."""
        now = self._database.now()
        async with self._database.writing() as connection:
            own = select(attachments.c.status).where(*_own(principal, store, file, now))
            status = await connection.scalar(own.with_for_update())
            if status is None:
                return False
            await connection.execute(delete(attachments).where(attachments.c.store_id == store, attachments.c.file_id == file))
            await loosen(connection, store, {file: status == "in_progress"}, now=now)
        return True

    async def totals(self, principal: Principal, stores: Sequence[StoreId]) -> Mapping[StoreId, Totals]:
        """Return, for each store, what the principal's tenant has in it; nothing is zeros, as for a store that does not exist."""
        known = [store for store in dict.fromkeys(stores) if is_identifier(store)]
        used = func.sum(case((attachments.c.status == "completed", attachments.c.usage_bytes), else_=0))
        statement = (
            select(attachments.c.store_id, attachments.c.status, func.count().label("files"), used.label("used"))
            .where(*_within(principal, self._database.now()))
            .group_by(attachments.c.store_id, attachments.c.status)
        )
        counted: dict[StoreId, dict[str, int]] = {store: {} for store in stores}
        async with self._database.reading() as connection:
            for part in in_parts(known):
                for row in await connection.execute(statement.where(attachments.c.store_id.in_(part))):
                    counts = counted[row.store_id]
                    counts[row.status] = row.files
                    counts["usage_bytes"] = counts.get("usage_bytes", 0) + row.used
        return {store: Totals(**counts) for store, counts in counted.items()}

    async def live(self, principal: Principal, pairs: Sequence[Pair]) -> Mapping[Pair, LiveFile]:
        """Return the completed attachments among these pairs whose file and store are there for the principal's tenant."""
        known = [pair for pair in dict.fromkeys(pairs) if all(map(is_identifier, pair))]
        if not known:
            return {}
        statement = (
            select(attachments.c.store_id, attachments.c.file_id, files.c.filename, attachments.c.stamp, attachments.c.attributes)
            .join(files, (files.c.id == attachments.c.file_id) & (files.c.tenant == attachments.c.tenant))
            .join(vector_stores, vector_stores.c.id == attachments.c.store_id)
            .where(within(attachments.c.tenant, principal.tenant), unexpired_file(self._database.now()))
            .where(attachments.c.status == "completed", visible_store(principal.tenant))
        )
        pair = tuple_(attachments.c.store_id, attachments.c.file_id)
        found: dict[Pair, LiveFile] = {}
        async with self._database.reading() as connection:
            for part in in_parts(known):
                for row in await connection.execute(statement.where(pair.in_(part))):
                    found[row.store_id, row.file_id] = LiveFile(row.filename, row.stamp, row.attributes)
        return found

    async def unfinished_attachments(self) -> list[Attachment]:
        """Return all attachments in progress, of all tenants, oldest first."""
        order = (attachments.c.created_at, attachments.c.store_id, attachments.c.file_id)
        async with self._database.reading() as connection:
            rows = await connection.execute(select(attachments).where(attachments.c.status == "in_progress").order_by(*order))
            return [attachment_row(row) for row in rows]


def _within(principal: Principal, now: int) -> tuple[ColumnElement[bool], ...]:
    return within(attachments.c.tenant, principal.tenant), attached_file_unexpired(now)


def _own(principal: Principal, store: StoreId, file: FileId, now: int) -> tuple[ColumnElement[bool], ...]:
    return named(attachments.c.store_id, store), named(attachments.c.file_id, file), *_within(principal, now)


async def _require_parents(connection: AsyncConnection, row: Attachment, *, tenant: str, now: int) -> None:
    """Raise `NotFound` unless file and store are there, and keep both until the transaction ends. Attaching one file is done one at a time."""
    file = select(files.c.id).where(named(files.c.id, row.file_id), files.c.tenant == tenant, unexpired_file(now))
    if await connection.scalar(file.with_for_update(key_share=True)) is None:
        raise NotFound.of("file", row.file_id)
    store = select(vector_stores.c.id).where(named(vector_stores.c.id, row.store_id), visible_store(tenant))
    if await connection.scalar(store.with_for_update(read=True, key_share=True)) is None:
        raise NotFound.of("vector store", row.store_id)
