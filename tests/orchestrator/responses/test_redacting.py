"""Members of a structured result that nobody may see, however the result wraps them."""

from __future__ import annotations

import json

import pytest

from regate_orchestrator.responses.tools.redacting import Unreadable, redacted
from regate_orchestrator.responses.tools.tool import ToolResult

WRAPPED = {
    "at the top": '{"salary": 99000, "id": 7}',
    "in objects and lists": '{"people": [{"pay": {"salary": 99000}, "id": 7}]}',
    "in a list": '[{"salary": 99000}, 7]',
    "with an object as its value": '{"salary": {"amount": 99000}, "id": 7}',
    "spelled with escapes": '{"s\\u0061lary": 99000, "id": 7}',
    "said twice": '{"salary": 99000, "salary": "99000", "id": 7}',
    "in a text that is JSON": json.dumps({"body": json.dumps({"salary": 99000, "id": 7})}),
    "in a text in a text": json.dumps([json.dumps({"body": " " + json.dumps([{"salary": 99000}]), "id": 7})]),
}
UNREADABLE = {
    "no JSON": "The salary is 99000.",
    "a text": '"salary: 99000"',
    "two values": '{"id": 7} {"salary": 99000}',
    "nested without an end": "[" * 100_000,
    "nested deeper than can be looked through": '{"a":' * 900 + '{"salary": 99000}' + "}" * 900,
}


@pytest.mark.parametrize("text", WRAPPED.values(), ids=WRAPPED.keys())
def test_value_is_redacted_wherever_it_stands(text: str) -> None:
    found = redacted(ToolResult(text=text, shown={"output": text}), {"salary"})

    assert ("99000" in found.text, "7" in found.text) == (False, True)
    assert found.shown == {"output": found.text}
    assert found.size == len(found.text.encode())


@pytest.mark.parametrize("text", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_what_nobody_can_look_through_is_not_read(text: str) -> None:
    with pytest.raises(Unreadable):
        redacted(ToolResult(text=text), {"salary"})


def test_failure_of_a_tool_is_not_read_either() -> None:
    with pytest.raises(Unreadable):
        redacted(ToolResult(text='{"salary": 99000}', failed=True), {"salary"})
