"""Files in the state store, and what is known of bytes that have no file. The bytes are elsewhere
(`regate_adapters.files`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    func,
    insert,
    literal,
    not_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.documents.orphaned_chunks import leave_behind
from regate_adapters.state.encoding import file_columns, file_row, is_identifier
from regate_adapters.state.filters.row_filter import RowShape
from regate_adapters.state.listing import Listing, in_parts, page_of
from regate_adapters.state.ordinals import next_ordinal
from regate_adapters.state.tables import attachments, files, orphaned_blobs, upload_parts, uploads
from regate_adapters.state.visibility import named, unexpired_file, within
from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import ExpiredFile, FileRow, FileUsage, Page, Rows
from regate_orchestrator.values import FileId, StoreId

_SHAPE = RowShape(
    texts={
        "id": files.c.id,
        "filename": files.c.filename,
        "purpose": files.c.purpose,
        "tenant": files.c.tenant,
        "owner": files.c.owner,
    },
    numbers={},
    document=files.c.stamp,
)
"""A file as `regate.file` sees it: its id, filename and purpose, and its stamp."""


class FileState:
    """The part of the state store that keeps files."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def usage(self, principal: Principal) -> FileUsage:
        """Return what the principal has: own files that have not expired, and own uploads under way,
        of which one in parts is one file.
        """
        owned = select(func.count(), func.coalesce(func.sum(files.c.bytes), 0)).where(
            within(files.c.tenant, principal.tenant),
            within(files.c.owner, principal.id),
            unexpired_file(self._database.now()),
        )
        # Not as EXISTS, which PostgreSQL may answer by reading the parts of all tenants first.
        part = (
            select(upload_parts.c.id)
            .where(upload_parts.c.blob_id == orphaned_blobs.c.file_id)
            .limit(1)
            .scalar_subquery()
        )
        claimed = select(
            func.count().filter(part.is_(None)), func.coalesce(func.sum(orphaned_blobs.c.bytes), 0)
        ).where(
            within(orphaned_blobs.c.tenant, principal.tenant), within(orphaned_blobs.c.owner, principal.id)
        )
        pending = select(func.count(), literal(0)).where(
            within(uploads.c.tenant, principal.tenant),
            within(uploads.c.owner, principal.id),
            uploads.c.status == "pending",
            uploads.c.expires_at > self._database.now(),
        )
        async with self._database.reading(principal.tenant) as connection:
            found = [(await connection.execute(each)).one() for each in (owned, claimed, pending)]
        return FileUsage(sum(count for count, _ in found), int(sum(size for _, size in found)))

    async def add(self, row: FileRow) -> None:
        """Store a new file row, whose bytes are orphaned no more; raises `InvalidRequest` for a
        filename that no database can hold.
        """
        async with self._database.writing(str(file_columns(row)["tenant"])) as connection:
            await insert_file(self._database, connection, row)

    async def get(self, principal: Principal, file: FileId) -> FileRow | None:
        """Return the file's row."""
        async with self._database.reading(principal.tenant) as connection:
            found = await connection.execute(
                select(files).where(*_own(principal, file, self._database.now()))
            )
            row = found.one_or_none()
        return None if row is None else file_row(row)

    async def named(self, principal: Principal, names: Sequence[FileId]) -> Mapping[FileId, FileRow]:
        """Return the rows of these files, of those that are there."""
        known = [name for name in dict.fromkeys(names) if is_identifier(name)]
        own = (within(files.c.tenant, principal.tenant), unexpired_file(self._database.now()))
        found: dict[FileId, FileRow] = {}
        async with self._database.reading(principal.tenant) as connection:
            for part in in_parts(known):
                rows = await connection.execute(select(files).where(files.c.id.in_(part), *own))
                found.update({row.id: file_row(row) for row in rows})
        return found

    async def page(
        self, principal: Principal, plan: FilterPlan, page: Page, *, purpose: str | None
    ) -> Rows[FileRow]:
        """Return a page of the file rows that the plan permits."""
        floor = and_(within(files.c.tenant, principal.tenant), unexpired_file(self._database.now()))
        listing = Listing(principal.tenant, files.c.id, files.c.ordinal, floor=floor, shape=_SHAPE)
        narrowing = None if purpose is None else named(files.c.purpose, purpose)
        return await page_of(
            self._database, listing, select(files), plan=plan, page=page, read=file_row, narrowing=narrowing
        )

    async def delete(self, principal: Principal, file: FileId) -> list[StoreId] | None:
        """Delete the file's row and, by its foreign keys, all its attachments; return the stores it was
        attached to.

        Its bytes and chunks are orphaned.
        """
        now = self._database.now()
        own = _own(principal, file, now)
        async with self._database.writing(principal.tenant) as connection:
            # Locked first: an attachment that is being made is then either seen below, or finds its file
            # gone.
            if await connection.scalar(select(files.c.id).where(*own).with_for_update()) is None:
                return None
            await leave_behind(connection, attachments.c.file_id == file, now=now)
            attached = (
                select(attachments.c.store_id)
                .where(attachments.c.file_id == file)
                .order_by(attachments.c.store_id)
            )
            stores = [StoreId(store) for store in await connection.scalars(attached)]
            await connection.execute(delete(files).where(*own))
            left = {"file_id": file, "tenant": principal.tenant, "bytes": 0, "due_at": now}
            await connection.execute(insert(orphaned_blobs).values(left))
        return stores

    async def expired(self, *, after: ExpiredFile | None, limit: int) -> list[ExpiredFile]:
        """Return files that have expired, of all tenants, the longest expired first."""
        order = (files.c.expires_at, files.c.id)
        expired = select(files.c.tenant, *order).where(files.c.expires_at <= self._database.now())
        if after is not None:
            expired = expired.where(tuple_(*order) > (after.expired_at, after.id))
        async with self._database.maintenance.reading() as connection:
            found = (await connection.execute(expired.order_by(*order).limit(limit))).all()
            attached = await connection.execute(
                select(attachments.c.file_id, attachments.c.store_id)
                .where(attachments.c.file_id.in_([row.id for row in found]))
                .order_by(attachments.c.store_id)
            )
            stores: dict[str, list[StoreId]] = {}
            for row in attached:
                stores.setdefault(row.file_id, []).append(StoreId(row.store_id))
        return [
            ExpiredFile(FileId(row.id), row.tenant, row.expires_at, tuple(stores.get(row.id, ())))
            for row in found
        ]

    async def drop_expired(self, file: FileId) -> None:
        """Delete the row of a file that has expired, whoever's it was, and by its foreign keys all its
        attachments.
        """
        expired = (named(files.c.id, file), not_(unexpired_file(self._database.now())))
        async with self._database.maintenance.writing() as connection:
            if await connection.scalar(select(files.c.id).where(*expired).with_for_update()) is not None:
                await leave_behind(connection, attachments.c.file_id == file, now=self._database.now())
                await connection.execute(delete(files).where(*expired))


async def insert_file(database: Database, connection: AsyncConnection, row: FileRow) -> None:
    """Store a new file row in the connection's transaction; its bytes are orphaned no more."""
    columns = file_columns(row)
    ordinal = await next_ordinal(database, connection, files)
    await connection.execute(insert(files).values(**columns, ordinal=ordinal))
    await connection.execute(delete(orphaned_blobs).where(orphaned_blobs.c.file_id == row.id))


def _own(principal: Principal, file: FileId, now: int) -> tuple[ColumnElement[bool], ...]:
    return named(files.c.id, file), within(files.c.tenant, principal.tenant), unexpired_file(now)
