"""Templates as they come in: what may stand in one, and that whatever a request would be refused for
is refused when it is stored.
"""

from __future__ import annotations

from typing import Any

import pytest

from regate_gateway.routes.prompts.models import PromptVersionRequest
from regate_gateway.routes.prompts.template import read_template
from regate_orchestrator.errors import CallerError, InvalidRequest, TooLarge

WHOLE: dict[str, Any] = {
    "instructions": "Answer in {{language}}.",
    "input": [
        {"role": "developer", "content": "Be brief."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "{{photo}}"},
                {"type": "input_file", "file_id": "file-1"},
            ],
        },
        {"role": "assistant", "content": [{"type": "output_text", "text": "Noted, {{language}}."}]},
    ],
    "model": "small",
    "tools": [
        {"type": "function", "name": "f", "parameters": {"type": "object"}},
        {"type": "custom", "name": "c"},
        {
            "type": "namespace",
            "name": "n",
            "description": "",
            "tools": [{"type": "function", "name": "f", "parameters": {}}],
        },
        {"type": "file_search", "vector_store_ids": ["vs_1"]},
    ],
    "tool_choice": "auto",
    "parallel_tool_calls": False,
    "max_tool_calls": 2,
    "max_output_tokens": 100,
    "temperature": 0.5,
    "top_p": 1,
    "text": {"format": {"type": "json_schema", "name": "x", "schema": {"type": "object"}}},
    "reasoning": {"effort": "low"},
    "truncation": "auto",
}


def read(template: Any) -> Any:
    return read_template(PromptVersionRequest.read({"template": template}).template)


def test_template_is_kept_as_it_was_sent() -> None:
    assert read(WHOLE) == (WHOLE, ("language", "photo"))


def test_empty_fields_are_left_out() -> None:
    assert read({"instructions": "Hi.", "input": None, "model": None}) == ({"instructions": "Hi."}, ())


@pytest.mark.parametrize(
    ("template", "param"),
    [
        (None, "template"),
        ("Hi {{name}}", "template"),
        ({}, "template"),
        ({"model": "small"}, "template"),
        ({"instructions": 1}, "template.instructions"),
        ({"input": "Hi"}, "template.input"),
        ({"input": []}, "template.input"),
        ({"input": ["Hi"]}, "template.input[0]"),
        ({"input": [{"role": "robot", "content": "x"}]}, "template.input[0].role"),
        ({"input": [{"role": "user"}]}, "template.input[0].content"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "template.input[0].type"),
        (
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
            "template.input[0].type",
        ),
        ({"input": [{"id": "msg_1"}]}, "template.input[0].role"),
        (
            {"input": [{"role": "system", "content": [{"type": "input_image", "file_id": "file-1"}]}]},
            "template.input[0].content[0].type",
        ),
        (
            {
                "input": [
                    {"role": "user", "content": [{"type": "input_file", "file_url": "file:///etc/passwd"}]}
                ]
            },
            "template.input[0].content[0].file_url",
        ),
        ({"instructions": "x", "temperature": 3}, "template.temperature"),
        (
            {"instructions": "x", "tools": [{"type": "mcp", "server_label": "s", "authorization": "secret"}]},
            "template.tools[0].type",
        ),
        ({"instructions": "x", "tools": [{"type": "function", "name": "a b"}]}, "template.tools[0].name"),
        ({"instructions": "x", "tool_choice": {"type": "function", "name": "f"}}, "template.tool_choice"),
        ({"instructions": "x", "previous_response_id": "resp_1"}, "template.previous_response_id"),
        ({"instructions": "x", "conversation": "conv_1"}, "template.conversation"),
        ({"instructions": "x", "store": False}, "template.store"),
        ({"instructions": "x", "prompt": {"id": "pmpt_1"}}, "template.prompt"),
        ({"instructions": "x", "metadata": {}}, "template.metadata"),
        ({"instructions": "x", "user": "{{user}}"}, "template.user"),
        ({"instructions": "x", "model": "{{model}}"}, "template.model"),
    ],
)
def test_what_no_template_may_hold_is_refused_by_name(template: Any, param: str) -> None:
    with pytest.raises(CallerError) as refusal:
        read(template)
    assert refusal.value.param == param


def test_refusal_names_the_place_as_it_is_here() -> None:
    with pytest.raises(InvalidRequest, match=r"'template\.input\[0\]\.role'"):
        read({"input": [{"role": 5, "content": "x"}]})


def test_template_is_at_most_a_mebibyte() -> None:
    overhead = len('{"instructions":""}')
    read({"instructions": "x" * (1024 * 1024 - overhead)})
    with pytest.raises(TooLarge):
        read({"instructions": "x" * (1024 * 1024 - overhead + 1)})
