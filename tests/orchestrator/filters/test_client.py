"""The client's filters: read into the one algebra, with OpenAI's meaning, and refused in words when
they are not filters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.attribute_keys import RESERVED
from regate_orchestrator.filters.client import read_client_filter
from regate_orchestrator.filters.evaluate import holds

VALUES = (None, 1, 5, "1", True, "10", "2024-05-01", "", False, 10, -3.5)
ROWS = [{"attributes": {} if value is None else {"n": value}} for value in VALUES]


def matching(value: Any) -> list[int]:
    expression = read_client_filter(value)
    return [position for position, row in enumerate(ROWS) if holds(expression, row)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, list(range(11))),
        ({"type": "eq", "key": "n", "value": 1}, [1]),
        ({"type": "ne", "key": "n", "value": 1}, [0, *range(2, 11)]),
        ({"type": "in", "key": "n", "value": [1, "1"]}, [1, 3]),
        ({"type": "nin", "key": "n", "value": [1, "1", True, False, ""]}, [0, 2, 5, 6, 9, 10]),
        (
            {
                "type": "or",
                "filters": [
                    {"type": "eq", "key": "n", "value": 5},
                    {"type": "eq", "key": "n", "value": True},
                ],
            },
            [2, 4],
        ),
        (
            {
                "type": "and",
                "filters": [{"type": "gt", "key": "n", "value": -5}, {"type": "ne", "key": "n", "value": 5}],
            },
            [1, 9, 10],
        ),
        ({"type": "gt", "key": "n", "value": 2}, [2, 9]),
        ({"type": "gte", "key": "n", "value": 5}, [2, 9]),
        ({"type": "lt", "key": "n", "value": 2}, [1, 10]),
        ({"type": "lte", "key": "n", "value": 1}, [1, 10]),
        ({"type": "lte", "key": "n", "value": 1.5}, [1, 10]),
    ],
)
def test_filter_means_what_openai_says(value: Any, expected: list[int]) -> None:
    assert matching(value) == expected


def nested(depth: int) -> Any:
    value: Any = {"type": "eq", "key": "n", "value": 1}
    for _ in range(depth):
        value = {"type": "and", "filters": [value]}
    return value


def listed_inside() -> Any:
    """Ten thousand values, in lists of a hundred at every depth."""
    some: list[Any] = [
        {"type": kind, "key": f"n{index}", "value": list(range(100))}
        for index in range(7)
        for kind in ("in", "nin")
    ]
    value: Any = {"type": "and", "filters": some}
    for _ in range(6):
        value = {"type": "or", "filters": [value, *some]}
    return value


@pytest.mark.parametrize(
    ("value", "param"),
    [
        ("", "filters"),
        ([], "filters"),
        ({}, "filters.key"),
        ({"type": "and", "filters": []}, "filters.filters"),
        ({"type": "and"}, "filters.filters"),
        ({"type": "or", "filters": None}, "filters.filters"),
        ({"type": "or", "filters": [{}]}, "filters.filters[0].key"),
        ({"type": "$or", "key": "n", "value": 1}, "filters.type"),
        ({"type": "eq", "key": "", "value": 1}, "filters.key"),
        ({"type": "eq", "key": "k" * 65, "value": 1}, "filters.key"),
        ({"type": "eq", "key": "a\0b", "value": 1}, "filters.key"),
        ({"type": "eq", "key": "\ud800", "value": 1}, "filters.key"),
        ({"type": "eq", "key": 1, "value": 1}, "filters.key"),
        ({"type": "eq", "key": "n", "value": "x" * 513}, "filters.value"),
        ({"type": "gt", "key": "n", "value": True}, "filters.value"),
        ({"type": "or", "filters": [{"type": "in", "key": "n", "value": list(range(100))}] * 11}, "filters"),
        (listed_inside(), "filters"),
        ({"type": "eq", "key": "n", "value": None}, "filters.value"),
        ({"type": "eq", "key": "n", "value": {"$gt": 1}}, "filters.value"),
        ({"type": "eq", "key": "n", "value": 2**54}, "filters.value"),
        ({"type": "gt", "key": "n", "value": "1"}, "filters.value"),
        ({"type": "in", "key": "n", "value": []}, "filters.value"),
        ({"type": "in", "key": "n", "value": [[1]]}, "filters.value"),
        ({"type": "in", "key": "n", "value": list(range(101))}, "filters.value"),
        ({"type": "eq", "key": "n", "value": 1, "or": []}, "filters.or"),
        (nested(9), "filters"),
        ({"type": "or", "filters": [{"type": "eq", "key": "n", "value": 1}] * 201}, "filters"),
    ],
)
def test_what_is_not_a_filter_is_refused_with_the_place_at_fault(value: Any, param: str) -> None:
    with pytest.raises(InvalidRequest) as raised:
        read_client_filter(value)

    assert raised.value.param == param


@pytest.mark.parametrize(
    "key", [*sorted(RESERVED), " Tenant ", "\uff54enant", "_gw", "regate.teams", "REGATE.x"]
)
@pytest.mark.parametrize("wrap", [lambda one: one, lambda one: {"type": "or", "filters": [one]}])
def test_key_that_no_attribute_can_have_is_refused_and_not_just_found_nowhere(
    key: str, wrap: Callable[[object], object]
) -> None:
    assert RESERVED
    with pytest.raises(InvalidRequest, match="reserved name") as refused:
        read_client_filter(wrap({"type": "eq", "key": key, "value": "globex"}))

    assert ((refused.value.param or "").endswith(".key"), refused.value.code) == (True, "invalid_value")


def test_client_filter_can_name_no_policy_field() -> None:
    expression = read_client_filter({"type": "eq", "key": "my tenant", "value": "globex"})

    assert not holds(expression, {"my tenant": "globex", "attributes": {}})


def test_misspelt_member_of_a_filter_is_answered_with_what_was_meant() -> None:
    with pytest.raises(InvalidRequest, match=r"Did you mean 'filters\.value'"):
        read_client_filter({"type": "eq", "key": "a", "valu": 1})


@pytest.mark.parametrize(
    "key",
    [
        "author name",
        "$or",
        "a'; --",
        "日本",
        "é",
        "e\u0301",
        "\n",
        " ",
        "k" * 64,
        "🔑" * 64,
        "a.b.c",
        "x_",
        "my tenant",
    ],
)
def test_any_text_of_up_to_64_characters_is_a_key(key: str) -> None:
    expression = read_client_filter({"type": "eq", "key": key, "value": 1})

    assert (
        holds(expression, {"attributes": {key: 1}}),
        holds(expression, {"attributes": {key.strip() + "x": 1}}),
    ) == (True, False)


def test_message_on_too_many_values_says_what_the_limit_is() -> None:
    with pytest.raises(InvalidRequest, match="1000 values"):
        read_client_filter(listed_inside())
