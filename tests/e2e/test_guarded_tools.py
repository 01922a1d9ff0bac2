"""Guards at what the client's tools of the API return, and at what models ask of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, tool_call
from tests.e2e.guarding import KEY, Guarded, guarded_gateway
from tests.e2e.test_client_tools import LISTED, TOOLS
from tests.e2e.test_tool_search import MAIL

from regate_gateway.config.settings import Settings

CALLS: dict[str, Any] = {
    "shell": {"type": "shell_call", "action": {"commands": ["ls"]}},
    "local_shell": {"type": "local_shell_call", "action": {"type": "exec", "command": ["ls"], "env": {}}},
    "apply_patch": {"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a"}},
    "tool_search": {"type": "tool_search_call", "execution": "client", "arguments": {}},
}
# what a client says that the tool returned; it holds a key
RETURNED: dict[str, Any] = {
    "shell": {"type": "shell_call_output", "output": [LISTED, {**LISTED, "stderr": f"no {KEY}"}]},
    "local_shell": {"type": "local_shell_call_output", "output": KEY},
    "apply_patch": {"type": "apply_patch_call_output", "status": "failed", "output": f"no {KEY}"},
    "tool_search": {
        "type": "tool_search_output", "execution": "client",
        "tools": [{**MAIL, "description": f"Needs {KEY}."}],
    },
}  # fmt: skip


@pytest.fixture
def guarded(configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path) -> Guarded:
    return guarded_gateway(configure, upstream, policies)


@only_on("embedded")
@pytest.mark.parametrize("action", ["redact", "block"])
@pytest.mark.parametrize("kind", RETURNED)
async def test_what_is_not_let_through_of_an_output_reaches_no_model_and_is_not_stored(
    guarded: Guarded, kind: str, action: str
) -> None:
    search: Any = {"type": "tool_search", "execution": "client"}
    items: Any = [
        {"role": "user", "content": "Go."},
        {**CALLS[kind], "call_id": "c", "id": "x", "status": "completed"},
        {**RETURNED[kind], "call_id": "c"},
    ]
    async with guarded(tool_result={"labels": {"secret": action}}) as world:
        client = world.client()
        response = await client.responses.create(model="small", input=items, tools=[search])
        listed = [item.to_dict() async for item in client.responses.input_items.list(response.id)]
        sent = str(world.upstream.requests[-1])

    assert response.status == "completed"
    assert (KEY in sent, KEY in str(listed)) == (False, False)
    assert ("[redacted: secret]" in sent) == (action == "redact")
    if kind == "tool_search":
        assert ("send_mail" in sent) == (action == "redact")
    elif action == "block":
        assert "was blocked and may not be used" in sent


@only_on("embedded")
@pytest.mark.parametrize("kind", ["apply_patch", "shell"])
async def test_policy_can_tell_what_is_asked_of_one_tool_from_the_rest(
    guarded: Guarded, policies: Path, kind: str
) -> None:
    rule = policies / "custom" / "guard" / "guard.rego"
    rule.parent.mkdir(parents=True)
    asked = 'input.step == "tool_arguments"\n\tinput.tool.type == "shell"'
    rule.write_text(f"package regate.custom.guard\n\nblock if {{\n\t{asked}\n}}\n")
    tool, written, _, _, _ = TOOLS[kind]
    async with guarded() as world:
        world.upstream.turns = [tool_call(kind, written)]
        response = await world.client().responses.create(model="small", input="Go.", tools=[tool])

    assert response.status == ("incomplete" if kind == "shell" else "completed")


@only_on("embedded")
@pytest.mark.parametrize("action", ["redact", "block"])
async def test_what_a_model_asks_of_a_tool_is_checked_whole(guarded: Guarded, action: str) -> None:
    tool, _, _, _, _ = TOOLS["shell"]
    async with guarded(tool_arguments={"labels": {"secret": action}}) as world:
        world.upstream.turns = [tool_call("shell", {"commands": [f"curl -H {KEY}"]})]
        response = await world.client().responses.create(model="small", input="Go.", tools=[tool])
    output: Any = response.output

    if action == "redact":
        assert output[0].action.commands == ["curl -H [redacted: secret]"]
    else:
        assert [item.type for item in output] == ["message"]
