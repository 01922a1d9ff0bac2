"""One record, one line: how audit records are spelt, and chained. Whatever a record holds, its line is one
line on every terminal and in every tool.

Each line names the digest of the line before it (`prev`), so a line's own digest stands for all that came
before: `sha256sum` over the lines is all that it takes to follow the chain.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, cast

import orjson

from regate_orchestrator.values import Json, JsonObject

# JSON escapes the characters below U+0020 itself. These are the others that end a line, move a cursor or turn
# the direction of text, in UTF-8: DEL, the C1 controls (U+009B begins an ANSI sequence), zero-width and
# bidirectional marks, U+2028, U+2029 and the byte order mark.
_UNPRINTABLE: Final = re.compile(
    rb"\x7f|\xc2[\x80-\x9f]|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf"
)
_OURS: Final = ("seq", "at", "prev")
_HEAD: Final = re.compile(
    rb'\{"seq":(?P<seq>[0-9]{1,18}),"at":"(?P<at>[0-9TZ:.-]{1,40})"(?:,"prev":"(?P<prev>[0-9a-f]{64})")?[,}]'
)

BEGINNING: Final = "0" * 64
"""What the first line of a log names as the digest before it."""


@dataclass(frozen=True, slots=True)
class Head:
    """What a line begins with. `prev` is None in logs of before there was a chain."""

    seq: int
    at: str
    prev: str | None


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record stands in its log: its number, its time, and the digest of its line."""

    seq: int
    at: str
    digest: str

    @property
    def receipt(self) -> str:
        """Return what names the record to somebody who is not to know its number."""
        return f"{self.at}/{self.digest}"


def body_of(record: JsonObject) -> bytes:
    """Return the record as the inside of a JSON object, without `seq`, `at` and `prev`, which are the
    log's own. Raises `TypeError` or `ValueError`.
    """
    return spelt({name: value for name, value in record.items() if name not in _OURS})[1:-1]


def spelt(value: Json) -> bytes:
    """Return the value as JSON that any terminal can show. Raises `TypeError` or `ValueError`."""
    try:
        text = orjson.dumps(value, default=_plain)
    except TypeError:
        # A lone surrogate or an integer past 64 bits, both of which a request can carry: the slower spelling
        # has both, in ASCII.
        text = json.dumps(value, default=_plain, allow_nan=False, separators=(",", ":")).encode()
    if text.isascii() and b"\x7f" not in text:  # as almost all records are
        return text
    return _UNPRINTABLE.sub(_escaped, text)


def line_of(sequence: int, at: str, prev: str, body: bytes) -> bytes:
    """Return the line of a record: its number, its time and the digest of the line before it first, then
    the inside of its object.
    """
    return b'{"seq":%d,"at":"%s","prev":"%s"%s%s}\n' % (
        sequence,
        at.encode(),
        prev.encode(),
        b"," if body else b"",
        body,
    )


def time_of(at: float) -> str:
    """Return the time as records have it."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def digest_of(line: bytes) -> str:
    """Return the digest of a whole line, its end included."""
    return hashlib.sha256(line).hexdigest()


def head_of(line: bytes) -> Head | None:
    """Return what the line begins with; None where that is not as this log writes it."""
    found = _HEAD.match(line)
    if found is None:
        return None
    prev = found["prev"]
    return Head(int(found["seq"]), found["at"].decode(), None if prev is None else prev.decode())


def read_line(line: bytes) -> dict[str, Any] | None:
    """Return the record in a line, or None when it is not a whole, well-formed one."""
    if not line.endswith(b"\n"):
        return None
    try:
        record = json.loads(
            line
        )  # not orjson, which refuses the lone surrogates that `body_of` may have escaped
    except ValueError:
        return None
    if not isinstance(record, dict) or not isinstance(record.get("seq"), int):
        return None
    return cast("dict[str, Any]", record)


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(match[0].decode())


def _plain(value: object) -> object:
    match value:
        case Mapping():
            return dict(value)
        case Sequence() | set() | frozenset() if not isinstance(value, bytes | bytearray | memoryview):
            return list(value)
        case _:
            raise TypeError(f"{type(value).__name__} is not JSON")
