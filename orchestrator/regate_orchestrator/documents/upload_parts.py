"""Files that come in parts: an upload is begun, given parts in any order and at once, and completed or
cancelled within an hour.

The parts' bytes are orphaned from the beginning (`uploads.py`), until they are a file's: whatever happens to
an upload, they are removed in the end. What its owner may have is asked with each part, and what the file may
be both at the beginning and when it is one.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.documents.uploads import FileUploads
from regate_orchestrator.errors import InvalidRequest, NotFound, StateUnavailable
from regate_orchestrator.ports import BlobStore, UploadState
from regate_orchestrator.rows import FileRow, FileUsage, UploadPart, UploadRow
from regate_orchestrator.values import Clock, FileId, PartId, UploadId, mint, wall_clock

LIFETIME_SECONDS: Final = 3_600
"""How long an upload can be added to, as OpenAI has it."""
MAX_PART_BYTES: Final = 64 * 1024 * 1024
MAX_PARTS: Final = 1_000
KEPT_SECONDS: Final = 86_400
"""How long an upload is still known after it has expired, so that its maker is told what became of it."""
OF_AN_UPLOAD: Final = FileUsage(1, 0)
"""What is received for an upload counts no file more: the upload does already."""
_COMPLETION_SECONDS: Final = 3_600


class ChunkedUploads:
    """Takes files in parts."""

    def __init__(
        self, *, uploads: UploadState, files: FileUploads, blobs: BlobStore, clock: Clock = wall_clock
    ) -> None:
        self._uploads = uploads
        self._files = files
        self._blobs = blobs
        self._clock = clock

    async def create(
        self, context: Context, *, filename: str, purpose: str, size: int, expires_in_s: int | None
    ) -> UploadRow:
        """Return a new upload. Raises `NotPermitted` or `TooLarge` for what could not be completed as
        things are.
        """
        upload, now, principal = UploadId(mint("upload_")), int(self._clock()), context.principal
        await self._files.require_permitted(
            context, about=upload, filename=filename, purpose=purpose, size=size
        )
        row = UploadRow(
            upload,
            principal.tenant,
            principal.id,
            filename,
            purpose,
            size,
            now,
            now + LIFETIME_SECONDS,
            expires_in_s,
        )
        await self._uploads.add(row)
        return row

    async def pending(self, context: Context, upload: UploadId) -> UploadRow:
        """Return an upload that can be added to. Raises `NotFound` for one that is not the caller's,
        `InvalidRequest` for one that is over.
        """
        row = await self._uploads.get(context.principal, upload)
        if row is None:
            raise NotFound.of("upload", upload)
        if row.status != "pending":
            raise _over(upload, row.status)
        if row.expires_at <= self._clock():
            raise _over(upload, "expired")
        return row

    async def add_part(self, context: Context, row: UploadRow, blob: FileId, *, size: int) -> UploadPart:
        """Return the new part of the upload, whose bytes are stored. Raises `InvalidRequest` when the
        upload takes no more.
        """
        part = UploadPart(PartId(mint("part_")), row.id, blob, size, int(self._clock()))
        if not await self._uploads.add_part(
            context.principal, part, most=MAX_PARTS, due_at=row.expires_at + _COMPLETION_SECONDS
        ):
            await self.pending(context, row.id)
            raise InvalidRequest(
                f"An upload has at most {MAX_PARTS} parts; send larger ones.", code="too_many_parts"
            )
        return part

    async def complete(
        self, context: Context, upload: UploadId, *, parts: Sequence[PartId], md5: str | None
    ) -> tuple[UploadRow, FileRow]:
        """Return the upload and the file that its parts make, in the order in which they are named; the
        others are dropped.

        Raises `InvalidRequest` unless the parts have exactly the bytes that were announced, and
        `NotPermitted` when the policy denies now.
        """
        row = await self.pending(context, upload)
        present = {part.id: part for part in await self._uploads.parts(context.principal, upload)}
        named = _named(parts, present)
        if (total := sum(part.bytes for part in named)) != row.bytes:
            message = (
                f"The parts named have {total} bytes, and the upload was announced with {row.bytes}. Name "
                "every part once, in order."
            )
            raise InvalidRequest(message, param="part_ids", code="invalid_upload_size")
        held = FileUsage(1, sum(part.bytes for part in present.values()))
        digest = hashlib.md5(usedforsecurity=False)
        async with (
            asyncio.timeout(_COMPLETION_SECONDS),
            self._files.receiving(context, replacing=held) as incoming,
        ):
            try:
                size = await incoming.write(self._joined(named, digest))
            except NotFound as error:  # its parts are gone: somebody ended it meanwhile
                await self.pending(context, upload)
                raise StateUnavailable("files: a part's bytes are missing") from error
            if md5 is not None and not hmac.compare_digest(digest.hexdigest(), md5.lower()):
                raise InvalidRequest(
                    "The bytes do not have this MD5 checksum.", param="md5", code="invalid_checksum"
                )

            async def add(file: FileRow) -> None:
                if not await self._uploads.complete(context.principal, upload, file):
                    raise _over(upload, "completed or cancelled")

            file = await incoming.keep(
                filename=row.filename, size=size, purpose=row.purpose, expires_in_s=row.expires_in_s, add=add
            )
        await self._remove(present.values())
        return row, file

    async def cancel(self, context: Context, upload: UploadId) -> UploadRow:
        """Return the upload, which is over from now on; nothing of its parts stays."""
        row = await self.pending(context, upload)
        present = await self._uploads.parts(context.principal, upload)
        if not await self._uploads.cancel(context.principal, upload):
            raise _over(upload, "completed or cancelled")
        await self._remove(present)
        return row

    async def _joined(self, parts: Sequence[UploadPart], digest: Any) -> AsyncIterator[bytes]:
        for part in parts:
            async for piece in self._blobs.read(part.blob):
                digest.update(piece)
                yield piece

    async def _remove(self, parts: Any) -> None:
        for part in parts:
            await self._files.remove_bytes(part.blob)


def _named(names: Sequence[PartId], present: dict[PartId, UploadPart]) -> list[UploadPart]:
    """Return the parts in the order of their names, each of which must be there and named once."""
    for position, name in enumerate(names):
        if name not in present:
            raise InvalidRequest(
                f"The upload has no part '{name}'.", param=f"part_ids[{position}]", code="invalid_part"
            )
        if name in names[:position]:
            raise InvalidRequest(
                f"The part '{name}' is named twice.", param=f"part_ids[{position}]", code="invalid_part"
            )
    return [present[name] for name in names]


def _over(upload: UploadId, status: str) -> InvalidRequest:
    code = "upload_expired" if status == "expired" else "upload_not_pending"
    return InvalidRequest(
        f"The upload {upload} is {status}: create another one, and send its parts.", code=code
    )
