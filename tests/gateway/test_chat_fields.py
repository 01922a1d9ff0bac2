"""Fields of requests that are passed on: what fits is returned, what does not is refused with the field's
place and a stable code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from regate_gateway.http.misfits import Hint
from regate_gateway.routes.chat.fields import Fields
from regate_orchestrator.errors import InvalidRequest

BODY: dict[str, Any] = {
    "text": "abc", "count": 3, "ratio": 0.5, "on": True, "none": None, "list": ["a", "b"], "mixed": ["a", 1],
    "nested": {"inner": {"deep": 1}}, "many": [{"type": "x"}, {"type": 7}], "metadata": {"k": "v"},
        "empty": "",
}  # fmt: skip


@pytest.fixture
def fields() -> Fields:
    return Fields(BODY)


def test_what_fits_is_returned(fields: Fields) -> None:
    found = (
        fields.string("text", most=3), fields.maybe_string("none", most=3), fields.integer("count", least=3,
        most=3, default=1),
        fields.maybe_number("ratio", least=0, most=1), fields.boolean("on", default=False),
        fields.boolean("none", default=True),
        fields.strings("list", most=2, longest=1), fields.strings("absent", most=2, longest=1),
        fields.metadata(), fields.has("none"),
        fields.choice("text", ("abc", "d"), default="d"), fields.choice("none", ("abc", "d"), default="d"),
    )  # fmt: skip
    assert found == ("abc", None, 3, 0.5, True, True, ["a", "b"], [], {"k": "v"}, False, "abc", "d")


MISFITS: dict[str, tuple[Callable[[Fields], object], str, str]] = {
    "missing": (lambda f: f.string("absent", most=9), "absent", "missing_required_parameter"),
    "null where required": (lambda f: f.string("none", most=9), "none", "missing_required_parameter"),
    "number for text": (lambda f: f.string("count", most=9), "count", "invalid_type"),
    "text too long": (lambda f: f.maybe_string("text", most=2), "text", "string_above_max_length"),
    "boolean for integer": (lambda f: f.maybe_integer("on", least=0, most=9), "on", "invalid_type"),
    "fraction for integer": (lambda f: f.maybe_integer("ratio", least=0, most=9), "ratio", "invalid_type"),
    "integer too small": (
        lambda f: f.maybe_integer("count", least=4, most=9),
        "count",
        "integer_below_min_value",
    ),
    "integer too large": (
        lambda f: f.maybe_integer("count", least=0, most=2),
        "count",
        "integer_above_max_value",
    ),
    "boolean for number": (lambda f: f.maybe_number("on", least=0, most=9), "on", "invalid_type"),
    "number too large": (
        lambda f: f.maybe_number("ratio", least=0, most=0.4),
        "ratio",
        "decimal_above_max_value",
    ),
    "text for boolean": (lambda f: f.boolean("text", default=True), "text", "invalid_type"),
    "not an option": (lambda f: f.choice("text", ("x",), default="x"), "text", "invalid_value"),
    "text for object": (lambda f: f.maybe_object("text"), "text", "invalid_type"),
    "text for array": (lambda f: f.array("text", most=9), "text", "invalid_type"),
    "array too long": (lambda f: f.array("list", most=1), "list", "array_above_max_length"),
    "number among texts": (lambda f: f.strings("mixed", most=9, longest=9), "mixed[1]", "invalid_type"),
    "text among objects": (lambda f: f.objects("list", most=9), "list[0]", "invalid_type"),
    "in an array of objects": (
        lambda f: f.objects("many", most=9)[1].string("type", most=9),
        "many[1].type",
        "invalid_type",
    ),
    "deep inside": (
        lambda f: f.object("nested").object("inner").string("deep", most=9),
        "nested.inner.deep",
        "invalid_type",
    ),
    "unknown": (lambda f: f.refuse_unknown(set(BODY) - {"ratio"}), "ratio", "unknown_parameter"),
    "unknown inside": (
        lambda f: f.object("nested").refuse_unknown({"other"}),
        "nested.inner",
        "unknown_parameter",
    ),
}


@pytest.mark.parametrize(("read", "param", "code"), MISFITS.values(), ids=MISFITS.keys())
def test_misfit_names_its_place_and_its_code(
    fields: Fields, read: Callable[[Fields], object], param: str, code: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read(fields)
    assert (refused.value.param, refused.value.code) == (param, code)


def test_table_of_misfits_is_not_empty() -> None:
    assert len(MISFITS) == 21


HINTS = {"old": Hint("Send 'text'."), "theirs": Hint("Ask the operator.", "unknown_parameter")}


@pytest.mark.parametrize(
    ("name", "message", "code"),
    [
        ("txet", "Unknown parameter: 'n.txet'. Did you mean 'n.text'?", "unknown_parameter"),
        ("xyzzy", "Unknown parameter: 'n.xyzzy'. Look elsewhere.", "unknown_parameter"),
        ("old", "Unsupported parameter: 'n.old'. Send 'text'.", "unsupported_parameter"),
        ("theirs", "Unknown parameter: 'n.theirs'. Ask the operator.", "unknown_parameter"),
    ],
)
def test_field_that_is_not_known_is_told_what_may_have_been_meant(name: str, message: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        Fields({name: 1}, path="n").refuse_unknown(
            {"text", "count"}, hints=HINTS, otherwise="Look elsewhere."
        )
    assert (refused.value.message, refused.value.code) == (message, code)


def test_field_that_is_null_is_not_there_whatever_its_name() -> None:
    Fields({"xyzzy": None}).refuse_unknown({"text"})


@pytest.mark.parametrize(
    "metadata",
    [
        {str(number): "v" for number in range(17)},
        {"k" * 65: "v"},
        {"k": "v" * 513},
        {"k": 1},
        {"k": None},
        ["k"],
        "k",
    ],
)
def test_metadata_beyond_its_limits_is_refused(metadata: Any) -> None:
    with pytest.raises(InvalidRequest):
        Fields({"metadata": metadata}).metadata()
