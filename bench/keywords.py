"""Search by words alone (Okapi BM25), to compare with: what a search without any model finds. Not a
benchmark of its own.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Final

from regate_adapters.files.splitting import split

_SATURATION: Final = 1.5
_LENGTH_MATTERS: Final = 0.75
_WORD: Final = re.compile(r"\w+")


class Keywords:
    """The chunks of some files, split as ingestion splits them."""

    def __init__(self, files: Mapping[str, str]) -> None:
        chunks = [
            (name, chunk)
            for name, text in files.items()
            for chunk in split(text, filename=name, max_tokens=800, overlap_tokens=400)
        ]
        self._names = [name for name, _ in chunks]
        self._counts = [Counter(_WORD.findall(chunk.casefold())) for _, chunk in chunks]
        self._lengths = [counts.total() for counts in self._counts]
        self._usual = sum(self._lengths) / len(chunks)
        self._holding = Counter(word for counts in self._counts for word in counts)

    def search(self, query: str, most: int) -> list[str]:
        """Return the files of the best chunks, best first."""
        words = _WORD.findall(query.casefold())
        scores = [sum(self._score(word, place) for word in words) for place in range(len(self._names))]
        return [
            self._names[place]
            for place in sorted(range(len(scores)), key=lambda place: -scores[place])[:most]
        ]

    def _score(self, word: str, place: int) -> float:
        count, holding = self._counts[place][word], self._holding[word]
        rare = math.log(1 + (len(self._names) - holding + 0.5) / (holding + 0.5))
        damped = _SATURATION * (1 - _LENGTH_MATTERS + _LENGTH_MATTERS * self._lengths[place] / self._usual)
        return rare * count * (_SATURATION + 1) / (count + damped)
