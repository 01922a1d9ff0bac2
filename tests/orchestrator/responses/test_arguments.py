"""What a model writes as arguments: the text that is looked for, or none, whatever it wrote."""

from __future__ import annotations

import pytest

from regate_orchestrator.responses.arguments import exact_object_in, text_among

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


AMBIGUOUS = {
    "said twice": '{"id": 7, "id": 8}',
    "said twice, escaped": '{"id": 7, "i\\u0064": 8}',
    "said twice within": '{"filter": [{"tenant": "acme", "tenant": "globex"}]}',
    "no number": '{"top": NaN}',
    "endless": '{"top": Infinity}',
    "endless, below nothing": '{"top": -Infinity}',
    "endless in digits": '{"top": 1e999}',
    "a lone surrogate": '{"query": "\\ud800"}',
    "a lone surrogate in a name": '{"a": {"\\udfff": 1}}',
    "nested too deep": '{"query": ' + "[" * 64 + "]" * 64 + "}",
    "nested without an end": "[" * 1_000_000,
}
EXACT = {
    "nothing in it": ("{}", {}),
    "one name at two places": ('{"a": {"id": 1}, "id": 2}', {"a": {"id": 1}, "id": 2}),
    "a pair of surrogates": ('{"q": "\\ud83d\\ude00"}', {"q": "😀"}),
    "numbers": ('{"a": 1e3, "b": -0.5, "c": 9007199254740993}', {"a": 1e3, "b": -0.5, "c": 9007199254740993}),
    "lists": ('{"a": [[["x", null, true]]]}', {"a": [[["x", None, True]]]}),
}


@pytest.mark.parametrize("arguments", AMBIGUOUS.values(), ids=AMBIGUOUS.keys())
def test_what_two_readers_could_read_in_two_ways_is_not_passed_on(arguments: str) -> None:
    assert exact_object_in(arguments) is None


@pytest.mark.parametrize(("arguments", "expected"), EXACT.values(), ids=EXACT.keys())
def test_what_reads_in_one_way_is_passed_on_whole(arguments: str, expected: object) -> None:
    assert exact_object_in(arguments) == expected
