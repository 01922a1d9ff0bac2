"""What asks is taken off a query; what it asks for stays, and nothing is ever added."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regate_orchestrator.retrieval.query_rewriting import rewritten


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("How many days of annual leave do we have?", "How many days of annual leave do we have"),
        ("  Can you tell me  about\n severance pay? ", "severance pay"),
        ("Please tell me what is the notice period, thanks!", "the notice period"),
        ("What's the capital reserve?", "the capital reserve"),
        ("Could you please explain how the bonus is computed", "the bonus is computed"),
        ("I would like to know about parental leave.", "parental leave"),
        ("How do I reset my password???", "reset my password"),
        ("Is there any rule on gifts?", "rule on gifts"),
        ("Hello, do you know who is the data protection officer", "the data protection officer"),
        ("annual leave", "annual leave"),
        ("Whatever policy", "Whatever policy"),
        ("Welcome package", "Welcome package"),
        ("What is?", "What is?"),
        ("please", "please"),
        ("?", "?"),
        ("Wie viele Urlaubstage gibt es?", "Wie viele Urlaubstage gibt es"),
    ],
)
def test_query_is_rewritten(query: str, expected: str) -> None:
    assert rewritten(query) == expected


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_rewriting_leaves_a_part_of_the_query_in_one_line_and_is_settled(query: str) -> None:
    found = rewritten(query)

    assert found in re.sub(r"\s+", " ", query)
    assert bool(found) == bool(query.strip())
    assert rewritten(found) == found


@pytest.mark.parametrize("piece", ["can you please tell me ", ", ", ",", "?!", "so,", " please", "\t\n"])
def test_time_to_rewrite_grows_with_the_query_and_no_faster(piece: str) -> None:
    def seconds(length: int) -> float:
        query = "a" + piece * (length // len(piece)) + "x"
        began = time.process_time()
        rewritten(query)
        return time.process_time() - began

    few, many = (min(seconds(length) for _ in range(3)) for length in (2_000, 16_000))

    assert many < 24 * few + 0.05  # eight times as much; 64 times were it quadratic
