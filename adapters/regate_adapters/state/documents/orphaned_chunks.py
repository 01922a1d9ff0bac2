"""Loose chunks in the state store: chunks in a vector engine that nothing counts any more, or not yet (ADR 0008).

INVARIANT: every edition that may have chunks in an engine is that of a completed attachment, or loose. So an edition is written down
here before its first chunk is stored, is taken off in the transaction in which an attachment adopts it, and comes back in the one in which
the attachment lets go of it. One that is due is doomed before it is removed: a doomed edition can never be adopted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.among import among
from regate_adapters.state.database import Database
from regate_adapters.state.listing import in_parts
from regate_adapters.state.tables import attachments, loose_editions
from regate_orchestrator.rows import LooseChunks
from regate_orchestrator.values import FileId, StoreId

_TRIED_AGAIN_AFTER_S: Final = 60
_MARGIN_S: Final = 180
"""How long a write to an engine may go on after its claim has lapsed; no engine's own deadline is longer."""


_KEY: Final = (loose_editions.c.store_id, loose_editions.c.file_id, loose_editions.c.edition)


class LooseChunkState:
    """The part of the state store that knows of loose chunks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, chunks: LooseChunks, *, for_s: int) -> None:
        """Write down what is about to be stored, to be removed after that time unless an attachment, or a store, adopts it."""
        async with self._database.writing() as connection:
            await reserve(connection, chunks, due_at=self._database.now() + for_s)

    async def take_loose_chunks(self, *, limit: int) -> list[LooseChunks]:
        """Doom what is due and return it, the longest due first. What is not forgotten then is taken again, a while later."""
        now = self._database.now()
        due = select(loose_editions).where(loose_editions.c.due_at <= now).order_by(loose_editions.c.due_at).limit(limit)
        async with self._database.writing() as connection:
            taken = [
                LooseChunks(row.store_id, row.file_id, row.edition)
                for row in await connection.execute(due.with_for_update(skip_locked=True))
            ]
            doomed = {"doomed": True, "due_at": now + _TRIED_AGAIN_AFTER_S}
            for some in among(_KEY, [(one.store_id, one.file_id, one.edition) for one in taken]):
                await connection.execute(update(loose_editions).where(some).values(doomed))
        return taken

    async def forget_loose_chunks(self, chunks: LooseChunks) -> None:
        """Forget them, since they are gone from the engine; a store's whole place is gone with everything of it."""
        gone = is_loose(chunks) if chunks.file_id else loose_editions.c.store_id == chunks.store_id
        async with self._database.writing() as connection:
            await connection.execute(delete(loose_editions).where(gone))

    async def loose_chunks_due(self) -> int:
        """Return how many loose editions, and places of stores, wait to be removed."""
        now = self._database.now()
        soon = loose_editions.c.due_at <= now + _TRIED_AGAIN_AFTER_S  # which what is doomed always is
        due = select(func.count()).select_from(loose_editions).where(soon, or_(loose_editions.c.due_at <= now, loose_editions.c.doomed))
        async with self._database.reading() as connection:
            return int(await connection.scalar(due) or 0)

    async def unknown_editions(self, store: StoreId, editions: Iterable[str]) -> list[str]:
        """Return those of the editions that neither a completed attachment of the store names nor are loose, in their order."""
        looked_for = sorted(editions)
        counting = select(attachments.c.edition).where(attachments.c.store_id == store, attachments.c.status == "completed")
        left = select(loose_editions.c.edition).where(loose_editions.c.store_id == store)
        known: set[str] = set()
        async with self._database.reading() as connection:
            for part in in_parts(looked_for):
                known.update(await connection.scalars(counting.where(attachments.c.edition.in_(part))))
                known.update(await connection.scalars(left.where(loose_editions.c.edition.in_(part))))
        return [edition for edition in looked_for if edition not in known]


def is_loose(chunks: LooseChunks) -> ColumnElement[bool]:
    """Return the condition that names these loose chunks."""
    store, file, edition = _KEY
    return and_(store == chunks.store_id, file == chunks.file_id, edition == chunks.edition)


async def reserve(connection: AsyncConnection, chunks: LooseChunks, *, due_at: int) -> None:
    """Write down that chunks are loose from then on; their edition must be a new one."""
    await connection.execute(insert(loose_editions).values(_columns(chunks, due_at)))


async def postpone(connection: AsyncConnection, chunks: LooseChunks, *, due_at: int) -> bool:
    """Set when loose chunks are due, with a margin for what is under way; return False when they are doomed or gone, and change nothing."""
    still = and_(is_loose(chunks), loose_editions.c.doomed.is_(False))
    return (await connection.execute(update(loose_editions).where(still).values(due_at=due_at + _MARGIN_S))).rowcount > 0


async def hasten(connection: AsyncConnection, chunks: LooseChunks, *, now: int) -> None:
    """Let loose chunks be due now, since nobody writes them any more."""
    await connection.execute(update(loose_editions).where(is_loose(chunks)).values(due_at=now))


async def adopt(connection: AsyncConnection, chunks: LooseChunks) -> bool:
    """Take the edition off the loose ones, since an attachment counts it in this transaction; return False when it is doomed or gone."""
    still = and_(is_loose(chunks), loose_editions.c.doomed.is_(False))
    return (await connection.execute(delete(loose_editions).where(still))).rowcount > 0


async def leave_behind(connection: AsyncConnection, let_go: ColumnElement[bool], *, now: int) -> list[LooseChunks]:
    """Lock these attachments, and write down what they leave in the engine when they go, as they must in this transaction."""
    found = await connection.execute(
        select(attachments.c.store_id, attachments.c.file_id, attachments.c.edition)
        .where(let_go, attachments.c.edition != "")
        .order_by(attachments.c.store_id, attachments.c.file_id)
        .with_for_update()
    )
    left = [LooseChunks(row.store_id, row.file_id, row.edition) for row in found]
    known: set[LooseChunks] = set()
    for some in among(_KEY[:2], [(one.store_id, one.file_id) for one in left]):
        rows = await connection.execute(select(loose_editions).where(some))
        known.update(LooseChunks(row.store_id, row.file_id, row.edition) for row in rows)
    # What is known already is being written now, and due when its claim has lapsed.
    fresh = [_columns(one, now) for one in left if one not in known]
    if fresh:
        await connection.execute(insert(loose_editions), fresh)
    return left


async def reclaim(connection: AsyncConnection, store: StoreId, files: Sequence[str]) -> None:
    """Forget that all chunks of these files are loose, as an earlier version wrote it down: they are attached again, under new editions."""
    whole = and_(loose_editions.c.store_id == store, loose_editions.c.edition == "")
    for part in in_parts(files):
        await connection.execute(delete(loose_editions).where(whole, loose_editions.c.file_id.in_(part)))


def place_of(store: StoreId) -> LooseChunks:
    """Return the store's whole place in its engine."""
    return LooseChunks(store, FileId(""), "")


def _columns(chunks: LooseChunks, due_at: int) -> dict[str, object]:
    return {
        "store_id": chunks.store_id,
        "file_id": chunks.file_id,
        "edition": chunks.edition,
        "due_at": due_at,
        "doomed": False,
    }
