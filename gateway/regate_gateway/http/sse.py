"""Server-sent events as bytes. Not which events there are (`regate_orchestrator.responses`), and not
when they are sent (the routes).
"""

from __future__ import annotations

import re
import secrets
from typing import Final

import orjson

from regate_orchestrator.values import JsonObject

HEADERS: Final[tuple[tuple[bytes, bytes], ...]] = (
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
)
"""Headers of every event stream; the last one asks proxies in between not to collect it."""

DONE: Final = b"data: [DONE]\n\n"
"""The last bytes of a stream that ended in order."""

_BLOCK: Final = 16
_NOISE: Final = secrets.token_urlsafe(12_288)
"""Padding is cut from here: it need not be secret, only of a length that hides the delta's."""

COMMENT: Final = b": keep-alive\n\n"
"""Bytes that every client ignores; sent in long silences, so that a lost connection is noticed, and a
living one not taken for dead.
"""

SILENCE_SECONDS: Final = 15.0
"""How long a stream may be silent: proxies commonly give up after 30 to 60 seconds."""


# JSON escapes the characters below U+0020 itself. These are the others at which some clients split lines, in
# UTF-8: U+0085, U+2028, U+2029.
_LINE_END: Final = re.compile(rb"\xc2\x85|\xe2\x80[\xa8\xa9]")


def one_line(body: JsonObject) -> bytes:
    """Return the JSON of an event or frame: one line to every client, also to one that splits where
    `str.splitlines` does.
    """
    text = orjson.dumps(body)
    return text if text.isascii() else _LINE_END.sub(_escaped, text)


def _escaped(match: re.Match[bytes]) -> bytes:
    return b"\\u%04x" % ord(match[0].decode())


def encode(name: str, body: JsonObject) -> bytes:
    """Return one named event, whole, so that one write sends it. Its data is one line, so no text can
    end the event early.
    """
    return b"event: " + name.encode("ascii") + b"\ndata: " + one_line(body) + b"\n\n"


def encode_obscured(name: str, body: JsonObject) -> bytes:
    """Return one named event, its delta padded."""
    return encode(name, obscured(body))


def obscured(body: JsonObject) -> JsonObject:
    """Return the event; one with a delta with random characters up to the next multiple of a block
    (OpenAI's `obfuscation`).
    """
    delta = body.get("delta")
    if not isinstance(delta, str):
        return body
    start = secrets.randbelow(len(_NOISE) - _BLOCK)
    return {
        **body,
        "obfuscation": _NOISE[start : start + _BLOCK - len(delta.encode("utf-8", "replace")) % _BLOCK],
    }


def encode_data(body: JsonObject) -> bytes:
    """Return one event without a name, as the chat completions of the OpenAI API have them."""
    return b"data: " + one_line(body) + b"\n\n"
