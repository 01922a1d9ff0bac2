"""Chunks in the vector engines that belong to nothing any more: written down in the transaction that deletes what they belonged to.

So whoever dies between the deletion and the removal leaves a note behind. The counterpart is `regate_orchestrator.chunk_sweeping`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy import and_, delete, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.tables import loose_chunks
from regate_adapters.state.visibility import named
from regate_orchestrator.rows import LooseChunks
from regate_orchestrator.values import FileId, StoreId

_STILL_WRITTEN_S: Final = 3_600
"""An ingestion that goes on may add chunks until it notices the deletion, which it does at its end; no ingestion takes so long."""
_WHOLE_STORE: Final = ""


async def loosen(connection: AsyncConnection, store: StoreId, in_progress: Mapping[FileId | None, bool], *, now: int) -> None:
    """Write down that chunks of these files, or of the whole store (None), belong to nothing; of each whether an ingestion may be adding some."""
    for file, is_written in in_progress.items():
        pair = {"store_id": store, "file_id": file or _WHOLE_STORE}
        await connection.execute(delete(loose_chunks).where(loose_chunks.c.store_id == store, loose_chunks.c.file_id == pair["file_id"]))
        await connection.execute(insert(loose_chunks).values(**pair, due_at=now + _STILL_WRITTEN_S * is_written))


async def reclaim(connection: AsyncConnection, store: StoreId, file: FileId) -> None:
    """Forget what was loose of a pair that is attached again: its ingestion removes it first."""
    await connection.execute(delete(loose_chunks).where(loose_chunks.c.store_id == store, loose_chunks.c.file_id == file))


class LooseChunkState:
    """The part of the state store that knows of loose chunks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def next_loose_chunks(self, *, after: LooseChunks | None) -> LooseChunks | None:
        """Return the loose chunks that are due and come next, of whatever tenant, in the order of stores and files."""
        due = select(loose_chunks).where(loose_chunks.c.due_at <= self._database.now())
        if after is not None:
            last = after.file or _WHOLE_STORE
            same = and_(loose_chunks.c.store_id == after.store, loose_chunks.c.file_id > last)
            due = due.where(or_(loose_chunks.c.store_id > after.store, same))
        async with self._database.reading() as connection:
            row = (await connection.execute(due.order_by(loose_chunks.c.store_id, loose_chunks.c.file_id).limit(1))).one_or_none()
        return None if row is None else LooseChunks(StoreId(row.store_id), FileId(row.file_id) if row.file_id else None)

    async def forget_loose_chunks(self, chunks: LooseChunks) -> None:
        """Forget loose chunks, since they are gone. Those to which an ingestion may still add are remembered until they are due."""
        pair = (named(loose_chunks.c.store_id, chunks.store), loose_chunks.c.file_id == (chunks.file or _WHOLE_STORE))
        async with self._database.writing() as connection:
            await connection.execute(delete(loose_chunks).where(*pair, loose_chunks.c.due_at <= self._database.now()))
