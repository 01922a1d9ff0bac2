"""Chunks in memory, as a search needs them: their vectors, and for each word where it is. A segment never
changes; what is added makes another one, and small ones are merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

Places: TypeAlias = NDArray[np.int64]
Truth: TypeAlias = NDArray[np.bool_]

_MOST_GATHERED: Final = 0.3
"""Measured: from about a third of the rows on, computing all similarities is sooner done than picking rows.
"""


@dataclass(frozen=True, slots=True)
class Segment:
    """Some chunks in the order of their numbers. `stamps` has for each the place of its stamp among those
    of its partition, and -1 for a stamp of another schema version.

    `words` has each word's number once, ascending; the rows with the word at place i, and how often each has
    it, are those from `starts[i]` to `starts[i + 1]`.
    """

    numbers: Places
    stamps: Places
    vectors: NDArray[np.float32]
    lengths: NDArray[np.int64]
    words: NDArray[np.uint64]
    starts: Places
    rows: NDArray[np.int32]
    counts: NDArray[np.uint16]

    @property
    def size(self) -> int:
        """Return how many bytes it takes."""
        return sum(
            array.nbytes
            for array in (self.numbers, self.stamps, self.vectors, self.lengths, self.words, self.starts)
        ) + (self.rows.nbytes + self.counts.nbytes)

    def similarities(self, places: Places, query: NDArray[np.float32]) -> NDArray[np.float64]:
        """Return the cosine similarities of these rows, cut to the range 0 to 1. Vectors and query are of
        unit length.

        Each is computed from its own row alone, to the last bit: a product of matrices would let the number
        of rows choose the order of summation (a test compares).
        """
        if len(places) > _MOST_GATHERED * len(self.numbers):
            found = np.einsum("ij,j->i", self.vectors, query)[places]
        else:
            found = np.einsum("ij,j->i", self.vectors[places], query)
        return np.asarray(np.clip(found.astype(np.float64), 0.0, 1.0), dtype=np.float64)

    def having(self, word: int) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """Return the rows with the word, and how often each has it."""
        place = int(np.searchsorted(self.words, np.uint64(word)))
        if place == len(self.words) or int(self.words[place]) != word:
            return self.rows[:0], self.counts[:0]
        span = slice(int(self.starts[place]), int(self.starts[place + 1]))
        return self.rows[span], self.counts[span]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Chunks as they were read: the words of all, one after the other; `distinct` is how many each has."""

    numbers: Places
    stamps: Places
    vectors: NDArray[np.float32]
    words: NDArray[np.uint64]
    counts: NDArray[np.uint16]
    distinct: Places


def segment_of(loaded: Loaded) -> Segment:
    """Return the segment of chunks that were read."""
    rows = np.repeat(np.arange(len(loaded.numbers), dtype=np.int32), loaded.distinct)
    lengths = np.bincount(rows, weights=loaded.counts, minlength=len(loaded.numbers)).astype(np.int64)
    return _indexed(loaded.numbers, loaded.stamps, loaded.vectors, lengths, loaded.words, rows, loaded.counts)


def merged(segments: Sequence[Segment], live: Sequence[Truth]) -> Segment:
    """Return one segment of the live rows of several that follow each other."""
    offset = 0
    numbers, stamps, vectors, lengths = [], [], [], []
    words, rows, counts = [], [], []
    for segment, kept in zip(segments, live, strict=True):
        moved = np.cumsum(kept) - 1 + offset
        stays = kept[segment.rows]
        words.append(np.repeat(segment.words, np.diff(segment.starts))[stays])
        rows.append(moved[segment.rows][stays].astype(np.int32))
        counts.append(segment.counts[stays])
        numbers.append(segment.numbers[kept])
        stamps.append(segment.stamps[kept])
        vectors.append(segment.vectors[kept])
        lengths.append(segment.lengths[kept])
        offset += int(kept.sum())
    return _indexed(
        np.concatenate(numbers),
        np.concatenate(stamps),
        np.concatenate(vectors),
        np.concatenate(lengths),
        np.concatenate(words),
        np.concatenate(rows),
        np.concatenate(counts),
    )


def _indexed(
    numbers: Places,
    stamps: Places,
    vectors: NDArray[np.float32],
    lengths: NDArray[np.int64],
    words: NDArray[np.uint64],
    rows: NDArray[np.int32],
    counts: NDArray[np.uint16],
) -> Segment:
    order = np.argsort(words, kind="stable")
    ordered = words[order]
    distinct, starts = np.unique(ordered, return_index=True)
    ends = np.append(starts, len(ordered)).astype(np.int64)
    return Segment(numbers, stamps, vectors, lengths, distinct, ends, rows[order], counts[order])
