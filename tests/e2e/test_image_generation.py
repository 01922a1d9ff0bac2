"""Images that an upstream makes: shown, kept as a file of the caller, and decided again with it."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, text, tool_call
from tests.e2e.test_event_shapes import events_in, faults

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_orchestrator.errors import ConfigurationError

pytestmark = only_on("embedded")

Opened = Callable[..., AbstractAsyncContextManager[World]]
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
GRANTED = {
    "image_generation": {
        "type": "image_generation",
        "tenants": {"acme": ["everyone"]},
        "needs_approval": False,
    }
}
IMAGE: Any = {"type": "image_generation"}


def made(data: bytes = PNG, **more: Any) -> dict[str, Any]:
    return {"created": 1, "data": [{"b64_json": base64.b64encode(data).decode(), **more}]}


@pytest.fixture
def opened(configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path) -> Opened:
    @asynccontextmanager
    async def running(tools: Mapping[str, Any] = GRANTED, **images: Any) -> AsyncIterator[World]:
        data = json.loads((policies / "data.json").read_text())
        data["regate"]["tools"] = tools
        (policies / "data.json").write_text(json.dumps(data))
        said = {"upstream": "scripted", "model": "painter"} | images
        settings = configure(tools={"image_generation": said})
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            world = World(server.url, settings, gateway, upstream, policies)
            yield world
            for client in world.clients:
                await client.close()

    return running


def paint(prompt: str = "a lighthouse") -> list[dict[str, Any]]:
    return tool_call("image_generation", {"prompt": prompt})


def told(upstream: ScriptedUpstream) -> list[str]:
    """What the model was told of its calls in the last request."""
    return [one["content"] for one in upstream.requests[-1]["messages"] if one["role"] == "tool"]


async def asked(world: World, answer: Any, *turns: Any, **request: Any) -> Any:
    world.upstream.images = [answer]
    world.upstream.turns = list(turns)
    request = {"model": "small", "input": "Paint.", "tools": [IMAGE]} | request
    return await world.client().responses.create(**request)


async def test_an_image_is_shown_and_becomes_a_file_of_the_callers(opened: Opened) -> None:
    async with opened() as world:
        answer = await asked(
            world,
            made(revised_prompt="A tall lighthouse"),
            paint(),
            text("Here it is."),
            tools=[IMAGE | {"size": "1024x1024", "quality": "low", "partial_images": 2}],
        )
        client = world.client()
        (file,) = [one async for one in client.files.list()]
        content = (await client.files.content(file.id)).content
        others = [one async for one in world.client("bob").files.list()]
        (ran,) = world.audit(kind="tool.ran")
    call, message = answer.output

    assert world.upstream.requests[1] == {
        "model": "painter",
        "prompt": "a lighthouse",
        "n": 1,
        "size": "1024x1024",
        "quality": "low",
    }
    assert (call.type, call.status, base64.b64decode(call.result)) == (
        "image_generation_call",
        "completed",
        PNG,
    )
    assert call.to_dict()["revised_prompt"] == "A tall lighthouse"
    assert (file.filename, file.purpose, content) == (f"{call.id}.png", "assistants_output", PNG)
    assert others == []
    assert told(world.upstream) == [f"The image was made, and the user sees it. It is the file {file.id}."]
    assert (ran["file"], message.content[0].text) == (file.id, "Here it is.")


async def test_stream_tells_of_an_image_in_the_clients_own_types(opened: Opened) -> None:
    async with opened() as world, world.http() as http:
        world.upstream.images = [made()]
        world.upstream.turns = [paint(), text("Here.")]
        answer = await http.post(
            "/responses", json={"model": "small", "input": "?", "stream": True, "tools": [IMAGE]}
        )
    events = events_in(answer.text)

    assert faults(events) == []
    assert [one["type"].removeprefix("response.") for one in events[2:7]] == [
        "output_item.added",
        "image_generation_call.in_progress",
        "image_generation_call.generating",
        "image_generation_call.completed",
        "output_item.done",
    ]
    assert [events[place]["item"]["result"] for place in (2, 6)] == [None, base64.b64encode(PNG).decode()]


async def test_an_image_goes_with_its_file(opened: Opened) -> None:
    async with opened() as world:
        first = await asked(world, made(), paint(), text("A lighthouse by the sea."))
        client = world.client()
        await asked(world, None, text("Yes."), previous_response_id=first.id, tools=[])
        before = world.upstream.prompt
        (file,) = [one async for one in client.files.list()]
        await client.files.delete(file.id)
        await asked(world, None, text("No."), previous_response_id=first.id, tools=[])
        after = world.upstream.prompt
        shown = await client.responses.retrieve(first.id)

    assert "The image was made" in before
    assert "A lighthouse by the sea." in before
    assert "A lighthouse by the sea." not in after
    assert (shown.output[0].type, shown.output[0].result) == ("image_generation_call", None)


@pytest.mark.parametrize(
    ("answer", "settings"),
    [
        (500, {}),
        (400, {}),
        ({"data": []}, {}),
        ({"data": [{"url": "https://images.example/1.png"}]}, {}),
        ({"data": [{"b64_json": "!"}]}, {}),
        (made(b"no image"), {}),
        (made(PNG + b"x" * 5_000), {"max_bytes": 4_000}),
    ],
    ids=["error", "refused", "none", "an address", "no base64", "no image", "too large"],
)
async def test_what_is_no_image_is_told_without_the_upstreams_words(
    opened: Opened, answer: Any, settings: dict[str, Any]
) -> None:
    async with opened(**settings) as world:
        response = await asked(world, answer, paint(), text("Sorry."))
        files = [one async for one in world.client().files.list()]

    assert (response.output[0].status, response.output[0].result, files) == ("failed", None, [])
    assert told(world.upstream)[0].startswith("The image ")
    assert "says the upstream" not in world.upstream.prompt


async def test_an_image_that_the_policy_lets_nobody_have_is_not_kept(opened: Opened) -> None:
    small = {"image_generation": GRANTED["image_generation"] | {"max_result_bytes": 10}}
    async with opened(small) as world:
        response = await asked(world, made(), paint(), text("Sorry."))
        files = [one async for one in world.client().files.list()]

    assert (response.output[0].status, files) == ("failed", [])


async def test_without_a_grant_no_image_is_made(opened: Opened) -> None:
    async with opened({}) as world:
        answer = await asked(world, made(), paint(), text("I may not."))

    assert "tools" not in world.upstream.requests[0]
    assert [item.type for item in answer.output] == ["message"]
    assert len(world.upstream.images) == 1


async def test_an_upstream_may_be_told_to_answer_with_the_image(opened: Opened) -> None:
    async with opened(asks_for_base64=True) as world:
        await asked(world, made(), paint(), text("Here."))

    assert world.upstream.requests[1]["response_format"] == "b64_json"


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        (IMAGE | {"model": "other"}, "tools[0].model"),
        (IMAGE | {"action": "edit"}, "tools[0].action"),
        (IMAGE | {"size": "large"}, "tools[0].size"),
        (IMAGE | {"input_image_mask": {}}, "tools[0].input_image_mask"),
    ],
)
async def test_what_cannot_be_honoured_is_refused(opened: Opened, tool: Any, param: str) -> None:
    async with opened() as world, world.http() as http:
        answer = await http.post("/responses", json={"model": "small", "input": "Hi", "tools": [tool]})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_the_upstream_must_be_there(configure: Callable[..., Settings]) -> None:
    with pytest.raises(
        (ConfigurationError, ValueError), match=r"tools\.image_generation\.upstream names 'x'"
    ):
        configure(tools={"image_generation": {"upstream": "x", "model": "m"}})
