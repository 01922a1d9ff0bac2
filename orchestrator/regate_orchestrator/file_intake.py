"""File intake: how a file comes in and how it goes, so that no bytes are ever in the blob store of which nothing is known.

Before the first byte is stored the state store knows that there may be bytes under the new id; a deletion leaves the same note. What a dead
process or a storage that is down leaves behind is thereby found by the sweeps (`sweeping.py`), without ever listing a storage, which may
hold more than ours. Not what a file's text becomes (`ingestion.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final, Protocol

from regate_orchestrator.decisions import Context, Deny, Point, Question
from regate_orchestrator.enforcer import Enforcer
from regate_orchestrator.errors import InvalidRequest, NotPermitted, StateUnavailable
from regate_orchestrator.ports import BlobStore
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import FileRow
from regate_orchestrator.values import Clock, FileId, StoreId, mint, wall_clock

_log = logging.getLogger("regate.files")
_LONGEST_UPLOAD_S: Final = 6 * 3_600
_LOOSE_AFTER_S: Final = 24 * 3_600
"""An upload that began so long ago is over, whatever became of its process; its bytes may be removed."""

BATCH_EXPIRES_S: Final = 30 * 86_400
"""OpenAI's default for files of purpose `batch`; other files stay until they are deleted."""


class IntakeState(Protocol):
    """The state store as file intake needs it."""

    async def begin_upload(self, principal: Principal, file: FileId, *, bytes: int, due_at: int) -> None:  # noqa: A002
        """Write down that bytes may come to be stored under this id, which are loose from `due_at` on unless a file is added."""
        ...

    async def add_file(self, row: FileRow) -> None:
        """Store a new file row, whose bytes are loose no more."""
        ...

    async def delete_file(self, principal: Principal, file: FileId) -> list[StoreId] | None:
        """Delete the file's row; its bytes are loose from now on. Return the stores it was attached to, None when it was not visible."""
        ...

    async def forget_blob(self, file: FileId) -> None:
        """Forget bytes without a file, since they are gone."""
        ...


class FileIntake:
    """Takes files in, and lets them go."""

    def __init__(self, *, enforcer: Enforcer, state: IntakeState, blobs: BlobStore, most_bytes: int, clock: Clock = wall_clock) -> None:
        self._enforcer = enforcer
        self._state = state
        self._blobs = blobs
        self._most_bytes = most_bytes
        self._clock = clock

    @asynccontextmanager
    async def receiving(self, context: Context) -> AsyncIterator[Incoming]:
        """Yield a file to be received. Unless it was kept when the context is left, nothing of it stays."""
        file = FileId(mint("file-"))
        await self._state.begin_upload(context.principal, file, bytes=0, due_at=int(self._clock()) + _LOOSE_AFTER_S)
        incoming = Incoming(file, self._most_bytes, context, self._enforcer, self._state, self._blobs, self._clock)
        try:
            yield incoming
        finally:
            if not incoming.kept:
                await self._give_up(context.principal, file)

    async def remove(self, principal: Principal, file: FileId) -> list[StoreId] | None:
        """Delete the file; return the stores it was attached to, or None when it was absent. Its bytes may be removed later, by a sweep."""
        stores = await self._state.delete_file(principal, file)
        if stores is not None:
            await self._remove_bytes(file)
        return stores

    async def _give_up(self, principal: Principal, file: FileId) -> None:
        """Leave nothing of a file, its row included: what was cancelled while it was stored may have been stored. Bytes without are removed last."""
        try:
            await self._state.delete_file(principal, file)
        except StateUnavailable as error:
            _log.warning("blob_left_behind", extra={"file": file, "cause": error.detail})
        else:
            await self._remove_bytes(file)

    async def _remove_bytes(self, file: FileId) -> None:
        try:
            await self._blobs.delete(file)
            await self._state.forget_blob(file)
        except StateUnavailable as error:
            _log.warning("blob_left_behind", extra={"file": file, "cause": error.detail})


class Incoming:
    """A file that is being received: written once, then kept once, or neither."""

    def __init__(
        self, file: FileId, limit: int, context: Context, enforcer: Enforcer, state: IntakeState, blobs: BlobStore, clock: Clock
    ) -> None:
        self.limit = limit
        """How many bytes it may have."""
        self.kept = False
        self._file = file
        self._context = context
        self._enforcer = enforcer
        self._state = state
        self._blobs = blobs
        self._clock = clock

    async def write(self, parts: AsyncIterator[bytes]) -> int:
        """Store the bytes and return their number. Raises `TooLarge`."""
        try:
            async with asyncio.timeout(_LONGEST_UPLOAD_S):
                return await self._blobs.write(self._file, parts, limit=self.limit)
        except TimeoutError as error:
            hours = _LONGEST_UPLOAD_S // 3_600
            raise InvalidRequest(f"The upload took longer than {hours} hours.", param="file", code="upload_timeout") from error

    async def keep(self, *, filename: str, size: int, purpose: str, expires_in_s: int | None) -> FileRow:
        """Return the new file, decided and stored. Raises `NotPermitted` with the policy's reasons when it denies."""
        described = {"id": self._file, "filename": filename, "purpose": purpose}
        question = Question(Point.FILE, "file.create", {**described, "requested": {}}, about=self._file)
        decision, stamp = await self._enforcer.stamp(self._context, question, described=described)
        if isinstance(decision, Deny):
            raise NotPermitted("The policy does not permit this upload: " + ("; ".join(decision.reasons) or "no reason given") + ".")
        created_at = int(self._clock())
        expires_at = None if expires_in_s is None else created_at + expires_in_s
        row = FileRow(self._file, filename, size, purpose, created_at, stamp, expires_at)
        await self._state.add_file(row)
        self.kept = True
        return row
