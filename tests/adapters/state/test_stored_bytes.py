"""How many bytes a person has stored, on each database: what is written counts, what is gone does not,
and others' never.
"""

from __future__ import annotations

from dataclasses import replace

from tests.adapters.state.samples import (
    ANN,
    BOB,
    EVE,
    conversation_of,
    items_of,
    prompt_of,
    response_of,
    version_of,
)

from regate_adapters.state.encoding import item_size, stored_size
from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.values import ConversationId, PromptId, ResponseId


async def test_everything_that_a_person_has_is_added_up_and_nothing_of_others(store: SqlStateStore) -> None:
    items = items_of("msg_1", "msg_2")
    response, version = response_of(ANN), version_of(ANN)
    await store.responses.save(response)
    await store.conversations.add(conversation_of(ANN), items[:1])
    await store.conversations.append(ANN, ConversationId("conv_1"), items[1:])
    await store.prompts.add(prompt_of(ANN), version)
    for number, other in enumerate((BOB, EVE), start=2):
        await store.responses.save(response_of(other, f"resp_{number}"))
        await store.conversations.add(conversation_of(other, f"conv_{number}"), items)
        await store.prompts.add(prompt_of(other, f"pmpt_{number}"), version_of(other, f"pmpt_{number}"))

    of_response = stored_size(response.body) + sum(map(item_size, response.items))
    assert await store.stored_bytes.of(ANN) == of_response + sum(map(item_size, items)) + stored_size(
        version.template
    )


async def test_a_version_counts_for_who_made_it(store: SqlStateStore) -> None:
    await store.prompts.add(prompt_of(ANN), version_of(ANN))
    before = await store.stored_bytes.of(ANN)
    await store.prompts.add_version(
        BOB, PromptId("pmpt_1"), template={"instructions": "Hello."}, variables=(), created_at=100
    )

    assert (await store.stored_bytes.of(ANN), await store.stored_bytes.of(BOB)) == (
        before,
        stored_size({"instructions": "Hello."}),
    )


async def test_what_is_gone_does_not_count(store: SqlStateStore) -> None:
    await store.responses.save(response_of(ANN))
    await store.conversations.add(conversation_of(ANN), items_of("msg_1", "msg_2"))
    await store.prompts.add(prompt_of(ANN), version_of(ANN))
    await store.responses.delete(ANN, ResponseId("resp_1"))
    await store.prompts.delete(ANN, PromptId("pmpt_1"))
    for item in ("msg_1", "msg_2", "msg_3"):
        await store.conversations.delete_item(ANN, ConversationId("conv_1"), item)

    assert await store.stored_bytes.of(ANN) == 0


async def test_a_response_counts_as_it_is_now(store: SqlStateStore) -> None:
    await store.responses.save(replace(response_of(ANN, text="long " * 100), status="in_progress"))
    now = response_of(ANN, text="short", items=1)
    await store.responses.save(now, is_update=True)

    assert await store.stored_bytes.of(ANN) == stored_size(now.body) + sum(map(item_size, now.items))


async def test_an_item_that_is_there_already_counts_once(store: SqlStateStore) -> None:
    await store.conversations.add(conversation_of(ANN), items_of("msg_1"))
    await store.conversations.append(ANN, ConversationId("conv_1"), items_of("msg_1"))

    assert await store.stored_bytes.of(ANN) == sum(map(item_size, items_of("msg_1")))
