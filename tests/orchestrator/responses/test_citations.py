"""Citation markers are taken out of a stream wherever the upstream happens to cut it."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from regate_orchestrator.responses.output.citations import clean, marker, without_markers

MARKED = "Leave is 28 days 【1】. Ask HR【12†handbook】! 【not one】 end"


def cleaned(pieces: list[str]) -> tuple[str, list[tuple[int, int]]]:
    text, cited, held = "", [], ""
    for position, piece in enumerate(pieces):
        part = clean(held, piece, last=position == len(pieces) - 1)
        cited += [(number, len(text) + offset) for number, offset in part.cited]
        text, held = text + part.text, part.held
    return text, cited


@given(st.lists(st.integers(0, len(MARKED)), max_size=20))
def test_result_does_not_depend_on_where_the_stream_is_cut(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(MARKED)]
    pieces = [MARKED[start:end] for start, end in itertools.pairwise(edges)]

    assert cleaned(pieces) == ("Leave is 28 days. Ask HR! 【not one】 end", [(1, 16), (12, 24)])


def test_ordinary_text_is_not_held_back() -> None:
    assert clean("", "plain words").held == ""


def test_text_of_a_passage_holds_no_marker() -> None:
    assert marker(3) not in without_markers(f"see {marker(3)}")
