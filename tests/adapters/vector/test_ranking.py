"""Scores and their order."""

from __future__ import annotations

import numpy as np

from regate_adapters.vector.ranking import best, cosines

DICE = np.random.default_rng(3)


def test_a_score_depends_on_its_own_row_and_the_query_alone_to_the_last_bit() -> None:
    rows = DICE.standard_normal((777, 256)).astype(np.float32)
    query = DICE.standard_normal(256).astype(np.float32)

    together = cosines(rows, query)
    alone = np.concatenate([cosines(rows[place : place + 1], query) for place in range(len(rows))])

    assert together.tobytes() == alone.tobytes()


def test_a_negative_similarity_is_cut_to_zero_and_a_row_of_zeros_is_similar_to_nothing() -> None:
    rows = np.array([[1, 0], [-1, 0], [0, 0], [3, 0]], dtype=np.float32)

    assert cosines(rows, np.array([2, 0], dtype=np.float32)).tolist() == [1.0, 0.0, 0.0, 1.0]


def test_ties_at_the_edge_of_the_limit_are_broken_by_id() -> None:
    scores = np.array([0.5, 0.5, 0.9, 0.5, 0.1])

    assert best(["d", "b", "z", "c", "a"], scores, 3) == [("z", 0.9), ("b", 0.5), ("c", 0.5)]


def test_no_rows_have_no_best() -> None:
    assert best([], np.zeros(0), 3) == []
