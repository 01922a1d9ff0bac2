"""The client's filters: read into the one algebra, with OpenAI's meaning, and refused in words when they are not filters."""

from __future__ import annotations

from typing import Any

import pytest

from regate_orchestrator.client_filters import read_client_filter
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.meaning import holds

ROWS = [{"attributes": {}}, {"attributes": {"n": 1}}, {"attributes": {"n": 5}}, {"attributes": {"n": "1"}}, {"attributes": {"n": True}}]


def matching(value: Any) -> list[int]:
    expression = read_client_filter(value)
    return [position for position, row in enumerate(ROWS) if holds(expression, row)]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, [0, 1, 2, 3, 4]),
        ({"type": "eq", "key": "n", "value": 1}, [1]),
        ({"type": "ne", "key": "n", "value": 1}, [0, 2, 3, 4]),
        ({"type": "in", "key": "n", "value": [1, "1"]}, [1, 3]),
        ({"type": "nin", "key": "n", "value": [1, "1"]}, [0, 2, 4]),
        ({"type": "or", "filters": [{"type": "eq", "key": "n", "value": 5}, {"type": "eq", "key": "n", "value": True}]}, [2, 4]),
        ({"type": "and", "filters": [{"type": "ne", "key": "n", "value": 5}, {"type": "ne", "key": "n", "value": "1"}]}, [0, 1, 4]),
    ],
)
def test_filter_means_what_openai_says(value: Any, expected: list[int]) -> None:
    assert matching(value) == expected


def nested(depth: int) -> Any:
    value: Any = {"type": "eq", "key": "n", "value": 1}
    for _ in range(depth):
        value = {"type": "and", "filters": [value]}
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
        ({"type": "eq", "key": "$or", "value": 1}, "filters.key"),
        ({"type": "eq", "key": "a'; --", "value": 1}, "filters.key"),
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


def test_client_filter_can_name_no_policy_field() -> None:
    expression = read_client_filter({"type": "eq", "key": "tenant", "value": "globex"})

    assert not holds(expression, {"tenant": "globex", "attributes": {}})
