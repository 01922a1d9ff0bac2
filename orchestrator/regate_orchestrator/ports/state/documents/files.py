"""Files in the state store. Their bytes are in the blob store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import ExpiredFile, FileRow, FileUsage, Page, Rows
from regate_orchestrator.values import FileId, StoreId


class FileState(Protocol):
    """Keeps files."""

    async def add(self, row: FileRow) -> None:
        """Store a new file row. From when it expires on, it is absent everywhere, attachments included."""
        ...

    async def get(self, principal: Principal, file: FileId) -> FileRow | None:
        """Return the file's row."""
        ...

    async def named(self, principal: Principal, names: Sequence[FileId]) -> Mapping[FileId, FileRow]:
        """Return the rows of these files, of those that are there."""
        ...

    async def page(
        self, principal: Principal, plan: FilterPlan, page: Page, *, purpose: str | None
    ) -> Rows[FileRow]:
        """Return a page of the file rows that the plan permits."""
        ...

    async def delete(self, principal: Principal, file: FileId) -> list[StoreId] | None:
        """Delete the file's row and all its attachments; return the stores it was attached to, or None
        when it was absent or invisible.
        """
        ...

    async def usage(self, principal: Principal) -> FileUsage:
        """Return what the principal has, uploads under way included: each from the moment at which
        `orphaned_blobs.reserve` returned.
        """
        ...

    async def expired(self, *, after: ExpiredFile | None, limit: int) -> list[ExpiredFile]:
        """Return files that have expired, the longest expired first, from beyond `after`."""
        ...

    async def drop_expired(self, file: FileId) -> None:
        """Delete the row of an expired file and all its attachments. Must leave a file alone that has
        not expired.
        """
        ...
