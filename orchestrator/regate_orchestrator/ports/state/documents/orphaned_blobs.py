"""Bytes without a file, in the state store: of uploads under way, and of files that are gone."""

from __future__ import annotations

from typing import Protocol

from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import DueBlob
from regate_orchestrator.values import FileId


class OrphanedBlobState(Protocol):
    """Knows which bytes in the blob store no file has."""

    async def reserve(self, principal: Principal, file: FileId, *, bytes: int, due_at: int) -> None:  # noqa: A002
        """Write down that bytes may come to be stored under this id, which are orphaned from `due_at`
        on unless a file is added.
        """
        ...

    async def resize(self, principal: Principal, file: FileId, *, bytes: int) -> None:  # noqa: A002
        """Write down how many bytes of an upload were stored."""
        ...

    async def forget(self, file: FileId) -> None:
        """Forget bytes without a file, since they are gone."""
        ...

    async def due(self, *, after: DueBlob | None, limit: int) -> list[DueBlob]:
        """Return bytes without a file that are due to be removed, the longest due first, from beyond
        `after`.
        """
        ...
