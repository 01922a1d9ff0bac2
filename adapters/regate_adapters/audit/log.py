"""`SegmentedAuditLog`: the audit port over local files. Records that arrive together are written together;
each caller waits for its own (I12).

Not how a record is spelt (`lines.py`), nor where the files begin and end (`segments.py`). Shipping the audit
log elsewhere is another program's work: the files are append-only, numbered without gaps, and safe to read
while they grow (`reading.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias

from regate_adapters.audit.segments import Entry, Segments
from regate_orchestrator.errors import AuditUnavailable
from regate_orchestrator.values import Clock, JsonObject, wall_clock

_log = logging.getLogger("regate.audit")

OnFailure: TypeAlias = Literal["block", "count"]

_ROTATE_BYTES: Final = 64 * 1024 * 1024
_DEADLINE_SECONDS: Final = 5.0
_MAX_TOGETHER: Final = 1_000


@dataclass(slots=True)
class _Waiting:
    """A record on its way. `abandoned` once its caller was told that it is lost."""

    entry: Entry
    written: asyncio.Future[None]
    abandoned: bool = False


class SegmentedAuditLog:
    """The audit log on this machine's disk. Made by `open` alone."""

    def __init__(self, segments: Segments, *, on_failure: OnFailure, deadline_s: float, clock: Clock) -> None:
        self._segments = segments
        self._on_failure = on_failure
        self._deadline_s = deadline_s
        self._clock = clock
        self._pending: list[_Waiting] = []
        self._wake = asyncio.Event()
        self._closed = False
        self._unreported = 0
        self.lost = 0
        """Records that were not written although their effect happened. Stays 0 when `on_failure` is
        `block`.
        """

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        directory: Path,
        *,
        durable: bool = True,
        on_failure: OnFailure = "block",
        rotate_bytes: int = _ROTATE_BYTES,
        deadline_s: float = _DEADLINE_SECONDS,
        clock: Clock = wall_clock,
    ) -> AsyncIterator[Self]:
        """Yield the log, its numbers going on from the last record in the directory; on leaving, what was
        recorded is written.

        `durable` waits for the disk, and so survives a loss of power; without it a record survives the end of
        this process only. With `on_failure="count"` a record that cannot be written is counted in `lost`, and
        in a `gap` record as soon as writing works again. Raises `ConfigurationError` when the directory
        cannot be used or is another process's.
        """
        segments = Segments(directory, durable=durable, rotate_bytes=rotate_bytes)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="regate-audit") as thread:
            await _run(thread, lambda: segments.open(clock()))
            log = cls(segments, on_failure=on_failure, deadline_s=deadline_s, clock=clock)
            try:
                async with asyncio.TaskGroup() as group:
                    flusher = group.create_task(log._flush(thread), name="audit-flusher")
                    try:
                        yield log
                    finally:
                        log._closed = True
                        log._wake.set()
                        await flusher
            except BaseExceptionGroup as group:  # what whoever uses the log raised is raised as it was
                raise group.exceptions[0] from None
            finally:
                await _run(thread, segments.close)

    async def record(self, record: JsonObject) -> None:
        """Append one record; when this returns it is written. Raises `AuditUnavailable` when it is
        not, unless losses are only counted.
        """
        try:
            await self._append(record)
        except AuditUnavailable as error:
            if self._on_failure == "block":
                raise
            self._unreported += 1
            self.lost += 1
            _log.error("audit_lost", extra={"lost": self.lost, "cause": error.detail})

    async def _append(self, record: JsonObject) -> None:
        if self._closed:
            raise AuditUnavailable("the log is closed")
        try:
            entry = Entry.of(self._clock(), record)
        except (TypeError, ValueError, RecursionError) as error:
            raise AuditUnavailable(f"a record is not JSON: {error}") from error
        waiting = _Waiting(entry, asyncio.get_running_loop().create_future())
        self._pending.append(waiting)
        self._wake.set()
        try:
            async with asyncio.timeout(self._deadline_s):
                await waiting.written
        except TimeoutError as error:
            waiting.abandoned = True
            raise AuditUnavailable(f"not written within {self._deadline_s} s") from error

    async def _flush(self, thread: ThreadPoolExecutor) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                batch, self._pending = self._pending[:_MAX_TOGETHER], self._pending[_MAX_TOGETHER:]
                await self._write(thread, [waiting for waiting in batch if not waiting.abandoned])
            if self._closed:
                if self._unreported:
                    await self._write(thread, [])
                return

    async def _write(self, thread: ThreadPoolExecutor, batch: list[_Waiting]) -> None:
        """Write the batch and tell its callers. Records lost before are told of first, in the same write."""
        gap = self._unreported
        told = [Entry.of(self._clock(), {"kind": "gap", "lost": gap})] if gap else []
        entries = told + [waiting.entry for waiting in batch]
        try:
            await _run(thread, lambda: self._segments.append(entries))
        except OSError as error:
            for waiting in batch:
                if not waiting.written.done():
                    waiting.written.set_exception(
                        AuditUnavailable(f"{type(error).__name__}: {error.strerror}")
                    )
            return
        self._unreported -= gap
        for waiting in batch:
            if waiting.abandoned:  # counted as lost, and written after all
                self._found_again()
            if not waiting.written.done():
                waiting.written.set_result(None)

    def _found_again(self) -> None:
        if self._on_failure == "count":
            self._unreported -= 1
            self.lost -= 1


async def _run(thread: ThreadPoolExecutor, work: Callable[[], None]) -> None:
    await asyncio.get_running_loop().run_in_executor(thread, work)
