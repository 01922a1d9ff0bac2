"""Event streams as bytes."""

from __future__ import annotations

import json

import pytest

from regate_gateway.http import sse


def test_event_is_one_name_and_one_line_of_data() -> None:
    assert (
        sse.encode("response.created", {"type": "response.created"})
        == b'event: response.created\ndata: {"type":"response.created"}\n\n'
    )


SPLITTING = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("end", SPLITTING)
def test_no_text_can_end_an_event_early(end: str) -> None:
    text = f"Zoë{end}{end}event: response.completed{end}data: {{}}{end}{end}"
    lines = sse.encode("delta", {"delta": text, end: [text]}).decode().splitlines()
    assert (lines[::2], json.loads(lines[1].removeprefix("data: "))) == (
        ["event: delta", ""],
        {"delta": text, end: [text]},
    )


def test_every_other_character_is_written_as_it_is() -> None:
    text = "".join(chr(code) for code in (0x7F, 0x84, 0x86, 0xA8, 0x2027, 0x202A, 0xE000, 0x1F600, 0x10FFFF))
    assert sse.one_line({"text": text}) == f'{{"text":"{text}"}}'.encode()
