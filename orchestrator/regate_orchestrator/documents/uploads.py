"""File intake: how a file comes in and how it goes, so that no bytes are ever in the blob store of which
nothing is known.

Before the first byte is stored the state store knows that there may be bytes under the new id; a deletion
leaves the same note. What a dead process or a storage that is down leaves behind is thereby found by the
collectors (`maintenance/garbage_collection.py`), without ever listing a storage, which may hold more than
ours. Not what a file's text becomes (`ingestion.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, TypeVar

from regate_orchestrator.authz.decisions import Context, Deny, Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.documents.limits import LIMITS, FileLimits, read_limits
from regate_orchestrator.errors import InvalidRequest, NotPermitted, StateUnavailable, TooLarge
from regate_orchestrator.ports import BlobStore, FileState, OrphanedBlobState
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import NO_USAGE, FileRow, FileUsage
from regate_orchestrator.values import Clock, FileId, JsonObject, StoreId, mint, wall_clock

Kept = TypeVar("Kept")

_log = logging.getLogger("regate.files")
_MAX_UPLOAD_SECONDS: Final = 6 * 3_600
_LOOSE_AFTER_SECONDS: Final = 24 * 3_600
"""An upload that began so long ago is over, whatever became of its process; its bytes may be removed."""

BATCH_EXPIRES_SECONDS: Final = 30 * 86_400
"""OpenAI's default for files of purpose `batch`; other files stay until they are deleted."""


class FileUploads:
    """Takes files in, and lets them go."""

    def __init__(
        self,
        *,
        enforcer: Enforcer,
        files: FileState,
        orphaned_blobs: OrphanedBlobState,
        blobs: BlobStore,
        most_bytes: int,
        clock: Clock = wall_clock,
    ) -> None:
        self._enforcer = enforcer
        self._files = files
        self._orphaned_blobs = orphaned_blobs
        self._blobs = blobs
        self._most_bytes = most_bytes
        self._clock = clock

    @asynccontextmanager
    async def receiving(
        self, context: Context, *, replacing: FileUsage = NO_USAGE
    ) -> AsyncIterator[Incoming]:
        """Yield a file to be received, of as many bytes as the policy's limits leave. Unless it was kept on
        leaving, nothing of it stays.

        `replacing` is what its owner will have no more once it is kept, and what therefore does not count.

        Raises `NotPermitted` when the policy denies or a limit is reached, `TooLarge` for a file larger than
        one may be.
        """
        file = FileId(mint("file-"))
        limits = await self.limits(context, about=file)
        await self._orphaned_blobs.reserve(
            context.principal, file, bytes=0, due_at=int(self._clock()) + _LOOSE_AFTER_SECONDS
        )
        incoming = Incoming(
            file,
            limits,
            context,
            self._enforcer,
            self._files,
            self._orphaned_blobs,
            self._blobs,
            self._clock,
            replacing,
        )
        try:
            await incoming.make_room(self._most_bytes)
            yield incoming
        except TooLarge as error:
            if incoming.short_of_room:
                raise limits.exhausted() from error
            raise
        finally:
            if not incoming.kept:
                await self._give_up(context.principal, file)

    async def remove(self, principal: Principal, file: FileId) -> list[StoreId] | None:
        """Delete the file; return the stores it was attached to, or None when it was absent. Its bytes
        may be removed later, by a collector.
        """
        stores = await self._files.delete(principal, file)
        if stores is not None:
            await self.remove_bytes(file)
        return stores

    async def limits(self, context: Context, *, about: str) -> FileLimits:
        """Return what the caller may have. Raises `NotPermitted` when the policy permits no uploads."""
        decision = await self._enforcer.decide(
            context, Question(Point.FILE, "file.upload", {}, about=about, companions=(LIMITS,))
        )
        if isinstance(decision, Deny):
            raise NotPermitted(
                "The policy does not permit uploads: "
                + ("; ".join(decision.reasons) or "no reason given")
                + "."
            )
        return read_limits(decision.decision_attributes.get(LIMITS))

    async def require_permitted(
        self, context: Context, *, about: str, filename: str, purpose: str, size: int
    ) -> None:
        """Raise what a file of so many bytes would meet if it were here now: `NotPermitted` or
        `TooLarge`. It is decided again when it is.
        """
        limits = await self.limits(context, about=about)
        if size > min(limits.max_bytes, self._most_bytes):
            raise TooLarge(
                (
                    f"The file is larger than the {min(limits.max_bytes, self._most_bytes)} bytes that are "
                    "accepted."
                ),
                param="bytes",
            )
        usage = await self._files.usage(context.principal)
        if usage.files >= limits.max_files or usage.bytes + size > limits.max_total_bytes:
            raise limits.exhausted()
        described = {"id": about, "filename": filename, "purpose": purpose}
        decision = await self._enforcer.decide(
            context, Question(Point.FILE, "file.create", {**described, "requested": {}}, about=about)
        )
        if isinstance(decision, Deny):
            raise refused(decision)

    async def _give_up(self, principal: Principal, file: FileId) -> None:
        """Leave nothing of a file, its row included: what was cancelled while it was stored may have
        been stored. Bytes without are removed last.
        """
        try:
            await self._files.delete(principal, file)
        except StateUnavailable as error:
            _log.warning("blob_left_behind", extra={"file": file, "cause": error.detail})
        else:
            await self.remove_bytes(file)

    async def remove_bytes(self, file: FileId) -> None:
        """Remove bytes that have no file. A storage that does not answer is no error: a collector
        removes them then.
        """
        try:
            await self._blobs.delete(file)
            await self._orphaned_blobs.forget(file)
        except StateUnavailable as error:
            _log.warning("blob_left_behind", extra={"file": file, "cause": error.detail})


class Incoming:
    """A file that is being received: written once, then kept once, or neither."""

    def __init__(
        self,
        file: FileId,
        limits: FileLimits,
        context: Context,
        enforcer: Enforcer,
        files: FileState,
        orphaned_blobs: OrphanedBlobState,
        blobs: BlobStore,
        clock: Clock,
        replacing: FileUsage,
    ) -> None:
        self.limit = 0
        """How many bytes it may have."""
        self.short_of_room = False
        """Whether it may not have more because of what its owner has already."""
        self.kept = False
        self._file = file
        self._limits = limits
        self._context = context
        self._enforcer = enforcer
        self._files = files
        self._orphaned_blobs = orphaned_blobs
        self._blobs = blobs
        self._clock = clock
        self._replacing = replacing

    async def make_room(self, most_bytes: int) -> None:
        """Set the limit. Raises `NotPermitted` when the owner has as many files as allowed, this one
        included among them.
        """
        usage = await self._usage()
        room = self._limits.max_total_bytes - usage.bytes
        if usage.files > self._limits.max_files or room < 0:
            raise self._limits.exhausted()
        largest = min(most_bytes, self._limits.max_bytes)
        self.limit, self.short_of_room = min(largest, room), room < largest

    async def write(self, parts: AsyncIterator[bytes]) -> int:
        """Store the bytes and return their number. Raises `TooLarge`, and `NotPermitted` when others' uploads
        took the room meanwhile.

        INVARIANT: what is claimed is written down before it is added up, by every upload; so of two that are
        too much together, one sees both.
        """
        try:
            async with asyncio.timeout(_MAX_UPLOAD_SECONDS):
                size = await self._blobs.write(self._file, parts, limit=self.limit)
        except TimeoutError as error:
            hours = _MAX_UPLOAD_SECONDS // 3_600
            raise InvalidRequest(
                f"The upload took longer than {hours} hours.", param="file", code="upload_timeout"
            ) from error
        await self._orphaned_blobs.resize(self._context.principal, self._file, bytes=size)
        if (await self._usage()).bytes > self._limits.max_total_bytes:
            raise self._limits.exhausted()
        return size

    async def _usage(self) -> FileUsage:
        usage = await self._files.usage(self._context.principal)
        return FileUsage(usage.files - self._replacing.files, usage.bytes - self._replacing.bytes)

    async def keep_as(self, keep: Callable[[FileId], Awaitable[Kept]]) -> Kept:
        """Keep the bytes as something else than a file: `keep` is told under which id they are stored,
        and must write them down.
        """
        kept = await keep(self._file)
        self.kept = True
        return kept

    async def keep(
        self,
        *,
        filename: str,
        size: int,
        purpose: str,
        expires_in_s: int | None,
        add: Callable[[FileRow], Awaitable[None]] | None = None,
        requested: JsonObject | None = None,
    ) -> FileRow:
        """Return the new file, decided and stored, with `add` where that stores more. `requested` is the
        sharing that is asked for. Raises `NotPermitted` when the policy denies.
        """
        described = {"id": self._file, "filename": filename, "purpose": purpose}
        question = Question(
            Point.FILE, "file.create", {**described, "requested": requested or {}}, about=self._file
        )
        decision, stamp = await self._enforcer.stamp(self._context, question, described=described)
        if isinstance(decision, Deny):
            raise refused(decision)
        created_at = int(self._clock())
        expires_at = None if expires_in_s is None else created_at + expires_in_s
        row = FileRow(self._file, filename, size, purpose, created_at, stamp, expires_at)
        await (add or self._files.add)(row)
        self.kept = True
        return row


def refused(decision: Deny) -> NotPermitted:
    """Return the refusal of a file, with the policy's reasons."""
    return NotPermitted(
        "The policy does not permit this upload: " + ("; ".join(decision.reasons) or "no reason given") + "."
    )
