"""The text of bytes that are text in some encoding. A part of `formats.py`."""

from __future__ import annotations

import codecs
import re
from typing import Final

import chardet

from regate_adapters.files.text.alphabets import is_european, is_western
from regate_adapters.files.text.code_pages import WINDOWS
from regate_adapters.files.text.plausible import is_gibberish, is_misread
from regate_adapters.files.text.unreadable import Unreadable

BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_ESCAPED: Final = re.compile(rb"\x1b[$(]|~\{")
"""How encodings of seven bits begin: they are valid UTF-8, and mean something else."""
_RARE: Final = re.compile(r"mac|hp|cp(?!866|874|9\d\d|1125|125\d)", re.IGNORECASE)
"""Encodings that are likelier a wrong guess than Windows-1252, where both could be meant."""
_IN_EUROPE: Final = re.compile(r"(windows-|cp)12(50|57)|iso-?8859-(2|3|4|10|13|14|15|16)$", re.IGNORECASE)
"""Encodings with which Windows-1252 shares most of its letters: of a few words either could be meant,
and the languages decide.
"""
_OF_OLDER_MACHINES: Final = ("cp850", "mac_roman", "cp852", "mac_cyrillic")
_WHOLE_FOR_EACH_CUT: Final = 20
_WIDE_SHARE: Final = 0.3
_SAMPLE: Final = 64 * 1024


def decode(data: bytes) -> str:
    """Return the text of the bytes: as their mark says, else UTF-8, else as it is most probably
    encoded. Raises `Unreadable`.
    """
    for mark, encoding in BOMS:
        if data.startswith(mark):
            return _checked(_decoded(data, encoding))
    if (wide := _wide(data)) is not None:
        return _checked(_decoded(data, wide))
    if not _ESCAPED.search(data[:_SAMPLE]) and (text := _nearly_utf8(data)) is not None:
        return _checked(text)
    return _checked(_decoded(data, probable_encoding(data) or "utf-8"))


def _wide(data: bytes) -> str | None:
    """Return which UTF-16 it is without a mark, of text that is mostly in ASCII: every second byte is
    zero then.
    """
    sample = data[:_SAMPLE]
    first, second = sample[::2].count(0), sample[1::2].count(0)
    enough = len(sample) * _WIDE_SHARE
    if second > enough and first == 0:
        return "utf-16-le"
    return "utf-16-be" if first > enough and second == 0 else None


def _nearly_utf8(data: bytes) -> str | None:
    """Return the text if it is in UTF-8, be it that a character here and there was cut."""
    text = data.decode(errors="replace")
    cut = text.count("\ufffd")
    return text if cut * _WHOLE_FOR_EACH_CUT <= sum(character > "\x7f" for character in text) else None


def probable_encoding(data: bytes) -> str | None:
    """Return the encoding that is most probable, of those that give what can be read."""
    guess = chardet.detect(_telling(data))["encoding"]
    western = _decoded(data, WINDOWS)
    windows_first = (
        guess is None
        or _RARE.match(guess)
        or (_IN_EUROPE.match(guess) and western is not None and is_western(_around(western)))
    )
    for encoding in (WINDOWS, guess) if windows_first else (guess, WINDOWS):
        text = None if encoding is None else _decoded(data, encoding)
        if text is not None and _is_readable(text):
            return encoding
    for encoding in _OF_OLDER_MACHINES:
        text = _decoded(data, encoding)
        if text is not None and _is_readable(text) and is_european(_around(text)):
            return encoding
    return None


def _is_readable(text: str) -> bool:
    return not (_CONTROLS.search(text) or is_gibberish(text) or is_misread(_around(text)))


def _telling(data: bytes) -> bytes:
    """Return a part of the bytes that begins where the first of them is not ASCII, or soon before."""
    first = next((place.start() for place in re.finditer(rb"[\x80-\xff\x1b]", data)), 0)
    begin = data.rfind(b"\n", 0, first) + 1
    return data[max(begin, first - _SAMPLE // 2) :][:_SAMPLE]


def _around(text: str) -> str:
    """Return the words that are not of ASCII alone: they are what the encoding decides."""
    return " ".join(word for word in text[:_SAMPLE].split() if not word.isascii())


def _decoded(data: bytes, encoding: str) -> str | None:
    try:
        return data.decode(encoding)
    except (UnicodeDecodeError, LookupError):
        return None


def _checked(text: str | None) -> str:
    if text is None:
        raise Unreadable(
            "invalid_file", "The file is not text in an encoding that can be told: save it as UTF-8."
        )
    if "\x00" in text:
        raise Unreadable("invalid_file", "The file is not text: it holds zero bytes.")
    return text
