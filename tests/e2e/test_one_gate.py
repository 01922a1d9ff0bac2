"""Whatever entered a prompt is decided again at each use: files in messages, a stream that is joined, a
response that goes on, what is sealed or remembered by a connection.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import openai
import pytest
from aiohttp import web
from tests.e2e.conftest import ScriptedUpstream, World, text, tool_call
from tests.e2e.test_background import gated, until
from tests.e2e.test_responses import leave_store, search_tool
from tests.e2e.test_socket import ask, socket
from tests.e2e.test_turn_context import PNG, thinking

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.http.server import Running
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import MAX_HISTORY_ITEMS, StoredItem

SECRET = "The merger code is plover-seven."
SAID = "It is plover-seven."


async def uploaded(client: openai.AsyncOpenAI, *, image: bool = False) -> str:
    name, data = ("plan.png", PNG) if image else ("plan.txt", SECRET.encode())
    return (await client.files.create(file=(name, data), purpose="user_data")).id


def message(file: str, *, image: bool = False) -> Any:
    part = (
        {"type": "input_image", "file_id": file, "detail": "auto"}
        if image
        else {"type": "input_file", "file_id": file}
    )
    return [{"role": "user", "content": [part, {"type": "input_text", "text": "What is the code?"}]}]


async def answer_from_a_file(
    world: World, client: openai.AsyncOpenAI, *, image: bool = False, **changes: Any
) -> tuple[str, Any]:
    """A response that was made from a file in its message."""
    file = await uploaded(client, image=image)
    world.upstream.turns = [text(SAID)]
    return file, await client.responses.create(model="small", input=message(file, image=image), **changes)


# ---------------------------------------------------- each way to use an answer again


async def retrieved(world: World, client: openai.AsyncOpenAI, made: Any) -> str:
    return (await client.responses.retrieve(made.id)).to_json()


async def streamed_again(world: World, client: openai.AsyncOpenAI, made: Any) -> str:
    return str([event.to_json() async for event in await client.responses.retrieve(made.id, stream=True)])


async def continued(world: World, client: openai.AsyncOpenAI, made: Any) -> str:
    await client.responses.create(model="small", input="And?", previous_response_id=made.id)
    return world.upstream.prompt


async def referred_to(world: World, client: openai.AsyncOpenAI, made: Any) -> str:
    items: Any = [{"type": "item_reference", "id": made.output[-1].id}, {"role": "user", "content": "And?"}]
    await client.responses.create(model="small", input=items)
    return world.upstream.prompt


async def compacted(world: World, client: openai.AsyncOpenAI, made: Any) -> str:
    await client.responses.compact(model="small", previous_response_id=made.id)
    return world.upstream.prompt


async def put_into_a_conversation(world: World, client: openai.AsyncOpenAI, made: Any) -> str:
    items: Any = [{"type": "item_reference", "id": made.output[-1].id}]
    try:
        return (await client.conversations.create(items=items)).to_json()
    except openai.NotFoundError:
        return "refused"


USES = [retrieved, streamed_again, continued, referred_to, compacted, put_into_a_conversation]


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
async def test_answer_made_from_a_file_leaves_with_the_file(
    world: World, use: Callable[..., Awaitable[str]]
) -> None:
    client = world.client()
    file, made = await answer_from_a_file(world, client)
    await client.files.delete(file)

    assert "plover" not in await use(world, client, made)


@pytest.mark.parametrize("use", USES, ids=lambda use: use.__name__)
async def test_answer_made_from_a_file_leaves_with_the_team_that_shared_it(
    world: World, use: Callable[..., Awaitable[str]]
) -> None:
    shared = await uploaded(world.client("alice", teams=["deal"]))
    world.upstream.turns = [text(SAID)]
    made = await world.client("bob", teams=["deal"]).responses.create(model="small", input=message(shared))

    assert "plover" not in await use(world, world.client("bob", teams=["canteen"]), made)


@pytest.mark.parametrize("image", [False, True], ids=["file", "image"])
async def test_answer_made_from_a_file_stays_while_the_file_may_be_read(world: World, image: bool) -> None:
    client = world.client()
    _, made = await answer_from_a_file(world, client, image=image)
    shown = (await client.responses.retrieve(made.id)).output_text
    await client.responses.create(model="small", input="And?", previous_response_id=made.id)

    assert shown == SAID
    assert "plover-seven" in world.upstream.prompt


async def test_answer_made_from_an_image_or_a_tools_file_leaves_with_it(world: World) -> None:
    client = world.client()
    image, first = await answer_from_a_file(world, client, image=True)
    file = await uploaded(client)
    world.upstream.turns = [tool_call("fetch", {}), text(SAID)]
    tools: Any = [
        {
            "type": "function",
            "name": "fetch",
            "parameters": {"type": "object", "properties": {}},
            "strict": False,
        }
    ]
    called = await client.responses.create(model="small", input="Fetch it.", tools=tools)
    output: Any = [
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [{"type": "input_file", "file_id": file}],
        }
    ]
    second = await client.responses.create(
        model="small", input=output, previous_response_id=called.id, tools=tools
    )
    for gone in (image, file):
        await client.files.delete(gone)
    shown = [(await client.responses.retrieve(made.id)).to_json() for made in (first, second)]

    assert "plover" in second.output_text
    assert not any("plover" in one for one in shown)


async def test_conversation_withholds_what_was_made_from_a_file_that_is_gone(world: World) -> None:
    client = world.client()
    conversation = (await client.conversations.create()).id
    file, _ = await answer_from_a_file(world, client, conversation=conversation)
    before = str([item.to_json() async for item in client.conversations.items.list(conversation)])
    await client.files.delete(file)
    after = str([item.to_json() async for item in client.conversations.items.list(conversation)])
    await client.responses.create(model="small", input="And?", conversation=conversation)

    assert ("plover" in before, "plover" in after, "plover" in world.upstream.prompt) == (True, False, False)


async def test_what_a_later_turn_made_of_the_answer_leaves_too(world: World) -> None:
    client = world.client()
    file, first = await answer_from_a_file(world, client)
    world.upstream.turns = [text("Spelt backwards: neves-revolp."), text("ok")]
    second = await client.responses.create(model="small", input="Backwards?", previous_response_id=first.id)
    await client.files.delete(file)
    await client.responses.create(model="small", input="Again?", previous_response_id=second.id)

    assert "revolp" not in world.upstream.prompt
    assert "revolp" not in (await client.responses.retrieve(second.id)).to_json()


# ---------------------------------------------------- a stream that is joined while it runs


async def detached(world: World, client: openai.AsyncOpenAI, store: str, file: str) -> openai.AsyncOpenAI:
    await client.vector_stores.files.delete(file, vector_store_id=store)
    return client


async def deleted(world: World, client: openai.AsyncOpenAI, store: str, file: str) -> openai.AsyncOpenAI:
    await client.files.delete(file)
    return client


async def team_lost(world: World, client: openai.AsyncOpenAI, store: str, file: str) -> openai.AsyncOpenAI:
    stamped = await client.vector_stores.files.update(
        file, vector_store_id=store, attributes={"regate.teams": "board"}
    )
    assert stamped.status == "completed"
    return client


@pytest.mark.parametrize("lose", [detached, deleted])
@pytest.mark.parametrize("after", [None, 6])
async def test_joined_stream_tells_nothing_made_from_what_is_gone(
    world: World, lose: Any, after: int | None
) -> None:
    alice, store, file = await leave_store(world)
    gate = asyncio.Event()
    world.upstream.turns = [
        tool_call("file_search", {"query": "leave"}),
        gated(gate, "Blue-heron says 28", " days."),
    ]
    stream = await alice.responses.create(
        model="small", input="Leave?", tools=[search_tool(store)], background=True, stream=True
    )
    async for event in stream:
        if event.type == "response.created":
            identifier = event.response.id
        if event.type == "response.output_text.delta":
            break
    reader = await lose(world, alice, store, file)
    options: Any = {} if after is None else {"starting_after": after}
    async with asyncio.TaskGroup() as joining:
        told = joining.create_task(collected(reader, identifier, **options))
        gate.set()
    await stream.close()

    assert "heron" not in told.result()
    assert "response.completed" in told.result()


async def collected(client: openai.AsyncOpenAI, identifier: str, **options: Any) -> str:
    return str(
        [
            event.to_json()
            async for event in await client.responses.retrieve(identifier, stream=True, **options)
        ]
    )


async def test_joined_stream_tells_everything_that_may_be_known(world: World) -> None:
    alice, store, _ = await leave_store(world)
    gate = asyncio.Event()
    world.upstream.turns = [
        tool_call("file_search", {"query": "leave"}),
        gated(gate, "Blue-heron says 28", " days."),
    ]
    queued = await alice.responses.create(
        model="small", input="Leave?", tools=[search_tool(store)], background=True, stream=True
    )
    async for event in queued:
        if event.type == "response.created":
            identifier = event.response.id
        if event.type == "response.output_text.delta":
            break
    async with asyncio.TaskGroup() as joining:
        told = joining.create_task(collected(alice, identifier))
        gate.set()
    await queued.close()

    assert "Blue-heron says 28" in told.result()


# ---------------------------------------------------- a response that goes on


def after(work: Callable[[], Awaitable[Any]], turn: list[dict[str, Any]]) -> Any:
    """A turn of the upstream before which something happens elsewhere."""

    async def answer(upstream: ScriptedUpstream, request: web.Request) -> web.StreamResponse:
        await work()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for chunk in turn:
            await response.write(
                b"data: "
                + json.dumps({"id": "c", "object": "chat.completion.chunk", **chunk}).encode()
                + b"\n\n"
            )
        await response.write(b"data: [DONE]\n\n")
        return response

    return answer


@pytest.mark.parametrize("lose", [detached, deleted, team_lost])
async def test_what_is_lost_between_two_rounds_is_not_sent_again(world: World, lose: Any) -> None:
    _, store, file = await leave_store(world)
    owner, bob = (
        world.client("alice", "acme", teams=["hr", "board"]),
        world.client("bob", "acme", teams=["hr"]),
    )

    async def gone() -> None:
        await lose(world, owner, store, file)

    more = [
        *text("Blue-heron first. ")[:-1],
        *tool_call("file_search", {"query": "blue-heron"}, call_id="call_2"),
    ]
    world.upstream.turns = [tool_call("file_search", {"query": "leave"}), after(gone, more), text("Done.")]
    made = await bob.responses.create(model="small", input="Leave?", tools=[search_tool(store)])
    prompts = [json.dumps(request["messages"]) for request in world.upstream.requests]

    assert made.status == "completed"
    assert ["heron" in prompt for prompt in prompts] == [False, True, False]
    assert len(world.audit(phase="context")) == 2


async def test_file_that_is_deleted_between_two_rounds_is_not_sent_again(world: World) -> None:
    alice, store, _ = await leave_store(world)
    plan = await uploaded(alice)
    turns = [
        after(lambda: alice.files.delete(plan), tool_call("file_search", {"query": "leave"})),
        text("Done."),
    ]
    world.upstream.turns = list(turns)
    made = await alice.responses.create(model="small", input=message(plan), tools=[search_tool(store)])
    prompts = [json.dumps(request["messages"]) for request in world.upstream.requests]

    assert made.status == "completed"
    assert ["plover" in prompt for prompt in prompts] == [True, False]


async def test_history_that_is_lost_between_two_rounds_is_not_sent_again(world: World) -> None:
    alice, store, _ = await leave_store(world)
    plan, first = await answer_from_a_file(world, alice)
    world.upstream.turns = [
        after(lambda: alice.files.delete(plan), tool_call("file_search", {"query": "leave"})),
        text("Done."),
    ]
    await alice.responses.create(
        model="small", input="And leave?", previous_response_id=first.id, tools=[search_tool(store)]
    )
    prompts = [json.dumps(request["messages"]) for request in world.upstream.requests[-2:]]

    assert ["plover" in prompt for prompt in prompts] == [True, False]


async def test_response_fails_where_policy_wants_nothing_used_without_what_was_lost(world: World) -> None:
    rule = world.policies / "history" / "history.rego"
    rule.write_text(rule.read_text().replace('on_deny := "redact"', 'on_deny := "refuse"'))
    await in_force(world)
    alice, store, file = await leave_store(world)
    more = after(lambda: alice.files.delete(file), tool_call("file_search", {"query": "x"}, call_id="call_2"))
    world.upstream.turns = [tool_call("file_search", {"query": "leave"}), more, text("Never.")]
    with pytest.raises(openai.PermissionDeniedError):
        await alice.responses.create(model="small", input="Leave?", tools=[search_tool(store)])

    assert len(world.upstream.requests) == 2


async def in_force(world: World) -> None:
    """Wait until the policy on the disk is the one that decides."""
    assert world.gateway.services is not None
    before = await world.gateway.services.enforcer.revision()
    async with asyncio.timeout(60):
        while await world.gateway.services.enforcer.revision() == before:
            await asyncio.sleep(0.05)


async def test_what_waited_in_the_queue_is_decided_again_before_it_is_sent(
    configure: Any, upstream: ScriptedUpstream
) -> None:
    settings = configure(tools={"max_background": 1})
    app, gateway = gateway_app(settings)
    async with Running(app, settings.listen) as server:
        world = World(server.url, settings, gateway, upstream, settings.opa.bundle)
        client, gate = world.client(), asyncio.Event()
        upstream.turns = [gated(gate, "Busy", "."), text("Late.")]
        first = await client.responses.create(model="small", input="Hi", background=True)
        await until(client, first.id, "in_progress")
        plan = await uploaded(client)
        second = await client.responses.create(model="small", input=message(plan), background=True)
        await client.files.delete(plan)
        gate.set()
        await until(client, second.id, "completed")
        await client.close()

    assert "plover" not in json.dumps(upstream.requests)


# ---------------------------------------------------- what is sealed, and what a connection remembers


async def test_sealed_reasoning_opens_for_nobody_else_of_the_tenant(world: World) -> None:
    world.upstream.turns = [thinking("Let me see.", "Four.")]
    include: Any = ["reasoning.encrypted_content"]
    first = await world.client("alice").responses.create(
        model="small", input="2+2?", store=False, include=include
    )
    history: Any = [first.output[0].to_dict(), {"role": "user", "content": "?"}]
    with pytest.raises(openai.BadRequestError) as refused:
        await world.client("bob").responses.create(model="small", input=history, store=False)

    assert (refused.value.code, len(world.upstream.requests)) == ("invalid_encrypted_content", 1)


@pytest.mark.parametrize("into", ["response", "conversation", "compaction"])
async def test_sealed_summary_opens_for_nobody_else_of_the_tenant(world: World, into: str) -> None:
    alice, bob = world.client("alice"), world.client("bob")
    world.upstream.turns = [text("Noted."), text("Summary: plover.")]
    first = await alice.responses.create(model="small", input="Remember plover.")
    summary = (
        (await alice.responses.compact(model="small", previous_response_id=first.id)).output[-1].to_dict()
    )
    items: Any = [summary, {"role": "user", "content": "What?"}]
    sealed: Any = [{"type": "compaction", "encrypted_content": summary["encrypted_content"]}]
    uses: dict[str, Callable[[], Awaitable[Any]]] = {
        "response": lambda: bob.responses.create(model="small", input=items),
        "compaction": lambda: bob.responses.compact(model="small", input=items),
        "conversation": lambda: bob.conversations.create(items=sealed),
    }
    with pytest.raises(openai.BadRequestError) as refused:
        await uses[into]()

    assert (refused.value.code, len(world.upstream.requests)) == ("invalid_encrypted_content", 2)


@pytest.mark.parametrize("stored", ["first", "second"])
async def test_what_was_deleted_cannot_be_continued_by_the_connection_that_remembers_it(
    world: World, stored: str
) -> None:
    alice = world.client("alice", "acme")
    world.upstream.turns = [text("One."), text("Two."), text("Three.")]
    async with socket(world, world.token("alice", "acme")) as connection:
        first = (await ask(connection, input="1", store=stored == "first"))[-1]["response"]["id"]
        second = (await ask(connection, input="2", store=stored == "second", previous_response_id=first))[-1][
            "response"
        ]["id"]
        await alice.responses.delete(first if stored == "first" else second)
        refused = (await ask(connection, input="3", store=False, previous_response_id=second))[-1]

    assert (refused["type"], refused["error"]["code"]) == ("error", "previous_response_not_found")
    assert len(world.upstream.requests) == 2


async def test_stored_response_is_continued_by_its_connection_as_it_is_stored(world: World) -> None:
    alice = world.client("alice", "acme")
    file = await uploaded(alice)
    world.upstream.turns = [text(SAID), text("Two."), text("Three.")]
    async with socket(world, world.token("alice", "acme")) as connection:
        first = (await ask(connection, input=message(file)))[-1]["response"]["id"]
        second = (await ask(connection, input="2", store=False, previous_response_id=first))[-1]["response"][
            "id"
        ]
        await alice.files.delete(file)
        await ask(connection, input="3", store=False, previous_response_id=second)

    assert "plover" not in world.upstream.prompt
    assert "withheld" in world.upstream.prompt


# ---------------------------------------------------- how long a conversation can be


async def test_conversation_that_would_grow_too_long_is_refused_before_anything_is_done(world: World) -> None:
    client = world.client()
    conversation = (await client.conversations.create()).id
    assert world.gateway.services is not None
    state, principal = world.gateway.services.state, Principal("alice", "acme")
    body = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "x"}]}
    many = [
        StoredItem(f"msg_{number}", {**body, "id": f"msg_{number}"}, "input")
        for number in range(MAX_HISTORY_ITEMS - 1)
    ]
    await state.conversations.append(principal, conversation, many)  # type: ignore[arg-type]
    two: Any = [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
    for refused in (
        client.responses.create(model="small", input=two, conversation=conversation),
        client.conversations.items.create(conversation, items=two),
    ):
        with pytest.raises(openai.BadRequestError) as error:
            await refused
        assert error.value.code == "conversation_too_long"
    await client.responses.create(model="small", input="one", conversation=conversation)

    assert len(world.upstream.requests) == 1
