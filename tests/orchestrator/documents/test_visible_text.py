"""What shows nothing is left out, and nothing else is."""

from __future__ import annotations

import pytest

from regate_orchestrator.documents.visible_text import visible_line, visible_text


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain", "plain"),
        ("two\r\nlines\tand a tab", "two\nlines\tand a tab"),
        ("zero\u200bwidth\u2060joiners\u200d", "zerowidthjoiners"),
        ("tags \U000e0049\U000e0067\U000e006e", "tags "),
        ("turned \u202eround\u202c", "turned round"),
        ("soft\u00adhyphen, filler\u3164, \u115f", "softhyphen, filler, "),
        ("variation\ufe0f selector\U000e0100", "variation selector"),
        ("null\x00 and escape\x1b[0m", "null and escape[0m"),
        ("日本語 é 🙂 שלום", "日本語 é 🙂 שלום"),
    ],
)
def test_what_shows_nothing_is_left_out(text: str, seen: str) -> None:
    assert visible_text(text) == seen


def test_a_line_is_one_line_of_bounded_length() -> None:
    assert visible_line(" The\n\u200b rules \t of leave", most=9) == "The rules"
