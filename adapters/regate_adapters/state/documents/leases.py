"""Leases in the state store: which attachment a worker is making chunks of, and what came of it. For
ingestion alone, of all tenants.

A lease expires by itself, so what a dead worker held is taken up by another. Every lease writes a generation
of its own (ADR 0008): two workers that both believe in theirs cannot mix their chunks, and only the one that
the attachment names can finish it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from typing import Final

from sqlalchemy import ColumnElement, and_, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.documents.orphaned_chunks import commit, expire_now, reschedule, reserve
from regate_adapters.state.encoding import AnyRow, attachment_row
from regate_adapters.state.tables import attachments
from regate_adapters.state.visibility import attached_file_unexpired
from regate_orchestrator.documents.generations import mint_generation
from regate_orchestrator.rows import Attachment, MadeChunks, OrphanedChunks

_IN_PROGRESS: Final = attachments.c.status == "in_progress"


class LeaseState:
    """The part of the state store that hands attachments out to workers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, *, ttl_s: int, after: str, passing_over: Collection[str] = ()) -> Attachment | None:
        """Return the next attachment in progress that nobody holds, under a new generation; tenants take
        turns, beginning beyond `after`.

        Those of tenants that are to be passed over stay where they are.
        """
        now = self._database.now()
        free = and_(_IN_PROGRESS, attachments.c.leased_until <= now, attached_file_unexpired(now))
        if passing_over:
            free = and_(free, attachments.c.tenant.not_in(sorted(passing_over)))
        async with (
            self._database.maintenance.reading() as connection
        ):  # looking for work must not keep others from writing
            if not await connection.scalar(select(exists().where(free))):
                return None
        async with self._database.maintenance.writing() as connection:
            row = await _first(connection, free & (attachments.c.tenant > after)) or await _first(
                connection, free
            )
            if row is None:
                return None
            generation = mint_generation(row.tenant, row.file_id)
            leased = {"generation": generation, "attempts": row.attempts + 1, "leased_until": now + ttl_s}
            chunks = OrphanedChunks(row.store_id, row.file_id, generation)
            await reserve(connection, chunks, due_at=now)
            await reschedule(connection, chunks, due_at=now + ttl_s)
            await connection.execute(
                update(attachments).where(_pair(row.store_id, row.file_id)).values(leased)
            )
            taken = await connection.execute(select(attachments).where(_pair(row.store_id, row.file_id)))
            return attachment_row(taken.one())

    async def renew(self, leased: Attachment, *, ttl_s: int) -> bool:
        """Hold the attachment for longer; return False when it is another's, gone, or no longer in
        progress.
        """
        until = self._database.now() + ttl_s
        async with self._database.writing(str(leased.stamp["tenant"])) as connection:
            if not await _hold(connection, leased):
                return False
            await connection.execute(update(attachments).where(_same(leased)).values(leased_until=until))
            return await reschedule(connection, _orphaned(leased), due_at=until)

    async def release(self, leased: Attachment, *, retry_in_s: int, counted: bool) -> None:
        """Let go of the attachment, to be leased after that time; an attempt that is not counted is
        taken back. What was written is orphaned.
        """
        now = self._database.now()
        let_go = {
            "leased_until": now + retry_in_s,
            "attempts": leased.attempts if counted else leased.attempts - 1,
        }
        async with self._database.writing(str(leased.stamp["tenant"])) as connection:
            if await _hold(connection, leased):
                await connection.execute(update(attachments).where(_same(leased)).values(let_go))
            await reschedule(
                connection, _orphaned(leased), due_at=now
            )  # a write that was broken off may still arrive

    async def release_all(self) -> int:
        """Let go of everything that is held, and return how much. Must be called at start and only
        where no other program can hold any.
        """
        held = and_(_IN_PROGRESS, attachments.c.leased_until > self._database.now())
        async with self._database.maintenance.writing() as connection:
            return (await connection.execute(update(attachments).where(held).values(leased_until=0))).rowcount

    async def finish(
        self,
        leased: Attachment,
        *,
        status: str,
        usage_bytes: int = 0,
        chunks: int = 0,
        recipe: str = "",
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> bool:
        """Set the outcome of a leased attachment, whose generation then counts if it is completed.

        Returns False when it is another's, gone, or no longer in progress, and changes nothing; the
        generation is orphaned then.
        """
        now = self._database.now()
        made = (
            MadeChunks(leased.generation, chunks, usage_bytes, recipe)
            if recipe and status == "completed"
            else None
        )
        outcome = {
            "made": made and asdict(made),
            "status": status,
            "usage_bytes": usage_bytes,
            "chunks": chunks,
            "error_code": error_code,
            "error_message": error_message,
            "leased_until": 0,
        }
        async with self._database.writing(str(leased.stamp["tenant"])) as connection:
            ours = await _hold(connection, leased)
            if ours and status == "completed":
                ours = await commit(connection, _orphaned(leased))
            if ours:
                await connection.execute(update(attachments).where(_same(leased)).values(outcome))
                if leased.made is not None:
                    kept = OrphanedChunks(leased.store_id, leased.file_id, leased.made.generation)
                    await expire_now(connection, kept, now=now)
            await expire_now(
                connection, _orphaned(leased), now=now
            )  # unless it was committed, and is orphaned no more
        return ours


async def _first(connection: AsyncConnection, free: ColumnElement[bool]) -> AnyRow | None:
    """Lock the first of these attachments by tenant and age, as their index has them, that nobody else
    has locked.
    """
    order = (attachments.c.tenant, attachments.c.created_at, attachments.c.store_id, attachments.c.file_id)
    first = select(attachments).where(free).order_by(*order).limit(1)
    return (await connection.execute(first.with_for_update(skip_locked=True))).one_or_none()


async def _hold(connection: AsyncConnection, leased: Attachment) -> bool:
    """Lock the attachment and return whether it is still in progress under the generation of the lease."""
    held = select(attachments.c.generation).where(_same(leased), _IN_PROGRESS).with_for_update()
    return await connection.scalar(held) is not None


def _pair(store: str, file: str) -> ColumnElement[bool]:
    return and_(attachments.c.store_id == store, attachments.c.file_id == file)


def _same(leased: Attachment) -> ColumnElement[bool]:
    return and_(_pair(leased.store_id, leased.file_id), attachments.c.generation == leased.generation)


def _orphaned(leased: Attachment) -> OrphanedChunks:
    return OrphanedChunks(leased.store_id, leased.file_id, leased.generation)
