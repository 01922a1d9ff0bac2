"""Temporary copies of files that are kept elsewhere (`s3.py`, `gcs.py`), to be read from a disk."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from regate_adapters.files.blobs.local import create, in_thread, stored_name
from regate_adapters.files.readers.extract import AT_ONCE
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.values import FileId

_AT_ONCE: Final = 2 * AT_ONCE
"""As many as are read at a time, in turns and in ingestion: who waits for a copy would wait for
whoever is read.
"""
_COPY: Final = ".copy"
_ABANDONED_SECONDS: Final = 86_400


class Copies:
    """Copies in a local directory, of which there are eight at a time."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._free = asyncio.Semaphore(_AT_ONCE)

    def prepare(self) -> None:
        """Make the directory, and remove what a process left there that was killed while it read. Raises
        `ConfigurationError` when it cannot be used.
        """
        try:
            self._scratch.mkdir(mode=0o700, parents=True, exist_ok=True)
            for leftover in self._scratch.glob(f"*{_COPY}"):
                if time.time() - leftover.stat().st_mtime > _ABANDONED_SECONDS:
                    leftover.unlink(missing_ok=True)
        except OSError as error:
            raise ConfigurationError(
                f"files.path: the directory {self._scratch} cannot be used: {error.strerror}"
            ) from error

    @asynccontextmanager
    async def of(self, file: FileId, pieces: AsyncIterator[bytes]) -> AsyncIterator[Path]:
        """Yield a copy made of the pieces, which is removed on leaving."""
        path = self._scratch / f"{stored_name(file)}.{secrets.token_hex(8)}{_COPY}"
        async with self._free:
            try:
                copy = await in_thread(lambda: create(path))
                try:
                    async for piece in pieces:
                        # Mypy cannot infer a lambda's default
                        await in_thread(lambda data=piece: copy.write(data))  # type: ignore[misc]
                finally:
                    await in_thread(copy.close)
                yield path
            finally:
                path.unlink(missing_ok=True)
