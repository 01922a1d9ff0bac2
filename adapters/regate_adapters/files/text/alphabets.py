"""Which letters beside ASCII's the languages of Europe write: text in the wrong encoding has those of
none. A part of `formats.py`.
"""

from __future__ import annotations

import re
from typing import Final

_WESTERN: Final = (
    "\u00e0\u00e2\u00e7\u00e8\u00e9\u00ea\u00eb\u00ee\u00ef\u00f4\u0153\u00f9\u00fb\u00fc\u00ff",  # French
    "\u00e1\u00e9\u00ed\u00f1\u00f3\u00fa\u00fc\u00e7\u00e0\u00e8\u00ef\u00f2",  # Spanish, Catalan
    # Portuguese, whose other letter stands before an e alone
    "\u00e1\u00e2\u00e3\u00e0\u00e7\u00e9\u00ea\u00ed\u00f3\u00f4\u00fa\u00fc",
    "\u00e0\u00e8\u00e9\u00ec\u00ed\u00ee\u00f2\u00f3\u00f9\u00fa",  # Italian
    "\u00e4\u00f6\u00fc\u00df\u00e9\u00e8\u00eb\u00ef\u00f3",  # German, Dutch
    "\u00e5\u00e4\u00f6\u00e9\u00fc\u00e0\u0161\u017e",  # Swedish, Finnish
    "\u00e6\u00f8\u00e5\u00e9\u00f3\u00f2\u00f4\u00fc",  # Danish, Norwegian
    "\u00e1\u00f0\u00e9\u00ed\u00f3\u00fa\u00fd\u00fe\u00e6\u00f6",  # Icelandic
    "\u00e4\u00f5\u00f6\u00fc\u0161\u017e",  # Estonian
)
_OTHERS: Final = (
    "\u0105\u0107\u0119\u0142\u0144\u00f3\u015b\u017a\u017c",  # Polish
    "\u00e1\u010d\u010f\u00e9\u011b\u00ed\u0148\u00f3\u0159\u0161\u0165\u00fa\u016f\u00fd\u017e",  # Czech
    # Slovak
    "\u00e1\u00e4\u010d\u010f\u00e9\u00ed\u013a\u013e\u0148\u00f3\u00f4\u0155\u0161\u0165\u00fa\u00fd\u017e",
    "\u00e1\u00e9\u00ed\u00f3\u00f6\u0151\u00fa\u00fc\u0171",  # Hungarian
    "\u0103\u00e2\u00ee\u015f\u0163\u0219\u021b",  # Romanian
    "\u010d\u0107\u0111\u0161\u017e",  # Croatian, Slovenian
    "\u00e7\u011f\u0131\u00f6\u015f\u00fc\u00e2\u00ee",  # Turkish
    (
        "\u0430\u0431\u0432\u0433\u0434\u0435\u0436\u0437\u0438\u0439\u043a\u043b\u043c\u043d\u043e\u043f\u0440\u0441\u0442\u0443\u0444\u0445"
        "\u0446\u0447\u0448\u0449\u044a\u044b\u044c\u044d\u044e\u044f\u0451\u0456\u0457\u0454\u0491"
    ),  # Russian, Bulgarian, Ukrainian
)
_ALPHABETS_OF_WEST: Final = tuple(map(frozenset, _WESTERN))
_ALPHABETS: Final = (*_ALPHABETS_OF_WEST, *map(frozenset, _OTHERS))
_MAX_FOREIGN: Final = 0.05
_NOWHERE: Final = re.compile("[aeiou]\u00e6")
"""What no language writes, and Croatian's letters look like in the encoding of the West."""


def is_western(text: str) -> bool:
    """Return whether the text's letters are those of one language of Western Europe, but for a few."""
    return _are_of_one(text, _ALPHABETS_OF_WEST)


def is_european(text: str) -> bool:
    """Return whether the text's letters are those of one language of Europe, but for a few."""
    return _are_of_one(text, _ALPHABETS)


def _are_of_one(text: str, alphabets: tuple[frozenset[str], ...]) -> bool:
    plain = text.lower().replace("\u00f5e", "oe")
    if _NOWHERE.search(plain):
        return False
    letters = [character for character in plain if character > "\x7f" and character.isalpha()]
    return any(
        sum(letter not in alphabet for letter in letters) <= _MAX_FOREIGN * len(letters)
        for alphabet in alphabets
    )
