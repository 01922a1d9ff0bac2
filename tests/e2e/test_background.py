"""Background responses: they own themselves, connections only follow them, and each end of theirs is
stored.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx
import openai
import pytest
from aiohttp import web
from sqlalchemy import delete
from tests.e2e.conftest import World, ended, text
from tests.e2e.test_idempotency import events_of
from tests.orchestrator.responses.playbook import check_stream

from regate_adapters.state.tables import response_events
from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running


def gated(gate: asyncio.Event, *pieces: str) -> Callable[[Any, web.Request], Any]:
    """A turn that writes its first piece, and the others only when the gate is open."""

    async def turn(upstream: Any, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            for number, piece in enumerate(pieces):
                while number == 1 and not gate.is_set():
                    await response.write(b": waiting\n\n")  # which fails as soon as nobody reads
                    await asyncio.sleep(0.01)
                chunk = {"choices": [{"index": 0, "delta": {"content": piece}}]}
                await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            await response.write(b"data: " + json.dumps(ended("stop")).encode() + b"\n\ndata: [DONE]\n\n")
        except ConnectionError:
            upstream.closed_early += 1
            raise
        return response

    return turn


async def until(client: openai.AsyncOpenAI, identifier: str, *statuses: str) -> Any:
    async with asyncio.timeout(60):
        while (found := await client.responses.retrieve(identifier)).status not in statuses:
            await asyncio.sleep(0.01)
    return found


async def test_background_response_is_queued_at_once_and_polled_to_its_end(world: World) -> None:
    client, gate = world.client(), asyncio.Event()
    world.upstream.turns = [gated(gate, "Slow", " answer.")]
    queued = await client.responses.create(model="small", input="Hi", background=True)
    running = await until(client, queued.id, "in_progress")
    gate.set()
    finished = await until(client, queued.id, "completed")

    assert (queued.status, queued.background, running.status, finished.output_text) == (
        "queued",
        True,
        "in_progress",
        "Slow answer.",
    )


async def test_background_stream_goes_on_without_its_connection_and_is_taken_up_where_it_broke(
    world: World,
) -> None:
    client, gate = world.client(), asyncio.Event()
    world.upstream.turns = [gated(gate, "One", " two", " three.")]
    seen: list[Any] = []
    stream = await client.responses.create(model="small", input="Hi", background=True, stream=True)
    async for event in stream:
        seen.append(event)
        if event.type == "response.output_text.delta":
            break
    await stream.close()
    gate.set()
    identifier = seen[0].response.id
    resumed = await client.responses.retrieve(
        identifier, stream=True, starting_after=seen[-1].sequence_number
    )
    seen += [event async for event in resumed]
    check_stream([event.to_dict() for event in seen])

    assert world.upstream.closed_early == 0
    assert seen[-1].response.output_text == "One two three."


async def test_ended_stream_is_replayed_from_its_log_with_the_same_numbers(world: World) -> None:
    client = world.client()
    world.upstream.turns = [text("One", " two")]
    first = [
        event.to_dict()
        async for event in await client.responses.create(
            model="small", input="Hi", background=True, stream=True
        )
    ]
    await until(client, first[0]["response"]["id"], "completed")
    again = [
        event.to_dict()
        async for event in await client.responses.retrieve(
            first[0]["response"]["id"], stream=True, starting_after=3
        )
    ]

    shown = [{name: value for name, value in event.items() if name != "obfuscation"} for event in first]
    replayed = [{name: value for name, value in event.items() if name != "obfuscation"} for event in again]
    assert replayed == shown[4:]


@pytest.mark.parametrize("after", [0, 2, 7])
async def test_log_that_lacks_its_end_is_replayed_with_the_end_that_was_stored(
    world: World, after: int
) -> None:
    client = world.client()
    world.upstream.turns = [text("One", " two")]
    first = [
        event.to_dict()
        async for event in await client.responses.create(
            model="small", input="Hi", background=True, stream=True
        )
    ]
    identifier, last = first[0]["response"]["id"], first[-1]["sequence_number"]
    await until(client, identifier, "completed")
    async with world.database.maintenance.writing() as connection:
        # As a gateway leaves it that dies after it stored the response, before it logged the last event.
        await connection.execute(delete(response_events).where(response_events.c.sequence == last))
    again = [
        event
        async for event in await client.responses.retrieve(identifier, stream=True, starting_after=after)
    ]

    assert ([event.sequence_number for event in again], again[-1].type) == (
        list(range(after + 1, last + 1)),
        "response.completed",
    )


async def test_cancelled_background_response_ends_the_upstream_call_and_stays_cancelled(world: World) -> None:
    client, gate = world.client(), asyncio.Event()
    world.upstream.turns = [gated(gate, "Begun", " never")]
    queued = await client.responses.create(model="small", input="Hi", background=True)
    await until(client, queued.id, "in_progress")
    cancelled = await client.responses.cancel(queued.id)
    again = await client.responses.cancel(queued.id)
    async with asyncio.timeout(120):
        while world.upstream.closed_early == 0:
            await asyncio.sleep(0.01)

    assert (cancelled.status, again.status) == ("cancelled", "cancelled")
    assert (await client.responses.retrieve(queued.id)).status == "cancelled"


@pytest.mark.parametrize("background", [False, True], ids=["foreground", "background"])
async def test_response_that_is_deleted_while_it_is_made_stays_deleted(
    world: World, background: bool
) -> None:
    client, gate = world.client(), asyncio.Event()
    world.upstream.turns = [gated(gate, "Begun", " and ended.")]
    conversation = (await client.conversations.create()).id
    stream = await client.responses.create(
        model="small", input="Hi", stream=True, background=background, conversation=conversation
    )
    events = aiter(stream)
    identifier = (await anext(events)).response.id
    await until(client, identifier, "in_progress")
    await client.responses.delete(identifier)
    gate.set()
    async for _ in events:
        pass
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(identifier)
    items = await client.conversations.items.list(conversation)
    await client.conversations.delete(conversation)  # which a lock would refuse

    assert items.data == []


async def test_another_persons_background_response_cannot_be_cancelled_or_followed(world: World) -> None:
    gate = asyncio.Event()
    world.upstream.turns = [gated(gate, "Mine", ".")]
    queued = await world.client().responses.create(model="small", input="Hi", background=True)
    mallory = world.client("mallory")
    with pytest.raises(openai.NotFoundError) as cancelled:
        await mallory.responses.cancel(queued.id)
    with pytest.raises(openai.NotFoundError) as followed:
        await mallory.responses.retrieve(queued.id, stream=True)
    with pytest.raises(openai.NotFoundError) as absent:
        await mallory.responses.cancel("resp_" + "0" * 48)
    gate.set()

    assert cancelled.value.body["message"].replace(queued.id, "ID") == absent.value.body["message"].replace(
        "resp_" + "0" * 48, "ID"
    )
    assert followed.value.status_code == 404


async def test_refusal_of_a_background_request_is_an_answer_and_stores_nothing(world: World) -> None:
    client = world.client()
    with pytest.raises(openai.NotFoundError):
        await client.responses.create(model="unheard-of", input="Hi", background=True)

    async with world.http() as http:
        assert (await http.get("/responses")).json()["data"] == []


async def test_background_response_that_fails_at_the_backend_is_stored_as_failed(world: World) -> None:
    async def broken(_upstream: Any, _request: web.Request) -> web.Response:
        return web.json_response({"error": "no"}, status=500)

    world.upstream.turns = [broken]
    queued = await world.client().responses.create(model="small", input="Hi", background=True)
    failed = await until(world.client(), queued.id, "failed")

    assert failed.error.code == "server_error"


async def test_response_that_the_gateways_end_interrupts_is_stored_as_failed(
    configure: Callable[..., Settings], world: World, upstream: Any, tmp_path: Any
) -> None:
    gate = asyncio.Event()
    settings = configure(data_dir=tmp_path / "other")
    upstream.turns = [gated(gate, "Begun", " never")]
    app, gateway = gateway_app(settings)
    async with Running(app, settings.listen) as server:
        other = World(server.url, settings, gateway, upstream, world.policies)
        client = other.client()
        queued = await client.responses.create(model="small", input="Hi", background=True, stream=True)
        identifier = (await anext(aiter(queued))).response.id
        await until(client, identifier, "in_progress")
        await client.close()
    app, gateway = gateway_app(settings)
    async with Running(app, settings.listen) as server:
        other = World(server.url, settings, gateway, upstream, world.policies)
        client = other.client()
        found = await client.responses.retrieve(identifier)
        events = [event async for event in await client.responses.retrieve(identifier, stream=True)]
        await client.close()

    assert (found.status, found.error.code) == ("failed", "server_error")
    assert events[-1].type == "response.failed"
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_replay_passes_the_gate_again(world: World) -> None:
    client = world.client()
    store = await client.vector_stores.create(name="handbook")
    file = await client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("leave.md", b"Everyone has 28 days of leave.")
    )
    call = {
        "index": 0,
        "id": "c",
        "type": "function",
        "function": {"name": "file_search", "arguments": '{"query": "leave"}'},
    }
    search = [{"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]}, ended("tool_calls")]
    world.upstream.turns = [search, text("28 days, it says 【1】.")]
    tools: Any = [{"type": "file_search", "vector_store_ids": [store.id]}]
    stream = await client.responses.create(
        model="small", input="How many?", tools=tools, background=True, stream=True
    )
    identifier = [event async for event in stream][-1].response.id  # type: ignore[union-attr]
    await client.vector_stores.files.delete(file.id, vector_store_id=store.id)
    events = [event async for event in await client.responses.retrieve(identifier, stream=True)]

    assert [event.type for event in events] == ["response.completed"]
    assert "28 days" not in events[0].to_json()


async def test_stream_whose_backend_is_silent_is_kept_alive(world: World) -> None:
    """Takes as long as a stream may be silent."""
    gate = asyncio.Event()
    world.upstream.turns = [gated(gate, "One", " two.")]
    received = ""
    async with (
        world.http() as http,
        http.stream("POST", "/responses", json={"model": "small", "input": "Hi", "stream": True}) as answer,
    ):
        async for piece in answer.aiter_text():
            received += piece
            if "\n\n: keep-alive\n\n" in received:
                gate.set()

    assert gate.is_set()
    assert received.endswith("data: [DONE]\n\n")
    assert "response.completed" in received


async def test_stream_asked_for_in_the_body_of_a_get_is_given(world: World) -> None:
    world.upstream.turns = [text("One", " two", " three.")]
    async with world.http() as http:
        identifier = (await http.post("/responses", json={"model": "small", "input": "Hi"})).json()["id"]

        async def read(query: str = "", **body: Any) -> httpx.Response:
            return await http.request("GET", f"/responses/{identifier}{query}", json=body)

        untyped = await http.request("GET", f"/responses/{identifier}", content=b'{"stream": true}')
        form = await http.request("GET", f"/responses/{identifier}", data={"stream": "true"})
        whole, rest = (
            await read(stream=True),
            await read(stream=True, starting_after=3, include_obfuscation=False),
        )
        mixed, plain, empty = (
            await read("?starting_after=3", stream=True),
            await read(stream=False),
            await read(),
        )
        refused = [
            await read(stream=1),
            await read(stream=True, starting_after="x"),
            await read(strem=True),
            await read("?stream=true", stream=True),
        ]
        included = await read(include=["file_search_call.results"])

    assert whole.headers["content-type"].startswith("text/event-stream")
    assert [events_of(answer)[0]["sequence_number"] for answer in (whole, untyped, rest, mixed)] == [
        0,
        0,
        4,
        4,
    ]
    assert ["obfuscation" in answer.text for answer in (whole, rest)] == [True, False]
    assert [answer.json()["status"] for answer in (plain, empty, included, form)] == ["completed"] * 4
    assert [(answer.status_code, answer.json()["error"]["param"]) for answer in refused] == [
        (400, "stream"),
        (400, "starting_after"),
        (400, "strem"),
        (400, "stream"),
    ]
