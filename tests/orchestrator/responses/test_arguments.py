"""What a model writes as arguments: the text that is looked for, or none, whatever it wrote."""

from __future__ import annotations

import pytest

from regate_orchestrator.responses.arguments import text_among

FOUND = {
    "alone": ('{"query": "leave"}', "leave"),
    "beside others": ('{"stores": ["x"], "query": "leave", "k": NaN, "n": 1e999}', "leave"),
    "said twice": ('{"query": "first", "query": "last"}', "last"),
    "escaped": ('{"query": "\\u00e9\\ud83d\\ude00"}', "é😀"),
    "empty": ('{"query": ""}', ""),
}
NONE = {
    "nothing": "",
    "no JSON": "leave",
    "cut short": '{"query": "lea',
    "a list": '["query"]',
    "a text": '"query"',
    "null": "null",
    "another name": '{"q": "leave"}',
    "a number": '{"query": 1}',
    "a list of texts": '{"query": ["leave"]}',
    "a lone surrogate": '{"query": "\\ud800"}',
    "nested": '{"query": ' + "[" * 1_000 + "]" * 1_000 + "}",
    "nested without an end": "[" * 1_000_000,
    "nested objects": '{"query":' * 100_000,
    "nested beside it": '{"query": "leave", "x": ' + "[" * 200_000 + "]" * 200_000 + "}",
    "a number of many digits": '{"query": "leave", "n": ' + "9" * 10_000 + "}",
    "two objects": '{"query": "a"}{"query": "a"}',
}


@pytest.mark.parametrize(("arguments", "expected"), FOUND.values(), ids=FOUND.keys())
def test_text_is_found_among_the_arguments(arguments: str, expected: str) -> None:
    assert text_among(arguments, "query") == expected


@pytest.mark.parametrize("arguments", NONE.values(), ids=NONE.keys())
def test_what_holds_no_such_text_has_none(arguments: str) -> None:
    assert text_among(arguments, "query") is None
