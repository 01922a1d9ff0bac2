"""Text without its disguises, for patterns to be looked for: invisible characters left out, and other forms
of ASCII characters as these. Places in it lead back to the text as it was.
"""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U0001d173-\U0001d17a\U000e0000-\U000e0fff]+"
)
_SPACES: Final = (
    "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
_DASHES: Final = "\u2010\u2011\u2012\u2013\u2014\u2212\ufe58\ufe63\uff0d"


def _forms() -> dict[int, str]:
    """Return the characters that are another form of one ASCII character, each with that."""
    ranges = ((0xFF01, 0xFF5E), (0x1D400, 0x1D7FF), (0x2460, 0x24FF), (0x0660, 0x06F9), (0x0966, 0x096F))
    forms = {ord(space): " " for space in _SPACES} | {ord(dash): "-" for dash in _DASHES}
    for first, last in ranges:
        for code in range(first, last + 1):
            character = chr(code)
            digit = unicodedata.decimal(character, None)
            plain = unicodedata.normalize("NFKC", character) if digit is None else str(digit)
            if len(plain) == 1 and plain.isascii():
                forms.setdefault(code, plain)
    return forms


_FORMS: Final = _forms()


@dataclass(frozen=True, slots=True)
class PlainText:
    """The text to look at. `starts` are the places in it at which something was left out before, and `shifts`
    how much was left out up to there.
    """

    text: str
    starts: tuple[int, ...] = ()
    shifts: tuple[int, ...] = ()

    def place(self, position: int) -> int:
        """Return where the character at this position is in the text as it was."""
        found = bisect_right(self.starts, position)
        return position + (self.shifts[found - 1] if found else 0)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where the characters from `start` to before `end` are, with all that lies between them."""
        return self.place(start), self.place(end - 1) + 1


def plain_text(text: str) -> PlainText:
    """Return the text without its disguises. It takes time in proportion to its length."""
    if text.isascii():
        return PlainText(text)
    same_length = text.translate(_FORMS)
    kept: list[str] = []
    starts: list[int] = []
    shifts: list[int] = []
    at = length = 0
    for match in _INVISIBLE.finditer(same_length):
        kept.append(same_length[at : match.start()])
        length += match.start() - at
        at = match.end()
        starts.append(length)
        shifts.append(at - length)
    return PlainText("".join((*kept, same_length[at:])), tuple(starts), tuple(shifts))
