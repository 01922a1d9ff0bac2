"""The encodings of documents of before Unicode, by what these say of their letters. A part of
`formats.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

WINDOWS: Final = "cp1252"

OF_CHARACTER_SETS: Final[Mapping[int, str]] = {
    0: WINDOWS,
    77: "mac_roman",
    128: "cp932",
    129: "cp949",
    130: "johab",
    134: "cp936",
    136: "cp950",
    161: "cp1253",
    162: "cp1254",
    163: "cp1258",
    177: "cp1255",
    178: "cp1256",
    186: "cp1257",
    204: "cp1251",
    222: "cp874",
    238: "cp1250",
    254: "cp437",
    255: "cp850",
}
"""By Windows' numbers of character sets, which fonts name."""

_OF_LANGUAGES: Final[Mapping[int, str]] = {
    **dict.fromkeys((0x01, 0x20, 0x29), "cp1256"),
    **dict.fromkeys((0x02, 0x19, 0x22, 0x23, 0x2F), "cp1251"),
    **dict.fromkeys((0x05, 0x0E, 0x15, 0x18, 0x1A, 0x1B, 0x1C, 0x24), "cp1250"),
    **dict.fromkeys((0x25, 0x26, 0x27), "cp1257"),
    0x04: "cp936",
    0x08: "cp1253",
    0x0D: "cp1255",
    0x11: "cp932",
    0x12: "cp949",
    0x1E: "cp874",
    0x1F: "cp1254",
    0x2A: "cp1258",
}
_TRADITIONAL_CHINESE: Final = frozenset({0x0404, 0x0C04, 0x1404})


def of_language(identifier: int) -> str:
    """Return the encoding of texts in a language, which is one of Windows' numbers."""
    return "cp950" if identifier in _TRADITIONAL_CHINESE else _OF_LANGUAGES.get(identifier & 0x3FF, WINDOWS)
