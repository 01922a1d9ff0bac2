"""What arrived together leaves together: nothing is lost, nothing changes its order, and nothing of
different kinds is joined.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regate_adapters.backend.stream.merging import merged
from regate_orchestrator.model_events import (
    ArgumentsWritten,
    CallOpened,
    ModelEvent,
    ReasoningWritten,
    TextWritten,
)

EVENTS = st.one_of(
    st.builds(TextWritten, st.text(max_size=3)),
    st.builds(ReasoningWritten, st.text(max_size=3)),
    st.builds(ArgumentsWritten, st.integers(0, 2), st.text(max_size=3)),
    st.builds(CallOpened, st.integers(0, 2), st.just("c"), st.just("f")),
)


def spelled(events: list[ModelEvent]) -> list[tuple[object, ...]]:
    """Every character with the kind and slot of its piece, and every other event."""
    letters: list[tuple[object, ...]] = []
    for event in events:
        if isinstance(event, CallOpened):
            letters.append((event,))
        else:
            letters += [(type(event), getattr(event, "slot", None), letter) for letter in event.text]  # type: ignore[union-attr]
    return letters


@given(st.lists(EVENTS, max_size=20))
def test_merging_changes_neither_content_nor_order(events: list[ModelEvent]) -> None:
    found = list(merged(events))

    assert spelled(found) == spelled(events)
    assert len(found) <= len(events)


def test_adjacent_pieces_of_one_text_become_one() -> None:
    assert list(merged([TextWritten("a"), TextWritten("b"), ReasoningWritten("c"), TextWritten("d")])) == [
        TextWritten("ab"),
        ReasoningWritten("c"),
        TextWritten("d"),
    ]


def test_log_probabilities_are_kept_in_order() -> None:
    assert list(
        merged([TextWritten("a", ({"token": "a"},)), TextWritten("b"), TextWritten("c", ({"token": "c"},))])
    ) == [TextWritten("abc", ({"token": "a"}, {"token": "c"}))]


def test_what_came_before_a_failure_is_yielded_before_it() -> None:
    def source() -> Iterator[ModelEvent]:
        yield TextWritten("a")
        yield TextWritten("b")
        raise ValueError("broke")

    events = merged(source())

    assert next(events) == TextWritten("ab")
    with pytest.raises(ValueError, match="broke"):
        next(events)
