"""The Responses loop through the official client: streamed and not, tools, chains, re-authorization,
endings.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from aiohttp import web
from tests.e2e.conftest import ScriptedUpstream, World, ended, text, tool_call
from tests.e2e.test_retrieval import ACME, found, ingest

WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Tells it.",
    "parameters": {"type": "object", "properties": {}},
    "strict": True,
}


async def answered(client: openai.AsyncOpenAI, **request: Any) -> tuple[list[Any], Any]:
    """Stream a response; return its events and the final Response."""
    events = []
    stream = await client.responses.create(model="small", stream=True, **request)
    async for event in stream:
        events.append(event)
    return events, events[-1].response


async def leave_store(world: World) -> tuple[openai.AsyncOpenAI, str, str]:
    alice = world.client("alice", "acme", teams=["hr"])
    store = (await alice.vector_stores.create(name="acme")).id
    return alice, store, await ingest(alice, store, "leave.md", ACME)


def search_tool(store: str) -> Any:
    return {"type": "file_search", "vector_store_ids": [store]}


async def test_plain_answer_is_complete(world: World) -> None:
    world.upstream.turns = [text("Hello", " there.")]
    response = await world.client().responses.create(
        model="small", input="Hi", instructions="Be brief.", metadata={"a": "b"}
    )

    assert (response.status, response.output_text, response.metadata) == (
        "completed",
        "Hello there.",
        {"a": "b"},
    )
    assert response.usage is not None
    assert response.usage.total_tokens == 10


async def test_stream_has_one_lifecycle_gapless_numbers_and_the_final_output_it_streamed(
    world: World,
) -> None:
    world.upstream.turns = [text("Hello", " there.")]
    events, response = await answered(world.client(), input="Hi")

    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert [events[0].type, events[1].type, events[-1].type] == [
        "response.created",
        "response.in_progress",
        "response.completed",
    ]
    assert (
        "".join(event.delta for event in events if event.type == "response.output_text.delta")
        == response.output_text
    )


async def test_stream_ends_with_done_and_every_event_in_one_piece(world: World) -> None:
    async with world.http() as http:
        answer = await http.post("/responses", json={"model": "small", "input": "Hi", "stream": True})

    blocks = answer.text.split("\n\n")
    assert blocks[-2:] == ["data: [DONE]", ""]
    assert all(block.startswith("event: response.") for block in blocks[:-2])


async def test_stream_helper_of_the_sdk_accumulates_the_whole_response(world: World) -> None:
    alice, store, _ = await leave_store(world)
    thinking = [{"choices": [{"index": 0, "delta": {"reasoning": "Let me think."}}]}]
    world.upstream.turns = [
        tool_call("file_search", {"query": "leave"}),
        thinking + text("It is 28 days【1】."),
    ]
    async with alice.responses.stream(model="small", input="Leave?", tools=[search_tool(store)]) as stream:
        kinds = [event.type async for event in stream]
        response = await stream.get_final_response()

    assert [item.type for item in response.output] == ["file_search_call", "reasoning", "message"]
    assert response.output_text == "It is 28 days."
    assert kinds.count("response.completed") == 1


async def test_file_search_answers_with_citations_and_results_on_request(world: World) -> None:
    alice, store, file = await leave_store(world)
    world.upstream.turns = [
        tool_call("file_search", {"query": "annual leave"}),
        text("It is 28 days", "【1】", "."),
    ]
    events, response = await answered(
        alice, input="Leave?", tools=[search_tool(store)], include=["file_search_call.results"]
    )

    search, message = response.output
    assert (search.type, search.status, search.queries, search.results[0].file_id) == (
        "file_search_call",
        "completed",
        ["annual leave"],
        file,
    )
    assert (message.content[0].text, message.content[0].annotations[0].filename) == (
        "It is 28 days.",
        "leave.md",
    )
    kinds = [event.type for event in events]
    assert kinds.index("response.file_search_call.searching") < kinds.index(
        "response.file_search_call.completed"
    )


async def test_passages_stand_in_tool_messages_only(world: World) -> None:
    alice, store, _ = await leave_store(world)
    world.upstream.turns = [tool_call("file_search", {"query": "annual leave"}), text("28.")]
    await alice.responses.create(model="small", input="Leave?", tools=[search_tool(store)])

    assert {
        message["role"] for message in world.upstream.requests[-1]["messages"] if "blue-heron" in str(message)
    } == {"tool"}


async def test_function_call_goes_to_the_client_and_its_output_comes_back(world: World) -> None:
    client = world.client()
    world.upstream.turns = [tool_call("weather", {}), text("Sunny.")]
    first = await client.responses.create(model="small", input="Weather?", tools=[WEATHER])  # type: ignore[list-item]
    (call,) = first.output
    assert (call.type, call.name) == ("function_call", "weather")  # type: ignore[union-attr]
    output = {"type": "function_call_output", "call_id": call.call_id, "output": "sun"}  # type: ignore[union-attr]
    second = await client.responses.create(
        model="small", input=[output], previous_response_id=first.id, tools=[WEATHER]
    )  # type: ignore[list-item]

    assert second.output_text == "Sunny."
    assert [message["role"] for message in world.upstream.requests[-1]["messages"]] == [
        "user",
        "assistant",
        "tool",
    ]


async def test_unanswered_function_call_is_the_callers_error(world: World) -> None:
    client = world.client()
    world.upstream.turns = [tool_call("weather", {})]
    first = await client.responses.create(model="small", input="Weather?", tools=[WEATHER])  # type: ignore[list-item]

    with pytest.raises(openai.BadRequestError, match="No tool output found"):
        await client.responses.create(model="small", input="And?", previous_response_id=first.id)


async def test_chain_carries_the_conversation_and_not_the_instructions(world: World) -> None:
    client = world.client()
    world.upstream.turns = [text("Blue."), text("Still blue.")]
    first = await client.responses.create(model="small", input="Colour?", instructions="Secret instruction.")
    await client.responses.create(model="small", input="Sure?", previous_response_id=first.id)

    assert [message["content"] for message in world.upstream.requests[-1]["messages"]] == [
        "Colour?",
        "Blue.",
        "Sure?",
    ]


async def test_text_of_a_file_detached_in_mid_conversation_leaves_the_prompt(world: World) -> None:
    alice, store, file = await leave_store(world)
    world.upstream.turns = [
        tool_call("file_search", {"query": "leave"}),
        text("28 days, says blue-heron【1】."),
        text("I cannot say."),
    ]
    first = await alice.responses.create(model="small", input="Leave?", tools=[search_tool(store)])
    await alice.vector_stores.files.delete(vector_store_id=store, file_id=file)
    await alice.responses.create(model="small", input="Again?", previous_response_id=first.id)

    assert "blue-heron" not in world.upstream.prompt
    assert "28 days" not in world.upstream.prompt
    assert "Leave?" in world.upstream.prompt


async def test_stored_response_withholds_what_is_no_longer_permitted(world: World) -> None:
    alice, store, file = await leave_store(world)
    world.upstream.turns = [
        tool_call("file_search", {"query": "leave"}),
        text("28 days, says blue-heron【1】."),
    ]
    first = await alice.responses.create(model="small", input="Leave?", tools=[search_tool(store)])
    async with world.http("alice", "acme", teams=["hr"]) as http:
        before = (await http.get(f"/responses/{first.id}?include=file_search_call.results")).text
        await alice.vector_stores.files.delete(vector_store_id=store, file_id=file)
        after = (await http.get(f"/responses/{first.id}?include=file_search_call.results")).text

    assert "blue-heron" in before
    assert "blue-heron" not in after


async def test_lost_team_takes_the_answer_out_of_the_next_prompt(world: World) -> None:
    alice = world.client("alice", "acme", teams=["hr"])
    bob = world.client("bob", "acme", teams=["hr"])
    store = (await alice.vector_stores.create(name="acme", metadata={"regate.teams": "hr"})).id
    await ingest(alice, store, "leave.md", ACME, {"regate.teams": "hr"})
    world.upstream.turns = [tool_call("file_search", {"query": "leave"}), text("28 days【1】."), text("?")]
    first = await bob.responses.create(model="small", input="Leave?", tools=[search_tool(store)])
    assert "28 days" in first.output_text
    await world.client("bob", "acme", teams=["rnd"]).responses.create(
        model="small", input="Again?", previous_response_id=first.id
    )

    assert "28 days" not in world.upstream.prompt
    assert "blue-heron" not in world.upstream.prompt


@pytest.mark.parametrize("other", [("bob", "acme"), ("alice", "globex")])
async def test_chain_of_somebody_else_does_not_exist(world: World, other: tuple[str, str]) -> None:
    first = await world.client("alice", "acme").responses.create(
        model="small", input="The codeword is heron."
    )
    spent = len(world.upstream.requests)

    with pytest.raises(openai.BadRequestError) as refused:
        await world.client(*other).responses.create(
            model="small", input="Codeword?", previous_response_id=first.id
        )
    assert refused.value.code == "previous_response_not_found"
    assert len(world.upstream.requests) == spent


async def test_stored_response_is_read_listed_and_deleted_by_its_owner(world: World) -> None:
    client = world.client()
    response = await client.responses.create(model="small", input="Hi")
    again = await client.responses.retrieve(response.id)
    items = [item async for item in client.responses.input_items.list(response.id)]
    async with world.http() as http:
        listed = [row["id"] for row in (await http.get("/responses")).json()["data"]]
    await client.responses.delete(response.id)

    assert again.output_text == response.output_text
    assert [item.content[0].text for item in items] == ["Hi"]  # type: ignore[union-attr]
    assert listed == [response.id]
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(response.id)


async def test_store_false_leaves_nothing_behind(world: World) -> None:
    client = world.client()
    response = await client.responses.create(model="small", input="Hi", store=False)

    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(response.id)


async def test_length_makes_the_response_incomplete(world: World) -> None:
    world.upstream.turns = [[{"choices": [{"index": 0, "delta": {"content": "A long"}}]}, ended("length")]]
    events, response = await answered(world.client(), input="Hi", max_output_tokens=16)

    assert (events[-1].type, response.status, response.incomplete_details.reason) == (
        "response.incomplete",
        "incomplete",
        "max_output_tokens",
    )


async def cut_off(upstream: ScriptedUpstream, request: web.Request) -> web.StreamResponse:
    """Begin an answer, and break the connection in the middle of it."""
    response = web.StreamResponse(headers={"content-type": "text/event-stream"})
    await response.prepare(request)
    await response.write(
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "Half"}}]}).encode() + b"\n\n"
    )
    assert request.transport is not None
    request.transport.abort()
    return response


async def test_upstream_that_breaks_off_in_mid_stream_fails_the_response(world: World) -> None:
    world.upstream.turns = [cut_off]
    events, response = await answered(world.client(), input="Hi")

    assert (events[-1].type, response.status) == ("response.failed", "failed")
    stored = await world.client().responses.retrieve(response.id)
    assert stored.status == "failed"


async def test_failed_turn_cannot_be_continued(world: World) -> None:
    world.upstream.turns = [cut_off]
    _, response = await answered(world.client(), input="Hi")

    with pytest.raises(openai.BadRequestError):
        await world.client().responses.create(model="small", input="Go on", previous_response_id=response.id)


async def refuse(upstream: ScriptedUpstream, request: web.Request) -> web.StreamResponse:
    return web.json_response(
        {"error": {"message": "secret backend words"}}, status=429, headers={"Retry-After": "7"}
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_failure_before_the_first_byte_is_an_http_status_in_our_words(
    world: World, stream: bool
) -> None:
    world.upstream.turns = [refuse]
    async with world.http() as http:
        answer = await http.post("/responses", json={"model": "small", "input": "Hi", "stream": stream})

    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert "secret backend words" not in answer.text


async def test_client_that_leaves_ends_the_upstream_call_and_leaves_no_completed_row(world: World) -> None:
    left = asyncio.Event()

    async def endless(upstream: ScriptedUpstream, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            while True:
                await response.write(
                    b"data: "
                    + json.dumps({"choices": [{"index": 0, "delta": {"content": "x"}}]}).encode()
                    + b"\n\n"
                )
                await asyncio.sleep(0.01)
        finally:
            left.set()

    world.upstream.turns = [endless]
    stream = await world.client().responses.create(model="small", input="Hi", stream=True)
    identifier = ""
    async for event in stream:
        if event.type == "response.created":
            identifier = event.response.id
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    async with asyncio.timeout(120):
        await left.wait()
        while (status := (await world.client().responses.retrieve(identifier)).status) == "in_progress":
            await asyncio.sleep(0.02)

    assert status == "cancelled"


NOT_HONOURED: list[Any] = [
    ({"background": True, "store": False}, "background"),
    ({"conversation": "conv_1", "previous_response_id": "resp_1"}, "conversation"),
    ({"conversation": "conv_1", "store": False}, "store"),
    ({"input": None}, "input"),
    ({"input": []}, "input"),
    ({"input": [{"role": "user"}]}, "input[0].content"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
    (
        {
            "input": [
                {"role": "user", "content": [{"type": "input_image", "image_url": "http://127.0.0.1/x"}]}
            ]
        },
        "input",
    ),
    ({"input": [{"type": "program", "id": "prog_1"}]}, "input[0].type"),
    ({"temperature": 3}, "temperature"),
    ({"temperature": "hot"}, "temperature"),
    ({"max_output_tokens": 1}, "max_output_tokens"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"tools": [{"type": "mcp", "server_url": "http://169.254.169.254/"}]}, "tools[0].server_label"),
    (
        {
            "tools": [
                {"type": "function", "name": "file_search"},
                {"type": "file_search", "vector_store_ids": ["v"]},
            ]
        },
        "tools",
    ),
    ({"tools": [{"type": "function", "name": "a b"}]}, "tools[0].name"),
    ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0].vector_store_ids"),
    (
        {"tools": [{"type": "file_search", "vector_store_ids": ["v"], "filters": {"type": "xor"}}]},
        "tools[0].filters.key",
    ),
    ({"tool_choice": "maybe"}, "tool_choice"),
    ({"include": ["everything"]}, "include[0]"),
    ({"unheard_of": 1}, "unheard_of"),
    ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format.schema"),
    ({"truncation": "perhaps"}, "truncation"),
]


async def test_what_cannot_be_honoured_is_refused_by_name(world: World) -> None:
    async with world.http() as http:
        answers = [
            await http.post("/responses", json={"model": "small", "input": "Hi"} | change)
            for change, _ in NOT_HONOURED
        ]

    told = [(answer.status_code, answer.json()["error"]["param"]) for answer in answers]
    assert told == [(400, param) for _, param in NOT_HONOURED]
    assert world.upstream.requests == []


async def test_unknown_model_is_not_found(world: World) -> None:
    with pytest.raises(openai.NotFoundError) as refused:
        await world.client().responses.create(model="huge", input="Hi")

    assert refused.value.code == "model_not_found"


async def test_history_is_searched_as_the_caller_of_now(world: World) -> None:
    alice, store, _ = await leave_store(world)

    assert len(await found(alice, store)) == 1
    assert world.audit(phase="store.search") != []
