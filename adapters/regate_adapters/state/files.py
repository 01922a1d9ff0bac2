"""Files in the state store. Their bytes are elsewhere (`regate_adapters.files`)."""

from __future__ import annotations

from sqlalchemy import delete, insert, select

from regate_adapters.state.database import Database
from regate_adapters.state.encoding import file_columns, file_row
from regate_adapters.state.listing import Listing, page_of
from regate_adapters.state.row_filter import RowShape
from regate_adapters.state.tables import attachments, files
from regate_adapters.state.visibility import named, within
from regate_orchestrator.filters import FilterPlan
from regate_orchestrator.ports import Rows
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import FileRow, Page
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

    async def add_file(self, row: FileRow) -> None:
        """Store a new file row; raises `InvalidRequest` for a filename that no database can hold."""
        columns = file_columns(row)
        async with self._database.writing() as connection:
            await connection.execute(insert(files).values(columns))

    async def file(self, principal: Principal, file: FileId) -> FileRow | None:
        """Return the file's row."""
        async with self._database.reading() as connection:
            found = await connection.execute(select(files).where(named(files.c.id, file), within(files.c.tenant, principal.tenant)))
            row = found.one_or_none()
        return None if row is None else file_row(row)

    async def files(self, principal: Principal, plan: FilterPlan, page: Page, *, purpose: str | None) -> Rows[FileRow]:
        """Return a page of the file rows that the plan permits."""
        listing = Listing(files.c.id, files.c.created_at, floor=within(files.c.tenant, principal.tenant), shape=_SHAPE)
        statement = select(files)
        if purpose is not None:
            statement = statement.where(named(files.c.purpose, purpose))
        return await page_of(self._database, listing, statement, plan=plan, page=page, read=file_row)

    async def delete_file(self, principal: Principal, file: FileId) -> list[StoreId] | None:
        """Delete the file's row and, by its foreign keys, all its attachments; return the stores it was attached to."""
        own = (named(files.c.id, file), within(files.c.tenant, principal.tenant))
        async with self._database.writing() as connection:
            # Locked first: an attachment that is being made is then either seen below, or finds its file gone.
            await connection.execute(select(files.c.id).where(*own).with_for_update())
            attached = await connection.scalars(
                select(attachments.c.store_id).join(files, attachments.c.file_id == files.c.id).where(*own).order_by(attachments.c.store_id)
            )
            stores = [StoreId(store) for store in attached]
            deleted = await connection.execute(delete(files).where(*own))
        return stores if deleted.rowcount else None
