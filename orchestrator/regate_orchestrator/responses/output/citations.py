"""Citations: the markers (`【3】`) by which the model refers to a passage, taken out of its text as it
streams and turned into annotations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

_MARKER: Final = re.compile(r"[ \t]?【(\d{1,4})[^【】\n]{0,24}】")
_WORD: Final = re.compile(r"\w+")
_SENTENCE_END: Final = re.compile(r"[.!?。！？]\s+|\n+")
_RUN: Final = 4
_MAYBE_MARKER: Final = re.compile(r"[ \t]?(?:【(?:\d{1,4}[^【】\n]{0,24})?)?\Z")


def marker(number: int) -> str:
    """Return the marker that a passage carries in the prompt."""
    return f"【{number}】"


def without_markers(text: str) -> str:
    """Return a passage's text in which nothing reads as a marker, so that a document cannot make
    itself cited as another.
    """
    return text.replace("【", "[").replace("】", "]")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A piece of text without markers, the numbers cited with their positions in it, and the tail held
    back as it may begin a marker.
    """

    text: str
    cited: tuple[tuple[int, int], ...]
    held: str


def clean(held: str, piece: str, *, last: bool = False) -> Cleaned:
    """Return the piece without markers. Text is held back for at most a marker's length, and not at
    all when it is the last.
    """
    text = held + piece
    cut = len(text)
    if not last and (maybe := _MAYBE_MARKER.search(text)) is not None:
        cut = maybe.start()
    kept: list[str] = []
    cited: list[tuple[int, int]] = []
    position = length = 0
    for match in _MARKER.finditer(text, 0, cut):
        before = text[position : match.start()]
        kept.append(before)
        length += len(before)
        cited.append((int(match.group(1)), length))
        position = match.end()
    kept.append(text[position:cut])
    return Cleaned("".join(kept), tuple(cited), text[cut:])


def statement_start(text: str, end: int) -> int:
    """Return where the statement that ends at this place begins: after the sentence or line before it."""
    before = text[:end].rstrip()
    starts = [match.end() for match in _SENTENCE_END.finditer(before) if match.end() < len(before)]
    return starts[-1] if starts else 0


def quoted_by(answer: str) -> Callable[[str], bool]:
    """Return what tells of a passage whether the answer takes words over from it: four in a row, or all of
    them when the answer is shorter.

    For models that write no markers. An answer that only paraphrases is not recognised, which is better than
    citing what it never used.
    """
    said = _WORD.findall(answer.lower())
    length = min(_RUN, len(said))
    runs = set(_runs(said, length)) if length else set()

    def is_quoted(passage: str) -> bool:
        return bool(runs) and not runs.isdisjoint(_runs(_WORD.findall(passage.lower()), length))

    return is_quoted


def _runs(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return zip(*(words[start:] for start in range(length)), strict=False)
