"""Reading a run of chunks at once tells exactly what reading them one by one tells."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from regate_adapters.backend.stream.chat_events import ChatTranslator
from regate_adapters.backend.stream.merging import merged
from regate_adapters.backend.stream.text_frame import Frame, frame_of
from regate_adapters.backend.stream.tool_slots import NotUnderstood
from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.model_events import ModelEvent, TextWritten


def chunk(content: Any = "x", *, finish: str | None = None, **members: Any) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": finish}
    return json.dumps({"id": "c", "choices": [choice], **members}, ensure_ascii=False).encode()


CHUNKS = st.one_of(
    st.text(max_size=4).map(chunk),
    st.sampled_from(['"', "\\", '","', "]", "content", "\u2028", ""]).map(chunk),
    st.sampled_from([None, 1, ["a"], {"text": "a"}]).map(chunk),
    st.just(chunk("end", finish="stop")),
    st.just(chunk("x", usage={"prompt_tokens": 1, "completion_tokens": 1})),
    st.just(
        json.dumps(
            {"id": "c", "choices": [{"index": 0, "delta": {"reasoning": "hm"}, "finish_reason": None}]}
        ).encode()
    ),
    st.just(json.dumps({"error": {"message": "no"}}).encode()),
    st.just(b"{"),
    st.binary(max_size=6).map(lambda junk: chunk("x").replace(b'"x"', junk)),
)


def told(read: Any) -> tuple[list[ModelEvent], str]:
    """What was told, and how it broke off."""
    events: list[ModelEvent] = []
    try:
        for event in merged(read):
            events.append(event)
    except (NotUnderstood, UpstreamError) as error:
        return events, type(error).__name__
    return events, ""


@given(st.lists(CHUNKS, max_size=12))
@example([chunk("a"), chunk("b").replace(b'"b"', b'"b'), chunk("c").replace(b'"c"', b'c","d"')])
@example([chunk("a"), chunk("b").replace(b'"b"', b'"b","c"')])
@example([chunk("a"), chunk("b").replace(b'"b"', b'"b","role":"assistant"'), chunk("c")])
def test_run_of_chunks_tells_what_each_of_them_tells(chunks: list[bytes]) -> None:
    one_by_one, at_once = ChatTranslator(), ChatTranslator()

    assert told(at_once.read_all(chunks)) == told(event for data in chunks for event in one_by_one.read(data))
    assert at_once.finished == one_by_one.finished


def test_run_is_one_piece_of_text() -> None:
    events = list(ChatTranslator().read_all([chunk("a"), chunk("b"), chunk("\n"), chunk('é"')]))

    assert events == [TextWritten("a"), TextWritten('b\né"')]


@pytest.mark.parametrize(
    "data",
    [
        chunk("x", extra="content"),
        b'{"choices":[{"index":0,"delta":{"content":"\\u0078"}}]}',
        b'{"content":"x","choices":[{"index":0,"delta":{"content":"x"}}]}',
    ],
)
def test_frame_is_made_only_where_the_text_stands_once_as_it_is(data: bytes) -> None:
    frame = frame_of(data, [TextWritten("x")])

    assert frame is None or frame.around(b'"x"') == data


def test_frame_with_overlapping_ends_holds_nothing() -> None:
    assert Frame(b"abc", b"cd").run([b"abcd"], 0) == []
