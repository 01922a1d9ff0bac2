"""Calls of the client's tools beside searches of ours, over several requests, and backends that name
their calls carelessly.
"""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from tests.e2e.conftest import World, ended, text, tool_call
from tests.e2e.test_event_shapes import events_in
from tests.e2e.test_responses import WEATHER, leave_store, search_tool


def output(call_id: str, said: str) -> Any:
    return {"type": "function_call_output", "call_id": call_id, "output": said}


def shape(world: World) -> list[str]:
    return [message["role"] for message in world.upstream.requests[-1]["messages"]]


async def test_search_beside_a_function_call_is_not_run_again_when_the_output_comes_back(
    world: World,
) -> None:
    alice, store, _ = await leave_store(world)
    calls = [("a", "file_search", '{"query": "leave"}'), ("b", "weather", "{}")]
    both = [
        {"index": index, "id": call_id, "function": {"name": name, "arguments": said}}
        for index, (call_id, name, said) in enumerate(calls)
    ]
    world.upstream.turns = [
        [{"choices": [{"index": 0, "delta": {"tool_calls": both}}]}, ended("tool_calls")],
        text("28, and sunny."),
    ]
    tools: Any = [search_tool(store), WEATHER]
    first = await alice.responses.create(model="small", input="Leave? Weather?", tools=tools)
    second = await alice.responses.create(
        model="small", input=[output("b", "sun")], previous_response_id=first.id, tools=tools
    )
    prompt = world.upstream.requests[-1]["messages"]

    assert (first.status, [item.type for item in first.output]) == (
        "completed",
        ["file_search_call", "function_call"],
    )
    assert [message["role"] for message in prompt] == ["user", "assistant", "tool", "tool"]
    assert "blue-heron" in prompt[2]["content"]
    assert (prompt[3]["content"], [item.type for item in second.output], len(world.upstream.requests)) == (
        "sun",
        ["message"],
        2,
    )


async def test_store_that_is_named_twice_is_searched_once(world: World) -> None:
    alice, store, _ = await leave_store(world)
    world.upstream.turns = [tool_call("file_search", {"query": "leave"}), text("28.")]
    twice: Any = {"type": "file_search", "vector_store_ids": [store, store]}
    response = await alice.responses.create(model="small", input="Leave?", tools=[twice])

    searched = world.audit(phase="chunk.read", response_id=response.id)
    assert (response.status, [one["retrieval"]["store"] for one in searched]) == ("completed", [store])


async def test_searches_of_two_rounds_stay_two_turns_when_the_conversation_goes_on(world: World) -> None:
    alice, store, _ = await leave_store(world)
    world.upstream.turns = [
        tool_call("file_search", {"query": one}, call_id=one) for one in ("leave", "days")
    ]
    first = await alice.responses.create(model="small", input="Leave?", tools=[search_tool(store)])
    within = shape(world)
    await alice.responses.create(model="small", input="Sure?", previous_response_id=first.id)

    assert within == ["user", "assistant", "tool", "assistant", "tool"]
    assert shape(world) == [*within, "assistant", "user"]


async def test_backend_that_uses_a_call_id_again_gets_each_output_where_it_belongs(world: World) -> None:
    client = world.client()
    tools: Any = [WEATHER]
    world.upstream.turns = [tool_call("weather", {}), tool_call("weather", {}), text("Changing.")]
    first = await client.responses.create(model="small", input="Weather?", tools=tools)
    second = await client.responses.create(
        model="small", input=[output("call_1", "sun")], previous_response_id=first.id, tools=tools
    )
    with pytest.raises(openai.BadRequestError, match="No tool output found for function call call_1"):
        await client.responses.create(
            model="small", input="And now?", previous_response_id=second.id, tools=tools
        )
    await client.responses.create(
        model="small", input=[output("call_1", "rain")], previous_response_id=second.id, tools=tools
    )

    assert shape(world) == ["user", "assistant", "tool", "assistant", "tool"]
    assert [one["content"] for one in world.upstream.requests[-1]["messages"] if one["role"] == "tool"] == [
        "sun",
        "rain",
    ]


BAD = (
    "[" * 1_000,
    '{"query": ' + "[" * 5_000 + "]" * 5_000 + "}",
    '{"query": "\\ud800"}',
    '{"query": NaN}',
    "9" * 10_000,
    "[1]",
    '"x"',
    json.dumps({"query": "x" * 100_001}),
)


async def test_search_with_arguments_that_are_none_fails_with_a_note_and_the_answer_goes_on(
    world: World,
) -> None:
    alice, store, _ = await leave_store(world)
    found = []
    for arguments in BAD:
        world.upstream.turns = [tool_call("file_search", arguments), text("Sorry.")]
        made = await alice.responses.create(model="small", input="Leave?", tools=[search_tool(store)])
        note = world.upstream.requests[-1]["messages"][-1]["content"]
        found.append(
            (made.status, [(item.type, item.status) for item in made.output], "must be a JSON object" in note)
        )  # type: ignore[union-attr]

    assert found == [("completed", [("file_search_call", "failed"), ("message", "completed")], True)] * len(
        BAD
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_arguments_of_a_clients_tool_come_as_the_model_wrote_them_and_go_back_so(
    world: World, stream: bool
) -> None:
    tools: list[dict[str, Any]] = [WEATHER, {"type": "custom", "name": "patch"}]
    found: list[Any] = []
    async with world.http() as http:
        for arguments in BAD:
            for name in ("weather", "patch"):
                world.upstream.turns = [tool_call(name, arguments), text("Thanks.")]
                body = {"model": "small", "input": "Go", "tools": tools}
                answer = await http.post("/responses", json={**body, "stream": stream})
                made = events_in(answer.text)[-1]["response"] if stream else answer.json()
                call = made["output"][0]
                kind = f"{call['type']}_output"
                back = [{"type": kind, "call_id": call["call_id"], "output": "x"}]
                again = await http.post(
                    "/responses", json={**body, "input": back, "previous_response_id": made["id"]}
                )
                found.append((made["status"], call.get("arguments", call.get("input")), again.status_code))

    assert found == [("completed", arguments, 200) for arguments in BAD for _ in range(2)]


async def test_tool_with_a_long_name_goes_by_a_short_one_before_the_backend_alone(world: World) -> None:
    names = ["mcp_server_" + "x" * 100 + end for end in ("_read", "_write")]
    tools: Any = [{**WEATHER, "name": name} for name in names]
    world.upstream.turns = [text("Which?")]
    client = world.client()
    await client.responses.create(
        model="small", input="Go", tools=tools, tool_choice={"type": "function", "name": names[1]}
    )
    sent = world.upstream.requests[-1]
    wires = [tool["function"]["name"] for tool in sent["tools"]]
    world.upstream.turns = [tool_call(wires[1], {}), text("Done.")]
    first = await client.responses.create(model="small", input="Go", tools=tools)
    call: Any = first.output[0]
    done = await client.responses.create(
        model="small", input=[output(call.call_id, "ok")], previous_response_id=first.id, tools=tools
    )
    prompt = world.upstream.requests[-1]["messages"]

    assert (len(set(wires)), [len(wire) for wire in wires], sent["tool_choice"]["function"]["name"]) == (
        2,
        [64, 64],
        wires[1],
    )
    assert (call.name, first.tools[1].name, done.output_text) == (names[1], names[1], "Done.")  # type: ignore[union-attr]
    assert prompt[1]["tool_calls"][0]["function"]["name"] == wires[1]
