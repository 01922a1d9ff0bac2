"""Patterns that begin with a word of their own. The words are looked for first, which costs next to nothing,
and a pattern is tried only where one of its words is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator


class Anchored:
    """Patterns, each with the words that a match of it begins with. A pattern must repeat within bounds."""

    def __init__(self, patterns: Iterable[tuple[Iterable[str], str]]) -> None:
        self._patterns = [
            (word, compiled)
            for words, pattern in patterns
            for compiled in (re.compile(pattern),)
            for word in words
        ]

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the places of matches. Those of different words may overlap."""
        for word, pattern in self._patterns:
            at = text.find(word)
            while at >= 0:
                match = pattern.match(text, at)
                if match is not None:
                    yield match.span()
                at = text.find(word, at + 1 if match is None else match.end())
