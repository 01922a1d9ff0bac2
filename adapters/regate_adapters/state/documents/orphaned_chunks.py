"""Orphaned chunks in the state store: chunks in a vector engine that nothing counts any more, or not yet (ADR
0008).

INVARIANT: every generation that may have chunks in an engine is that of a completed attachment, or orphaned.
So a generation is written down here before its first chunk is stored, is taken off in the transaction in
which an attachment commits it, and comes back in the one in which the attachment lets go of it. One that is
due is tombstoned before it is removed: a tombstoned generation can never be committed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.among import among
from regate_adapters.state.database import Database
from regate_adapters.state.listing import in_parts
from regate_adapters.state.tables import attachments, orphaned_generations
from regate_orchestrator.rows import OrphanedChunks
from regate_orchestrator.values import FileId, StoreId

_TRIED_AGAIN_AFTER_SECONDS: Final = 60
_KEPT_SECONDS: Final = 3_600
"""How long chunks wait for the worker that may store them once more. After that the file is read again."""
_MARGIN_SECONDS: Final = 180
"""How long a write to an engine may go on after its lease has expired; no engine's own deadline is longer."""


_KEY: Final = (
    orphaned_generations.c.store_id,
    orphaned_generations.c.file_id,
    orphaned_generations.c.generation,
)


class OrphanedChunkState:
    """The part of the state store that knows of orphaned chunks."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, chunks: OrphanedChunks, *, ttl_s: int) -> None:
        """Write down what is about to be stored, to be removed after that time unless an attachment,
        or a store, commits it.
        """
        async with self._database.maintenance.writing() as connection:
            await reserve(connection, chunks, due_at=self._database.now() + ttl_s)

    async def take(self, *, limit: int) -> list[OrphanedChunks]:
        """Tombstone what is due and return it, the longest due first. What is not forgotten then is taken
        again, a while later.
        """
        now = self._database.now()
        due = (
            select(orphaned_generations)
            .where(orphaned_generations.c.due_at <= now)
            .order_by(orphaned_generations.c.due_at)
            .limit(limit)
        )
        async with self._database.maintenance.writing() as connection:
            taken = [
                OrphanedChunks(row.store_id, row.file_id, row.generation)
                for row in await connection.execute(due.with_for_update(skip_locked=True))
            ]
            tombstoned = {"tombstoned": True, "due_at": now + _TRIED_AGAIN_AFTER_SECONDS}
            for some in among(_KEY, [(one.store_id, one.file_id, one.generation) for one in taken]):
                await connection.execute(update(orphaned_generations).where(some).values(tombstoned))
        return taken

    async def forget(self, chunks: OrphanedChunks) -> None:
        """Forget them, since they are gone from the engine; a store's whole place is gone with
        everything of it.
        """
        gone = is_orphaned(chunks) if chunks.file_id else orphaned_generations.c.store_id == chunks.store_id
        async with self._database.maintenance.writing() as connection:
            await connection.execute(delete(orphaned_generations).where(gone))

    async def waiting(self) -> int:
        """Return how many orphaned generations, and places of stores, wait to be removed."""
        now = self._database.now()
        soon = (
            orphaned_generations.c.due_at <= now + _TRIED_AGAIN_AFTER_SECONDS
        )  # which what is tombstoned always is
        due = (
            select(func.count())
            .select_from(orphaned_generations)
            .where(soon, or_(orphaned_generations.c.due_at <= now, orphaned_generations.c.tombstoned))
        )
        async with self._database.maintenance.reading() as connection:
            return int(await connection.scalar(due) or 0)

    async def unknown_generations(self, store: StoreId, generations: Iterable[str]) -> list[str]:
        """Return those of the generations that neither a completed attachment of the store names nor
        are orphaned, in their order.
        """
        looked_for = sorted(generations)
        counting = select(attachments.c.generation).where(
            attachments.c.store_id == store, attachments.c.status == "completed"
        )
        left = select(orphaned_generations.c.generation).where(orphaned_generations.c.store_id == store)
        known: set[str] = set()
        async with self._database.maintenance.reading() as connection:
            for part in in_parts(looked_for):
                known.update(await connection.scalars(counting.where(attachments.c.generation.in_(part))))
                known.update(
                    await connection.scalars(left.where(orphaned_generations.c.generation.in_(part)))
                )
        return [generation for generation in looked_for if generation not in known]


def is_orphaned(chunks: OrphanedChunks) -> ColumnElement[bool]:
    """Return the condition that names these orphaned chunks."""
    store, file, generation = _KEY
    return and_(store == chunks.store_id, file == chunks.file_id, generation == chunks.generation)


async def reserve(connection: AsyncConnection, chunks: OrphanedChunks, *, due_at: int) -> None:
    """Write down that chunks are orphaned from then on; their generation must be a new one."""
    await connection.execute(insert(orphaned_generations).values(_columns(chunks, due_at)))


async def reschedule(connection: AsyncConnection, chunks: OrphanedChunks, *, due_at: int) -> bool:
    """Set when orphaned chunks are due, with a margin for what is under way; return False when they
    are tombstoned or gone, and change nothing.
    """
    still = and_(is_orphaned(chunks), orphaned_generations.c.tombstoned.is_(False))
    return (
        await connection.execute(
            update(orphaned_generations).where(still).values(due_at=due_at + _MARGIN_SECONDS)
        )
    ).rowcount > 0


async def expire_now(connection: AsyncConnection, chunks: OrphanedChunks, *, now: int) -> None:
    """Let orphaned chunks be due now, since nobody writes them any more."""
    await connection.execute(update(orphaned_generations).where(is_orphaned(chunks)).values(due_at=now))


async def commit(connection: AsyncConnection, chunks: OrphanedChunks) -> bool:
    """Take the generation off the orphaned ones, since an attachment counts it in this transaction;
    return False when it is tombstoned or gone.
    """
    still = and_(is_orphaned(chunks), orphaned_generations.c.tombstoned.is_(False))
    return (await connection.execute(delete(orphaned_generations).where(still))).rowcount > 0


async def leave_behind(
    connection: AsyncConnection, let_go: ColumnElement[bool], *, now: int
) -> list[OrphanedChunks]:
    """Lock these attachments, and write down what they leave in the engine when they go, as they must
    in this transaction. What was kept for them is due now.
    """
    asked = (
        select(attachments.c.store_id, attachments.c.file_id, attachments.c.generation, attachments.c.made)
        .where(let_go)
        .order_by(attachments.c.store_id, attachments.c.file_id)
        .with_for_update()
    )
    found = (await connection.execute(asked)).all()
    left = [OrphanedChunks(row.store_id, row.file_id, row.generation) for row in found if row.generation]
    made = [OrphanedChunks(row.store_id, row.file_id, row.made["generation"]) for row in found if row.made]
    await _set_due(connection, made, due_at=now)
    known: set[OrphanedChunks] = set()
    for some in among(_KEY[:2], [(one.store_id, one.file_id) for one in left]):
        rows = await connection.execute(select(orphaned_generations).where(some))
        known.update(OrphanedChunks(row.store_id, row.file_id, row.generation) for row in rows)
    # What is known already is being written now, and due when its lease has expired.
    fresh = [_columns(one, now) for one in left if one not in known]
    if fresh:
        await connection.execute(insert(orphaned_generations), fresh)
    return left


async def keep_made(connection: AsyncConnection, left: Sequence[OrphanedChunks], *, now: int) -> None:
    """Keep these chunks, which were just left behind, for the attachments that name them as made."""
    await _set_due(connection, left, due_at=now + _KEPT_SECONDS)


async def _set_due(connection: AsyncConnection, chunks: Sequence[OrphanedChunks], *, due_at: int) -> None:
    for some in among(_KEY, [(one.store_id, one.file_id, one.generation) for one in chunks]):
        await connection.execute(update(orphaned_generations).where(some).values(due_at=due_at))


async def reclaim(connection: AsyncConnection, store: StoreId, files: Sequence[str]) -> None:
    """Forget that all chunks of these files are orphaned, as an earlier version wrote it down: they
    are attached again, under new generations.
    """
    whole = and_(orphaned_generations.c.store_id == store, orphaned_generations.c.generation == "")
    for part in in_parts(files):
        await connection.execute(
            delete(orphaned_generations).where(whole, orphaned_generations.c.file_id.in_(part))
        )


def place_of(store: StoreId) -> OrphanedChunks:
    """Return the store's whole place in its engine."""
    return OrphanedChunks(store, FileId(""), "")


def _columns(chunks: OrphanedChunks, due_at: int) -> dict[str, object]:
    return {
        "store_id": chunks.store_id,
        "file_id": chunks.file_id,
        "generation": chunks.generation,
        "due_at": due_at,
        "tombstoned": False,
    }
