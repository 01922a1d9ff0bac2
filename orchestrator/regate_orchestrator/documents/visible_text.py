"""Text as a person sees it: without characters that show nothing, in which instructions to a model hide."""

from __future__ import annotations

import unicodedata
from typing import Final

_UNSEEN: Final = frozenset({"Cc", "Cf", "Cn", "Co", "Cs"})
_FILLERS: Final = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")
_SPACES: Final = frozenset("\n\t")


def visible_text(text: str) -> str:
    """Return the text without control, invisible and unassigned characters; lines and tabs stay."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character for character in text.replace("\r\n", "\n") if character in _SPACES or _is_seen(character)
    )


def visible_line(text: str, *, most: int) -> str:
    """Return the text as one line of at most so many characters."""
    return " ".join(visible_text(text).split())[:most]


def _is_seen(character: str) -> bool:
    if character in _FILLERS or unicodedata.category(character) in _UNSEEN:
        return False
    return not ("\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef")
