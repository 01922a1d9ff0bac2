"""One more kind of tools is one module and one registration: all else of it follows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.deployments import only_on
from tests.e2e import toy_tool
from tests.e2e.conftest import ScriptedUpstream, World, text, tool_call
from tests.e2e.mcp_world import grant, regrant, told
from tests.e2e.test_event_shapes import events_in

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

pytestmark = only_on("embedded")

Opened = Callable[..., AbstractAsyncContextManager[World]]

GRANTED = {"echo_tool": {"type": "echo_tool", "tenants": {"acme": ["everyone"]}, "needs_approval": False}}
TOOL = {"type": "echo_tool", "times": 2}
ANSWERED = "heron heron"
ITEM = {"type": "echo_tool_call", "status": "completed", "said": "heron", "output": ANSWERED}
SENT = [
    {"role": "user", "content": "Say heron."},
    {"type": "echo_tool_call", "id": "echo_1", "said": "heron", "output": "made up"},
    {"role": "user", "content": "And now?"},
]


@pytest.fixture
def opened(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path
) -> Iterator[Opened]:
    """Opens a gateway that knows the kind, with this catalogue."""

    @asynccontextmanager
    async def running(tools: dict[str, Any]) -> AsyncIterator[World]:
        grant(policies, tools)
        settings = configure()
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            yield World(server.url, settings, gateway, upstream, policies)

    with toy_tool.registered():
        yield running


def echoing() -> list[Any]:
    return [tool_call("echo_tool", {"said": "heron"}), text("It said heron.")]


async def asked(world: World, *turns: Any, **request: Any) -> Any:
    world.upstream.turns = list(turns)
    asking = {"model": "small", "input": "Say heron.", "tools": [TOOL]} | request
    async with world.http() as http:
        return await http.post("/responses", json=asking)


def of_the_call(events: list[dict[str, Any]]) -> list[str]:
    (index,) = (
        one["output_index"]
        for one in events
        if one.get("item", {}).get("type") == ITEM["type"] and one["type"].endswith("added")
    )
    return [one["type"].removeprefix("response.") for one in events if one.get("output_index") == index]


EVENTS = [
    "output_item.added",
    "echo_tool_call.in_progress",
    "echo_tool_call.said",
    "echo_tool_call.echoing",
    "echo_tool_call.completed",
    "output_item.done",
]


async def test_item_and_prompt_are_told_of_the_call(opened: Opened) -> None:
    async with opened(GRANTED) as world:
        response = (await asked(world, *echoing())).json()
    call, message = response["output"]

    assert response["tools"] == [TOOL]
    assert call == {**ITEM, "id": call["id"]}
    assert call["id"].startswith("echo_")
    assert message["content"][0]["text"] == "It said heron."
    assert told(world) == [ANSWERED]


async def test_stream_and_its_replay_tell_of_the_call(opened: Opened) -> None:
    async with opened(GRANTED) as world:
        streamed = events_in((await asked(world, *echoing(), stream=True)).text)
        identifier = streamed[-1]["response"]["id"]
        async with world.http() as http:
            replayed = events_in((await http.get(f"/responses/{identifier}?stream=true")).text)

    assert of_the_call(streamed) == EVENTS
    assert of_the_call(replayed) == EVENTS
    assert replayed[-1]["response"]["output"] == streamed[-1]["response"]["output"]


@pytest.mark.parametrize(
    ("tools", "offered"),
    [({}, False), (GRANTED, True), ({"echo_tool": GRANTED["echo_tool"] | {"tenants": {}}}, False)],
)
async def test_catalogue_says_who_may(opened: Opened, tools: dict[str, Any], offered: bool) -> None:
    async with opened(tools) as world:
        response = (await asked(world, *echoing(), text("Nothing."))).json()
    kinds = [item["type"] for item in response.get("output", ())]

    assert ("echo_tool_call" in kinds) is offered


async def test_call_is_decided_and_recorded(opened: Opened) -> None:
    async with opened(GRANTED) as world:
        await asked(world, *echoing())
        (called,) = world.audit(phase="tool.call")
        (heard,) = world.audit(phase="tool.result")

    assert called["decisions"][0]["allowed"] is True
    assert heard["decisions"][0]["allowed"] is True


@pytest.mark.parametrize("way", ["previous", "conversation"])
async def test_withdrawn_grant_takes_the_result_out_of_later_turns(opened: Opened, way: str) -> None:
    async with opened(GRANTED) as world, world.http() as http:
        more = {}
        if way == "conversation":
            more = {"conversation": (await http.post("/conversations", json={})).json()["id"]}
        first = (await asked(world, *echoing(), **more)).json()
        again = more or {"previous_response_id": first["id"]}
        await asked(world, text("Yes."), input="Still?", **again)
        kept = world.upstream.prompt
        await regrant(world, {})
        await asked(world, text("No."), input="And now?", tools=[], **again)
        left = world.upstream.prompt
        read = (await http.get(f"/responses/{first['id']}")).text

    assert ANSWERED in kept
    assert ANSWERED not in left
    assert "It said heron." not in left
    assert ANSWERED not in read


async def test_item_that_a_client_sends_back_is_decided_and_read(opened: Opened) -> None:
    async with opened(GRANTED) as world:
        await asked(world, text("Yes."), input=SENT)
        assert told(world) == ["made up"]
        await regrant(world, {})
        refused = await asked(world, text("No."), input=SENT, tools=[])

    assert refused.status_code == 403


async def test_reader_may_ask_for_parts_of_its_items(opened: Opened) -> None:
    async with opened(GRANTED) as world, world.http() as http:
        response = (await asked(world, *echoing(), include=[toy_tool.LENGTH])).json()
        found = await http.get(f"/responses/{response['id']}", params={"include": toy_tool.LENGTH})
        usual = await http.get(f"/responses/{response['id']}")

    assert response["output"][0]["length"] == 5
    assert found.json()["output"] == response["output"]
    assert "length" not in usual.json()["output"][0]


async def test_choice_names_it(opened: Opened) -> None:
    async with opened(GRANTED) as world:
        await asked(world, *echoing(), tool_choice={"type": "echo_tool"})
        first, *_ = world.upstream.requests

    assert first["tool_choice"] == {"type": "function", "function": {"name": "echo_tool"}}


async def test_request_that_does_not_fit_is_refused_by_place(opened: Opened) -> None:
    async with opened(GRANTED) as world:
        refused = await asked(world, tools=[{**TOOL, "times": "often"}])

    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools[0].times")
