"""Reading the spool, for operators: whole records in their order, also while the log is being written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regate_adapters.audit.lines import read_line
from regate_adapters.audit.lists import MARK, WholeLists
from regate_adapters.audit.segments import segments_in

_log = logging.getLogger("regate.audit")


def read(directory: Path, *, request_id: str | None = None, response_id: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records of the request and of the response, if given; else all. A line that is no whole record is logged and left out."""
    wanted = {name: value for name, value in (("request_id", request_id), ("response_id", response_id)) if value is not None}
    for segment in segments_in(directory):
        for number, record in read_segment(segment):
            if record is None:
                _log.warning("audit_unreadable", extra={"segment": segment.name, "line": number})
            elif all(record.get(name) == value for name, value in wanted.items()):
                yield record


def read_segment(segment: Path, *, mentioning: str | None = None, is_finished: bool = False) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """Yield each line's number and its record, the lists in it whole; None where there is no whole, well-formed one. Raises `OSError`.

    With `mentioning` only lines that hold this text; few others are read then. A file that is finished may lack the end of its last line.
    """
    needle, lists = b"" if mentioning is None else mentioning.encode(), WholeLists()
    with segment.open("rb") as file:
        for number, line in enumerate(file, start=1):
            wanted, has_lists = needle in line, MARK in line
            if not (wanted or has_lists):
                continue
            record = read_line(line + b"\n" if is_finished and not line.endswith(b"\n") else line)
            try:
                if record is not None and has_lists:
                    lists.learn(record)
                    record = lists.whole(record) if wanted else record
            except (KeyError, TypeError, ValueError, AttributeError):  # not a line of ours
                record = None
            if wanted:
                yield number, record
