"""Okapi BM25 over the permitted chunks alone (Robertson and Zaragoza, "The Probabilistic Relevance
Framework", 2009), and its fusion with similarity. `words.py`, the counterpart, says what a word is.

How rare a word is, how long a text usually is, and how many texts there are is counted among the chunks
that the plan permits. So what others stored moves no score. A score is the part of the most that the
query's words could reach: between 0 and 1 whatever is stored, so that it can be weighed against a
similarity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from regate_orchestrator.ports import RANK_DAMPING, Fusion

SATURATION: Final = 1.2
LENGTH_MATTERS: Final = 0.75

Scores: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Posting:
    """Where one word of the query is: the places of the permitted texts that have it, and how often each
    does.
    """

    places: NDArray[np.int64]
    counts: NDArray[np.float64]


def bm25(postings: Sequence[Posting], lengths: NDArray[np.float64], places: int) -> Scores:
    """Return the score of each place below `places`, 0 where a text has none of the words.

    There is a posting for each distinct word of the query. `lengths` has the number of words of each place;
    of a place that is not permitted it is below 0, and such a place is in no posting.
    """
    permitted = lengths[lengths >= 0]
    scores = np.zeros(places, dtype=np.float64)
    most = 0.0
    usual = float(permitted.sum()) / len(permitted) if len(permitted) else 1.0
    for posting in postings:
        holding = len(posting.places)
        rare = math.log(1 + (len(permitted) - holding + 0.5) / (holding + 0.5))
        most += rare * (SATURATION + 1)
        relative = lengths[posting.places] / (usual or 1.0)
        damped = SATURATION * (1 - LENGTH_MATTERS + LENGTH_MATTERS * relative)
        scores[posting.places] += rare * posting.counts * (SATURATION + 1) / (posting.counts + damped)
    return scores / most if most else scores


def fused(similarities: Scores, by_words: Scores, fusion: Fusion) -> Scores:
    """Return the scores of a hybrid search from both scores of all permitted chunks."""
    embedding, text = fusion.embedding, fusion.text
    if fusion.by == "rank":
        similarities = _reciprocal_ranks(similarities)
        by_words = np.where(by_words > 0, _reciprocal_ranks(by_words), 0.0)
    return (embedding * similarities + text * by_words) / (embedding + text)


def _reciprocal_ranks(scores: Scores) -> Scores:
    """Return for each score the damping and one over the damping and its rank; equal scores have one rank."""
    descending = np.sort(-scores)
    ranks = np.searchsorted(descending, -scores, side="left") + 1
    return (RANK_DAMPING + 1) / (RANK_DAMPING + ranks)
