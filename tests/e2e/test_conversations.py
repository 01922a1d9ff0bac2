"""Conversations over sockets, with the official client: what is kept, who may see it, and what of it
is shown and used again.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import openai
import pytest
from tests.e2e.conftest import World, text, tool_call
from tests.e2e.test_idempotency import KEY, Held, error_of, is_replay
from tests.e2e.test_responses import leave_store, search_tool

from regate_orchestrator.principal import Principal

ITEMS: list[Any] = [
    {"role": "user", "content": "My name is Ann."},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Hello Ann."}]},
]


def texts(items: list[Any]) -> list[str]:
    return [item.content[0].text for item in items]


def write_custom(world: World, point: str, module: str) -> None:
    path = world.policies / "custom" / point / f"{point}.rego"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"package regate.custom.{point}\n\n" + module)


# ---------------------------------------------------------------- the object


async def test_conversation_is_made_read_changed_and_deleted(world: World) -> None:
    client = world.client()
    made = await client.conversations.create(metadata={"topic": "names"}, items=ITEMS)
    read = await client.conversations.retrieve(made.id)
    changed = await client.conversations.update(made.id, metadata={"topic": "Größe"})
    deleted = await client.conversations.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.conversations.retrieve(made.id)
    assert (made.id[:5], made.object, made.metadata) == ("conv_", "conversation", {"topic": "names"})
    assert (read, changed) == (made, made.model_copy(update={"metadata": {"topic": "Größe"}}))
    assert (deleted.id, deleted.deleted, deleted.object) == (made.id, True, "conversation.deleted")


async def test_conversation_may_be_made_of_nothing(world: World) -> None:
    client = world.client()
    made = await client.conversations.create()
    listed = await client.conversations.items.list(made.id)
    assert (made.metadata, listed.data, listed.has_more) == ({}, [], False)


async def test_making_one_is_recorded_with_its_items_and_never_their_text(world: World) -> None:
    made = await world.client().conversations.create(items=ITEMS)
    (record,) = world.audit(phase="conversation.create")
    assert (record["conversation"], len(record["items"]), "Ann" in str(record)) == (made.id, 2, False)


async def test_policy_can_refuse_to_make_one(world: World) -> None:
    write_custom(world, "history", 'deny if input.action == "conversation.create"\n')
    async with world.http() as http, asyncio.timeout(120):
        while (answer := await http.post("/conversations", json={})).status_code == 200:
            pass
    assert error_of(answer) == (403, "policy_denied")


async def test_conversation_is_made_once_under_one_key(world: World) -> None:
    async with world.http() as http:
        answers = [
            await http.post("/conversations", json={"metadata": {"a": "b"}}, headers=KEY) for _ in range(2)
        ]
    assert (answers[0].json(), [is_replay(answer) for answer in answers]) == (
        answers[1].json(),
        [False, True],
    )


NOT_KEPT: list[Any] = [
    ({"items": ITEMS * 11}, "items"),
    ({"items": [{"type": "nonsense"}]}, "items[0].type"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"name": "x"}, "name"),
    ({"items": [{"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}]}, "items"),
    ({"items": [{"type": "compaction", "encrypted_content": "gAAA"}]}, "items"),
]


async def test_what_cannot_be_kept_is_refused_by_name(world: World) -> None:
    async with world.http() as http:
        answers = [await http.post("/conversations", json=body) for body, _ in NOT_KEPT]
    told = [(answer.status_code, answer.json()["error"]["param"]) for answer in answers]
    assert told == [(400, param) for _, param in NOT_KEPT]


async def test_metadata_must_be_given_to_be_replaced(world: World) -> None:
    async with world.http() as http:
        made = (await http.post("/conversations", json={"metadata": {"a": "b"}})).json()
        refused = await http.post(f"/conversations/{made['id']}", json={})
        emptied = await http.post(f"/conversations/{made['id']}", json={"metadata": None})
    assert (error_of(refused), emptied.json()) == (
        (400, "missing_required_parameter"),
        {**made, "metadata": {}},
    )


# ---------------------------------------------------------------- items


async def test_items_are_listed_in_order_and_by_pages(world: World) -> None:
    client = world.client()
    made = await client.conversations.create(items=ITEMS)
    added = await client.conversations.items.create(
        made.id, items=[{"role": "user", "content": f"Item {number}"} for number in range(3)]
    )
    ascending = [item async for item in client.conversations.items.list(made.id, order="asc", limit=2)]
    newest = await client.conversations.items.list(made.id, limit=1)
    assert texts(added.data) == ["Item 0", "Item 1", "Item 2"]
    assert texts(ascending) == ["My name is Ann.", "Hello Ann.", "Item 0", "Item 1", "Item 2"]
    assert (texts(newest.data), newest.has_more, newest.last_id) == (["Item 2"], True, added.data[-1].id)


async def test_item_is_read_and_deleted_by_its_id(world: World) -> None:
    client = world.client()
    made = await client.conversations.create(items=ITEMS)
    first = (await client.conversations.items.list(made.id, order="asc")).data[0]
    read = await client.conversations.items.retrieve(first.id, conversation_id=made.id)  # type: ignore[arg-type]
    after = await client.conversations.items.delete(first.id, conversation_id=made.id)  # type: ignore[arg-type]
    with pytest.raises(openai.NotFoundError):
        await client.conversations.items.retrieve(first.id, conversation_id=made.id)  # type: ignore[arg-type]
    assert (read, after, texts((await client.conversations.items.list(made.id)).data)) == (
        first,
        made,
        ["Hello Ann."],
    )


async def test_ids_of_clients_are_never_taken_over(world: World) -> None:
    client = world.client()
    made = await client.conversations.create(items=[{**ITEMS[0], "type": "message", "id": "msg_mine"}])
    (item,) = (await client.conversations.items.list(made.id)).data
    assert item.id != "msg_mine"


async def test_items_must_be_given_to_be_appended(world: World) -> None:
    async with world.http() as http:
        made = (await http.post("/conversations", json={})).json()["id"]
        answer = await http.post(f"/conversations/{made}/items", json={})
    assert error_of(answer) == (400, "missing_required_parameter")


async def test_output_of_a_tool_is_decided_when_it_arrives(world: World) -> None:
    output = {"type": "function_call_output", "call_id": "call_1", "output": "x" * 2_000}
    sent = {"items": [{"role": "user", "content": "Hi"}, output]}
    write_custom(world, "tool", "deny if input.result.size > 1000\n")
    async with world.http() as http:
        made = (await http.post("/conversations", json={"items": ITEMS})).json()["id"]
        async with asyncio.timeout(120):
            while (refused := await http.post("/conversations", json=sent)).status_code == 200:
                pass
        also = await http.post(f"/conversations/{made}/items", json=sent)
        left = (await http.get(f"/conversations/{made}/items")).json()["data"]
    assert (error_of(refused), error_of(also), len(left)) == (
        (403, "policy_denied"),
        (403, "policy_denied"),
        2,
    )


async def test_item_of_ones_own_is_referred_to(world: World) -> None:
    client = world.client()
    world.upstream.turns = [text("The codeword is heron.")]
    response = await client.responses.create(model="small", input="Codeword?")
    reference: Any = {"type": "item_reference", "id": response.output[0].id}
    made = await client.conversations.create(items=[reference])
    assert texts((await client.conversations.items.list(made.id)).data) == ["The codeword is heron."]


@pytest.mark.parametrize("other", [("bob", "acme"), ("alice", "globex")])
async def test_item_of_somebody_else_cannot_be_referred_to(world: World, other: tuple[str, str]) -> None:
    world.upstream.turns = [text("The codeword is heron.")]
    response = await world.client("alice", "acme").responses.create(model="small", input="Codeword?")
    bodies = []
    for item in (response.output[0].id, "msg_" + "0" * 48):
        async with world.http(*other) as http:
            answer = await http.post(
                "/conversations", json={"items": [{"type": "item_reference", "id": item}]}
            )
        bodies.append((answer.status_code, answer.text.replace(str(item), "ID")))
    assert (bodies[0], bodies[0][0]) == (bodies[1], 404)


# ---------------------------------------------------------------- others

CALLS: dict[str, Any] = {
    "retrieve": ("GET", "", None),
    "update": ("POST", "", {"metadata": {}}),
    "delete": ("DELETE", "", None),
    "items": ("GET", "/items", None),
    "append": ("POST", "/items", {"items": ITEMS}),
    "item": ("GET", "/items/ITEM", None),
    "delete item": ("DELETE", "/items/ITEM", None),
}


async def call(http: httpx.AsyncClient, name: str, conversation: str, item: str) -> httpx.Response:
    method, path, body = CALLS[name]
    return await http.request(method, f"/conversations/{conversation}{path.replace('ITEM', item)}", json=body)


@pytest.mark.parametrize("other", [("bob", "acme"), ("alice", "globex")])
async def test_foreign_conversation_answers_exactly_as_an_absent_one(
    world: World, other: tuple[str, str]
) -> None:
    async with world.http() as http:
        made = (await http.post("/conversations", json={"items": ITEMS})).json()["id"]
        item = (await http.get(f"/conversations/{made}/items")).json()["last_id"]
        absent = "conv_" + "0" * 48
        for name in CALLS:
            async with world.http(*other) as stranger:
                answers = [await call(stranger, name, identifier, item) for identifier in (made, absent)]
            said = [
                (answer.status_code, answer.text.replace(made, "ID").replace(absent, "ID"))
                for answer in answers
            ]
            left = (await http.get(f"/conversations/{made}/items")).json()["data"]
            assert (said[0], said[0][0], len(left)) == (said[1], 404, 2), name


async def test_item_of_another_conversation_answers_exactly_as_an_absent_one(world: World) -> None:
    async with world.http() as http:
        made, other = [
            (await http.post("/conversations", json={"items": ITEMS})).json()["id"] for _ in range(2)
        ]
        foreign = (await http.get(f"/conversations/{other}/items")).json()["last_id"]
        absent = "msg_" + "0" * 48
        for name in ("item", "delete item"):
            answers = [await call(http, name, made, item) for item in (foreign, absent)]
            said = [
                (answer.status_code, answer.text.replace(foreign, "ID").replace(absent, "ID"))
                for answer in answers
            ]
            assert (said[0], said[0][0]) == (said[1], 404)


async def test_who_is_granted_reading_may_neither_change_nor_go_on_with_it(world: World) -> None:
    made = await world.client().conversations.create(items=ITEMS)
    write_custom(world, "history", "grant if true\n")
    async with world.http("bob") as http, asyncio.timeout(120):
        while (read := await http.get(f"/conversations/{made.id}/items")).status_code == 404:
            pass
        refused = {
            name: (await call(http, name, made.id, "msg_1")).status_code
            for name in ("update", "delete", "append", "delete item")
        }
        response = await http.post(
            "/responses", json={"model": "small", "input": "Hi", "conversation": made.id}
        )
    assert (len(read.json()["data"]), refused) == (2, dict.fromkeys(refused, 403))
    assert (response.status_code, world.upstream.requests) == (404, [])


# ---------------------------------------------------------------- turns


async def test_turn_of_a_response_joins_the_conversation(world: World) -> None:
    client = world.client()
    made = await client.conversations.create(items=ITEMS)
    world.upstream.turns = [text("You are Ann.")]
    await client.responses.create(model="small", input="Who am I?", conversation=made.id)
    listed = [item async for item in client.conversations.items.list(made.id, order="asc")]
    assert [message["content"] for message in world.upstream.requests[0]["messages"]] == [
        "My name is Ann.",
        "Hello Ann.",
        "Who am I?",
    ]
    assert texts(listed) == ["My name is Ann.", "Hello Ann.", "Who am I?", "You are Ann."]


async def test_conversation_is_held_while_a_response_is_made_in_it(world: World) -> None:
    held = Held()
    world.upstream.turns = [held]
    async with world.http() as http, asyncio.TaskGroup() as running:
        made = (await http.post("/conversations", json={"items": ITEMS})).json()["id"]
        item = (await http.get(f"/conversations/{made}/items")).json()["last_id"]
        ask = {"model": "small", "input": "Hi", "conversation": made}
        first = running.create_task(http.post("/responses", json=ask))
        await held.arrived.wait()
        refused = [
            error_of(await call(http, name, made, item)) for name in ("delete", "append", "delete item")
        ]
        refused.append(error_of(await http.post("/responses", json=ask)))
        allowed = [
            (await call(http, name, made, item)).status_code
            for name in ("retrieve", "items", "item", "update")
        ]
        held.go.set()
        answered = (await first).status_code
        after = (await call(http, "append", made, item)).status_code
    assert (refused, allowed, answered, after) == ([(400, "conversation_locked")] * 4, [200] * 4, 200, 200)


async def test_conversation_withholds_what_is_no_longer_permitted(world: World) -> None:
    alice, store, file = await leave_store(world)
    made = await alice.conversations.create()
    world.upstream.turns = [
        tool_call("file_search", {"query": "leave"}),
        text("28 days, says blue-heron【1】."),
    ]
    await alice.responses.create(
        model="small", input="Leave?", tools=[search_tool(store)], conversation=made.id
    )
    path = f"/conversations/{made.id}/items?include[]=file_search_call.results"
    async with world.http("alice", "acme", teams=["hr"]) as http:
        before = (await http.get(path)).text
        await alice.vector_stores.files.delete(vector_store_id=store, file_id=file)
        after = (await http.get(path)).text
    assert ["blue-heron" in shown for shown in (before, after)] == [True, False]
    assert "Leave?" in after


async def test_withheld_item_cannot_be_copied_into_a_conversation(world: World) -> None:
    alice, store, file = await leave_store(world)
    world.upstream.turns = [
        tool_call("file_search", {"query": "leave"}),
        text("28 days, says blue-heron【1】."),
    ]
    response = await alice.responses.create(model="small", input="Leave?", tools=[search_tool(store)])
    reference: Any = {"type": "item_reference", "id": response.output[-1].id}
    copied = await alice.conversations.create(items=[reference])
    await alice.vector_stores.files.delete(vector_store_id=store, file_id=file)
    with pytest.raises(openai.NotFoundError):
        await alice.conversations.create(items=[reference])
    shown = texts((await alice.conversations.items.list(copied.id)).data)
    assert "blue-heron" not in shown[0]


async def test_failed_turn_leaves_nothing_in_the_conversation_and_lets_it_go(world: World) -> None:
    client = world.client()
    made = await client.conversations.create(items=ITEMS)
    world.upstream.turns = [[{"choices": [{"index": 0, "delta": {"content": "Half"}}]}], text("Whole.")]
    with pytest.raises(openai.APIError):
        await client.responses.create(model="small", input="First", conversation=made.id)
    await client.responses.create(model="small", input="Second", conversation=made.id)
    listed = [item async for item in client.conversations.items.list(made.id, order="asc")]
    assert texts(listed)[2:] == ["Second", "Whole."]


async def test_conversation_of_a_client_that_left_is_let_go(world: World) -> None:
    held = Held()
    world.upstream.turns = [held, text("Again.")]
    async with world.http() as http, asyncio.TaskGroup() as running:
        made = (await http.post("/conversations", json={})).json()["id"]
        ask = {"model": "small", "input": "Hi", "conversation": made}
        first = running.create_task(http.post("/responses", json=ask))
        await held.arrived.wait()
        first.cancel()
        async with asyncio.timeout(120):
            while (answer := await http.post("/responses", json=ask)).status_code == 400:
                pass
        listed = (await http.get(f"/conversations/{made}/items")).json()["data"]
    assert (answer.status_code, len(listed)) == (200, 2)


async def test_sealed_summary_keeps_what_it_was_made_from(world: World) -> None:
    alice, store, file = await leave_store(world)
    world.upstream.turns = [
        tool_call("file_search", {"query": "leave"}),
        text("28 days, says blue-heron【1】."),
        text("Summary: 28 days, says blue-heron."),
    ]
    first = await alice.responses.create(model="small", input="Leave?", tools=[search_tool(store)])
    compacted = await alice.responses.compact(model="small", previous_response_id=first.id)
    summary: Any = next(item for item in compacted.output if item.type == "compaction").model_dump(
        exclude_none=True
    )
    made = await alice.conversations.create(
        items=[{"type": "compaction", "encrypted_content": summary["encrypted_content"]}]
    )
    (kept,) = await world.gateway.services.state.conversations.items(Principal("alice", "acme"), made.id)  # type: ignore[union-attr, arg-type, misc]
    assert {ref.file_id for ref in kept.lineage} == {file}
