"""What items rest on is stored once for a thread, is complete without another's, and goes with the
last that is in the thread.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import create_engine, make_url
from tests.adapters.state.samples import ANN, conversation_of, event_of, response_of

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.lineage import NOTHING_READ, ChunkSource, FileSource, Lineage
from regate_orchestrator.rows import MAX_HISTORY_ITEMS, LoggedEvent, ResponseRow, StoredItem
from regate_orchestrator.values import ConversationId, FileId, ResponseId, StoreId

FILE = FileSource(FileId("file-9"), {"tenant": "acme", "owner": "ann"})


def chunk(number: int) -> ChunkSource:
    stamp = {"tenant": "acme", "owner": "ann", "labels": []}
    return ChunkSource(StoreId("vs_1"), FileId(f"file-{number // 5}"), f"acme/{number:06}", stamp)


def turn(
    name: str, read: Lineage, *, previous: str | None = None, conversation: str | None = None
) -> ResponseRow:
    """A response of two items, the second of which was written after everything in `read`."""
    items = tuple(
        StoredItem(f"{name}_{place}", {"type": "message", "id": f"{name}_{place}"}, "output", lineage)
        for place, lineage in enumerate((NOTHING_READ, read))
    )
    row = replace(response_of(ANN, name, previous=previous), items=items)
    return row if conversation is None else replace(row, conversation_id=ConversationId(conversation))


def kept(url: str) -> tuple[int, int]:
    """How many lineages are stored, and how many bytes of sources."""
    engine = create_engine(make_url(url))
    with engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT CAST(added AS TEXT) FROM lineages").all()
    engine.dispose()
    return len(rows), sum(len(row[0]) for row in rows)


async def test_each_source_of_a_long_chain_is_stored_once(store: SqlStateStore, url: str) -> None:
    read = NOTHING_READ
    for number in range(40):
        read = read.plus(chunk(5 * number + place) for place in range(5))
        await store.responses.save(
            turn(f"resp_{number}", read, previous=f"resp_{number - 1}" if number else None)
        )
    chain = await store.responses.chain(ANN, ResponseId("resp_39"))
    assert chain is not None
    lineages, size = kept(url)

    assert [row.items[1].lineage.size for row in chain] == [5 * number for number in range(1, 41)]
    assert list(chain[-1].items[1].lineage) == [chunk(number) for number in range(200)]
    assert (lineages, size < 40 * 200) == (40, True)


async def test_chain_that_is_read_goes_on_from_what_is_stored(store: SqlStateStore, url: str) -> None:
    await store.responses.save(turn("resp_1", Lineage.of([chunk(1), FILE])))
    (first,) = await store.responses.chain(ANN, ResponseId("resp_1")) or []
    await store.responses.save(turn("resp_2", first.items[1].lineage.plus([chunk(2)]), previous="resp_1"))
    found = await store.responses.get(ANN, ResponseId("resp_2"))

    assert found is not None
    assert list(found.items[1].lineage) == [chunk(1), FILE, chunk(2)]
    assert kept(url)[0] == 2


async def test_response_keeps_what_it_rests_on_when_the_one_before_it_is_deleted(
    store: SqlStateStore, url: str
) -> None:
    read = Lineage.of([chunk(1)])
    await store.responses.save(turn("resp_1", read))
    await store.responses.save(turn("resp_2", read.plus([chunk(2)]), previous="resp_1"))
    await store.responses.delete(ANN, ResponseId("resp_1"))
    found = await store.responses.get(ANN, ResponseId("resp_2"))
    assert found is not None
    left = kept(url)[0]
    await store.responses.delete(ANN, ResponseId("resp_2"))

    assert list(found.items[1].lineage) == [chunk(1), chunk(2)]
    assert (left, kept(url)[0]) == (2, 0)


async def test_response_that_goes_on_with_what_was_deleted_meanwhile_is_stored_whole(
    store: SqlStateStore,
) -> None:
    await store.responses.save(turn("resp_1", Lineage.of([chunk(1)])))
    (first,) = await store.responses.chain(ANN, ResponseId("resp_1")) or []
    await store.responses.delete(ANN, ResponseId("resp_1"))
    await store.responses.save(turn("resp_2", first.items[1].lineage.plus([chunk(2)]), previous="resp_1"))
    found = await store.responses.get(ANN, ResponseId("resp_2"))

    assert found is not None
    assert list(found.items[1].lineage) == [chunk(1), chunk(2)]


async def test_item_of_another_thread_brings_what_it_rests_on(store: SqlStateStore) -> None:
    await store.responses.save(turn("resp_1", Lineage.of([chunk(1)])))
    referred = (await store.items.with_parents(ANN, ["resp_1_1"]))["resp_1_1"].item
    conversation = conversation_of(ANN)
    await store.conversations.add(conversation, [referred])
    await store.responses.delete(ANN, ResponseId("resp_1"))
    (found,) = await store.conversations.items(ANN, conversation.id) or []
    one = await store.conversations.item(ANN, conversation.id, "resp_1_1")

    assert list(found.lineage) == [chunk(1)]
    assert one == found


async def test_turns_of_a_conversation_outlive_it_with_all_they_rest_on(
    store: SqlStateStore, url: str
) -> None:
    conversation = conversation_of(ANN)
    await store.conversations.add(conversation, [])
    await store.conversations.lock(ANN, conversation.id, ResponseId("resp_1"))
    await store.responses.save(turn("resp_1", Lineage.of([chunk(1)]), conversation=conversation.id))
    (_, item) = await store.conversations.items(ANN, conversation.id) or []
    await store.conversations.delete(ANN, conversation.id)
    found = await store.responses.get(ANN, ResponseId("resp_1"))

    assert found is not None
    assert (list(item.lineage), list(found.items[1].lineage)) == ([chunk(1)], [chunk(1)])
    await store.responses.delete(ANN, ResponseId("resp_1"))
    assert kept(url)[0] == 0


async def test_lineage_that_is_lost_is_never_taken_for_none(store: SqlStateStore, url: str) -> None:
    read = Lineage.of([chunk(1)])
    await store.responses.save(turn("resp_1", read.plus([chunk(2)])))
    engine = create_engine(make_url(url))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"DELETE FROM lineages WHERE id = '{read.id}'")
    engine.dispose()
    found = await store.responses.get(ANN, ResponseId("resp_1"))

    assert found is not None
    assert [getattr(source, "store_id", None) for source in found.items[1].lineage] == ["", "vs_1"]


async def test_log_says_what_was_read_before_each_event(store: SqlStateStore) -> None:
    await store.responses.save(turn("resp_1", NOTHING_READ))
    events = [
        event_of(0),
        LoggedEvent(event_of(1).event, (chunk(1), FILE)),
        event_of(2),
        LoggedEvent(event_of(3).event, (chunk(2),)),
    ]
    await store.events.append(ANN, ResponseId("resp_1"), events)
    read = await store.events.read(ANN, ResponseId("resp_1"), after=0, limit=9)
    before = [
        await store.events.sources(ANN, ResponseId("resp_1"), through=number) for number in (-1, 0, 2, 3)
    ]

    assert read == events[1:]
    assert before == [[], [], [chunk(1), FILE], [chunk(1), FILE, chunk(2)]]


async def test_chain_of_more_items_than_can_be_decided_is_refused(store: SqlStateStore) -> None:
    half = MAX_HISTORY_ITEMS // 2 + 1
    for number in (1, 2):
        items = tuple(StoredItem(f"m{number}_{place}", {"type": "message"}, "input") for place in range(half))
        row = replace(
            response_of(ANN, f"resp_{number}", previous=f"resp_{number - 1}" if number > 1 else None),
            items=items,
        )
        await store.responses.save(row)
    with pytest.raises(InvalidRequest) as refused:
        await store.responses.chain(ANN, ResponseId("resp_2"))

    assert refused.value.code == "conversation_too_long"
