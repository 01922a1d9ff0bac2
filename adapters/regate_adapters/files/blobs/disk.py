"""The `BlobStore` on a local directory: one file per upload, named by its id, written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final

from regate_adapters.files.blobs.local import create, in_thread, stored_name
from regate_orchestrator.errors import ConfigurationError, NotFound, StateUnavailable, TooLarge
from regate_orchestrator.values import FileId

_PIECE: Final = 256 * 1024
_UNFINISHED: Final = ".part"
_ABANDONED_SECONDS: Final = 86_400


class DiskBlobStore:
    """Keeps files in the directory. Raises `ConfigurationError` when it cannot be made;
    `StateUnavailable` when the disk fails later.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in root.glob(f"*{_UNFINISHED}"):
                if (
                    time.time() - leftover.stat().st_mtime > _ABANDONED_SECONDS
                ):  # of a process that was killed while it wrote
                    leftover.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"files.path: the directory {root} cannot be used: {error.strerror}"
            ) from error

    async def write(self, file: FileId, parts: AsyncIterator[bytes], *, limit: int) -> int:
        """Store the bytes and return their number; whatever is raised, nothing is left behind."""
        target = self._path(file)
        unfinished = self._root / f"{file}{_UNFINISHED}"
        written = 0
        opened = await in_thread(lambda: create(unfinished))
        try:
            async for part in parts:
                written += len(part)
                if written > limit:
                    raise TooLarge(f"The file is larger than {limit} bytes.", param="file")
                # Mypy cannot infer a lambda's default
                await in_thread(lambda data=part: opened.write(data))  # type: ignore[misc]
            await in_thread(lambda: _finish(opened, unfinished, target))
        except BaseException:
            with contextlib.suppress(OSError):  # a full disk refuses what is still buffered
                opened.close()
            unfinished.unlink(missing_ok=True)
            raise
        return written

    async def read(self, file: FileId) -> AsyncIterator[bytes]:
        """Yield the bytes in pieces of 256 KiB. Raises `NotFound` when there is no such file."""
        path = self._path(file)
        opened = await in_thread(lambda: path.open("rb") if path.exists() else None)
        if opened is None:
            raise NotFound.of("file", file)
        try:
            while piece := await in_thread(lambda: opened.read(_PIECE)):
                yield piece
        finally:
            opened.close()

    @asynccontextmanager
    async def local(self, file: FileId) -> AsyncIterator[Path]:
        """Yield the place of the file itself. Raises `NotFound` when there is no such file."""
        path = self._path(file)
        if not await in_thread(path.is_file):
            raise NotFound.of("file", file)
        yield path

    async def delete(self, file: FileId) -> None:
        """Remove the bytes, and what an upload left that was never ended because its process died."""
        path = self._path(file)
        await in_thread(lambda: path.unlink(missing_ok=True))
        await in_thread(lambda: path.with_name(f"{file}{_UNFINISHED}").unlink(missing_ok=True))

    async def check(self) -> None:
        """Raise `StateUnavailable` when the directory takes no files."""
        if not await in_thread(lambda: os.access(self._root, os.R_OK | os.W_OK | os.X_OK)):
            raise StateUnavailable("files: the directory takes no files")

    def _path(self, file: FileId) -> Path:
        return self._root / stored_name(file)


def _finish(opened: BinaryIO, unfinished: Path, target: Path) -> None:
    """Make the file durable under its name: first its bytes, then its entry in the directory."""
    opened.flush()
    os.fsync(opened.fileno())
    opened.close()
    unfinished.replace(target)
    directory = os.open(target.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
