"""The chunks of one tenant in one store, in memory: read from the file once, and brought up to date by what
has changed since. `ranking.py`, the counterpart, searches them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Final

import numpy as np

from regate_adapters.vector.local.columns import Columns
from regate_adapters.vector.local.schema import Connection
from regate_adapters.vector.local.scope import Changes, Scope, stamps_of
from regate_adapters.vector.local.segments import Loaded, Segment, Truth, Words, merged, segment_of
from regate_adapters.vector.local.vectors import Holding, Places
from regate_orchestrator.filters.schema import RowSchema

_READ_ROWS: Final = 4_096
_MOST_DEAD: Final = 0.3
_UNKNOWN: Final = -1


@dataclass(frozen=True, slots=True)
class Partition:
    """The chunks of a scope after these changes. It never changes; `refreshed` returns another one."""

    scope: Scope
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
    def empty(cls, scope: Scope, dimensions: int, holding: Holding) -> Partition:
        """Return one of which nothing has been read, which holds its vectors so."""
        return cls(scope, dimensions, Changes(0, 0), (), (), (), Columns([]), holding)

    def refreshed(self, connection: Connection, changes: Changes, schema: RowSchema) -> Partition:
        """Return the partition as it is after these changes, which the connection must see."""
        live = self.live
        if changes.removed != self.changes.removed:
            live = self._still_there(connection)
            alive = sum(int(one.sum()) for one in live)
            if alive < (1 - _MOST_DEAD) * sum(map(len, live)):
                anew = Partition.empty(self.scope, self.dimensions, self.holding)
                return replace(anew.refreshed(connection, Changes(changes.added, 0), schema), changes=changes)
        stamps, columns = self.stamps, self.columns
        segments = self.segments
        if changes.added != self.changes.added:
            found, rows = stamps_of(connection, self.scope, schema, after=stamps[-1] if stamps else 0)
            stamps, columns = (*stamps, *found), columns.extended(rows) if rows else columns
            last = int(self.segments[-1].numbers[-1]) if self.segments else 0
            for loaded in _read(connection, self.scope, self.dimensions, stamps, after=last):
                segment = segment_of(loaded, self.holding)
                segments, live = _appended(segments, live, segment, self.holding)
        return replace(self, changes=changes, segments=segments, live=live, stamps=stamps, columns=columns)

    def _still_there(self, connection: Connection) -> tuple[Truth, ...]:
        query = f"SELECT number FROM chunks WHERE {self.scope.of_chunks} ORDER BY number"  # noqa: S608 — one of two
        found = connection.execute(query, [self.scope.number]).fetchall()
        there = np.array([number for (number,) in found], dtype=np.int64)
        return tuple(np.isin(segment.numbers, there, assume_unique=True) for segment in self.segments)


def _read(
    connection: Connection, scope: Scope, dimensions: int, stamps: tuple[int, ...], *, after: int
) -> Iterable[Loaded]:
    known = np.array(stamps, dtype=np.int64)
    cursor = iter(
        connection.execute(
            f"SELECT number, stamp, vector, words, counts FROM chunks WHERE {scope.of_chunks} "  # noqa: S608 — one of two
            "AND number > ? ORDER BY number",
            [scope.number, after],
        )
    )
    while rows := list(islice(cursor, _READ_ROWS)):
        numbers, stamped, vectors, words, counts = zip(*rows, strict=True)
        yield Loaded(
            np.array(numbers, dtype=np.int64),
            _places(np.array(stamped, dtype=np.int64), known),
            np.frombuffer(b"".join(vectors), dtype=np.float32).reshape(-1, dimensions),
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
