"""The best chunks of a partition: those that the plan permits, scored by similarity, by words, or by both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from regate_adapters.vector.keywords import Posting, Scores, bm25, fused
from regate_adapters.vector.partition.partition import Partition
from regate_adapters.vector.partition.segments import Segment, Truth
from regate_adapters.vector.partition.vectors import Places
from regate_adapters.vector.words import number_of, sought_words
from regate_orchestrator.filters.expression import Expression
from regate_orchestrator.ports import Query

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Ranked:
    """The chunks that may be among the best, by number, and their scores, in no order. Where several score
    as the last that is wanted, all of them are here: whoever knows their ids breaks the tie.

    `permitted` counts the chunks that the plan permits, `matching` those of them that the mode finds at all.
    """

    numbers: Places
    scores: Scores
    permitted: int
    matching: int


Similar: TypeAlias = Callable[[Places], Scores]
"""Returns the similarities of the chunks with these numbers."""


def ranked(
    partition: Partition, expression: Expression, query: Query, *, similar: Similar | None = None
) -> Ranked:
    """Return the best of the chunks for which the expression holds. How similar they are is asked of
    `similar` where the partition holds no vectors.
    """
    truth = partition.columns.matching(expression)
    parts = [
        _Part(segment, _permitted(segment, alive, truth))
        for segment, alive in zip(partition.segments, partition.live, strict=True)
    ]
    numbers = joined([part.segment.numbers[part.places] for part in parts], np.int64)
    return best_of(numbers, _scores(parts, query, numbers, similar), query)


def best_of(numbers: Places, scores: Scores, query: Query) -> Ranked:
    """Return the best of these chunks, which are all that the plan permits, with their scores."""
    permitted = len(numbers)
    if query.mode == "keyword":
        numbers, scores = numbers[scores > 0], scores[scores > 0]
    matching = len(numbers)
    if matching > query.limit:
        lowest = np.partition(scores, matching - query.limit)[matching - query.limit]
        numbers, scores = numbers[scores >= lowest], scores[scores >= lowest]
    return Ranked(numbers, scores, permitted, matching)


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment and its permitted rows, ascending."""

    segment: Segment
    places: Places


def _permitted(segment: Segment, alive: Truth, truth: Truth) -> Places:
    known = segment.stamps >= 0
    if not len(truth):
        return np.empty(0, dtype=np.int64)
    return np.flatnonzero(alive & known & truth[segment.stamps])


def _scores(parts: Sequence[_Part], query: Query, numbers: Places, similar: Similar | None) -> Scores:
    if query.mode == "keyword":
        return _by_words(parts, query.text, len(numbers))
    similarities = _similarities(parts, query) if similar is None else similar(numbers)
    if query.mode == "vector":
        return similarities
    return fused(similarities, _by_words(parts, query.text, len(numbers)), query.fusion)


def _similarities(parts: Sequence[_Part], query: Query) -> Scores:
    vector = np.array(query.vector, dtype=np.float32)
    return joined([part.segment.vectors.similarities(part.places, vector) for part in parts], np.float64)


def _by_words(parts: Sequence[_Part], text: str, permitted: int) -> Scores:
    lengths = joined([part.segment.lengths[part.places] for part in parts], np.float64)
    positions = [_positions(part) for part in parts]
    offsets = np.cumsum([0, *(len(part.places) for part in parts)])
    postings = []
    for word in sought_words(text):
        places, counts = [], []
        for part, position, offset in zip(parts, positions, offsets, strict=False):
            rows, often = part.segment.having(number_of(word))
            found = position[rows]
            is_permitted = found >= 0
            places.append(found[is_permitted] + int(offset))
            counts.append(often[is_permitted])
        postings.append(Posting(joined(places, np.int64), joined(counts, np.float64)))
    return bm25(postings, lengths, permitted)


def _positions(part: _Part) -> Places:
    """Return for each row of the segment its position among the permitted ones, -1 for the others."""
    found = np.full(len(part.segment.numbers), -1, dtype=np.int64)
    found[part.places] = np.arange(len(part.places))
    return found


def joined(arrays: Sequence[NDArray[Any]], kind: type[T]) -> NDArray[T]:
    """Return the arrays as one of this kind, also where there is none."""
    return np.concatenate([*arrays, np.empty(0, dtype=kind)]).astype(kind, copy=False)
