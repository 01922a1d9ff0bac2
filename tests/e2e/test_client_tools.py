"""Tools of the API that the client runs, with the official client: `computer`, `shell`, `local_shell` and
`apply_patch` over a backend that knows functions only.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, ended, text, tool_call
from tests.e2e.test_responses import leave_store, search_tool
from tests.media import png_bytes

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

PICTURE = "data:image/png;base64," + base64.b64encode(png_bytes()).decode()
PREVIEW = {
    "type": "computer_use_preview",
    "display_width": 800,
    "display_height": 600,
    "environment": "browser",
}
CLICK = {"type": "click", "button": "left", "x": 3, "y": 4}
SHOT: Any = {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": PICTURE}}
LISTED = {"stdout": "a.txt", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}
PATCH = {"type": "create_file", "path": "a.txt", "diff": "+hello"}
# the tool, what a model writes, where the item says it, what a client answers, what a model then reads
TOOLS: dict[str, tuple[Any, Any, str, Any, str]] = {
    "computer": ({"type": "computer"}, {"actions": [CLICK]}, "actions", SHOT, "The screen"),
    "computer_use_preview": (PREVIEW, {"action": CLICK}, "action", SHOT, "The screen"),
    "shell": (
        {"type": "shell", "environment": {"type": "local"}}, {"commands": ["ls"]}, "action",
        {"type": "shell_call_output", "output": [LISTED]}, "a.txt\n[exit code 0]",
    ),
    "local_shell": (
        {"type": "local_shell"}, {"command": ["ls"], "env": {}}, "action",
        {"type": "local_shell_call_output", "output": "a.txt"}, "a.txt",
    ),
    "apply_patch": (
        {"type": "apply_patch"}, {"operation": PATCH}, "operation",
        {"type": "apply_patch_call_output", "status": "completed"}, "The change was made.",
    ),
}  # fmt: skip


def function_name(kind: str) -> str:
    return "computer" if kind.startswith("computer") else kind


@pytest.mark.parametrize("kind", TOOLS)
async def test_call_and_output_make_a_turn_each(world: World, kind: str) -> None:
    tool, written, member, output, told = TOOLS[kind]
    client, name = world.client(), function_name(kind)
    world.upstream.turns = [tool_call(name, written), text("Done.")]
    first = await client.responses.create(model="small", input="Go.", tools=[tool])
    (call,) = first.output
    answer = {**output, "call_id": call.call_id}  # type: ignore[union-attr]
    second = await client.responses.create(
        model="small", input=[answer], previous_response_id=first.id, tools=[tool]
    )
    prompt = world.upstream.requests[-1]["messages"]
    said = call.to_dict()[member]

    assert (first.tools[0].type, call.type, first.status) == (kind, f"{name}_call", "completed")
    assert said == written.get(member, said)
    assert json.loads(prompt[1]["tool_calls"][0]["function"]["arguments"]) == written
    assert prompt[2]["content"].startswith(told)
    assert (second.output_text, [one["function"]["name"] for one in world.upstream.requests[0]["tools"]]) == (
        "Done.",
        [name],
    )


@only_on("embedded")
@pytest.mark.parametrize("kind", TOOLS)
async def test_items_that_a_client_keeps_itself_say_the_same(world: World, kind: str) -> None:
    tool, written, _, output, told = TOOLS[kind]
    client = world.client()
    world.upstream.turns = [tool_call(function_name(kind), written), text("Done.")]
    asked: Any = {"type": "message", "role": "user", "content": "Go."}
    first = await client.responses.create(model="small", input=[asked], tools=[tool], store=False)
    call: Any = first.output[0].to_dict()
    again = [asked, call, {**output, "call_id": call["call_id"]}]
    await client.responses.create(model="small", input=again, tools=[tool], store=False)
    prompt = world.upstream.requests[-1]["messages"]

    assert [message["role"] for message in prompt][:3] == ["user", "assistant", "tool"]
    assert json.loads(prompt[1]["tool_calls"][0]["function"]["arguments"]) == written
    assert prompt[2]["content"].startswith(told)


@only_on("embedded")
@pytest.mark.parametrize("kind", TOOLS)
async def test_stream_tells_the_call_and_is_told_again(world: World, kind: str) -> None:
    tool, written, member, _, _ = TOOLS[kind]
    client = world.client()
    world.upstream.turns = [tool_call(function_name(kind), written)]
    stream = await client.responses.create(model="small", input="Go.", tools=[tool], stream=True)
    events = [event async for event in stream]
    response: Any = events[-1]
    again = await client.responses.retrieve(response.response.id, stream=True)
    replayed = [event async for event in again]
    (item,) = response.response.output

    assert response.type == "response.completed"
    assert [event.type for event in replayed] == [event.type for event in events]
    assert replayed[-1].response.output == response.response.output  # type: ignore[union-attr]
    assert item.to_dict()[member] == events[-2].item.to_dict()[member]  # type: ignore[union-attr]
    if kind == "shell":
        assert [event.command for event in events if event.type == "response.shell_call_command.done"] == [
            "ls"
        ]


@only_on("embedded")
async def test_screenshot_is_an_image_to_the_model_and_is_there_in_later_turns(world: World) -> None:
    client, computer = world.client(), TOOLS["computer"]
    world.upstream.turns = [tool_call("computer", computer[1]), text("I see."), text("Still.")]
    first = await client.responses.create(model="small", input="Go.", tools=[computer[0]])
    second = await client.responses.create(
        model="small",
        input=[{**SHOT, "call_id": "call_1", "acknowledged_safety_checks": []}],
        previous_response_id=first.id,
        tools=[computer[0]],
    )
    pictures = []
    for previous in (None, second.id):
        if previous:
            await client.responses.create(model="small", input="And?", previous_response_id=previous)
        (shown,) = [
            part["image_url"]["url"]
            for message in world.upstream.requests[-1]["messages"]
            if isinstance(message["content"], list)
            for part in message["content"]
            if part["type"] == "image_url"
        ]
        pictures.append(shown)
    listed = [item async for item in client.responses.input_items.list(second.id)]

    assert pictures == [PICTURE, PICTURE]
    assert [item.output.image_url for item in listed if item.type == "computer_call_output"] == [PICTURE]  # type: ignore[union-attr]


@only_on("embedded")
async def test_screenshot_may_be_a_file_which_is_decided_as_files_are(world: World) -> None:
    client, computer = world.client(), TOOLS["computer"]
    file = await client.files.create(file=("screen.png", png_bytes()), purpose="vision")
    call: Any = {"type": "computer_call", "call_id": "c", "actions": [CLICK], "pending_safety_checks": []}
    shot: Any = {"type": "computer_screenshot", "file_id": file.id}
    items: Any = [call, {"type": "computer_call_output", "call_id": "c", "output": shot}]
    await client.responses.create(model="small", input=items, tools=[computer[0]])
    sent = str(world.upstream.requests[-1]["messages"])
    with pytest.raises(openai.NotFoundError):
        await world.client("mallory", "globex").responses.create(model="small", input=items)

    assert PICTURE in sent
    assert len(world.upstream.requests) == 1


@only_on("embedded")
async def test_arguments_that_do_not_fit_are_told_to_the_model_and_to_nobody_else(world: World) -> None:
    world.upstream.turns = [tool_call("shell", {"cmd": "ls"}), tool_call("shell", {"commands": ["ls"]})]
    response = await world.client().responses.create(model="small", input="Go.", tools=[TOOLS["shell"][0]])

    assert [item.type for item in response.output] == ["shell_call"]
    assert "do not fit" in world.upstream.requests[1]["messages"][-1]["content"]


@only_on("embedded")
async def test_calls_of_several_kinds_are_answered_together(world: World) -> None:
    client = world.client()
    calls = [
        {
            "index": index,
            "id": f"c{index}",
            "function": {"name": kind, "arguments": json.dumps(TOOLS[kind][1])},
        }
        for index, kind in enumerate(("shell", "local_shell", "apply_patch"))
    ]
    world.upstream.turns = [
        [{"choices": [{"index": 0, "delta": {"tool_calls": calls}}]}, ended("tool_calls")],
        text("Done."),
    ]
    tools = [TOOLS[kind][0] for kind in ("shell", "local_shell", "apply_patch")]
    first = await client.responses.create(model="small", input="Go.", tools=tools)
    answers: Any = [
        {**TOOLS["apply_patch"][3], "call_id": "c2"},
        {**TOOLS["local_shell"][3], "id": "c1"},
        {**TOOLS["shell"][3], "call_id": "c0"},
    ]
    await client.responses.create(model="small", input=answers, previous_response_id=first.id, tools=tools)
    prompt = world.upstream.requests[-1]["messages"]

    assert [(one["tool_call_id"], one["content"].split()[0]) for one in prompt if one["role"] == "tool"] == [
        ("c0", "a.txt"),
        ("c1", "a.txt"),
        ("c2", "The"),
    ]


@only_on("embedded")
@pytest.mark.parametrize("kind", TOOLS)
async def test_call_that_rests_on_what_is_gone_is_withheld_with_it(world: World, kind: str) -> None:
    tool, written, member, output, _ = TOOLS[kind]
    alice, store, file = await leave_store(world)
    world.upstream.turns = [
        tool_call("file_search", {"query": "leave"}, call_id="s"),
        tool_call(function_name(kind), written),
        text("Done."),
    ]
    first = await alice.responses.create(model="small", input="Go.", tools=[search_tool(store), tool])
    await alice.files.delete(file)
    read = (await alice.responses.retrieve(first.id)).output[-1].to_dict()
    answer = {**output, "call_id": "call_1"}
    await alice.responses.create(model="small", input=[answer], previous_response_id=first.id, tools=[tool])
    (told,) = [
        message["content"]
        for message in world.upstream.requests[-1]["messages"]
        if message.get("tool_call_id") == "call_1"
    ]

    assert read["type"] == f"{function_name(kind)}_call"
    assert [word for word in ("ls", "hello", "click") if word in str(read.get(member, ""))] == []
    assert "was withheld" in told


CHOICES: dict[str, tuple[Any, Any, list[str]]] = {
    "shell": ({"type": "shell"}, "shell", ["shell", "computer"]),
    "apply_patch": ({"type": "apply_patch"}, "auto", ["shell", "computer"]),
    "computer by another name": ({"type": "computer_use_preview"}, "computer", ["shell", "computer"]),
    "one of them": (
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "shell"}]}, "auto", ["shell"]),
    "one must": (
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "computer"}]},
        "required", ["computer"]),
}  # fmt: skip


@only_on("embedded")
@pytest.mark.parametrize("name", CHOICES)
async def test_choice_among_them_is_the_models_or_the_clients_mistake(world: World, name: str) -> None:
    choice, sent, offered = CHOICES[name]
    tools = [TOOLS["shell"][0], TOOLS["computer"][0]]
    asking = world.client().responses.create(model="small", input="Go.", tools=tools, tool_choice=choice)
    if name == "apply_patch":
        with pytest.raises(openai.BadRequestError, match="not among 'tools'"):
            await asking
        return
    response = await asking
    asked = world.upstream.requests[-1]
    chosen = asked.get("tool_choice", "auto")

    assert (chosen["function"]["name"] if isinstance(chosen, dict) else chosen) == sent
    assert [one["function"]["name"] for one in asked["tools"]] == offered
    assert json.loads(response.model_dump_json())["tool_choice"]["type"] == choice["type"]


REFUSED: dict[str, tuple[Any, str]] = {
    "a container": ({"tools": [{"type": "shell", "environment": {"type": "container_auto"}}]},
        "tools[0].environment.type"),
    "a screen of no size": ({"tools": [{"type": "computer_use_preview"}]}, "tools[0].display_width"),
    "two computers": ({"tools": [{"type": "computer"}, PREVIEW]}, "tools[1].type"),
    "a function of the same name": (
        {"tools": [{"type": "function", "name": "shell"}, {"type": "shell"}]}, "tools[1].type"),
    "a program's call": ({"tools": [{"type": "shell", "allowed_callers": ["programmatic"]}]},
        "tools[0].allowed_callers"),
    "a call that says nothing": (
        {"input": [{"type": "shell_call", "call_id": "c", "action": {"commands": []}}]}, "input[0].action"),
    "a call of no action": ({"input": [{"type": "computer_call", "call_id": "c"}]}, "input[0].actions"),
    "an output without a call": (
        {"input": [{"type": "local_shell_call_output", "output": "x"}]}, "input[0].call_id"),
    "an output of no call": ({"input": [{**SHOT, "call_id": "c"}]}, "input"),
    "a code of what timed out": (
        {"input": [{"type": "shell_call_output", "call_id": "c",
                    "output": [{**LISTED, "outcome": {"type": "timeout", "exit_code": 1}}]}]},
        "input[0].output[0].outcome.exit_code"),
    "a picture that is none": (
        {"input": [{**SHOT, "call_id": "c", "output": {"type": "computer_screenshot", "image_url": "x"}}]},
        "input[0].output.image_url"),
    "no picture": (
        {"input": [{**SHOT, "call_id": "c", "output": {"type": "computer_screenshot"}}]},
        "input[0].output.image_url"),
}  # fmt: skip


@only_on("embedded")
@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_is_refused_by_name(world: World, name: str) -> None:
    changes, param = REFUSED[name]
    async with world.http() as http:
        answer = await http.post("/responses", json={"model": "small", "input": "Go.", **changes})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


@asynccontextmanager
async def ruled(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, rule: str
) -> AsyncIterator[World]:
    """A gateway whose policy has one more rule about tools."""
    written = policies / "custom" / "tool" / "tool.rego"
    written.parent.mkdir(parents=True)
    written.write_text(f"package regate.custom.tool\n\n{rule}\n")
    settings = configure()
    app, gateway = gateway_app(settings)
    async with Running(app, settings.listen) as server:
        world = World(server.url, settings, gateway, upstream, policies)
        yield world
        for client in world.clients:
            await client.close()


@only_on("embedded")
@pytest.mark.parametrize("kind", TOOLS)
async def test_policy_that_denies_what_may_destroy_hides_them_from_the_model(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, kind: str
) -> None:
    async with ruled(configure, upstream, policies, "deny if input.tool.annotations.destructive") as world:
        await world.client().responses.create(model="small", input="Go.", tools=[TOOLS[kind][0]])

    assert "tools" not in upstream.requests[-1]


@only_on("embedded")
@pytest.mark.parametrize("kind", TOOLS)
async def test_output_that_the_policy_does_not_admit_reaches_no_model(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, kind: str
) -> None:
    tool, written, _, output, _ = TOOLS[kind]
    name = function_name(kind)
    rule = f'deny if {{\n\tinput.action == "tool.result"\n\tinput.tool.type == "{name}"\n}}'
    async with ruled(configure, upstream, policies, rule) as world:
        client = world.client()
        upstream.turns = [tool_call(name, written)]
        first = await client.responses.create(model="small", input="Go.", tools=[tool])
        with pytest.raises(openai.PermissionDeniedError, match="does not admit"):
            await client.responses.create(
                model="small", input=[{**output, "call_id": "call_1"}], previous_response_id=first.id
            )

    assert len(upstream.requests) == 1
