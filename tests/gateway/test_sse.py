"""Event streams as bytes."""

from __future__ import annotations

import json

from regate_gateway import sse


def test_event_is_one_name_and_one_line_of_data() -> None:
    assert sse.encode("response.created", {"type": "response.created"}) == b'event: response.created\ndata: {"type":"response.created"}\n\n'


def test_no_text_can_end_an_event_early() -> None:
    text = "a\n\nb\r\rc\r\n\r\nd\u2028e\u2029\x85data: {}\n\nevent: x"
    lines = sse.encode("delta", {"delta": text}).split(b"\n")
    assert (len(lines), json.loads(lines[1].removeprefix(b"data: "))["delta"], b"\r" in b"".join(lines)) == (4, text, False)


def test_event_without_a_name_is_data_alone() -> None:
    assert sse.encode_data({"a": 1}) == b'data: {"a":1}\n\n'
