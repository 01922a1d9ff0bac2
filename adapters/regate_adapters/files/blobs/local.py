"""Local files: what `disk.py` and temporary copies (`copies.py`) share. Work on a disk is done in
threads, each of which is waited for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final, TypeVar

from regate_orchestrator.errors import NotFound, StateUnavailable
from regate_orchestrator.values import FileId

Result = TypeVar("Result")

_ID: Final = re.compile(r"file-[0-9a-f]{1,128}")
_BUFFER: Final = 256 * 1024


def stored_name(file: FileId) -> str:
    """Return the name under which the file is stored. Raises `NotFound` for what is no file id, so
    that no other name is ever used.
    """
    if not _ID.fullmatch(file):
        raise NotFound.of("file", file)
    return file


async def in_thread(work: Callable[[], Result]) -> Result:
    """Return the work's result. Cancelled, however often, it waits for the thread first, so that
    nobody closes a file which is in use.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait([running])
        running.exception()  # nobody is left to be told
        raise
    except OSError as error:
        raise StateUnavailable(f"files: {type(error).__name__} ({error.errno})") from error


def create(path: Path) -> BinaryIO:
    """Return a new file, open for writing, that nobody else may read."""
    return os.fdopen(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=_BUFFER
    )
