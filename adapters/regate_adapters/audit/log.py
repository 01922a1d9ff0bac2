"""`SegmentedAuditLog`: the audit port over local files. Records that arrive together are written together;
each caller waits for its own (I12).

Not how a record is spelt (`lines.py`), nor where the files begin and end (`segments.py`). The files are
append-only, numbered without gaps, chained, and safe to read while they grow (`reading.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Self, TypeAlias, TypeVar

from regate_adapters.audit.checkpoints import Checkpoint, Checkpointing
from regate_adapters.audit.copying import CheckpointCopies
from regate_adapters.audit.lines import Position
from regate_adapters.audit.segments import Entry, Segments
from regate_orchestrator.errors import AuditUnavailable
from regate_orchestrator.values import Clock, JsonObject, wall_clock

_log = logging.getLogger("regate.audit")

_T = TypeVar("_T")

OnFailure: TypeAlias = Literal["block", "count"]
OnWritten: TypeAlias = Callable[[Position], None]
"""Is told where each record stands, in the context of whoever recorded it."""

_ROTATE_BYTES: Final = 64 * 1024 * 1024
_DEADLINE_SECONDS: Final = 5.0
_MAX_TOGETHER: Final = 1_000
_RETRY_SECONDS: Final = 1.0


@dataclass(slots=True)
class _Waiting:
    """A record on its way. `abandoned` once its caller was told that it is lost."""

    entry: Entry
    written: asyncio.Future[Position]
    abandoned: bool = False


class SegmentedAuditLog:
    """The audit log on this machine's disk. Made by `open` alone."""

    def __init__(
        self,
        segments: Segments,
        making: Checkpointing | None,
        *,
        on_failure: OnFailure,
        on_written: OnWritten | None,
        deadline_s: float,
        clock: Clock,
    ) -> None:
        self._segments = segments
        self._making = making
        self._copies = (
            None
            if making is None
            else CheckpointCopies(making.copies, last=self.last_written, on_cut=self._tell_of_cut)
        )
        self._on_failure = on_failure
        self._on_written = on_written
        self._deadline_s = deadline_s
        self._clock = clock
        self._checkpoint_at: float | None = None
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
        checkpoints: Checkpointing | None = None,
        on_failure: OnFailure = "block",
        on_written: OnWritten | None = None,
        rotate_bytes: int = _ROTATE_BYTES,
        deadline_s: float = _DEADLINE_SECONDS,
        clock: Clock = wall_clock,
    ) -> AsyncIterator[Self]:
        """Yield the log, its numbers going on from the last record in the directory; on leaving, what was
        recorded is written.

        `durable` waits for the disk, and so survives a loss of power; without it a record survives the end of
        this process only. With `on_failure="count"` a record that cannot be written is counted in `lost`, and
        in a `gap` record as soon as writing works again. With `checkpoints` they are made as that says, at
        the end of each segment, and on leaving. Raises `ConfigurationError` when the directory cannot be used
        or is another process's.
        """
        segments = Segments(directory, durable=durable, rotate_bytes=rotate_bytes, making=checkpoints)
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="regate-audit") as thread:
            await _run(thread, lambda: segments.open(clock()))
            log = cls(
                segments,
                checkpoints,
                on_failure=on_failure,
                on_written=on_written,
                deadline_s=deadline_s,
                clock=clock,
            )
            try:
                async with asyncio.TaskGroup() as group:
                    flusher = group.create_task(log._flush(thread), name="audit-flusher")
                    if log._copies is not None:
                        group.create_task(log._copies.work(), name="audit-copies")
                    try:
                        yield log
                    finally:
                        log._closed = True
                        log._wake.set()
                        await flusher
                        if log._copies is not None:
                            log._copies.close()
            except BaseExceptionGroup as group:  # what whoever uses the log raised is raised as it was
                raise group.exceptions[0] from None
            finally:
                await _run(thread, segments.close)

    @property
    def last_written(self) -> int:
        """Return the number of the last record that is written, and will not be taken back."""
        return self._segments.next_sequence - 1

    @property
    def copies_failed(self) -> int:
        """Return how many copies of checkpoints could not be written."""
        return 0 if self._copies is None else self._copies.failures

    async def record(self, record: JsonObject) -> None:
        """Append one record; when this returns it is written. Raises `AuditUnavailable` when it is
        not, unless losses are only counted.
        """
        try:
            position = await self._append(record)
            if self._on_written is not None:
                self._on_written(position)
        except AuditUnavailable as error:
            if self._on_failure == "block":
                raise
            self._unreported += 1
            self.lost += 1
            _log.error("audit_lost", extra={"lost": self.lost, "cause": error.detail})

    async def _tell_of_cut(self, copied: Checkpoint) -> None:
        """Log and record that the log ended before this checkpoint when it was opened."""
        _log.error("audit_cut", extra={"seq": copied.seq, "detail": f"it was signed at {copied.at}"})
        with suppress(AuditUnavailable):
            await self.record({"kind": "audit.cut", "signed": copied.seq, "signed_at": copied.at})

    async def _append(self, record: JsonObject) -> Position:
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
                return await waiting.written
        except TimeoutError as error:
            waiting.abandoned = True
            raise AuditUnavailable(f"not written within {self._deadline_s} s") from error

    async def _flush(self, thread: ThreadPoolExecutor) -> None:
        self._checkpoint_soon(delay_s=0)  # of what an earlier process left without one
        while True:
            await self._woken()
            while self._pending:
                batch, self._pending = self._pending[:_MAX_TOGETHER], self._pending[_MAX_TOGETHER:]
                await self._write(thread, [waiting for waiting in batch if not waiting.abandoned])
            if self._closed:
                await self._write(thread, [])
                return
            if self._is_checkpoint_due():
                await self._write(thread, [])

    async def _woken(self) -> None:
        """Return when there is something to write, or a checkpoint to make."""
        if self._checkpoint_at is None:
            await self._wake.wait()
        else:
            with suppress(TimeoutError):
                async with asyncio.timeout_at(self._checkpoint_at):
                    await self._wake.wait()
        self._wake.clear()

    async def _write(self, thread: ThreadPoolExecutor, batch: list[_Waiting]) -> None:
        """Write the batch and tell its callers. Records lost before are told of first, in the same write, and
        a checkpoint that is due comes last.
        """
        gap = self._unreported
        told = [Entry.of(self._clock(), {"kind": "gap", "lost": gap})] if gap else []
        entries = told + [waiting.entry for waiting in batch]
        at = entries[-1].at if entries else self._clock()
        checkpoint = self._closed or self._is_checkpoint_due()
        try:
            positions = await _run(
                thread, lambda: self._segments.append(entries, at=at, checkpoint=checkpoint)
            )
        except OSError as error:
            self._checkpoint_soon(delay_s=_RETRY_SECONDS)
            for waiting in batch:
                if not waiting.written.done():
                    waiting.written.set_exception(
                        AuditUnavailable(f"{type(error).__name__}: {error.strerror}")
                    )
            return
        self._unreported -= gap
        for waiting, position in zip(batch, positions[len(told) :], strict=True):
            if waiting.abandoned:  # counted as lost, and written after all
                self._found_again()
            if not waiting.written.done():
                waiting.written.set_result(position)
        self._after_checkpoint()

    def _is_checkpoint_due(self) -> bool:
        return self._checkpoint_at is not None and asyncio.get_running_loop().time() >= self._checkpoint_at

    def _checkpoint_soon(self, *, delay_s: float) -> None:
        """Have a checkpoint made after this time, where there are records without one."""
        if self._making is not None and self._segments.unsigned:
            self._checkpoint_at = asyncio.get_running_loop().time() + delay_s

    def _after_checkpoint(self) -> None:
        """Have the copy made of a checkpoint that was written, and see to it that the next one comes."""
        if self._making is None or self._copies is None:
            return
        if (line := self._segments.checkpoint) is not None:
            self._segments.checkpoint = None
            self._copies.offer(line)
        if not self._segments.unsigned:
            self._checkpoint_at = None
        elif self._checkpoint_at is None or self._is_checkpoint_due():
            self._checkpoint_soon(delay_s=self._making.every_s)

    def _found_again(self) -> None:
        if self._on_failure == "count":
            self._unreported -= 1
            self.lost -= 1


async def _run(thread: ThreadPoolExecutor, work: Callable[[], _T]) -> _T:
    return await asyncio.get_running_loop().run_in_executor(thread, work)
