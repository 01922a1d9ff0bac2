"""How strings, numbers and documents are spelt in PostgreSQL, and read back. The counterparts are the store
and its filter, which both use it.

PostgreSQL stores no NUL. So the first four code points are escaped, in text, in JSON and in what they are
compared with alike: each becomes U+0001 and two marks. The escape keeps what filters ask about, since it maps
each character on its own, no escaped text is part of another by accident, and the order of code points is the
order of the escaped (U+0000 to U+0003 stay the smallest, in their order).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from regate_orchestrator.ports import Chunk
from regate_orchestrator.values import FileId, Json

_ESCAPED: Final = {
    "\x00": "\x01\x02\x02",
    "\x01": "\x01\x02\x03",
    "\x02": "\x01\x03\x02",
    "\x03": "\x01\x03\x03",
}
_PLAIN: Final = {escape: character for character, escape in _ESCAPED.items()}
_NEEDS_ESCAPE: Final = re.compile("[\x00-\x03]")
_IS_ESCAPE: Final = re.compile("\x01[\x02\x03]{2}")
_MAX_EXACT: Final = 2**53


def stored_text(value: str) -> str:
    """Return the text as it lies in the database. Raises `ValueError` for a lone surrogate, which has
    no place in UTF-8.
    """
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("a text with a lone surrogate has no exact form in PostgreSQL") from None
    return _NEEDS_ESCAPE.sub(lambda found: _ESCAPED[found[0]], value)


def shown_text(value: str) -> str:
    """Return the text that was stored."""
    return _IS_ESCAPE.sub(lambda found: _PLAIN[found[0]], value)


def stored_json(value: Json) -> str:
    """Return the JSON text as it lies in the database. Raises `ValueError` for what it cannot hold
    exactly.
    """
    return json.dumps(_stored(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def shown_json(text: str | bytes) -> Any:
    """Return the value of a stored JSON text."""
    return _shown(json.loads(text))


def shown_chunk(
    identifier: str,
    file: str,
    index: int,
    text: str,
    stamp: str,
    attributes: str,
    vector: str,
    words: bytes | None,
    counts: bytes | None,
) -> Chunk:
    """Return the chunk that was stored in these columns."""
    return Chunk(
        shown_text(identifier),
        FileId(shown_text(file)),
        index,
        shown_text(text),
        json.loads(vector),
        shown_json(stamp),
        shown_json(attributes),
        words=None if words is None or counts is None else (words, counts),
    )


def _stored(value: Json) -> Any:
    match value:
        case None | bool() | int():
            return value
        case str():
            return stored_text(value)
        case float():
            # The shortest decimal of a large float is not the float: its digits past 2^53 would compare with
            # whole numbers wrongly.
            return int(value) if math.isfinite(value) and abs(value) >= _MAX_EXACT else value
        case Mapping():
            return {stored_text(str(key)): _stored(one) for key, one in value.items()}
        case _:
            return [_stored(one) for one in value]


def _shown(value: Any) -> Any:
    match value:
        case str():
            return shown_text(value)
        case dict():
            return {shown_text(key): _shown(one) for key, one in value.items()}
        case list():
            return [_shown(one) for one in value]
        case _:
            return value
