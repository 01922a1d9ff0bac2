"""Exact ranking by cosine similarity. Not an index: its counterparts are the stores, which say what may be
ranked.

A score depends on its own row and the query alone, to the last bit: a matrix product would let the number of
rows choose the order of summation, and so let chunks nobody may see move the scores of those one may.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float32]
Scores = NDArray[np.float64]


def cosines(rows: Rows, query: Rows) -> Scores:
    """Return each row's cosine similarity to the query, cut to the range 0 to 1; a row of zeros is
    similar to nothing.
    """
    wide, one = rows.astype(np.float64), query.astype(np.float64)
    lengths = np.sqrt((wide * wide).sum(axis=1)) * np.sqrt((one * one).sum())
    products = (wide * one).sum(axis=1)
    scores = np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0)
    return np.asarray(np.clip(scores, 0.0, 1.0), dtype=np.float64)


def best(ids: Sequence[str], scores: Scores, limit: int) -> list[tuple[str, float]]:
    """Return the ids with the highest scores, best first; ties are broken by id."""
    places: list[int] = list(range(len(ids)))
    if len(ids) > limit:
        lowest = np.partition(scores, -limit)[-limit]
        places = np.flatnonzero(
            scores >= lowest
        ).tolist()  # more than the limit where several tie at its edge
    ranked = sorted(
        ((ids[place], float(scores[place])) for place in places), key=lambda pair: (-pair[1], pair[0])
    )
    return ranked[:limit]
