from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regate_adapters.backend.stream.sse_reader import EventTooLarge, SseReader


def read(*chunks: bytes, limit: int = 1_000) -> list[bytes]:
    reader = SseReader(limit=limit)
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return [*events, *reader.finish()]


CASES = {
    "one event": (b"data: a\n\n", [b"a"]),
    "no blank after the colon": (b"data:a\n\n", [b"a"]),
    "only one blank is taken off": (b"data:  a\n\n", [b" a"]),
    "carriage returns before line ends": (b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"]),
    "lines of data are joined": (b"data: a\ndata: b\n\n", [b"a\nb"]),
    "comments are passed over": (b": keep-alive\n\ndata: a\n: more\n\n", [b"a"]),
    "other fields are passed over": (b"id: 1\nretry: 5\ndata: a\n\n", [b"a"]),
    "names are passed over": (b"event: error\ndata: a\n\ndata: b\n\n", [b"a", b"b"]),
    "an event without data is none": (b"event: ping\n\ndata: a\n\n", [b"a"]),
    "a byte order mark at the start": (b"\xef\xbb\xbfdata: a\n\n", [b"a"]),
    "a missing last blank line": (b"data: a\n\ndata: b", [b"a", b"b"]),
    "line separators inside of JSON": (
        "data: a\u2028b\u0085c\x0bd\n\n".encode(),
        ["a\u2028b\u0085c\x0bd".encode()],
    ),
    "nothing": (b"", []),
}


@pytest.mark.parametrize("case", CASES)
def test_stream_is_read_as_the_events_it_holds(case: str) -> None:
    stream, expected = CASES[case]
    assert read(stream) == expected


@given(st.lists(st.integers(0, 200), max_size=12))
def test_events_are_the_same_however_the_bytes_are_cut(cuts: list[int]) -> None:
    stream = b"".join(stream for stream, _ in CASES.values() if stream.endswith(b"\n\n"))
    places = sorted({0, len(stream), *(cut % len(stream) for cut in cuts)})
    assert read(*(stream[start:end] for start, end in pairwise(places))) == read(stream)


_LINES = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=20).map(str.encode)


@given(
    st.lists(
        st.tuples(
            st.sampled_from([b"data: ", b"data:", b": ", b"id: "]),
            _LINES,
            st.sampled_from([b"\n\n", b"\n", b"\n\n\n"]),
        )
    ),
    st.data(),
)
def test_events_read_many_at_once_are_those_read_byte_by_byte(
    lines: list[tuple[bytes, bytes, bytes]], data: st.DataObject
) -> None:
    stream = b"".join(b"".join(line) for line in lines)
    cut = data.draw(st.integers(0, len(stream)))
    one_by_one = read(*(stream[place : place + 1] for place in range(len(stream))))
    assert read(stream[:cut], stream[cut:]) == read(stream) == one_by_one


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: " + b"x" * 2_000],
        [b"data: " + b"x" * 2_000 + b"\n\n"],
        [b"data: x\n"] * 2_000,
        [b"data:\n"] * 2_000,
        [b":" + b"x" * 2_000],
        [b"x"] * 2_000,
    ],
    ids=["no end", "whole", "many lines", "many empty lines", "comment", "byte by byte"],
)
def test_event_over_the_limit_ends_the_reading(chunks: list[bytes]) -> None:
    with pytest.raises(EventTooLarge):
        read(*chunks)


def test_many_events_in_one_piece_are_not_one_large_event() -> None:
    assert len(read(b"data: x\n\n" * 1_000, limit=100)) == 1_000
