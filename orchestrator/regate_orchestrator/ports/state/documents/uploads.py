"""Uploads that come in parts, in the state store."""

from __future__ import annotations

from typing import Protocol

from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import FileRow, UploadPart, UploadRow
from regate_orchestrator.values import UploadId


class UploadState(Protocol):
    """Keeps uploads. Each is the principal's own."""

    async def add(self, row: UploadRow) -> None:
        """Store a new upload."""
        ...

    async def get(self, principal: Principal, upload: UploadId) -> UploadRow | None:
        """Return the upload."""
        ...

    async def parts(self, principal: Principal, upload: UploadId) -> list[UploadPart]:
        """Return all parts of the upload."""
        ...

    async def add_part(self, principal: Principal, part: UploadPart, *, most: int, due_at: int) -> bool:
        """Store a part, whose bytes are orphaned from `due_at` on; return False when the upload is not
        pending, or has so many parts already.
        """
        ...

    async def complete(self, principal: Principal, upload: UploadId, row: FileRow) -> bool:
        """Store the file and that the upload is complete, its parts orphaned at once; return False, with
        nothing done, when it is not pending.
        """
        ...

    async def cancel(self, principal: Principal, upload: UploadId) -> bool:
        """Store that the upload is cancelled, its parts orphaned at once; return False when it is not
        pending.
        """
        ...

    async def forget(self, *, expired_before: int) -> int:
        """Forget uploads in parts that expired before this time; return how many."""
        ...
