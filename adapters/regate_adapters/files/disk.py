"""The `BlobStore` on a local directory: one file per upload, named by its id, written whole or not at all."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from regate_orchestrator.errors import ConfigurationError, NotFound, StateUnavailable, TooLarge
from regate_orchestrator.values import FileId

Result = TypeVar("Result")

_ID: Final = re.compile(r"file-[0-9a-f]{1,128}")
_PIECE: Final = 256 * 1024
_UNFINISHED: Final = ".part"
_ABANDONED_S: Final = 86_400


class DiskBlobStore:
    """Keeps files in the directory. Raises `ConfigurationError` when it cannot be made; `StateUnavailable` when the disk fails later."""

    def __init__(self, root: Path) -> None:
        self._root = root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in root.glob(f"*{_UNFINISHED}"):
                if time.time() - leftover.stat().st_mtime > _ABANDONED_S:  # of a process that was killed while it wrote
                    leftover.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigurationError(f"files.path: the directory {root} cannot be used: {error.strerror}") from error

    async def write(self, file: FileId, parts: AsyncIterator[bytes], *, limit: int) -> int:
        """Store the bytes and return their number; whatever is raised, nothing is left behind."""
        target = self._path(file)
        unfinished = self._root / f"{file}.{secrets.token_hex(8)}{_UNFINISHED}"
        written = 0
        opened = await _in_thread(lambda: _create(unfinished))
        try:
            async for part in parts:
                written += len(part)
                if written > limit:
                    raise TooLarge(f"The file is larger than {limit} bytes.", param="file")
                await _in_thread(lambda data=part: opened.write(data))  # type: ignore[misc]  # mypy cannot infer a lambda's default
            await _in_thread(lambda: _finish(opened, unfinished, target))
        except BaseException:
            with contextlib.suppress(OSError):  # a full disk refuses what is still buffered
                opened.close()
            unfinished.unlink(missing_ok=True)
            raise
        return written

    async def read(self, file: FileId) -> AsyncIterator[bytes]:
        """Yield the bytes in pieces of 256 KiB. Raises `NotFound` when there is no such file."""
        path = self._path(file)
        opened = await _in_thread(lambda: path.open("rb") if path.exists() else None)
        if opened is None:
            raise NotFound.of("file", file)
        try:
            while piece := await _in_thread(lambda: opened.read(_PIECE)):
                yield piece
        finally:
            opened.close()

    @asynccontextmanager
    async def local(self, file: FileId) -> AsyncIterator[Path]:
        """Yield the place of the file itself. Raises `NotFound` when there is no such file."""
        path = self._path(file)
        if not await _in_thread(path.is_file):
            raise NotFound.of("file", file)
        yield path

    async def delete(self, file: FileId) -> None:
        """Remove the bytes."""
        path = self._path(file)
        await _in_thread(lambda: path.unlink(missing_ok=True))

    def _path(self, file: FileId) -> Path:
        """Return where the file lies. Raises `NotFound` for what is no file id, so that no other path is ever made."""
        if not _ID.fullmatch(file):
            raise NotFound.of("file", file)
        return self._root / file


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Return the work's result. Cancelled, it waits for the thread first, so that nobody closes a file which is being written."""
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait([running])
        raise
    except OSError as error:
        raise StateUnavailable(f"files: {type(error).__name__} ({error.errno})") from error


def _create(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=_PIECE)


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
