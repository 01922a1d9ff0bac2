"""Attachments in the state store: which file is in which vector store, for whom, and how far its ingestion
is.

Each belongs to the tenant of its stamp, which is its file's; in a shared store every tenant knows of its own
only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import ColumnElement, and_, case, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.among import among
from regate_adapters.state.database import Database
from regate_adapters.state.documents.orphaned_chunks import commit, keep_made, leave_behind, reclaim
from regate_adapters.state.encoding import attachment_columns, attachment_row, is_identifier
from regate_adapters.state.filters.row_filter import RowShape
from regate_adapters.state.listing import Listing, in_parts, page_of
from regate_adapters.state.ordinals import next_ordinal
from regate_adapters.state.tables import attachments, file_batches, files, vector_stores
from regate_adapters.state.visibility import (
    attached_file_unexpired,
    attached_store_unexpired,
    named,
    unexpired_file,
    unexpired_store,
    visible_store,
    within,
)
from regate_orchestrator.errors import NotFound
from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Attachment, FileBatch, LiveFile, OrphanedChunks, Page, Rows, Totals
from regate_orchestrator.values import BatchId, FileId, StoreId

_SHAPE = RowShape(
    texts={"tenant": attachments.c.tenant, "owner": attachments.c.owner},
    numbers={},
    document=attachments.c.stamp,
)
"""An attachment as `regate.chunk` sees it: the stamp that all its chunks carry."""

Pair = tuple[StoreId, FileId]

_WRITE_ONCE: Final = frozenset({"store_id", "file_id", "tenant", "owner", "created_at"})


class AttachmentState:
    """The part of the state store that keeps attachments."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, rows: Sequence[Attachment], *, batch: FileBatch | None = None) -> None:
        """Store the attachments of one tenant to one store, and the batch that they come in; earlier ones of
        the same files are replaced whole, and what they had made is kept for a while.

        All of them or none: raises `NotFound` when the store, or a file, has gone or expired meanwhile.
        """
        now = self._database.now()
        columns = [attachment_columns(row) for row in rows]
        async with self._database.writing(str(columns[0]["tenant"])) as connection:
            await _require_parents(connection, rows, now=now)
            if batch is not None:
                await connection.execute(insert(file_batches).values(_batch_columns(batch)))
            first = await next_ordinal(self._database, connection, attachments)
            numbered = [{**column, "ordinal": ordinal} for ordinal, column in enumerate(columns, start=first)]
            for part in in_parts(numbered):
                earlier = and_(
                    attachments.c.store_id == part[0]["store_id"],
                    attachments.c.file_id.in_([column["file_id"] for column in part]),
                )
                left = await leave_behind(connection, earlier, now=now)
                made = await _made_by(connection, earlier) if left else {}
                await keep_made(connection, _generations(rows[0].store_id, made), now=now)
                await connection.execute(delete(attachments).where(earlier))
                again = [{**column, "made": made.get(column["file_id"])} for column in part]
                await connection.execute(insert(attachments), again)
            await reclaim(connection, rows[0].store_id, [row.file_id for row in rows])

    async def amend(self, row: Attachment, *, expected: Attachment) -> bool:
        """Replace the attachment by this row; return False when it is not as it was since, and change
        nothing.

        A generation that the row no longer names is orphaned. One that it newly names must have been
        reserved, and is committed.
        """
        now = self._database.now()
        unchanged = and_(
            attachments.c.store_id == expected.store_id,
            attachments.c.file_id == expected.file_id,
            attachments.c.tenant == str(expected.stamp["tenant"]),
            attachments.c.status == expected.status,
            attachments.c.generation == expected.generation,
            attached_file_unexpired(now),
        )
        columns = attachment_columns(row)
        changes = {name: columns[name] for name in columns if name not in _WRITE_ONCE}
        async with self._database.writing(str(expected.stamp["tenant"])) as connection:
            if (
                await connection.scalar(select(attachments.c.file_id).where(unchanged).with_for_update())
                is None
            ):
                return False
            if row.generation != expected.generation:
                if row.generation and not await commit(
                    connection, OrphanedChunks(row.store_id, row.file_id, row.generation)
                ):
                    return False
                await leave_behind(connection, unchanged, now=now)
            await connection.execute(
                update(attachments).where(unchanged).values(changes | {"leased_until": 0})
            )
        return True

    async def in_progress_among(
        self, principal: Principal, store: StoreId, files: Sequence[FileId]
    ) -> frozenset[FileId]:
        """Return those of these files whose attachment to the store is in progress."""
        running = and_(
            named(attachments.c.store_id, store),
            attachments.c.status == "in_progress",
            *_within(principal, self._database.now()),
        )
        found: set[FileId] = set()
        async with self._database.reading(principal.tenant) as connection:
            for part in in_parts([file for file in files if is_identifier(file)]):
                rows = await connection.scalars(
                    select(attachments.c.file_id).where(running, attachments.c.file_id.in_(part))
                )
                found.update(FileId(file) for file in rows)
        return frozenset(found)

    async def get(self, principal: Principal, store: StoreId, file: FileId) -> Attachment | None:
        """Return the attachment, looked up by the pair and within the principal's tenant."""
        own = _own(principal, store, file, self._database.now())
        async with self._database.reading(principal.tenant) as connection:
            row = (await connection.execute(select(attachments).where(*own))).one_or_none()
        return None if row is None else attachment_row(row)

    async def stores_holding(self, principal: Principal, file: FileId) -> list[StoreId]:
        """Return the vector stores in which the principal's tenant has this file, whatever came of its
        ingestion.
        """
        held = select(attachments.c.store_id).where(
            named(attachments.c.file_id, file), within(attachments.c.tenant, principal.tenant)
        )
        async with self._database.reading(principal.tenant) as connection:
            return [
                StoreId(store) for store in await connection.scalars(held.order_by(attachments.c.store_id))
            ]

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
        """Return a page of the store's attachments of the principal's tenant that the plan permits; cursors
        are file ids.

        With a batch, only its own; a cursor must be one of these then.
        """
        floor = and_(named(attachments.c.store_id, store), *_within(principal, self._database.now()))
        if batch is not None:
            floor = and_(floor, named(attachments.c.batch_id, batch))
        listing = Listing(
            principal.tenant, attachments.c.file_id, attachments.c.ordinal, floor=floor, shape=_SHAPE
        )
        narrowing = None if status is None else named(attachments.c.status, status)
        return await page_of(
            self._database,
            listing,
            select(attachments),
            plan=plan,
            page=page,
            read=attachment_row,
            narrowing=narrowing,
        )

    async def delete(self, principal: Principal, store: StoreId, file: FileId) -> Attachment | None:
        """Delete the attachment and return it as it was. From the moment this returns, `live` has
        nothing of it; its chunks are orphaned.
        """
        own = _own(principal, store, file, self._database.now())
        async with self._database.writing(principal.tenant) as connection:
            row = (await connection.execute(select(attachments).where(*own).with_for_update())).one_or_none()
            if row is not None:
                await leave_behind(connection, and_(*own), now=self._database.now())
                await connection.execute(delete(attachments).where(*own))
        return None if row is None else attachment_row(row)

    async def totals(self, principal: Principal, stores: Sequence[StoreId]) -> Mapping[StoreId, Totals]:
        """Return, for each store, what the principal's tenant has in it; nothing is zeros, as for a
        store that does not exist.
        """
        known = [store for store in dict.fromkeys(stores) if is_identifier(store)]
        used = func.sum(case((attachments.c.status == "completed", attachments.c.usage_bytes), else_=0))
        statement = (
            select(
                attachments.c.store_id, attachments.c.status, func.count().label("files"), used.label("used")
            )
            .where(*_within(principal, self._database.now()))
            .group_by(attachments.c.store_id, attachments.c.status)
        )
        counted: dict[StoreId, dict[str, int]] = {store: {} for store in stores}
        async with self._database.reading(principal.tenant) as connection:
            for part in in_parts(known):
                for row in await connection.execute(statement.where(attachments.c.store_id.in_(part))):
                    counts = counted[row.store_id]
                    counts[row.status] = row.files
                    counts["usage_bytes"] = counts.get("usage_bytes", 0) + row.used
        return {store: Totals(**counts) for store, counts in counted.items()}

    async def live(self, principal: Principal, pairs: Sequence[Pair]) -> Mapping[Pair, LiveFile]:
        """Return the completed attachments among these pairs whose file and store are there for the
        principal's tenant.
        """
        known = [pair for pair in dict.fromkeys(pairs) if all(map(is_identifier, pair))]
        if not known:
            return {}
        now = self._database.now()
        statement = (
            select(attachments, files.c.filename)
            .join(files, (files.c.id == attachments.c.file_id) & (files.c.tenant == attachments.c.tenant))
            .join(vector_stores, vector_stores.c.id == attachments.c.store_id)
            .where(within(attachments.c.tenant, principal.tenant), unexpired_file(now))
            .where(
                attachments.c.status == "completed",
                visible_store(principal.tenant),
                unexpired_store(principal.tenant, now),
            )
        )
        found: dict[Pair, LiveFile] = {}
        async with self._database.reading(principal.tenant) as connection:
            for some in among((attachments.c.store_id, attachments.c.file_id), known):
                for row in await connection.execute(statement.where(some)):
                    found[row.store_id, row.file_id] = LiveFile(
                        row.filename, row.stamp, row.attributes, row.generation
                    )
        return found


def _within(principal: Principal, now: int) -> tuple[ColumnElement[bool], ...]:
    return (
        within(attachments.c.tenant, principal.tenant),
        attached_file_unexpired(now),
        attached_store_unexpired(now),
    )


def _own(principal: Principal, store: StoreId, file: FileId, now: int) -> tuple[ColumnElement[bool], ...]:
    return named(attachments.c.store_id, store), named(attachments.c.file_id, file), *_within(principal, now)


async def _require_parents(connection: AsyncConnection, rows: Sequence[Attachment], *, now: int) -> None:
    """Raise `NotFound` unless files and store are there, and keep all until the transaction ends.
    Attachments one file is done one at a time.
    """
    ((store, tenant),) = {(row.store_id, str(row.stamp["tenant"])) for row in rows}
    wanted = sorted(
        row.file_id for row in rows
    )  # in one order, so that two batches of the same files do not wait for each other in turn
    present: set[str] = set()
    for part in in_parts([file for file in wanted if is_identifier(file)]):
        named_files = (
            select(files.c.id)
            .where(files.c.id.in_(part), files.c.tenant == tenant, unexpired_file(now))
            .order_by(files.c.id)
        )
        present.update(await connection.scalars(named_files.with_for_update(key_share=True)))
    for row in rows:
        if row.file_id not in present:
            raise NotFound.of("file", row.file_id)
    kept = select(vector_stores.c.id).where(
        named(vector_stores.c.id, store), visible_store(tenant), unexpired_store(tenant, now)
    )
    if await connection.scalar(kept.with_for_update(read=True, key_share=True)) is None:
        raise NotFound.of("vector store", store)


async def _made_by(connection: AsyncConnection, earlier: ColumnElement[bool]) -> dict[object, dict[str, str]]:
    """Return the chunks that these attachments have made and that count, by file. Those of one that is not
    completed are another generation's than its own.
    """
    wanted = select(attachments.c.file_id, attachments.c.generation, attachments.c.made).where(earlier)
    found = await connection.execute(wanted)
    return {row.file_id: row.made for row in found if row.made and row.made["generation"] == row.generation}


def _generations(store: StoreId, made: Mapping[object, Mapping[str, str]]) -> list[OrphanedChunks]:
    return [OrphanedChunks(store, FileId(str(file)), one["generation"]) for file, one in made.items()]


def _batch_columns(batch: FileBatch) -> dict[str, object]:
    return {
        "id": batch.id,
        "store_id": batch.store_id,
        "tenant": batch.tenant,
        "owner": batch.owner,
        "created_at": batch.created_at,
    }
