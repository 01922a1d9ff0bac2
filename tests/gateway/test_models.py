"""Models of requests: what fits is returned as it was sent, what does not is refused with its place, a stable
code, and words that say what to change.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field, Tag

from regate_gateway.http.misfits import Hint
from regate_gateway.http.models import TEXT_OR_LIST, ByType, Id, Metadata, RequestModel
from regate_orchestrator.errors import InvalidRequest


class Inner(RequestModel):
    deep: int | None = Field(None, ge=3, le=4)


class Square(RequestModel):
    type: Literal["square"]
    side: int


class Circle(RequestModel):
    type: Literal["circle"]
    radius: float = Field(1.0, ge=0.0, le=1.0)


Shape = Annotated[
    Annotated[Square, Tag("(square)")] | Annotated[Circle, Tag("(circle)")],
    ByType({"square": "(square)", "circle": "(circle)"}, "Shapes of type '{kind}' are unknown."),
]


class Body(RequestModel):
    hints: ClassVar = {"old": Hint("Send 'text'."), "theirs": Hint("Ask the operator.", "unknown_parameter")}
    unsupported: ClassVar = ("moderation",)
    declined: ClassVar = False

    id: Id
    text: str | None = Field(None, max_length=2)
    count: int = Field(1, ge=1, le=9)
    ratio: float = Field(0.5, ge=0.0, le=1.0)
    on: bool = False
    choice: Literal["abc", "d"] = "d"
    ids: list[Id] = Field(default_factory=list, max_length=3)
    metadata: Metadata = Field(default_factory=dict)
    inner: Inner | None = None
    many: list[Inner] = Field(default_factory=list)
    content: (
        Annotated[Annotated[str, Tag("(text)")] | Annotated[list[Shape], Tag("(list)")], TEXT_OR_LIST] | None
    ) = None


def test_what_fits_is_returned() -> None:
    body = {
        "id": "x",
        "ratio": 1,
        "ids": ["a"],
        "metadata": {"k": "v"},
        "many": [{"deep": 3}],
        "choice": "abc",
    }

    assert Body.read(body) == Body(
        id="x", ratio=1.0, ids=["a"], metadata={"k": "v"}, many=[Inner(deep=3)], choice="abc"
    )


@pytest.mark.parametrize("name", ["text", "count", "ids", "metadata", "inner", "content", "xyzzy"])
def test_null_counts_as_absent_whatever_the_name(name: str) -> None:
    assert Body.read({"id": "x", name: None}) == Body(id="x")


MISFITS: dict[str, tuple[dict[str, Any], str, str]] = {
    "missing": ({"id": None}, "id", "missing_required_parameter"),
    "number for text": ({"text": 1}, "text", "invalid_type"),
    "text too long": ({"text": "abc"}, "text", "string_above_max_length"),
    "text for integer": ({"count": "1"}, "count", "invalid_type"),
    "boolean for integer": ({"count": True}, "count", "invalid_type"),
    "fraction for integer": ({"count": 1.0}, "count", "invalid_type"),
    "integer too small": ({"count": 0}, "count", "integer_below_min_value"),
    "integer too large": ({"count": 10}, "count", "integer_above_max_value"),
    "text for number": ({"ratio": "1"}, "ratio", "invalid_type"),
    "boolean for number": ({"ratio": True}, "ratio", "invalid_type"),
    "number too large": ({"ratio": 2}, "ratio", "decimal_above_max_value"),
    "number too small": ({"ratio": -0.5}, "ratio", "decimal_below_min_value"),
    "empty id": ({"id": ""}, "id", "empty_string"),
    "id too long": ({"id": "x" * 257}, "id", "string_above_max_length"),
    "empty id among ids": ({"ids": ["a", ""]}, "ids[1]", "empty_string"),
    "null among ids": ({"ids": ["a", None]}, "ids[1]", "invalid_type"),
    "text for boolean": ({"on": "true"}, "on", "invalid_type"),
    "integer for boolean": ({"on": 1}, "on", "invalid_type"),
    "not an option": ({"choice": "x"}, "choice", "invalid_value"),
    "number for an option": ({"choice": 1}, "choice", "invalid_type"),
    "option too long": ({"choice": "x" * 513}, "choice", "string_above_max_length"),
    "text for object": ({"inner": "x"}, "inner", "invalid_type"),
    "text for array": ({"ids": "x"}, "ids", "invalid_type"),
    "array too long": ({"ids": ["a"] * 4}, "ids", "array_above_max_length"),
    "text among objects": ({"many": [{}, "x"]}, "many[1]", "invalid_type"),
    "in an array of objects": ({"many": [{}, {"deep": "x"}]}, "many[1].deep", "invalid_type"),
    "unknown": ({"xyzzy": 1}, "xyzzy", "unknown_parameter"),
    "unknown inside": ({"inner": {"xyzzy": 1}}, "inner.xyzzy", "unknown_parameter"),
    "unknown goes first": ({"count": 0, "xyzzy": 1}, "xyzzy", "unknown_parameter"),
    "unsupported": ({"moderation": {}}, "moderation", "unsupported_parameter"),
    "neither text nor list": ({"content": 1}, "content", "invalid_type"),
    "no object of a type": ({"content": ["x"]}, "content[0]", "invalid_type"),
    "no type": ({"content": [{"side": 1}]}, "content[0].type", "missing_required_parameter"),
    "type that is no text": ({"content": [{"type": 1}]}, "content[0].type", "invalid_type"),
    "type too long": ({"content": [{"type": "x" * 65}]}, "content[0].type", "string_above_max_length"),
    "other type": ({"content": [{"type": "cube"}]}, "content[0].type", "unsupported_parameter"),
    "inside what has a type": (
        {"content": [{"type": "square", "side": 1}, {"type": "circle", "radius": 2}]},
        "content[1].radius",
        "decimal_above_max_value",
    ),
    "too many metadata": (
        {"metadata": {str(number): "v" for number in range(17)}},
        "metadata",
        "object_above_max_properties",
    ),
    "key of metadata too long": ({"metadata": {"k" * 65: "v"}}, "metadata", "invalid_value"),
    "value of metadata too long": ({"metadata": {"k": "v" * 513}}, "metadata.k", "string_above_max_length"),
    "number in metadata": ({"metadata": {"k": 1}}, "metadata.k", "invalid_type"),
    "null in metadata": ({"metadata": {"k": None}}, "metadata.k", "invalid_type"),
    "metadata that are a list": ({"metadata": ["k"]}, "metadata", "invalid_type"),
}


@pytest.mark.parametrize(("members", "param", "code"), MISFITS.values(), ids=MISFITS.keys())
def test_misfit_names_its_place_and_its_code(members: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Body.read({"id": "x"} | members)

    assert (refused.value.param, refused.value.code) == (param, code)


def test_table_of_misfits_is_not_empty() -> None:
    assert len(MISFITS) == 43


WORDS = [
    ({"id": None}, "Missing required parameter: 'n.id'."),
    ({"count": "1"}, "Invalid type for 'n.count': expected an integer, but got a string instead."),
    ({"on": 1}, "Invalid type for 'n.on': expected a boolean, but got an integer instead."),
    ({"ratio": []}, "Invalid type for 'n.ratio': expected a number, but got an array instead."),
    ({"many": 1.5}, "Invalid type for 'n.many': expected an array, but got a number instead."),
    ({"inner": True}, "Invalid type for 'n.inner': expected an object, but got a boolean instead."),
    (
        {"ratio": 2},
        "Invalid 'n.ratio': decimal above maximum value. Expected a value <= 1.0, but got 2 instead.",
    ),
    (
        {"count": 0},
        "Invalid 'n.count': integer below minimum value. Expected a value >= 1, but got 0 instead.",
    ),
    ({"choice": "x"}, "Invalid value: 'x'. Supported values are: 'abc', 'd'."),
    ({"ids": ["a"] * 4}, "Invalid 'n.ids': array too long. Expected at most 3 entries, but got 4."),
    ({"content": [{"type": "cube"}]}, "Shapes of type 'cube' are unknown."),
    ({"moderation": 1}, "'n.moderation' is not supported by this gateway yet."),
    ({"txet": 1}, "Unknown parameter: 'n.txet'. Did you mean 'n.text'?"),
    ({"inner": {"depe": 1}}, "Unknown parameter: 'n.inner.depe'. Did you mean 'n.inner.deep'?"),
    ({"xyzzy": 1}, "Unknown parameter: 'n.xyzzy'."),
    ({"old": 1}, "Unsupported parameter: 'n.old'. Send 'text'."),
    ({"theirs": 1}, "Unknown parameter: 'n.theirs'. Ask the operator."),
]


@pytest.mark.parametrize(("members", "message"), WORDS)
def test_misfit_says_what_to_change(members: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Body.read({"id": "x"} | members, path="n")

    assert refused.value.message == message


def test_wish_that_is_not_supported_may_be_declined() -> None:
    assert Body.read({"id": "x", "moderation": False}) == Body(id="x")


@pytest.mark.parametrize("name", ["{place}", "{within}", "(text)"])
def test_names_of_a_client_are_names_whatever_they_look_like(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Body.read({"id": "x", name: 1})

    assert refused.value.param == name
