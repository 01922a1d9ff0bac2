from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regate_adapters.backend.sse_reader import EventTooLarge, SseReader


def read(*chunks: bytes, limit: int = 1_000) -> list[tuple[bytes, bytes]]:
    reader = SseReader(limit=limit)
    events = [event for chunk in chunks for event in reader.feed(chunk)]
    return [(event.name, event.data) for event in [*events, *reader.finish()]]


CASES = {
    "one event": (b"data: a\n\n", [(b"", b"a")]),
    "no blank after the colon": (b"data:a\n\n", [(b"", b"a")]),
    "only one blank is taken off": (b"data:  a\n\n", [(b"", b" a")]),
    "carriage returns before line ends": (b"data: a\r\n\r\ndata: b\r\n\r\n", [(b"", b"a"), (b"", b"b")]),
    "lines of data are joined": (b"data: a\ndata: b\n\n", [(b"", b"a\nb")]),
    "comments are passed over": (b": keep-alive\n\ndata: a\n: more\n\n", [(b"", b"a")]),
    "other fields are passed over": (b"id: 1\nretry: 5\ndata: a\n\n", [(b"", b"a")]),
    "the name is kept": (b"event: error\ndata: a\n\ndata: b\n\n", [(b"error", b"a"), (b"", b"b")]),
    "an event without data is none": (b"event: ping\n\ndata: a\n\n", [(b"", b"a")]),
    "a byte order mark at the start": (b"\xef\xbb\xbfdata: a\n\n", [(b"", b"a")]),
    "a missing last blank line": (b"data: a\n\ndata: b", [(b"", b"a"), (b"", b"b")]),
    "line separators inside of JSON": ("data: a\u2028b\u0085c\x0bd\n\n".encode(), [(b"", "a\u2028b\u0085c\x0bd".encode())]),
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
