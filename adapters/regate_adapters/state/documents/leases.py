"""Claims in the state store: which attachment a worker is making chunks of, and what came of it. For ingestion alone, of all tenants.

A claim lapses by itself, so what a dead worker held is taken up by another. Every claim writes an edition of its own (ADR 0008): two workers
that both believe in theirs cannot mix their chunks, and only the one that the attachment names can finish it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import ColumnElement, and_, exists, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.documents.orphaned_chunks import adopt, hasten, postpone, reserve
from regate_adapters.state.encoding import AnyRow, attachment_row
from regate_adapters.state.tables import attachments
from regate_adapters.state.visibility import attached_file_unexpired
from regate_orchestrator.documents.generations import mint_edition
from regate_orchestrator.rows import Attachment, LooseChunks

_IN_PROGRESS: Final = attachments.c.status == "in_progress"


class ClaimState:
    """The part of the state store that hands attachments out to workers."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim_attachment(self, *, for_s: int, after: str, passing_over: Collection[str] = ()) -> Attachment | None:
        """Return the next attachment in progress that nobody holds, under a new edition; tenants take turns, beginning beyond `after`.

        Those of tenants that are to be passed over stay where they are.
        """
        now = self._database.now()
        free = and_(_IN_PROGRESS, attachments.c.claimed_until <= now, attached_file_unexpired(now))
        if passing_over:
            free = and_(free, attachments.c.tenant.not_in(sorted(passing_over)))
        async with self._database.reading() as connection:  # looking for work must not keep others from writing
            if not await connection.scalar(select(exists().where(free))):
                return None
        async with self._database.writing() as connection:
            row = await _first(connection, free & (attachments.c.tenant > after)) or await _first(connection, free)
            if row is None:
                return None
            edition = mint_edition(row.tenant, row.file_id)
            claimed = {"edition": edition, "attempts": row.attempts + 1, "claimed_until": now + for_s}
            chunks = LooseChunks(row.store_id, row.file_id, edition)
            await reserve(connection, chunks, due_at=now)
            await postpone(connection, chunks, due_at=now + for_s)
            await connection.execute(update(attachments).where(_pair(row.store_id, row.file_id)).values(claimed))
            taken = await connection.execute(select(attachments).where(_pair(row.store_id, row.file_id)))
            return attachment_row(taken.one())

    async def renew_claim(self, claimed: Attachment, *, for_s: int) -> bool:
        """Hold the attachment for longer; return False when it is another's, gone, or no longer in progress."""
        until = self._database.now() + for_s
        async with self._database.writing() as connection:
            if not await _hold(connection, claimed):
                return False
            await connection.execute(update(attachments).where(_same(claimed)).values(claimed_until=until))
            return await postpone(connection, _loose(claimed), due_at=until)

    async def release_claim(self, claimed: Attachment, *, again_in_s: int, counted: bool) -> None:
        """Let go of the attachment, to be claimed after that time; an attempt that is not counted is taken back. What was written is loose."""
        now = self._database.now()
        let_go = {"claimed_until": now + again_in_s, "attempts": claimed.attempts if counted else claimed.attempts - 1}
        async with self._database.writing() as connection:
            if await _hold(connection, claimed):
                await connection.execute(update(attachments).where(_same(claimed)).values(let_go))
            await postpone(connection, _loose(claimed), due_at=now)  # a write that was broken off may still arrive

    async def release_claims(self) -> int:
        """Let go of everything that is held, and return how much. Must be called at start and only where no other program can hold any."""
        held = and_(_IN_PROGRESS, attachments.c.claimed_until > self._database.now())
        async with self._database.writing() as connection:
            return (await connection.execute(update(attachments).where(held).values(claimed_until=0))).rowcount

    @property
    def is_shared(self) -> bool:
        """Whether other programs may use this database at the same time."""
        return self._database.is_shared

    async def finish_attachment(
        self,
        claimed: Attachment,
        *,
        status: str,
        usage_bytes: int = 0,
        chunks: int = 0,
        error_code: str | None = None,
        error_message: str | None = None,
    ) -> bool:
        """Set the outcome of a claimed attachment, whose edition then counts if it is completed.

        Returns False when it is another's, gone, or no longer in progress, and changes nothing; the edition is loose then.
        """
        now = self._database.now()
        outcome = {
            "status": status,
            "usage_bytes": usage_bytes,
            "chunks": chunks,
            "error_code": error_code,
            "error_message": error_message,
            "claimed_until": 0,
        }
        async with self._database.writing() as connection:
            ours = await _hold(connection, claimed)
            if ours and status == "completed":
                ours = await adopt(connection, _loose(claimed))
            if ours:
                await connection.execute(update(attachments).where(_same(claimed)).values(outcome))
            await hasten(connection, _loose(claimed), now=now)  # unless it was adopted, and is loose no more
        return ours


async def _first(connection: AsyncConnection, free: ColumnElement[bool]) -> AnyRow | None:
    """Lock the first of these attachments by tenant and age, as their index has them, that nobody else has locked."""
    order = (attachments.c.tenant, attachments.c.created_at, attachments.c.store_id, attachments.c.file_id)
    first = select(attachments).where(free).order_by(*order).limit(1)
    return (await connection.execute(first.with_for_update(skip_locked=True))).one_or_none()


async def _hold(connection: AsyncConnection, claimed: Attachment) -> bool:
    """Lock the attachment and return whether it is still in progress under the claim's edition."""
    held = select(attachments.c.edition).where(_same(claimed), _IN_PROGRESS).with_for_update()
    return await connection.scalar(held) is not None


def _pair(store: str, file: str) -> ColumnElement[bool]:
    return and_(attachments.c.store_id == store, attachments.c.file_id == file)


def _same(claimed: Attachment) -> ColumnElement[bool]:
    return and_(_pair(claimed.store_id, claimed.file_id), attachments.c.edition == claimed.edition)


def _loose(claimed: Attachment) -> LooseChunks:
    return LooseChunks(claimed.store_id, claimed.file_id, claimed.edition)
