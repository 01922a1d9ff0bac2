"""The records that are to be exported, read from the segments in order. Blocking; `exporter.py` calls it
from a thread.

Unlike `reading.py` it begins after a number, and never reads beyond what the log says is written: a line that
is on the disk may still be taken back.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

from regate_adapters.audit.lines import digest_of, head_of, spelt
from regate_adapters.audit.lists import MARK
from regate_adapters.audit.reading import SegmentLines
from regate_adapters.audit.segments import first_number, segments_in

_log = logging.getLogger("regate.audit")

_MOST_RECORDS: Final = 256
_MOST_BYTES: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class Exported:
    """A record on its way out: its number, its time, the digest of its line, and the record with its lists
    whole, which `text` spells as JSON.
    """

    seq: int
    at: str
    digest: str
    record: Mapping[str, Any]
    text: bytes


class RecordSource:
    """The records after a number. `skipped` counts those that were deleted before they were read."""

    def __init__(self, directory: Path, *, after: int) -> None:
        self._directory = directory
        self._next = after + 1
        self._file: BinaryIO | None = None
        self._segment = 0
        self._lines = SegmentLines()
        self.skipped = 0

    def more(self, *, up_to: int) -> list[Exported]:
        """Return the next records, as many as go together, none beyond the number. Raises `OSError`."""
        batch: list[Exported] = []
        size = 0
        while self._next <= up_to and len(batch) < _MOST_RECORDS and size < _MOST_BYTES:
            line = self._line()
            if line is None:
                break
            if (exported := self._take(line)) is not None:
                batch.append(exported)
                size += len(exported.text)
        return batch

    def close(self) -> None:
        """Close the segment."""
        if self._file is not None:
            self._file.close()
        self._file = None

    def _line(self) -> bytes | None:
        """Return the next whole line; None where there is none."""
        while True:
            if self._file is not None:
                line = self._file.readline()
                if line.endswith(b"\n"):
                    return line
                self._file.seek(-len(line), 1)
            if not self._open_next():
                return None

    def _open_next(self) -> bool:
        """Open the segment that goes on from here; return whether there is one."""
        numbers = {first_number(path): path for path in segments_in(self._directory)}
        later = [number for number in numbers if number > self._segment]
        begun = [number for number in later if number <= self._next]
        # At first the one that holds the next record; from then on the one after, whatever was deleted.
        chosen = max(begun) if begun and self._file is None else min(later, default=None)
        if chosen is None:
            return False
        self.close()
        self._segment, self._lines = chosen, SegmentLines()
        self._file = numbers[chosen].open("rb")
        return True

    def _take(self, line: bytes) -> Exported | None:
        """Return what is exported of the line; None for what was exported before, and what is no record."""
        head = head_of(line)
        _, record = self._lines.take(line)
        if head is None or record is None:
            _log.warning("audit_unreadable", extra={"segment": self._segment, "line": self._lines.count})
            return None
        if head.seq < self._next:
            return None
        self.skipped += head.seq - self._next
        self._next = head.seq + 1
        text = spelt(record) if MARK in line else line.rstrip(b"\n")
        return Exported(head.seq, head.at, digest_of(line), record, text)
