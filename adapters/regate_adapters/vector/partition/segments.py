"""Chunks in memory, as a search needs them: their vectors, and for each word where it is. A segment never
changes; what is added makes another one, and small ones are merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from regate_adapters.vector.partition.vectors import Floats, Holding, Places, Vectors
from regate_adapters.vector.words import number_of, words_of
from regate_orchestrator.ports import Chunk

Truth: TypeAlias = NDArray[np.bool_]

_MOST_COUNTED: Final = np.iinfo(np.uint16).max


@dataclass(frozen=True, slots=True)
class Segment:
    """Some chunks in the order of their numbers. `stamps` has for each the place of its stamp among those
    of its partition, and -1 for a stamp of another schema version.

    `words` has each word's number once, ascending; the rows with the word at place i, and how often each has
    it, are those from `starts[i]` to `starts[i + 1]`.
    """

    numbers: Places
    stamps: Places
    vectors: Vectors
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
            for array in (self.numbers, self.stamps, self.vectors.rows, self.lengths, self.words, self.starts)
        ) + (self.rows.nbytes + self.counts.nbytes)

    def having(self, word: int) -> tuple[NDArray[np.int32], NDArray[np.uint16]]:
        """Return the rows with the word, and how often each has it."""
        place = int(np.searchsorted(self.words, np.uint64(word)))
        if place == len(self.words) or int(self.words[place]) != word:
            return self.rows[:0], self.counts[:0]
        span = slice(int(self.starts[place]), int(self.starts[place + 1]))
        return self.rows[span], self.counts[span]


def words_of_chunk(chunk: Chunk) -> tuple[bytes, bytes]:
    """Return the words by which a chunk is found, as they are kept: those that another engine kept, where
    the chunk is of one.
    """
    return chunk.words or kept_words(chunk.sought)


def kept_words(text: str) -> tuple[bytes, bytes]:
    """Return a text's words as they are kept: their numbers, ascending, and how often each is there.
    `Words.of` reads them.
    """
    counted = sorted((number_of(word), min(often, _MOST_COUNTED)) for word, often in words_of(text).items())
    numbers = np.array([number for number, _ in counted], dtype=np.uint64)
    return numbers.tobytes(), np.array([often for _, often in counted], dtype=np.uint16).tobytes()


@dataclass(frozen=True, slots=True)
class Words:
    """The words of some texts: of all, one after the other; `distinct` is how many each text has."""

    numbers: NDArray[np.uint64]
    counts: NDArray[np.uint16]
    distinct: Places

    @classmethod
    def of(cls, numbers: Sequence[bytes], counts: Sequence[bytes]) -> Words:
        """Return the words of texts from what is kept of each."""
        return cls(
            np.frombuffer(b"".join(numbers), dtype=np.uint64),
            np.frombuffer(b"".join(counts), dtype=np.uint16),
            np.array([len(one) // 2 for one in counts], dtype=np.int64),
        )

    @property
    def rows(self) -> NDArray[np.int32]:
        """Return for each word the text that it is of."""
        return np.repeat(np.arange(len(self.distinct), dtype=np.int32), self.distinct)

    @property
    def lengths(self) -> Places:
        """Return how many words each text has, with repetitions."""
        return np.bincount(self.rows, weights=self.counts, minlength=len(self.distinct)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Loaded:
    """Chunks as they were read."""

    numbers: Places
    stamps: Places
    vectors: Floats
    words: Words


def segment_of(loaded: Loaded, holding: Holding) -> Segment:
    """Return the segment of chunks that were read, with their vectors held so."""
    words = loaded.words
    return _indexed(
        loaded.numbers,
        loaded.stamps,
        holding(loaded.vectors),
        words.lengths,
        words.numbers,
        words.rows,
        words.counts,
    )


def merged(segments: Sequence[Segment], live: Sequence[Truth], holding: Holding) -> Segment:
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
        vectors.append(segment.vectors.rows[kept])
        lengths.append(segment.lengths[kept])
        offset += int(kept.sum())
    return _indexed(
        np.concatenate(numbers),
        np.concatenate(stamps),
        holding(np.concatenate(vectors)),
        np.concatenate(lengths),
        np.concatenate(words),
        np.concatenate(rows),
        np.concatenate(counts),
    )


def _indexed(
    numbers: Places,
    stamps: Places,
    vectors: Vectors,
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
