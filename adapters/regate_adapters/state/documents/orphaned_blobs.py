"""Bytes that have no file, in the state store: of uploads under way, and of files that are gone. The bytes
are elsewhere (`regate_adapters.files`).
"""

from __future__ import annotations

from sqlalchemy import delete, insert, select, tuple_, update

from regate_adapters.state.database import Database
from regate_adapters.state.tables import orphaned_blobs
from regate_adapters.state.visibility import named, within
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import DueBlob
from regate_orchestrator.values import FileId


class OrphanedBlobState:
    """The part of the state store that knows of bytes without a file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # The column's name
    async def reserve(self, principal: Principal, file: FileId, *, bytes: int, due_at: int) -> None:  # noqa: A002
        """Write down that bytes may come to be stored under this id, which are orphaned from `due_at`
        on unless a file is added.
        """
        claim = {
            "file_id": file,
            "tenant": principal.tenant,
            "owner": principal.id,
            "bytes": bytes,
            "due_at": due_at,
        }
        async with self._database.writing(principal.tenant) as connection:
            await connection.execute(insert(orphaned_blobs).values(claim))

    async def resize(self, principal: Principal, file: FileId, *, bytes: int) -> None:  # noqa: A002
        """Write down how many bytes of an upload were stored."""
        own = (named(orphaned_blobs.c.file_id, file), within(orphaned_blobs.c.tenant, principal.tenant))
        async with self._database.writing(principal.tenant) as connection:
            await connection.execute(update(orphaned_blobs).where(*own).values(bytes=bytes))

    async def forget(self, file: FileId) -> None:
        """Forget bytes that have no file, since they are gone."""
        async with self._database.maintenance.writing() as connection:
            await connection.execute(delete(orphaned_blobs).where(named(orphaned_blobs.c.file_id, file)))

    async def due(self, *, after: DueBlob | None, limit: int) -> list[DueBlob]:
        """Return bytes without a file that are due to be removed, of all tenants, the longest due first."""
        order = (orphaned_blobs.c.due_at, orphaned_blobs.c.file_id)
        due = select(*order).where(orphaned_blobs.c.due_at <= self._database.now())
        if after is not None:
            due = due.where(tuple_(*order) > (after.due_at, after.file_id))
        async with self._database.maintenance.reading() as connection:
            return [
                DueBlob(FileId(row.file_id), row.due_at)
                for row in await connection.execute(due.order_by(*order).limit(limit))
            ]
