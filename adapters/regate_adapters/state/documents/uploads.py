"""Uploads that come in parts, in the state store. Each is its maker's alone; what its parts hold is
orphaned until a file has it (`files.py`).
"""

from __future__ import annotations

from sqlalchemy import ColumnElement, delete, func, insert, null, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.documents.files import insert_file
from regate_adapters.state.encoding import upload_columns, upload_row
from regate_adapters.state.tables import orphaned_blobs, upload_parts, uploads
from regate_adapters.state.visibility import named, within
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import FileRow, UploadPart, UploadRow
from regate_orchestrator.values import FileId, PartId, UploadId


class UploadState:
    """The part of the state store that keeps uploads."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: UploadRow) -> None:
        """Store a new upload; raises `InvalidRequest` for a filename that no database can hold."""
        async with self._database.writing(row.tenant) as connection:
            await connection.execute(insert(uploads).values(**upload_columns(row)))

    async def get(self, principal: Principal, upload: UploadId) -> UploadRow | None:
        """Return the upload."""
        async with self._database.reading(principal.tenant) as connection:
            found = (await connection.execute(select(uploads).where(*_own(principal, upload)))).one_or_none()
        return None if found is None else upload_row(found)

    async def parts(self, principal: Principal, upload: UploadId) -> list[UploadPart]:
        """Return all parts of the upload."""
        parts = (
            select(upload_parts)
            .join(uploads, uploads.c.id == upload_parts.c.upload_id)
            .where(*_own(principal, upload))
        )
        async with self._database.reading(principal.tenant) as connection:
            found = await connection.execute(parts)
            return [
                UploadPart(PartId(row.id), upload, FileId(row.blob_id), row.bytes, row.created_at)
                for row in found
            ]

    async def add_part(self, principal: Principal, part: UploadPart, *, most: int, due_at: int) -> bool:
        """Store a part, whose bytes are orphaned from `due_at` on; return False when the upload is not
        pending, or has so many parts already.
        """
        values = {
            "id": part.id,
            "upload_id": part.upload,
            "blob_id": part.blob,
            "bytes": part.bytes,
            "created_at": part.created_at,
        }
        async with self._database.writing(principal.tenant) as connection:
            if not await self._is_pending(connection, principal, part.upload):
                return False
            present = (
                select(func.count()).select_from(upload_parts).where(upload_parts.c.upload_id == part.upload)
            )
            if (await connection.scalar(present) or 0) >= most:
                return False
            await connection.execute(insert(upload_parts).values(values))
            await connection.execute(
                update(orphaned_blobs).where(orphaned_blobs.c.file_id == part.blob).values(due_at=due_at)
            )
        return True

    async def complete(self, principal: Principal, upload: UploadId, row: FileRow) -> bool:
        """Store the file and that the upload is complete, its parts orphaned at once; return False, with
        nothing done, when it is not pending.
        """
        async with self._database.writing(principal.tenant) as connection:
            if not await self._is_pending(connection, principal, upload):
                return False
            await self._end(connection, upload, "completed")
            await insert_file(self._database, connection, row)
        return True

    async def cancel(self, principal: Principal, upload: UploadId) -> bool:
        """Store that the upload is cancelled, its parts orphaned at once; return False when it is not
        pending.
        """
        async with self._database.writing(principal.tenant) as connection:
            if not await self._is_pending(connection, principal, upload):
                return False
            await self._end(connection, upload, "cancelled")
        return True

    async def forget(self, *, expired_before: int) -> int:
        """Forget uploads that expired before this time, whatever became of them; return how many.
        Their parts' bytes were orphaned long before.
        """
        async with self._database.maintenance.writing() as connection:
            return (
                await connection.execute(delete(uploads).where(uploads.c.expires_at < expired_before))
            ).rowcount

    async def _is_pending(self, connection: AsyncConnection, principal: Principal, upload: UploadId) -> bool:
        """Return whether the upload is pending, and lock it: of two that would end it one comes first."""
        own = select(uploads.c.status).where(*_own(principal, upload)).with_for_update()
        return await connection.scalar(own) == "pending"

    async def _end(self, connection: AsyncConnection, upload: UploadId, status: str) -> None:
        """Store what became of the upload. Its parts' bytes are nobody's from now on, and count for
        nobody.
        """
        await connection.execute(update(uploads).where(uploads.c.id == upload).values(status=status))
        blobs = select(upload_parts.c.blob_id).where(upload_parts.c.upload_id == upload)
        nobodys = {"owner": null(), "bytes": 0, "due_at": self._database.now()}
        await connection.execute(
            update(orphaned_blobs).where(orphaned_blobs.c.file_id.in_(blobs)).values(nobodys)
        )


def _own(principal: Principal, upload: UploadId) -> tuple[ColumnElement[bool], ...]:
    return (
        named(uploads.c.id, upload),
        within(uploads.c.tenant, principal.tenant),
        within(uploads.c.owner, principal.id),
    )
