"""The chunks of one tenant in one store, in memory: read once, and brought up to date by what has changed
since. `ranking.py`, the counterpart, searches them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final, Protocol, TypeAlias

import numpy as np

from regate_adapters.vector.partition.columns import Columns, Row
from regate_adapters.vector.partition.segments import Loaded, Segment, Truth, Words, merged, segment_of
from regate_adapters.vector.partition.vectors import Holding, Places

_READ_ROWS: Final = 4_096
_MOST_DEAD: Final = 0.3
_UNKNOWN: Final = -1


KeptRow: TypeAlias = tuple[int, int, bytes, bytes, bytes]
"""A chunk as it is kept: its number, that of its stamp, its vector, the numbers of its words, and their
counts.
"""


@dataclass(frozen=True, slots=True)
class Changes:
    """How often chunks were added, and how often removed."""

    added: int
    removed: int

    def are_after(self, others: Changes) -> bool:
        """Return whether these are the others, or all of them and more."""
        return self.added >= others.added and self.removed >= others.removed


class Reader(Protocol):
    """Reads what is kept of a partition, as it is at one moment. Numbers only ever grow."""

    def numbers(self) -> Sequence[int]:
        """Return the numbers of all chunks that are there, ascending."""
        ...

    def stamps(self, *, after: int) -> tuple[Sequence[int], Sequence[Row]]:
        """Return the numbers of the stamps after this one, ascending, and the rows that filters see for
        them.
        """
        ...

    def chunks(self, *, after: int) -> Iterator[KeptRow]:
        """Yield the chunks after this one, ascending."""
        ...


@dataclass(frozen=True, slots=True)
class Partition:
    """The chunks of a tenant in a store, or of a whole store, after these changes. It never changes;
    `refreshed` returns another one.
    """

    dimensions: int
    changes: Changes
    segments: tuple[Segment, ...]
    live: tuple[Truth, ...]
    stamps: tuple[int, ...]
    """The numbers of the stamps that `columns` has, in its order."""
    columns: Columns
    holding: Holding

    @property
    def size(self) -> int:
        """Return about how many bytes it takes."""
        return sum(segment.size for segment in self.segments) + 500 * len(self.stamps)

    @classmethod
    def empty(cls, dimensions: int, holding: Holding) -> Partition:
        """Return one of which nothing has been read, which holds its vectors so."""
        return cls(dimensions, Changes(0, 0), (), (), (), Columns([]), holding)

    def refreshed(self, reader: Reader, changes: Changes) -> Partition:
        """Return the partition as it is after these changes, which the reader must see."""
        live = self.live
        if changes.removed != self.changes.removed:
            live = self._live_among(reader.numbers())
            if self._is_sparse(live):
                anew = Partition.empty(self.dimensions, self.holding)
                return replace(anew.refreshed(reader, Changes(changes.added, 0)), changes=changes)
        stamps, columns = self.stamps, self.columns
        segments = self.segments
        if changes.added != self.changes.added:
            found, rows = reader.stamps(after=stamps[-1] if stamps else 0)
            stamps, columns = (*stamps, *found), columns.extended(rows) if rows else columns
            last = int(self.segments[-1].numbers[-1]) if self.segments else 0
            for loaded in _loaded(reader.chunks(after=last), self.dimensions, stamps):
                segment = segment_of(loaded, self.holding)
                segments, live = _appended(segments, live, segment, self.holding)
        return replace(self, changes=changes, segments=segments, live=live, stamps=stamps, columns=columns)

    def is_sparse(self, there: Sequence[int]) -> bool:
        """Return whether so much is not among these any more that all is better read anew."""
        return self._is_sparse(self._live_among(there))

    def _is_sparse(self, live: Sequence[Truth]) -> bool:
        return sum(int(one.sum()) for one in live) < (1 - _MOST_DEAD) * sum(map(len, live))

    def _live_among(self, there: Sequence[int]) -> tuple[Truth, ...]:
        numbers = np.array(there, dtype=np.int64)
        return tuple(np.isin(segment.numbers, numbers, assume_unique=True) for segment in self.segments)


def _loaded(rows: Iterator[KeptRow], dimensions: int, stamps: tuple[int, ...]) -> Iterable[Loaded]:
    known = np.array(stamps, dtype=np.int64)
    while part := list(islice(rows, _READ_ROWS)):
        numbers, stamped, vectors, words, counts = zip(*part, strict=True)
        yield Loaded(
            np.array(numbers, dtype=np.int64),
            _places(np.array(stamped, dtype=np.int64), known),
            np.frombuffer(b"".join(vectors), dtype=np.float32).reshape(len(part), dimensions),
            Words.of(words, counts),
        )


def _places(numbers: Places, known: Places) -> Places:
    """Return the place of each number among the known ones, which ascend; -1 for one that is not known."""
    if not len(known):
        return np.full(len(numbers), _UNKNOWN, dtype=np.int64)
    places = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    return np.where(known[places] == numbers, places, _UNKNOWN).astype(np.int64)


def _appended(
    segments: tuple[Segment, ...], live: tuple[Truth, ...], last: Segment, holding: Holding
) -> tuple[tuple[Segment, ...], tuple[Truth, ...]]:
    """Return the segments with one more, merged while the one before is not twice as large as the last."""
    kept = np.ones(len(last.numbers), dtype=np.bool_)
    while segments and len(segments[-1].numbers) < 2 * len(last.numbers):
        last = merged([segments[-1], last], [live[-1], kept], holding)
        kept = np.ones(len(last.numbers), dtype=np.bool_)
        segments, live = segments[:-1], live[:-1]
    return (*segments, last), (*live, kept)
