"""What keeps the bytes of files, and what reads their text."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from regate_orchestrator.rows import Sections
from regate_orchestrator.values import FileId


class UnreadableFile(Exception):
    """The file's text could not be taken out. `code` is `unsupported_file` or `invalid_file`;
    `message` is for the file's owner.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class BlobStore(Protocol):
    """Where the bytes of files are. Proven by `regate_adapters.testing.blobs`.

    An id is written once. What cannot be an id of ours must raise `NotFound` everywhere and must never name a
    place. Memory held for one file must be bounded whatever its size. Must raise `StateUnavailable` when the
    storage fails.
    """

    async def write(self, file: FileId, parts: AsyncIterator[bytes], *, limit: int) -> int:
        """Store the bytes and return their number. Must raise `TooLarge` past the limit, before all is
        received.

        The file is there whole or not at all. When it raises, whatever it raises, nothing of it may be left
        behind.
        """
        ...

    def read(self, file: FileId) -> AsyncIterator[bytes]:
        """Yield the bytes in pieces of bounded size. Raises `NotFound`, before the first piece, when
        there is no such file.
        """
        ...

    def local(self, file: FileId) -> AbstractAsyncContextManager[Path]:
        """Yield a local path at which the file can be read until the context is left. Raises `NotFound` when
        there is no such file.

        A copy made for it must be removed on leaving and readable by nobody else, and no more than a few may
        exist at a time.
        """
        ...

    async def delete(self, file: FileId) -> None:
        """Remove the bytes. Must be idempotent."""
        ...

    async def check(self) -> None:
        """Raise `StateUnavailable` when the storage would not answer. Must be cheap: readiness calls it."""
        ...


class Extractor(Protocol):
    """Takes the text out of a file and splits it, in a process with limits on memory, time and output that
    can do nothing but that.

    A file is made `local` when it is its turn, and until it was read. `tenant` is whoever it is read for:
    tenants must take turns, and what `text` is asked for must not wait for `chunks`. Must raise
    `ExtractionUnavailable` where the machine is at fault and not the file.
    """

    @property
    def version(self) -> str:
        """Return what changes with all that decides which chunks are made of a file: of one version, the same
        bytes and sizes give the same chunks.
        """
        ...

    async def chunks(
        self,
        local: AbstractAsyncContextManager[Path],
        *,
        filename: str,
        tenant: str,
        max_tokens: int,
        overlap_tokens: int,
        sections: Sections | None = None,
    ) -> list[str]:
        """Return the file's text in chunks of at most `max_tokens` tokens, in order; where `sections` are
        wanted and the file has such, in chunks of these. Raises `UnreadableFile`.
        """
        ...

    async def text(
        self, source: AbstractAsyncContextManager[Path] | bytes, *, filename: str, tenant: str
    ) -> str:
        """Return the whole text of a file, or of bytes that are no file of ours, which must not be
        many. Raises `UnreadableFile`.
        """
        ...
