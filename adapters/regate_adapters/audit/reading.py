"""Reading the spool, for operators: whole records in their order, also while the log is being written."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regate_adapters.audit.lines import read_line
from regate_adapters.audit.segments import segments_in

_log = logging.getLogger("regate.audit")


def read(directory: Path, *, request_id: str | None = None, response_id: str | None = None) -> Iterator[dict[str, Any]]:
    """Yield the records of the request and of the response, if given; else all. A line that is no whole record is logged and left out."""
    wanted = {name: value for name, value in (("request_id", request_id), ("response_id", response_id)) if value is not None}
    for segment in segments_in(directory):
        with segment.open("rb") as file:
            for number, line in enumerate(file, start=1):
                record = read_line(line)
                if record is None:
                    _log.warning("audit_unreadable", extra={"segment": segment.name, "line": number})
                elif all(record.get(name) == value for name, value in wanted.items()):
                    yield record
