"""Logging: one JSON object per line on standard error. Only listed extra fields are written, so that
no call can log a token by accident.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

_FIELDS: Final = (
    *(
        "request_id",
        "method",
        "path",
        "status",
        "ms",
        "complete",
        "store",
        "file",
        "response_id",
        "upstream",
        "detail",
        "count",
    ),
    *(
        "cause",
        "code",
        "command",
        "rule",
        "revision",
        "problem",
        "in_force",
        "lacking",
        "words",
        "after_s",
        "segment",
        "line",
    ),
    *(
        "bytes",
        "lost",
        "outcome",
        "body",
        "response",
        "conversation",
        "instead",
        "from_revision",
        "to_revision",
    ),
    *(
        "version",
        "address",
        "configuration",
        "data_dir",
        "gone",
        "for_s",
        "limit",
        "destination",
        "seq",
        "part",
    ),
    "number",
)
"""The extra fields that a log call may carry."""

_LONGEST: Final = 16_384
_RESERVED: Final[Mapping[str, int]] = {
    "uvicorn.error": logging.WARNING,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "httpx2": logging.WARNING,
    "httpcore2": logging.WARNING,
    "mcp": logging.CRITICAL,
    "client": logging.CRITICAL,
    "opentelemetry": logging.CRITICAL,
    "urllib3": logging.CRITICAL,
}
"""Loggers of libraries that write addresses with query strings, headers or what a server sent, each with the
least severity at which it writes none. `client` is the MCP SDK's.
"""


class JsonLines(logging.Formatter):
    """Formats a record as one line: line ends and control characters are escaped by JSON. Of a worker each
    says its number.
    """

    def __init__(self, worker: int | None = None) -> None:
        super().__init__()
        self._own: dict[str, object] = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, object] = {
            "at": at,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._own,
        }
        line |= {name: getattr(record, name) for name in _FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)[-_LONGEST:]
        return json.dumps(
            line, default=str, separators=(",", ":")
        )  # ASCII only: no text can move a terminal's cursor


def configure_logging(level: str, *, worker: int | None = None) -> None:
    """Send all logging of this process, a worker's with its number, to standard error as JSON lines, from
    this level on. Replaces what was configured before.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines(worker))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name, least in _RESERVED.items():
        logging.getLogger(name).setLevel(max(root.level, least))
