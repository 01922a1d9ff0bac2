"""The audit log's files: numbered segments of whole lines, appended to by one process. Blocking; `audit
log.py` calls it from its own thread.

A segment is named for the number of its first record. A write that fails is taken back to the last whole
record, so a number is used once or not at all; until that has succeeded nothing more is written.

Each line names the digest of the line before it, across segments and restarts. Where checkpoints are made,
the last line of a full segment is one.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from regate_adapters.audit.checkpoints import Checkpointing, checkpoint_line, read_checkpoint
from regate_adapters.audit.lines import BEGINNING, Position, body_of, digest_of, line_of, read_line, time_of
from regate_adapters.audit.lists import LongList, WrittenLists, without_lists
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.values import JsonObject

_log = logging.getLogger("regate.audit")

_NAME: Final = re.compile(r"audit-([0-9]{16})\.jsonl")
_FOLDER: Final = re.compile(r"worker-([0-9]+)")
_CLOSED: Final = -1


@dataclass(frozen=True, slots=True)
class Entry:
    """When something was recorded, the body of its line, and the lists that were taken out of it. Made
    by `of`.
    """

    at: float
    body: bytes
    lists: tuple[LongList, ...]

    @classmethod
    def of(cls, at: float, record: JsonObject) -> Self:
        """Return the entry. Raises `TypeError` or `ValueError` for what is not JSON."""
        content, lists = without_lists(record)
        return cls(at, body_of(content), lists)


def logs_in(directory: Path) -> list[Path]:
    """Return the directories of all logs that a gateway with this audit directory wrote: its own, and one of
    each of its workers. Raises `OSError`.
    """
    folders = sorted(
        (int(found[1]), path) for path in directory.iterdir() if (found := _FOLDER.fullmatch(path.name))
    )
    workers = [path for _, path in folders if path.is_dir()]
    return workers if workers and not segments_in(directory) else [directory, *workers]


def worker_log(directory: Path, worker: int) -> Path:
    """Return the directory of a worker's log, by the worker's number."""
    return directory / f"worker-{worker}"


def worker_of(log: Path) -> int | None:
    """Return the number of the worker whose log this is; None for that of a gateway without workers."""
    found = _FOLDER.fullmatch(log.name)
    return None if found is None else int(found[1])


def segments_in(directory: Path) -> list[Path]:
    """Return the segments in the order of their records."""
    return sorted(path for path in directory.iterdir() if _NAME.fullmatch(path.name))


def first_number(segment: Path) -> int:
    """Return the number of the segment's first record, after which it is named."""
    return int(segment.name.removeprefix("audit-").removesuffix(".jsonl"))


class Segments:
    """The open end of the log. `next_sequence` is the number that the next record will have; `unsigned` says
    how many records there are since the last checkpoint, which `checkpoint` holds, where any are made.
    """

    def __init__(
        self, directory: Path, *, durable: bool, rotate_bytes: int, making: Checkpointing | None = None
    ) -> None:
        self._directory = directory
        self._durable = durable
        self._rotate_bytes = rotate_bytes
        self._making = making
        self._descriptor = _CLOSED
        self._lock = _CLOSED
        self._size = 0
        self._dirty = False
        self._lists = WrittenLists()
        self._tip = BEGINNING
        self.next_sequence = 1
        self.unsigned = 0
        self.checkpoint: bytes | None = None

    def open(self, at: float) -> None:
        """Take the directory for this process and find the end of the log.

        What a crash left half-written is set aside in a file of its own, logged, and recorded as the first
        new record. Raises `ConfigurationError` when the directory cannot be used, or is in use by another
        process.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._take()
            torn = self._recover()
            if torn:
                self.append([Entry.of(at, {"kind": "audit.torn", "bytes": torn})], at=at)
        except OSError as error:
            self.close()
            raise ConfigurationError(
                f"audit.path: {self._directory} cannot be used: {error.strerror}"
            ) from error

    def append(self, entries: Sequence[Entry], *, at: float, checkpoint: bool = False) -> list[Position]:
        """Write the entries as one run of records and return where each stands; when this returns they are
        written, and on the disk if durable. A checkpoint follows them when it is asked for or due.

        Raises `OSError` when they are not, in which case no number was used.
        """
        if not entries and not (checkpoint and self.unsigned):
            return []
        self._repair()
        self._follow()
        positions, lines = self._chained(entries)
        signed = self._checkpoint_after(positions, sum(map(len, lines)), at=at, asked=checkpoint)
        content = b"".join([*lines, signed or b""])
        self._dirty = True
        try:
            _write_all(self._descriptor, content)
            if self._durable:
                os.fdatasync(self._descriptor)
        except OSError:
            self._lists.drop()
            self._take_back()
            raise
        self._lists.keep()
        self._dirty = False
        self._size += len(content)
        self._advance(positions, signed)
        return positions

    def close(self) -> None:
        """Close the files and leave the directory to others."""
        for descriptor in (self._descriptor, self._lock):
            if descriptor != _CLOSED:
                os.close(descriptor)
        self._descriptor = self._lock = _CLOSED

    def _chained(self, entries: Sequence[Entry]) -> tuple[list[Position], list[bytes]]:
        """Return the lines of the entries, each naming the one before it, and where each will stand."""
        positions, lines, tip = [], [], self._tip
        for sequence, entry in enumerate(entries, self.next_sequence):
            body = entry.body + b"," + self._lists.spelt(entry.lists) if entry.lists else entry.body
            time = time_of(entry.at)
            line = line_of(sequence, time, tip, body)
            tip = digest_of(line)
            positions.append(Position(sequence, time, tip))
            lines.append(line)
        return positions, lines

    def _checkpoint_after(
        self, positions: Sequence[Position], size: int, *, at: float, asked: bool
    ) -> bytes | None:
        """Return the line of the checkpoint after these records; None when none is made or due."""
        making = self._making
        if making is None:
            return None
        is_due = self.unsigned + len(positions) >= making.every_records
        if not (asked or is_due or self._size + size >= self._rotate_bytes):
            return None
        sequence = self.next_sequence + len(positions)
        return checkpoint_line(sequence, at, positions[-1].digest if positions else self._tip, making)

    def _advance(self, positions: Sequence[Position], signed: bytes | None) -> None:
        self.next_sequence += len(positions) + (signed is not None)
        self.unsigned += len(positions) if self._making is not None else 0
        if positions:
            self._tip = positions[-1].digest
        if signed is not None:
            self._tip, self.checkpoint, self.unsigned = digest_of(signed), signed, 0

    def _take(self) -> None:
        self._lock = os.open(
            self._directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self.close()
            raise ConfigurationError(
                f"audit.path: {self._directory} is in use by another process; each needs its own"
            ) from error

    def _recover(self) -> int:
        """Open the last segment at its end; return how many bytes after its last whole record were
        set aside.
        """
        present = segments_in(self._directory)
        if not present:
            self._begin_segment()
            return 0
        last = present[-1]
        # A segment without a whole record still says in its name which number comes next.
        self.next_sequence = first_number(last)
        content = last.read_bytes()
        whole, sequence, line = _end_of_last_record(content)
        if sequence is not None:
            self.next_sequence = sequence + 1
        elif len(present) > 1:
            _, _, line = _end_of_last_record(present[-2].read_bytes())
        if line:
            self._tip = digest_of(line)
            self.unsigned = int(self._making is not None and read_checkpoint(line) is None)
        torn = content[whole:]
        if torn:
            _log.warning("audit_torn", extra={"segment": last.name, "bytes": len(torn)})
            self._set_aside(last, torn)
        self._open_segment(last, new=False)
        os.ftruncate(self._descriptor, whole)
        self._size = whole
        return len(torn)

    def _set_aside(self, segment: Path, torn: bytes) -> None:
        descriptor = os.open(
            segment.with_suffix(".torn"),
            os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC,
            0o600,
        )
        try:
            _write_all(descriptor, torn)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _follow(self) -> None:
        """Go on to a new segment when this one is full, or was taken away from under us."""
        gone = self._descriptor == _CLOSED or os.fstat(self._descriptor).st_nlink == 0
        if gone or self._size >= self._rotate_bytes:
            self._begin_segment()

    def _begin_segment(self) -> None:
        self._open_segment(self._directory / f"audit-{self.next_sequence:016d}.jsonl", new=True)
        self._lists.forget()
        self._size = 0

    def _open_segment(self, path: Path, *, new: bool) -> None:
        flags = (
            os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if new else 0)
        )
        descriptor = os.open(path, flags, 0o600)
        if self._descriptor != _CLOSED:
            os.close(self._descriptor)
        self._descriptor = descriptor
        if new and self._durable:
            _sync_directory(self._directory)

    def _repair(self) -> None:
        if self._dirty:
            os.ftruncate(self._descriptor, self._size)
            self._dirty = False

    def _take_back(self) -> None:
        try:
            self._repair()
        except OSError as error:
            _log.error("audit_not_taken_back", extra={"cause": error.strerror})


def _end_of_last_record(content: bytes) -> tuple[int, int | None, bytes]:
    """Return where the last whole record ends, its number and its line; 0, None and nothing when there is
    none.
    """
    end = content.rfind(b"\n") + 1
    while end:
        start = content.rfind(b"\n", 0, end - 1) + 1
        record = read_line(content[start:end])
        if record is not None:
            return end, record["seq"], content[start:end]
        end = start
    return 0, None, b""


def _write_all(descriptor: int, content: bytes) -> None:
    rest = memoryview(content)
    while rest:
        written = os.write(descriptor, rest)
        if not written:
            raise OSError(errno.EIO, "nothing was written")
        rest = rest[written:]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
