"""The figures, each from plain numbers: how well an answer ranks, and what a count of leaks says."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import Final

CUTOFFS: Final = (1, 5, 10)
DEPTH: Final = 10
CONFIDENCE: Final = 0.95
_STEPS: Final = 100


def recall(found: Sequence[str], wanted: Collection[str], cutoff: int) -> float:
    """Return the share of the wanted files that are among the first hits."""
    return len(set(found[:cutoff]) & set(wanted)) / len(wanted)


def reciprocal_rank(found: Sequence[str], wanted: Collection[str]) -> float:
    """Return one over the rank of the first wanted hit of the first ten, or 0 when there is none."""
    return next((1 / rank for rank, name in enumerate(found[:DEPTH], 1) if name in wanted), 0.0)


def ndcg(found: Sequence[str], wanted: Collection[str]) -> float:
    """Return the normalized discounted cumulative gain of the first ten hits (Järvelin and Kekäläinen,
    "Cumulated gain-based evaluation of IR techniques", ACM TOIS 2002): a wanted file gains 1, at its first
    hit.
    """
    first: dict[str, int] = {}
    for rank, name in enumerate(found[:DEPTH], 1):
        first.setdefault(name, rank)
    gained = sum(1 / math.log2(rank + 1) for name, rank in first.items() if name in wanted)
    best = sum(1 / math.log2(rank + 1) for rank in range(1, min(len(wanted), DEPTH) + 1))
    return gained / best


def upper_bound(events: int, trials: int) -> float:
    """Return the highest rate that such a count is still likely under: the one-sided upper 95 % bound of
    Clopper and Pearson ("The use of confidence or fiducial limits", Biometrika 1934).

    Without an event it is `1 - 0.05 ** (1 / trials)`, near `3 / trials`: the rule of three (Hanley and
    Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 1983).
    """
    if not trials or events >= trials:
        return 1.0
    low, high = events / trials, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        if _at_most(events, trials, middle) > 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return high


def percentile(values: Sequence[float], share: float) -> float:
    """Return a percentile by the nearest rank; of no values, 0."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


def mean(values: Sequence[float]) -> float:
    """Return the mean; of no values, 0."""
    return sum(values) / len(values) if values else 0.0


def _at_most(events: int, trials: int, rate: float) -> float:
    """Return how likely so many events at most are, where each trial has one at this rate."""
    if rate >= 1:
        return 0.0
    return math.fsum(
        math.exp(
            math.lgamma(trials + 1)
            - math.lgamma(count + 1)
            - math.lgamma(trials - count + 1)
            + (count * math.log(rate) if count else 0.0)
            + (trials - count) * math.log1p(-rate)
        )
        for count in range(events + 1)
    )
