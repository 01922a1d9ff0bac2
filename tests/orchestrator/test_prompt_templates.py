"""Templates: values go in once, as they are, where they may; and nothing of them is ever obeyed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regate_orchestrator.errors import InvalidRequest, TooLarge
from regate_orchestrator.prompt_templates import Value, filled, require_values, variables_of

IMAGE: dict[str, Any] = {"type": "input_image", "image_url": "data:image/png;base64,AAAA"}


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


def fill(template: dict[str, Any], values: dict[str, Value], *, most: int = 1_000) -> dict[str, Any]:
    return dict(filled(template, values, most=most, param="prompt.variables"))


# ---------------------------------------------------------------- which variables there are


def test_variables_are_those_of_instructions_and_messages_in_their_order() -> None:
    template = {
        "input": [user("{{b}} and {{a}}"), user([{"type": "input_text", "text": "{{c}}{{b}}"}, IMAGE])],
        "instructions": "Say {{a}}, {{d_1-x}}.",
    }
    assert variables_of(template, param="template") == ("b", "a", "c", "d_1-x")


@pytest.mark.parametrize(
    "text",
    [
        "{{ a }}",
        "{a}",
        "{{}}",
        "{{1a}}",
        "{{a b}}",
        "{{a.b}}",
        "{{a",
        "a}}",
        "{{%a%}}",
        "{{größe}}",
        "{{a|upper}}",
    ],
)
def test_other_braces_are_text(text: str) -> None:
    template = {"instructions": text}
    assert (variables_of(template, param="template"), fill(template, {})) == ((), template)


@pytest.mark.parametrize(
    ("template", "param"),
    [
        ({"model": "{{a}}"}, "template.model"),
        ({"input": [{"role": "{{a}}", "content": "x"}]}, "template.input[0].role"),
        ({"input": [user([{**IMAGE, "image_url": "{{a}}"}])]}, "template.input[0].content[0].image_url"),
        (
            {"input": [{"role": "assistant", "content": [{"type": "refusal", "refusal": "{{a}}"}]}]},
            "template.input[0].content[0].refusal",
        ),
        (
            {"tools": [{"type": "file_search", "vector_store_ids": ["{{a}}"]}]},
            "template.tools[0].vector_store_ids[0]",
        ),
        ({"text": {"format": {"schema": {"{{a}}": {}}}}}, "template.text.format.schema.{{a}}"),
    ],
)
def test_variable_where_none_may_stand_is_refused(template: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        variables_of(template, param="template")
    assert refusal.value.param == param


@pytest.mark.parametrize(
    "text",
    ["{{" + "a" * 65 + "}}", "".join(f"{{{{a{number}}}}}" for number in range(65))],
    ids=["long", "many"],
)
def test_names_and_their_number_are_limited(text: str) -> None:
    with pytest.raises(InvalidRequest):
        variables_of({"instructions": text}, param="template")


def test_limits_themselves_are_allowed() -> None:
    names = ["a" * 64, *(f"a{number}" for number in range(63))]
    assert variables_of(
        {"instructions": "".join(f"{{{{{name}}}}}" for name in names)}, param="template"
    ) == tuple(names)


# ---------------------------------------------------------------- which values there must be


@pytest.mark.parametrize(
    ("variables", "given_names", "param", "named"),
    [
        (("a", "b", "c"), ["b"], "prompt.variables.a", "'a', 'c'"),
        (("a",), ["a", "x", "y"], "prompt.variables.x", "'x', 'y'"),
        ((), ["x"], "prompt.variables.x", "it has none"),
        (("a",), ["A"], "prompt.variables.a", "'a'"),
        (("a",), ["a", "z" * 5_000], "prompt.variables." + "z" * 64, "its variables are 'a'"),
    ],
)
def test_values_that_do_not_fit_are_named(
    variables: tuple[str, ...], given_names: list[str], param: str, named: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        require_values(variables, given_names, param="prompt.variables")
    assert (refusal.value.param, named in refusal.value.message, len(refusal.value.message) < 300) == (
        param,
        True,
        True,
    )


def test_values_that_fit_are_accepted() -> None:
    require_values(("a", "b"), {"b": "", "a": ""}, param="prompt.variables")


# ---------------------------------------------------------------- values in their places


def test_values_stand_where_their_variables_stood() -> None:
    template = {
        "instructions": "Be {{mood}}.",
        "input": [
            user("{{who}} asks {{who}}"),
            {"role": "developer", "content": [{"type": "input_text", "text": "{{mood}}!"}]},
        ],
        "temperature": 0.5,
    }
    before = json.dumps(template)
    assert fill(template, {"mood": "kind", "who": "Ann"}) == {
        "instructions": "Be kind.",
        "input": [
            user("Ann asks Ann"),
            {"role": "developer", "content": [{"type": "input_text", "text": "kind!"}]},
        ],
        "temperature": 0.5,
    }
    assert json.dumps(template) == before


@pytest.mark.parametrize("value", ["{{b}}", r"\1 \g<0> \\", "}}{{", "", "{{a}}", "\u2028"])
def test_value_is_put_in_as_it_is_and_never_looked_at_again(value: str) -> None:
    template = {"instructions": "{{a}}", "input": [user("[{{a}}{{b}}]")]}
    assert fill(template, {"a": value, "b": "B"}) == {"instructions": value, "input": [user(f"[{value}B]")]}


@given(st.text(), st.text())
def test_neighbouring_values_make_no_variable(first: str, second: str) -> None:
    assert (
        fill({"instructions": "{{a}}{{b}}"}, {"a": first, "b": second}, most=10_000)["instructions"]
        == first + second
    )


def test_part_stands_for_a_whole_content_part() -> None:
    template = {
        "input": [
            user([{"type": "input_text", "text": "Describe"}, {"type": "input_text", "text": "{{it}}"}]),
            user("{{it}}"),
        ]
    }
    assert fill(template, {"it": IMAGE})["input"] == [
        user([{"type": "input_text", "text": "Describe"}, IMAGE]),
        user([IMAGE]),
    ]


@pytest.mark.parametrize(
    "template",
    [
        {"instructions": "{{it}}"},
        {"input": [user("See {{it}}")]},
        {"input": [user("{{it}}\n")]},
        {"input": [user([{"type": "input_text", "text": "{{it}}{{it}}"}])]},
        {"input": [{"role": "system", "content": "{{it}}"}]},
        {"input": [{"role": "assistant", "content": [{"type": "output_text", "text": "{{it}}"}]}]},
    ],
)
def test_part_stands_nowhere_else(template: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        fill(template, {"it": IMAGE})
    assert (refusal.value.param, refusal.value.code) == ("prompt.variables.it", "invalid_type")


def test_short_request_cannot_become_a_huge_prompt() -> None:
    template = {"input": [user("{{a}}" * 1_000)]}
    with pytest.raises(TooLarge) as refusal:
        fill(template, {"a": "x" * 100}, most=99_999)
    assert refusal.value.param == "prompt.variables.a"
    assert len(fill(template, {"a": "x" * 100}, most=100_000)["input"][0]["content"]) == 100_000


@pytest.mark.parametrize(("value", "size"), [("é", 2), (IMAGE, sum(map(len, IMAGE.values())))])
def test_bytes_are_counted_of_texts_and_of_parts(value: Value, size: int) -> None:
    template = {"input": [user("{{a}}"), user("{{a}}")]}
    fill(template, {"a": value}, most=size * 2)
    with pytest.raises(TooLarge):
        fill(template, {"a": value}, most=size * 2 - 1)
