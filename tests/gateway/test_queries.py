"""Query strings: read as their models say, and refused by the name of what does not fit."""

from __future__ import annotations

from typing import Literal

import pytest
from pydantic import Field

from regate_gateway.http.models import RequestModel
from regate_gateway.http.queries import read_query
from regate_orchestrator.errors import InvalidRequest


class Query(RequestModel):
    limit: int = Field(1, ge=1, le=9)
    order: Literal["asc", "desc"] = "desc"
    after: str | None = Field(None, max_length=2)
    include: list[str] = Field(default_factory=list, max_length=2)
    stream: bool = False


def read(text: str) -> Query:
    return read_query(Query, {"query_string": text.encode()})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Query()),
        ("limit=5&order=asc", Query(limit=5, order="asc")),
        ("include[]=a&include[]=b", Query(include=["a", "b"])),
        ("include=a", Query(include=["a"])),
        ("after=%E6%BC%A2&stream=true", Query(after="漢", stream=True)),
        ("after=&stream=false", Query(after="")),
    ],
)
def test_query_is_read_with_types(text: str, expected: Query) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "param", "code"),
    [
        ("limit=x", "limit", "invalid_type"),
        ("limit=%D9%A3", "limit", "invalid_type"),
        ("limit=", "limit", "invalid_type"),
        ("limit=1.0", "limit", "invalid_type"),
        ("limit=%201", "limit", "invalid_type"),
        ("limit=1_0", "limit", "invalid_type"),
        ("limit=" + "9" * 5000, "limit", "invalid_type"),
        ("limit=0", "limit", "integer_below_min_value"),
        ("limit=-1", "limit", "integer_below_min_value"),
        ("limit=10", "limit", "integer_above_max_value"),
        ("after=a&after=b", "after", "invalid_value"),
        ("after=aaa", "after", "string_above_max_length"),
        ("order=up", "order", "invalid_value"),
        ("stream=1", "stream", "invalid_value"),
        ("include[]=a&include[]=b&include[]=c", "include", "array_above_max_length"),
        ("limt=1", "limt", "unknown_parameter"),
        ("after=%00", None, "invalid_query"),
        ("after=%FF", None, "invalid_query"),
        ("&".join(f"a{number}=1" for number in range(51)), None, "invalid_query"),
    ],
)
def test_bad_query_is_refused(text: str, param: str | None, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(text)

    assert (refused.value.param, refused.value.code) == (param, code)


def test_parameter_of_a_query_is_told_what_may_have_been_meant() -> None:
    with pytest.raises(InvalidRequest, match="Did you mean 'limit'"):
        read("limt=1")
