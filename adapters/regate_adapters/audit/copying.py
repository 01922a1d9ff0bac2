"""The copies of checkpoints, written beside the log's own work: they may lie on other storage, whose slowness
must keep no record waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from regate_adapters.audit.checkpoints import Checkpoint, append_copy, last_copy

_log = logging.getLogger("regate.audit")

_DEADLINE_SECONDS: Final = 10.0


class CheckpointCopies:
    """Keeps the newest checkpoint until it is copied. `failures` counts copies that could not be written.

    `last` is the number of the last record that the log had at its start. If a later checkpoint was copied
    then, `on_cut` is told of it.
    """

    def __init__(self, path: Path, *, last: int, on_cut: Callable[[Checkpoint], Awaitable[None]]) -> None:
        self._path = path
        self._last = last
        self._on_cut = on_cut
        self._newest: bytes | None = None
        self._wake = asyncio.Event()
        self._closed = False
        self.failures = 0

    def offer(self, line: bytes) -> None:
        """Have this checkpoint copied. One that was not copied yet is not needed any more: a later one
        vouches for all that it does.
        """
        self._newest = line
        self._wake.set()

    def close(self) -> None:
        """Let `work` end once the newest checkpoint was tried."""
        self._closed = True
        self._wake.set()

    async def work(self) -> None:
        """Copy what is offered until closed. Never raises for a copy that fails, which is logged: the log
        itself holds the checkpoint.
        """
        thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="regate-audit-copies")
        try:
            await self._look_back(thread)
            while not (self._closed and not self._wake.is_set()):
                await self._wake.wait()
                self._wake.clear()
                await self._copy(thread)
        finally:
            thread.shutdown(wait=False)

    async def _look_back(self, thread: ThreadPoolExecutor) -> None:
        """Tell of a log that ends before the last checkpoint that was copied of it."""
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                copied = await asyncio.get_running_loop().run_in_executor(thread, last_copy, self._path)
        except OSError:  # told of when the first copy fails
            return
        if copied is not None and copied.seq > self._last:
            await self._on_cut(copied)

    async def _copy(self, thread: ThreadPoolExecutor) -> None:
        line = self._newest
        if line is None:
            return
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await asyncio.get_running_loop().run_in_executor(thread, append_copy, self._path, line)
        except OSError as error:  # TimeoutError is one: nothing waits for ever for other storage
            self.failures += 1
            cause = error.strerror or type(error).__name__
            _log.error("audit_checkpoint_not_copied", extra={"cause": cause})
            return
        if self._newest is line:
            self._newest = None
