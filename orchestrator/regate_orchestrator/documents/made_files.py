"""Files that tools make for a caller: taken in and decided as an upload of the caller is, private, and under
the labels of what they were made from.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.documents.uploads import FileUploads
from regate_orchestrator.rows import FileRow

_PURPOSE: Final = "assistants_output"


@dataclass(frozen=True, slots=True)
class MadeFiles:
    """Keeps what tools make."""

    uploads: FileUploads

    async def keep(self, context: Context, data: bytes, *, filename: str, labels: Collection[str]) -> FileRow:
        """Return the new file of the caller. Raises `NotPermitted` and `TooLarge`, as an upload does."""
        async with self.uploads.receiving(context) as incoming:
            size = await incoming.write(_once(data))
            return await incoming.keep(
                filename=filename,
                size=size,
                purpose=_PURPOSE,
                expires_in_s=None,
                requested={"visibility": "private", "labels": sorted(labels)},
            )


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
