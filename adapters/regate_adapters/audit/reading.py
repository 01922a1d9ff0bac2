"""Reading the audit log, for operators: whole records in their order, also while the log is being written."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from regate_adapters.audit.lines import read_line
from regate_adapters.audit.lists import MARK, WholeLists
from regate_adapters.audit.segments import logs_in, segments_in

_log = logging.getLogger("regate.audit")


def read(
    directory: Path, *, request_id: str | None = None, response_id: str | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the records of the request and of the response, if given; else all, one worker's log after the
    other. A line that is no whole record is logged and left out.
    """
    wanted = {
        name: value
        for name, value in (("request_id", request_id), ("response_id", response_id))
        if value is not None
    }
    for log in logs_in(directory):
        for record in AuditLogReader(log, mentioning=next(iter(wanted.values()), None)).more():
            if all(record.get(name) == value for name, value in wanted.items()):
                yield record


class AuditLogReader:
    """One reading of an audit log, from its beginning on: each record once, in order, as often as `more` is
    asked for those that have come since.

    With `mentioning` only records that hold this text. Segments that were not written to since `since`, in
    epoch seconds, are passed over.
    """

    def __init__(self, directory: Path, *, mentioning: str | None = None, since: float = 0.0) -> None:
        self._directory = directory
        self._mentioning = mentioning
        self._since = since
        self._segment: Path | None = None
        self._lines = SegmentLines(mentioning)
        self._offset = 0

    def more(self) -> Iterator[dict[str, Any]]:
        """Yield the records that were not yielded yet. A line that is no whole record, and no
        beginning of one, is logged and left out.
        """
        for segment in segments_in(self._directory):
            if self._segment is not None and segment.name < self._segment.name:
                continue
            with suppress(FileNotFoundError):  # deleted or moved since it was listed, as old ones are
                yield from self._rest(segment)

    def _rest(self, segment: Path) -> Iterator[dict[str, Any]]:
        with segment.open("rb") as file:
            if self._segment != segment:
                if os.fstat(file.fileno()).st_mtime < self._since:
                    return
                self._segment, self._offset, self._lines = segment, 0, SegmentLines(self._mentioning)
            file.seek(self._offset)
            for line in file:
                if not line.endswith(
                    b"\n"
                ):  # still being written, or cut off when the gateway was: then what comes next begins anew
                    return
                self._offset += len(line)
                is_wanted, record = self._lines.take(line)
                if is_wanted and record is not None:
                    yield record
                elif is_wanted:
                    _log.warning(
                        "audit_unreadable", extra={"segment": segment.name, "line": self._lines.count}
                    )


class SegmentLines:
    """The lines of one segment, taken in from its first on, since a line's lists may stand in lines
    before it.
    """

    def __init__(self, mentioning: str | None = None) -> None:
        self._needle = b"" if mentioning is None else mentioning.encode()
        self._lists = WholeLists()
        self.count = 0

    def take(self, line: bytes) -> tuple[bool, dict[str, Any] | None]:
        """Return whether the line is wanted, and its record, its lists whole; None where there is no
        whole, well-formed one.
        """
        self.count += 1
        is_wanted, has_lists = self._needle in line, MARK in line
        if not (is_wanted or has_lists):
            return False, None
        record = read_line(line)
        try:
            if record is not None and has_lists:
                self._lists.learn(record)
                record = self._lists.whole(record) if is_wanted else record
        except (KeyError, TypeError, ValueError, AttributeError):  # not a line of ours
            record = None
        return is_wanted, record


def read_segment(
    segment: Path, *, mentioning: str | None = None, is_finished: bool = False
) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield each line's number and its record, the lists in it whole; None where there is no whole,
    well-formed one. Raises `OSError`.

    With `mentioning` only lines that hold this text; few others are read then. A file that is finished may
    lack the end of its last line.
    """
    lines = SegmentLines(mentioning)
    with segment.open("rb") as file:
        for line in file:
            is_wanted, record = lines.take(line + b"\n" if is_finished and not line.endswith(b"\n") else line)
            if is_wanted:
                yield lines.count, record
