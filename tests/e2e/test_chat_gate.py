"""What enters the prompt of a chat completion: files, images, tools and what tools returned, each
decided and read as in `/v1/responses`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.conftest import ScriptedUpstream, World

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

CHAT: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_URL = "data:image/png;base64," + base64.b64encode(PNG).decode()
WEATHER = {"type": "function", "function": {"name": "weather"}}
LAUNCH = {"type": "function", "function": {"name": "launch"}}
GREP = {"type": "custom", "custom": {"name": "grep"}}

Governed = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def governed(configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path) -> Governed:
    """A gateway whose operators say this in their data."""

    @asynccontextmanager
    async def running(custom: str = "", **said: Any) -> AsyncIterator[World]:
        data = json.loads((policies / "data.json").read_text())
        data["regate"] |= said
        (policies / "data.json").write_text(json.dumps(data))
        if custom:
            (policies / "custom.rego").write_text(custom)
        settings = configure()
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            yield World(server.url, settings, gateway, upstream, policies)

    return running


def with_part(part: dict[str, Any]) -> dict[str, Any]:
    return CHAT | {"messages": [{"role": "user", "content": [{"type": "text", "text": "Look:"}, part]}]}


async def uploaded(http: httpx.AsyncClient, name: str, content: bytes) -> str:
    made = await http.post("/files", files={"file": (name, content)}, data={"purpose": "user_data"})
    assert made.status_code == 200, made.text
    return str(made.json()["id"])


# ---------------------------------------------------------------- files and images


async def test_files_by_id_and_inline_reach_the_model_as_text_and_never_by_name(world: World) -> None:
    async with world.http() as http:
        file = await uploaded(http, "leave.md", b"28 days")
        inline = {
            "file_data": "data:text/plain;base64," + base64.b64encode(b"29 days").decode(),
            "filename": "old.txt",
        }
        statuses = [
            (await http.post("/chat/completions", json=with_part({"type": "file", "file": one}))).status_code
            for one in ({"file_id": file}, inline)
        ]

    assert statuses == [200, 200]
    assert [request["messages"][0]["content"] for request in world.upstream.requests] == [
        [{"type": "text", "text": "Look:"}, {"type": "text", "text": "[File: leave.md]\n28 days"}],
        [{"type": "text", "text": "Look:"}, {"type": "text", "text": "[File: old.txt]\n29 days"}],
    ]


async def test_an_image_is_what_its_first_bytes_say_whatever_it_is_called(world: World) -> None:
    called_jpeg = PNG_URL.replace("image/png", "image/jpeg")
    async with world.http() as http:
        answer = await http.post(
            "/chat/completions",
            json=with_part({"type": "image_url", "image_url": {"url": called_jpeg, "detail": "high"}}),
        )

    assert answer.status_code == 200
    assert world.upstream.requests[0]["messages"][0]["content"][1] == {
        "type": "image_url",
        "image_url": {"url": PNG_URL, "detail": "high"},
    }


async def test_a_file_that_may_not_be_read_is_as_absent_and_nothing_is_sent(world: World) -> None:
    async with world.http("gita", "globex") as http:
        foreign = await uploaded(http, "plan.md", b"secret")
    async with world.http("bob") as http:
        private = await uploaded(http, "own.md", b"secret")
    found = []
    async with world.http() as http:
        for file in (foreign, private, "file-absent"):
            answer = await http.post(
                "/chat/completions", json=with_part({"type": "file", "file": {"file_id": file}})
            )
            found.append((answer.status_code, answer.text.replace(file, "ID")))

    assert set(found) == {found[0]}
    assert (found[0][0], json.loads(found[0][1])["error"]["param"]) == (
        404,
        "messages[0].content[1].file.file_id",
    )
    assert world.upstream.requests == []


async def test_files_and_outputs_are_decided_with_the_route_in_one_record(world: World) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    async with world.http() as http:
        file = await uploaded(http, "leave.md", b"28 days")
        body = with_part({"type": "file", "file": {"file_id": file}})
        body["messages"] += [
            {"role": "assistant", "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c", "content": "Rain."},
        ]
        answer = await http.post("/chat/completions", json=body)

    (record,) = world.audit(phase="route.call")
    assert answer.status_code == 200
    assert [(one["point"], one["about"], one["allowed"]) for one in record["decisions"]] == [
        ("route", "small", True),
        ("quota", "small", True),
        ("file", file, True),
    ]
    assert "28 days" not in json.dumps(record) + json.dumps(world.audit())
    assert "tool_results" in json.dumps(record["batch"])


# ---------------------------------------------------------------- tools


def as_sent(tool: dict[str, Any]) -> dict[str, Any]:
    """The function tool as the upstream has it: some refuse one without parameters."""
    return {**tool, "function": {**tool["function"], "parameters": {"type": "object", "properties": {}}}}


async def test_a_tool_that_policy_hides_is_not_sent_nor_chosen(governed: Governed) -> None:
    tools = [WEATHER, LAUNCH, GREP]
    chosen = {"tools": tools, "tool_choice": LAUNCH}
    older = {"functions": [WEATHER["function"], LAUNCH["function"]], "function_call": {"name": "launch"}}
    only = {"tools": [LAUNCH], "tool_choice": "required", "parallel_tool_calls": False}
    async with governed(denied_tools={"launch": "pilot", "grep": "pilot"}) as world:
        for roles in ([], ["pilot"]):
            async with world.http("ann", roles=roles) as http:
                for body in (chosen, older, only):
                    assert (await http.post("/chat/completions", json=CHAT | body)).status_code == 200

    hidden, shown = world.upstream.requests[:3], world.upstream.requests[3:]
    weather, launch = as_sent(WEATHER), as_sent(LAUNCH)
    assert hidden == [CHAT | {"tools": [weather]}, CHAT | {"functions": [weather["function"]]}, CHAT]
    assert shown == [
        CHAT | chosen | {"tools": [weather, launch, GREP]},
        CHAT | older | {"functions": [weather["function"], launch["function"]]},
        CHAT | only | {"tools": [launch]},
    ]


async def test_allowed_tools_is_a_hard_limit(world: World) -> None:
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [LAUNCH]}}
    async with world.http() as http:
        await http.post("/chat/completions", json=CHAT | {"tools": [WEATHER, LAUNCH], "tool_choice": allowed})

    assert world.upstream.requests == [CHAT | {"tools": [as_sent(LAUNCH)], "tool_choice": "required"}]


TYPES: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    ({"tools": [WEATHER]}, ["function"]),
    ({"tools": [GREP]}, ["custom"]),
    ({"tools": [GREP, WEATHER]}, ["function", "custom"]),
    ({"functions": [WEATHER["function"]]}, ["function"]),
]


async def test_policy_is_told_every_type_of_tool(world: World) -> None:
    async with world.http() as http:
        for body, _ in TYPES:
            await http.post("/chat/completions", json=CHAT | body)

    told = [
        [one["resource"]["request"]["tool_types"] for one in record["decisions"]]
        for record in world.audit(phase="route.call")
    ]
    assert told == [[types, types] for _, types in TYPES]


async def test_an_output_that_policy_does_not_admit_is_refused_by_its_place_and_nothing_is_sent(
    governed: Governed,
) -> None:
    small, large = (
        {"role": "tool", "tool_call_id": "c", "content": "ok"},
        {"role": "tool", "tool_call_id": "d", "content": "x" * 100},
    )
    parts = {
        "role": "tool",
        "tool_call_id": "d",
        "content": [{"type": "text", "text": "x" * 60}, {"type": "text", "text": "x" * 60}],
    }
    function = {"role": "function", "name": "f", "content": "x" * 100}
    found = []
    async with governed(max_tool_result_bytes=99) as world, world.http() as http:
        for last in (large, parts, function, small):
            answer = await http.post(
                "/chat/completions", json=CHAT | {"messages": [*CHAT["messages"], small, last]}
            )
            found.append((answer.status_code, answer.json().get("error", {}).get("param")))

    assert found == [(403, "messages[2].content")] * 3 + [(200, None)]
    assert len(world.upstream.requests) == 1


async def test_what_is_refused_after_it_was_counted_has_cost_a_request_and_no_tokens(
    governed: Governed,
) -> None:
    large = {"role": "tool", "tool_call_id": "d", "content": "x" * 100}
    async with governed(max_tool_result_bytes=99) as world, world.http() as http:
        await http.post("/chat/completions", json=CHAT | {"messages": [large]})
        answer = await http.post("/embeddings", json={"model": "small", "input": "x"})

    requests, tokens = (
        [int(answer.headers[f"x-ratelimit-{name}-{kind}"]) for name in ("limit", "remaining")]
        for kind in ("requests", "tokens")
    )
    assert (requests[0] - requests[1], tokens[0] - tokens[1] < 10) == (2, True)


# ---------------------------------------------------------------- the cost of it


async def asked(world: World) -> float:
    """How often the policy engine was asked anything so far."""
    async with httpx.AsyncClient(timeout=30) as http:
        lines = (await http.get(f"{world.url}/metrics")).text.splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("regate_decision_seconds_count"))


def forgets(world: World) -> None:
    """Have the gateway forget what it remembers of decisions, so that each request asks for itself."""
    remembered: Any = world.gateway.services.enforcer._memory  # type: ignore[union-attr]
    remembered.forget()


async def test_a_conversation_of_text_asks_the_policy_nothing_more_than_an_embedding_does(
    world: World,
) -> None:
    asking = []
    async with world.http() as http:
        for path, body in (
            ("/embeddings", {"model": "small", "input": "x"}),
            ("/chat/completions", CHAT),
            ("/chat/completions", CHAT | {"tools": [WEATHER]}),
        ):
            forgets(world)
            before = await asked(world)
            assert (await http.post(path, json=body)).status_code == 200
            asking.append(await asked(world) - before)

    assert asking[0] > 0
    assert (asking[1], asking[2]) == (asking[0], asking[0] + 1)
