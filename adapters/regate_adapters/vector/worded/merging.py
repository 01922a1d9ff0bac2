"""One list of two: the nearest chunks and those that fit best by their words, by a score of both.

Of a chunk that one of the lists does not name, that score is known to lie between nothing and the last of the
list. The best are settled once no other chunk can be better than they are (the threshold algorithm without
random access: Fagin, Lotem and Naor, "Optimal aggregation algorithms for middleware", 2003).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

from regate_orchestrator.ports import RANK_DAMPING, Candidate, Found, Fusion, Query

_FIRST: Final = 100
_WIDER: Final = 4
_DEEPEST: Final = 6_400
Search: TypeAlias = Callable[[int], Awaitable[Found]]
"""Finds this many chunks at most."""


async def hybrid(near: Search, worded: Search, query: Query) -> Found:
    """Return the best of a search by vectors and one by words. Each is asked for its best, and for more
    while a chunk that neither named might still be among the best of both.
    """
    depth = max(_WIDER * query.limit, _FIRST)
    while True:
        nearest, with_words = await asyncio.gather(near(depth), worded(depth))
        candidates, is_settled = merged(nearest, with_words, query.fusion, query.limit)
        if is_settled or depth >= max(_DEEPEST, query.limit):
            exhausted = nearest.exhausted and len(nearest.candidates) <= query.limit
            return replace(nearest, candidates=tuple(candidates), exhausted=exhausted)
        depth *= _WIDER


@dataclass(frozen=True, slots=True)
class _List:
    """The scores that one search gives to the chunks it names. To no other chunk it gives more than
    `beyond`.
    """

    scores: Mapping[str, float]
    beyond: float

    @classmethod
    def of(cls, found: Found, fusion: Fusion) -> _List:
        scores = {one.id: one.score for one in found.candidates}
        last = found.candidates[-1].score if found.candidates else 0.0
        if fusion.by == "score":
            return cls(scores, 0.0 if found.exhausted else last)
        ordered = sorted(scores.values(), reverse=True)
        ranks = {score: place + 1 for place, score in reversed(list(enumerate(ordered)))}
        beyond = 0.0 if found.exhausted else _reciprocal(len(ordered) + 1)
        return cls({one: _reciprocal(ranks[score]) for one, score in scores.items()}, beyond)

    def least(self, identifier: str) -> float:
        return self.scores.get(identifier, 0.0)

    def most(self, identifier: str) -> float:
        return self.scores.get(identifier, self.beyond)


def merged(near: Found, worded: Found, fusion: Fusion, limit: int) -> tuple[Sequence[Candidate], bool]:
    """Return the best chunks of two searches, best first, and whether no deeper search could change them.

    Where one could, a score that is not known counts as the most that it can be.
    """
    vectors, words = _List.of(near, fusion), _List.of(worded, fusion)
    weight = fusion.embedding + fusion.text

    def weighed(similarity: float, by_words: float) -> float:
        return (fusion.embedding * similarity + fusion.text * by_words) / weight

    found = {one.id: one for one in (*worded.candidates, *near.candidates)}
    most = {one: weighed(vectors.most(one), words.most(one)) for one in found}
    least = {one: weighed(vectors.least(one), words.least(one)) for one in found}
    ranked = sorted(found, key=lambda one: (-most[one], one))
    best = ranked[:limit]
    unseen = weighed(vectors.beyond, words.beyond)
    is_whole = near.exhausted and worded.exhausted
    is_known = all(most[one] == least[one] for one in best)
    is_settled = is_whole or (is_known and len(best) == limit and most[best[-1]] > unseen)
    return [replace(found[one], score=most[one]) for one in best], is_settled


def _reciprocal(rank: int) -> float:
    return (RANK_DAMPING + 1) / (RANK_DAMPING + rank)
