"""Conversations, their lock, the turns that responses add to them, and the log of a response's events:
conformance with the port.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from typing import Any

import pytest
from tests.adapters.state.samples import (
    ANN,
    BOB,
    EVE,
    PATIENT_SECONDS,
    conversation_of,
    event_of,
    items_of,
    response_of,
)

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.errors import InvalidRequest, StateUnavailable
from regate_orchestrator.rows import ItemWithParent, LoggedEvent, Page, ResponseRow, Rows, StoredItem
from regate_orchestrator.values import ConversationId, ResponseId

CONVERSATION, RESPONSE, OTHER = ConversationId("conv_1"), ResponseId("resp_1"), ResponseId("resp_2")


@pytest.fixture
async def stores(url: str) -> AsyncIterator[tuple[SqlStateStore, SqlStateStore]]:
    """Two gateways on one database, with a conversation of one item."""
    async with (
        SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as one,
        SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as other,
    ):
        await one.conversations.add(conversation_of(ANN), items_of("msg_1"))
        yield one, other


@pytest.fixture
def store(stores: tuple[SqlStateStore, SqlStateStore]) -> SqlStateStore:
    return stores[0]


def turn_of(
    status: str = "completed", name: str = "resp_1", *, items: int = 2, text: str = "x", **changes: Any
) -> ResponseRow:
    return replace(
        response_of(ANN, name, items=items, text=text), status=status, conversation_id=CONVERSATION, **changes
    )


def ids_of(items: list[StoredItem] | None) -> list[str]:
    assert items is not None
    return [item.id for item in items]


async def is_free(store: SqlStateStore) -> bool:
    """Whether another response could go on with the conversation."""
    try:
        await store.conversations.lock(ANN, CONVERSATION, ResponseId("resp_probe"))
    except InvalidRequest:
        return False
    await store.conversations.unlock(ANN, CONVERSATION, ResponseId("resp_probe"))
    return True


async def refused(call: Awaitable[object]) -> str | None:
    with pytest.raises(InvalidRequest) as refusal:
        await call
    return refusal.value.code


# ---------------------------------------------------------------- conversations and their items


async def test_conversation_comes_back_as_stored(store: SqlStateStore) -> None:
    await store.conversations.add(
        conversation_of(BOB, "conv_2", metadata={"ключ": "Größe"}), items_of("msg_a", "msg_b")
    )
    row = await store.conversations.get(ANN, ConversationId("conv_2"))
    items = await store.conversations.items(ANN, ConversationId("conv_2"))
    assert (row, items) == (
        conversation_of(BOB, "conv_2", metadata={"ключ": "Größe"}),
        items_of("msg_a", "msg_b"),
    )


async def test_conversation_without_items_has_none_and_is_there(store: SqlStateStore) -> None:
    await store.conversations.add(conversation_of(ANN, "conv_2"), [])
    empty = ConversationId("conv_2")
    assert (
        await store.conversations.items(ANN, empty),
        await store.conversations.item_page(ANN, empty, Page()),
    ) == ([], Rows((), has_more=False))


@pytest.mark.parametrize("name", ["", "conv_1\x00", "\ud800", "CONV_1", "conv_1 ", "conv_%", "x" * 1000])
async def test_name_that_is_no_identifier_is_absent_and_no_error(store: SqlStateStore, name: str) -> None:
    conversation = ConversationId(name)
    found = [
        await store.conversations.get(ANN, conversation),
        await store.conversations.items(ANN, conversation),
        await store.conversations.item_page(ANN, conversation, Page()),
        await store.conversations.item(ANN, conversation, "msg_1"),
        await store.conversations.item(ANN, CONVERSATION, name),
        await store.conversations.lock(ANN, conversation, RESPONSE),
        await store.conversations.unlock(ANN, conversation, RESPONSE),
        await store.conversations.append(ANN, conversation, items_of("msg_9")) or None,
        await store.conversations.delete(ANN, conversation) or None,
        await store.conversations.delete_item(ANN, CONVERSATION, name) or None,
        await store.conversations.update(ANN, conversation, metadata={}) or None,
        await store.items.with_parents(ANN, [name]) or None,
    ]
    assert found == [None] * 12


async def test_metadata_is_replaced_whole(store: SqlStateStore) -> None:
    changed = await store.conversations.update(BOB, CONVERSATION, metadata={"size": "1"})
    assert (changed, await store.conversations.get(ANN, CONVERSATION)) == (
        True,
        conversation_of(ANN, metadata={"size": "1"}),
    )


async def test_items_stand_in_the_order_in_which_they_were_appended(store: SqlStateStore) -> None:
    await store.conversations.append(ANN, CONVERSATION, items_of("msg_z", "msg_a"))
    await store.conversations.delete_item(ANN, CONVERSATION, "msg_z")
    await store.conversations.append(ANN, CONVERSATION, items_of("msg_0"))
    assert ids_of(await store.conversations.items(ANN, CONVERSATION)) == ["msg_1", "msg_a", "msg_0"]


async def test_item_that_is_there_is_not_appended_again(store: SqlStateStore) -> None:
    later = replace(items_of("msg_1")[0], direction="output")
    await store.conversations.append(ANN, CONVERSATION, [later, *items_of("msg_2", "msg_2")])
    assert await store.conversations.items(ANN, CONVERSATION) == items_of("msg_1", "msg_2")


async def test_items_appended_at_once_are_all_there_once(stores: tuple[SqlStateStore, SqlStateStore]) -> None:
    names = [f"msg_{number}_{part}" for number in range(12) for part in range(2)]
    await asyncio.gather(
        *(
            stores[number % 2].conversations.append(
                ANN, CONVERSATION, items_of(*names[2 * number : 2 * number + 2])
            )
            for number in range(12)
        )
    )
    kept = ids_of(await stores[0].conversations.items(ANN, CONVERSATION))
    together = all(
        kept.index(names[2 * number]) + 1 == kept.index(names[2 * number + 1]) for number in range(12)
    )
    assert (kept[0], sorted(kept[1:]), together) == ("msg_1", sorted(names), True)


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_pages_follow_each_other_in_the_conversations_order(store: SqlStateStore, order: Any) -> None:
    names = [f"msg_{number * 7 % 11:02d}" for number in range(11)]
    await store.conversations.add(conversation_of(ANN, "conv_2"), items_of(*names))
    seen: list[str] = []
    after, more = None, True
    while more:
        rows = await store.conversations.item_page(
            ANN, ConversationId("conv_2"), Page(limit=4, order=order, after=after)
        )
        assert rows is not None
        seen, more = seen + [item.id for item in rows.rows], rows.has_more
        after = seen[-1]
    assert seen == (names if order == "asc" else names[::-1])


@pytest.mark.parametrize("cursor", ["msg_9", "msg_foreign", "\x00", ""])
async def test_cursor_that_is_no_item_of_the_conversation_is_refused(
    store: SqlStateStore, cursor: str
) -> None:
    await store.conversations.add(conversation_of(ANN, "conv_2"), items_of("msg_foreign"))
    with pytest.raises(InvalidRequest) as refusal:
        await store.conversations.item_page(ANN, CONVERSATION, Page(after=cursor))
    assert refusal.value.param == "after"


async def test_item_of_another_conversation_is_not_in_this_one(store: SqlStateStore) -> None:
    await store.conversations.add(conversation_of(ANN, "conv_2"), items_of("msg_2"))
    seen = (
        await store.conversations.item(ANN, CONVERSATION, "msg_2"),
        await store.conversations.delete_item(ANN, CONVERSATION, "msg_2"),
    )
    assert (seen, await store.conversations.item(ANN, ConversationId("conv_2"), "msg_2")) == (
        (None, False),
        items_of("msg_2")[0],
    )


async def test_deleted_conversation_is_gone_with_its_items_and_its_responses_stay(
    store: SqlStateStore,
) -> None:
    await store.conversations.lock(ANN, CONVERSATION, RESPONSE)
    await store.responses.save(turn_of())
    deleted = [
        await store.conversations.delete(ANN, CONVERSATION),
        await store.conversations.delete(ANN, CONVERSATION),
    ]
    held = await store.items.with_parents(ANN, ["msg_1", "msg_resp_1_0"])
    assert (deleted, list(held), await store.responses.get(ANN, RESPONSE)) == (
        [True, False],
        ["msg_resp_1_0"],
        turn_of(),
    )


# ---------------------------------------------------------------- the lock


async def test_of_many_that_take_the_lock_at_once_one_wins(
    stores: tuple[SqlStateStore, SqlStateStore],
) -> None:
    async def take(number: int) -> list[StoredItem] | str | None:
        try:
            return await stores[number % 2].conversations.lock(
                ANN, CONVERSATION, ResponseId(f"resp_{number}")
            )
        except InvalidRequest as refusal:
            return refusal.code

    taken = await asyncio.gather(*(take(number) for number in range(16)))
    assert (taken.count("conversation_locked"), [one for one in taken if one != "conversation_locked"]) == (
        15,
        [items_of("msg_1")],
    )


async def test_locked_conversation_refuses_changes_of_its_items_with_the_known_words(
    store: SqlStateStore,
) -> None:
    await store.conversations.lock(ANN, CONVERSATION, RESPONSE)
    codes = [
        await refused(call)
        for call in (
            store.conversations.lock(BOB, CONVERSATION, OTHER),
            store.conversations.append(ANN, CONVERSATION, items_of("msg_2")),
            store.conversations.delete_item(ANN, CONVERSATION, "msg_1"),
            store.conversations.delete(ANN, CONVERSATION),
        )
    ]
    with pytest.raises(InvalidRequest) as refusal:
        await store.conversations.append(ANN, CONVERSATION, [])
    said = (refusal.value.param, refusal.value.message)
    assert (codes, said) == (
        ["conversation_locked"] * 4,
        (
            "conversation",
            "Another process is currently operating on this conversation. Please retry in a few seconds.",
        ),
    )


async def test_locked_conversation_is_read_and_its_metadata_changed(store: SqlStateStore) -> None:
    await store.conversations.lock(ANN, CONVERSATION, RESPONSE)
    changed = await store.conversations.update(ANN, CONVERSATION, metadata={})
    assert (changed, await store.conversations.items(ANN, CONVERSATION)) == (True, items_of("msg_1"))


async def test_holder_may_take_its_lock_again(store: SqlStateStore) -> None:
    taken = [await store.conversations.lock(ANN, CONVERSATION, RESPONSE) for _ in range(2)]
    assert taken == [items_of("msg_1")] * 2


async def test_lock_is_released_by_its_holder_alone_and_as_often_as_it_likes(store: SqlStateStore) -> None:
    await store.conversations.lock(ANN, CONVERSATION, RESPONSE)
    await store.conversations.unlock(ANN, CONVERSATION, OTHER)
    before = await is_free(store)
    for _ in range(2):
        await store.conversations.unlock(ANN, CONVERSATION, RESPONSE)
    assert (before, await is_free(store)) == (False, True)


# ---------------------------------------------------------------- turns


@pytest.mark.parametrize("status", ["completed", "incomplete"])
async def test_turn_that_ended_well_is_in_the_conversation_and_the_lock_is_free(
    store: SqlStateStore, status: str
) -> None:
    await store.conversations.lock(ANN, CONVERSATION, RESPONSE)
    await store.responses.save(turn_of(status))
    assert (
        await store.conversations.items(ANN, CONVERSATION),
        await is_free(store),
        await store.responses.get(ANN, RESPONSE),
    ) == (
        [*items_of("msg_1"), *turn_of().items],
        True,
        turn_of(status),
    )


@pytest.mark.parametrize("status", ["failed", "cancelled"])
async def test_turn_that_did_not_is_not_and_the_lock_is_free(store: SqlStateStore, status: str) -> None:
    await store.conversations.lock(ANN, CONVERSATION, RESPONSE)
    await store.responses.save(turn_of(status))
    assert (ids_of(await store.conversations.items(ANN, CONVERSATION)), await is_free(store)) == (
        ["msg_1"],
        True,
    )


@pytest.mark.parametrize("status", ["queued", "in_progress"])
async def test_turn_that_goes_on_changes_nothing_of_the_conversation(
    store: SqlStateStore, status: str
) -> None:
    await store.conversations.lock(ANN, CONVERSATION, RESPONSE)
    await store.responses.save(turn_of(status, background=True))
    assert (
        ids_of(await store.conversations.items(ANN, CONVERSATION)),
        await is_free(store),
        await store.responses.get(ANN, RESPONSE),
    ) == (
        ["msg_1"],
        False,
        turn_of(status, background=True),
    )


async def test_item_of_a_turn_that_is_in_the_conversation_is_not_appended_again(store: SqlStateStore) -> None:
    await store.conversations.lock(ANN, CONVERSATION, RESPONSE)
    await store.responses.save(replace(turn_of(), items=(*items_of("msg_1"), *turn_of().items)))
    assert ids_of(await store.conversations.items(ANN, CONVERSATION)) == [
        "msg_1",
        "msg_resp_1_0",
        "msg_resp_1_1",
    ]


@pytest.mark.parametrize("holder", [None, OTHER])
@pytest.mark.parametrize("status", ["completed", "incomplete"])
async def test_turn_without_the_lock_is_not_stored_at_all(
    store: SqlStateStore, status: str, holder: ResponseId | None
) -> None:
    await store.conversations.lock(ANN, CONVERSATION, RESPONSE)
    await store.responses.save(turn_of("in_progress", items=0))
    await store.conversations.unlock(ANN, CONVERSATION, RESPONSE)
    if holder is not None:
        await store.conversations.lock(ANN, CONVERSATION, holder)
    with pytest.raises(StateUnavailable):
        await store.responses.save(turn_of(status))
    assert (
        await store.responses.get(ANN, RESPONSE),
        ids_of(await store.conversations.items(ANN, CONVERSATION)),
        await is_free(store),
    ) == (
        turn_of("in_progress", items=0),
        ["msg_1"],
        holder is None,
    )


@pytest.mark.parametrize("status", ["queued", "in_progress"])
async def test_turn_without_the_lock_does_not_begin(store: SqlStateStore, status: str) -> None:
    await store.conversations.lock(ANN, CONVERSATION, OTHER)
    with pytest.raises(StateUnavailable):
        await store.responses.save(turn_of(status, items=0))
    assert await store.responses.get(ANN, RESPONSE) is None


async def test_turn_in_a_conversation_of_another_tenant_is_not_stored(store: SqlStateStore) -> None:
    await store.conversations.add(conversation_of(EVE, "conv_eve"), [])
    await store.conversations.lock(EVE, ConversationId("conv_eve"), RESPONSE)
    with pytest.raises(StateUnavailable):
        await store.responses.save(replace(turn_of(), conversation_id=ConversationId("conv_eve")))
    assert (
        await store.responses.get(ANN, RESPONSE),
        await store.conversations.items(EVE, ConversationId("conv_eve")),
    ) == (None, [])


async def test_failed_turn_does_not_release_the_lock_of_another(store: SqlStateStore) -> None:
    await store.conversations.lock(ANN, CONVERSATION, OTHER)
    await store.responses.save(turn_of("failed"))
    assert await is_free(store) is False


async def test_turn_whose_saving_is_cut_short_is_all_there_or_not_at_all(store: SqlStateStore) -> None:
    seen = set()
    for number in range(30):
        name = f"resp_{number}"
        await store.conversations.lock(ANN, CONVERSATION, ResponseId(name))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.0005 * number):
                await store.responses.save(turn_of(name=name, items=150, text="x" * 2_000))
        stored = await store.responses.get(ANN, ResponseId(name)) is not None
        appended = sum(
            item.startswith(f"msg_{name}_")
            for item in ids_of(await store.conversations.items(ANN, CONVERSATION))
        )
        seen.add((stored, appended, await is_free(store)))
        await store.conversations.unlock(ANN, CONVERSATION, ResponseId(name))
    assert seen <= {(True, 150, True), (False, 0, False)}


# ---------------------------------------------------------------- items by id


async def test_items_are_found_wherever_they_are_with_what_holds_them(store: SqlStateStore) -> None:
    await store.responses.save(response_of(BOB))
    held = await store.items.with_parents(ANN, ["msg_resp_1_1", "msg_1", "msg_none", "msg_1"])
    assert held == {
        "msg_resp_1_1": ItemWithParent(response_of(BOB).view(), response_of(BOB).items[1]),
        "msg_1": ItemWithParent(conversation_of(ANN).view(), items_of("msg_1")[0]),
    }


async def test_item_that_several_hold_is_the_oldest_responses(store: SqlStateStore) -> None:
    item = items_of("msg_1")
    for name, created in (("resp_2", 300), ("resp_1", 200), ("resp_3", 400)):
        await store.responses.save(replace(response_of(ANN, name, created=created), items=tuple(item)))
    held = await store.items.with_parents(ANN, ["msg_1"])
    assert [one.holder["id"] for one in held.values()] == ["resp_1"]


async def test_item_of_another_tenant_does_not_hide_ones_own(store: SqlStateStore) -> None:
    await store.responses.save(
        replace(response_of(EVE, "resp_eve", created=1), items=tuple(items_of("msg_1")))
    )
    held = {
        who.id: [one.holder["id"] for one in (await store.items.with_parents(who, ["msg_1"])).values()]
        for who in (ANN, EVE)
    }
    assert held == {"ann": ["conv_1"], "eve": ["resp_eve"]}


async def test_many_items_are_asked_for_at_once(store: SqlStateStore) -> None:
    assert list(await store.items.with_parents(ANN, [f"msg_{number}" for number in range(12_000)])) == [
        "msg_1"
    ]


# ---------------------------------------------------------------- events


async def test_events_come_back_in_order_from_where_a_reader_left_off(store: SqlStateStore) -> None:
    await store.responses.save(response_of(ANN))
    await store.events.append(ANN, RESPONSE, [event_of(1), event_of(0)])
    await store.events.append(ANN, RESPONSE, [event_of(number) for number in range(2, 12)])
    parts = [
        await store.events.read(BOB, RESPONSE, after=-1, limit=3),
        await store.events.read(BOB, RESPONSE, after=2, limit=100),
        await store.events.read(BOB, RESPONSE, after=11, limit=100),
    ]
    assert parts == [[event_of(n) for n in range(3)], [event_of(n) for n in range(3, 12)], []]


async def test_event_that_is_logged_is_never_replaced(store: SqlStateStore) -> None:
    await store.responses.save(response_of(ANN))
    await store.events.append(ANN, RESPONSE, [event_of(0)])
    with pytest.raises(StateUnavailable):
        await store.events.append(
            ANN, RESPONSE, [event_of(1), LoggedEvent({**event_of(0).event, "delta": "another"})]
        )
    assert await store.events.read(ANN, RESPONSE, after=-1, limit=9) == [event_of(0)]


async def test_events_of_what_is_not_stored_are_refused_and_none_are_nothing(store: SqlStateStore) -> None:
    await store.events.append(ANN, RESPONSE, [])
    with pytest.raises(StateUnavailable):
        await store.events.append(ANN, RESPONSE, [event_of(0)])


async def test_log_outlives_a_new_state_of_its_response_and_ends_with_it(store: SqlStateStore) -> None:
    await store.conversations.lock(ANN, CONVERSATION, RESPONSE)
    await store.responses.save(turn_of("in_progress"))
    await store.events.append(ANN, RESPONSE, [event_of(0)])
    await store.responses.save(turn_of("failed"))
    kept = await store.events.read(ANN, RESPONSE, after=-1, limit=9)
    await store.responses.delete(ANN, RESPONSE)
    await store.responses.save(turn_of("failed"))
    assert (kept, await store.events.read(ANN, RESPONSE, after=-1, limit=9)) == ([event_of(0)], [])


async def test_logs_of_old_responses_that_have_ended_are_forgotten_and_no_others(
    store: SqlStateStore,
) -> None:
    names = {"old": ("completed", 100), "new": ("completed", 900), "going": ("in_progress", 100)}
    for name, (status, created) in names.items():
        await store.responses.save(replace(response_of(ANN, name, created=created), status=status))
        await store.events.append(ANN, ResponseId(name), [event_of(0), event_of(1)])
    forgotten = await store.events.forget(made_before=500)
    left = [name for name in names if await store.events.read(ANN, ResponseId(name), after=-1, limit=9)]

    assert (forgotten, left) == (2, ["new", "going"])
