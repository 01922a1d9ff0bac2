"""The text of Word's older documents (6 to 2003), by the tables in the file. A part of `formats.py`."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO, Final

import olefile

from regate_adapters.files.text.code_pages import WINDOWS, of_language
from regate_adapters.files.text.packages import refuse_protected
from regate_adapters.files.text.plain_text import probable_encoding
from regate_adapters.files.text.unreadable import Unreadable, damaged, protected

_WORD_97: Final = 0xA5EC
_WORD_6: Final = frozenset({0xA5DC, 0xA697, 0xA698, 0xA699})
"""Word 6 and 95; the others were sold in East Asia."""
_OLDEST: Final = b"\xdb\xa5"
_LOCKED: Final = 1
_IN_PIECES: Final = 4
_TABLE_PLACE: Final = 0x01A2
_TABLE_PLACE_OF_6: Final = 0x0160
_MACINTOSH: Final = 256
_SPACES: Final = bytes(code if code > 31 else 32 for code in range(256))
_SPECIAL: Final = {7: "\t", 11: "\n", 12: "\n", 13: "\n\n", 30: "-", 31: "", 160: " "}


def doc_text(file: BinaryIO) -> Iterator[str]:
    """Yield the document's text, its notes and headers after it: the pieces of which the table in the
    file says where they lie.
    """
    refuse_protected(file)
    if file.read(2) == _OLDEST:
        raise Unreadable("invalid_file", "The file is of a Word older than 6: save it as .docx.")
    file.seek(0)
    try:
        with olefile.OleFileIO(file) as compound:
            main = compound.openstream("WordDocument").read()
            (kind,) = struct.unpack_from("<H", main)
            table = (
                compound.openstream("1Table" if main[0x0B] & 2 else "0Table").read()
                if kind == _WORD_97
                else b""
            )
    except (OSError, IndexError, struct.error):
        raise damaged() from None
    if main[0x0B] & _LOCKED:
        raise protected()
    try:
        yield _visible("".join(_pieces_of_6(main) if kind in _WORD_6 else _pieces(main, table)))
    except struct.error:
        raise damaged() from None


def _pieces(main: bytes, table: bytes) -> Iterator[str]:
    start, size = struct.unpack_from("<II", main, _TABLE_PLACE)
    for place, characters in _places(table[start : start + size]):
        if place & 0x40000000:
            begin = (place & 0x3FFFFFFF) // 2
            yield main[begin : begin + characters].decode("cp1252", errors="replace")
        else:
            yield main[place : place + 2 * characters].decode("utf-16-le", errors="replace")


def _pieces_of_6(main: bytes) -> Iterator[str]:
    begin, end, start, size = struct.unpack_from("<II", main, 0x18) + struct.unpack_from(
        "<II", main, _TABLE_PLACE_OF_6
    )
    places = _places(main[start : start + size]) if main[0x0A] & _IN_PIECES else [(begin, end - begin)]
    text = b"".join(main[place : place + length] for place, length in places)
    yield text.decode(_encoding(main, text), errors="replace")


def _encoding(main: bytes, text: bytes) -> str:
    """Return how the text is encoded: by the machine and the language that the file names, else by
    what the text looks like.
    """
    (language,) = struct.unpack_from("<H", main, 6)
    (machine,) = struct.unpack_from("<H", main, 0x14)
    if machine == _MACINTOSH:
        return "mac_roman"
    named = of_language(language)
    return named if named != WINDOWS else probable_encoding(text.translate(_SPACES)) or WINDOWS


def _places(pieces: bytes) -> Iterator[tuple[int, int]]:
    """Yield where each piece begins, and how many characters it has."""
    while pieces[:1] == b"\x01":  # properties, which stand before the pieces
        pieces = pieces[3 + struct.unpack_from("<H", pieces, 1)[0] :]
    (length,) = struct.unpack_from("<I", pieces, 1)
    count = (length - 4) // 12
    ends = struct.unpack_from(f"<{count + 1}I", pieces, 5)
    for number in range(count):
        (place,) = struct.unpack_from("<I", pieces, 5 + 4 * (count + 1) + 8 * number + 2)
        yield place, ends[number + 1] - ends[number]


def _visible(text: str) -> str:
    """Return the text without the instructions of fields, of which only the results are seen."""
    shown: list[str] = []
    instructions: list[bool] = []
    for character in text:
        code = ord(character)
        if code == 19:
            instructions.append(True)
        elif code == 20 and instructions:
            instructions[-1] = False
        elif code == 21 and instructions:
            instructions.pop()
        elif not any(instructions):
            shown.append(_SPECIAL.get(code, character if code >= 32 or character in "\t\n" else ""))
    return "".join(shown)
