"""Conformance of a state store with its port. Knows nothing of the database behind it: whatever `url`
yields must pass.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.adapters.state.samples import (
    ANN,
    BOB,
    EVE,
    PATIENT_SECONDS,
    attached_of,
    attachment_of,
    batch_of,
    conversation_of,
    event_of,
    file_of,
    items_of,
    prompt_of,
    response_of,
    stamp_of,
    store_of,
    version_of,
)

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.errors import InvalidRequest, NotFound, StateUnavailable
from regate_orchestrator.filters.expression import (
    NEVER,
    Compare,
    Everything,
    FilterPlan,
    Matching,
    Not,
    Nothing,
    Overlaps,
    Text,
    any_of,
)
from regate_orchestrator.lineage import ChunkSource
from regate_orchestrator.ports import StateStore
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import LiveFile, LoggedEvent, Page, Rows, StoreChanges, Totals
from regate_orchestrator.values import BatchId, ConversationId, FileId, PromptId, ResponseId, StoreId

FILE, STORE, RESPONSE = FileId("file-1"), StoreId("vs_1"), ResponseId("resp_1")


async def furnish(store: SqlStateStore, who: Principal = ANN) -> None:
    """Give a tenant one of each: a file attached to a store, a response with an event, a conversation
    with an item, and a prompt.
    """
    await store.add_file(file_of(who))
    await store.add_store(store_of(who))
    await store.put_attachments([attached_of(who)])
    await store.save_response(response_of(who))
    sources = (ChunkSource(StoreId("vs_1"), FileId("file-1"), "acme/file-1/000000", {"tenant": "acme"}),)
    await store.append_events(RESPONSE, [LoggedEvent(event_of(0).event, sources)])
    await store.add_conversation(conversation_of(who), items_of("msg_1"))
    await store.add_prompt(prompt_of(who), version_of(who))
    await store.claim_key(BOB, "key-1", fingerprint="f", claim="claim_1", at=100)


# ---------------------------------------------------------------- what is stored comes back


async def test_file_comes_back_as_stored(store: SqlStateStore) -> None:
    row = file_of(
        ANN,
        filename="Größe 100%_'; DROP TABLE files; --\u2028.txt",
        level=2**53,
        labels=["é", "e\u0301"],
        ratio=0.1,
    )
    await store.add_file(row)
    assert await store.file(BOB, FILE) == row


async def test_vector_store_comes_back_as_stored(store: SqlStateStore) -> None:
    row = replace(store_of(ANN), last_active_at=170)
    await store.add_store(row)
    assert await store.store(BOB, STORE) == row


async def test_engine_of_a_store_is_told_whosever_it_is(store: SqlStateStore) -> None:
    await store.add_store(replace(store_of(ANN), engine="second"))
    found = [await store.engine_of(STORE), await store.engine_of(StoreId("vs_0"))]
    assert found == ["second", None]


async def test_stores_that_have_an_engine_keep_it(store: SqlStateStore) -> None:
    await store.add_store(store_of(ANN))
    assert (await store.place_stores(engine="second"), await store.engine_of(STORE)) == (0, "main")


async def test_attachment_comes_back_as_stored(store: SqlStateStore) -> None:
    row = attachment_of(ANN, error_code="invalid_file", error_message="no text")
    await store.add_file(file_of(ANN))
    await store.add_store(store_of(ANN))
    await store.put_attachments([row])
    assert await store.attachment(BOB, STORE, FILE) == row


async def test_response_comes_back_with_its_items_in_order(store: SqlStateStore) -> None:
    row = response_of(ANN, items=12, text="nul \x00 in an answer")
    await store.save_response(row)
    assert await store.response(BOB, RESPONSE) == row


async def test_what_never_was_is_absent(store: SqlStateStore) -> None:
    found = [
        await store.file(ANN, FILE),
        await store.store(ANN, STORE),
        await store.attachment(ANN, STORE, FILE),
        await store.response(ANN, RESPONSE),
        await store.chain(ANN, RESPONSE),
    ]
    assert found == [None] * 5


@pytest.mark.parametrize(
    "name", ["", "file-1\x00", "\ud800", "file 1", "FILE-1", "file-1\n", "é", "%", "file-_", "x" * 100_000]
)
async def test_name_that_is_no_identifier_is_absent_and_no_error(store: SqlStateStore, name: str) -> None:
    await furnish(store)
    found = [
        await store.file(ANN, FileId(name)),
        await store.store(ANN, StoreId(name)),
        await store.attachment(ANN, StoreId(name), FileId(name)),
        await store.response(ANN, ResponseId(name)),
        await store.chain(ANN, ResponseId(name)),
        await store.delete_file(ANN, FileId(name)),
        await store.live(ANN, [(STORE, FileId(name))]) or None,
    ]
    assert found == [None] * 7


@pytest.mark.parametrize("filename", ["a\x00b", "a\ud800b"])
async def test_filename_that_no_database_holds_is_the_callers_fault(
    store: SqlStateStore, filename: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await store.add_file(file_of(ANN, filename=filename))
    assert refusal.value.param == "file"


@pytest.mark.parametrize(
    "value", ["a\x00b", "\ud800", float("nan"), float("inf"), 2**63, ["\x00"], {"\x00": 1}]
)
async def test_stamp_that_no_filter_could_judge_is_not_stored(store: SqlStateStore, value: object) -> None:
    with pytest.raises(StateUnavailable):
        await store.add_file(file_of(ANN, level=value))
    assert await store.file(ANN, FILE) is None


async def test_stamp_without_a_tenant_is_not_stored(store: SqlStateStore) -> None:
    with pytest.raises(StateUnavailable):
        await store.add_file(replace(file_of(ANN), stamp={"owner": "ann"}))


# ---------------------------------------------------------------- tenants

Call = Callable[[SqlStateStore, Principal, str], Awaitable[object]]
ALL = Everything()

CALLS: dict[str, Call] = {
    "file": lambda store, who, tail: store.file(who, FileId("file-" + tail)),
    "files": lambda store, who, _: store.files(who, ALL, Page(), purpose=None),
    "delete_file": lambda store, who, tail: store.delete_file(who, FileId("file-" + tail)),
    "files_named": lambda store, who, tail: _values(store.files_named(who, [FileId("file-" + tail)])),
    "store": lambda store, who, tail: store.store(who, StoreId("vs_" + tail)),
    "stores": lambda store, who, _: store.stores(who, ALL, Page()),
    "stores_holding": lambda store, who, tail: store.stores_holding(who, FileId("file-" + tail)),
    "delete_store": lambda store, who, tail: store.delete_store(who, StoreId("vs_" + tail)),
    "update_store": lambda store, who, tail: store.update_store(
        who, StoreId("vs_" + tail), StoreChanges(name="Another")
    ),
    "in_progress_among": lambda store, who, tail: store.in_progress_among(
        who, StoreId("vs_1"), [FileId("file-" + tail + tail)]
    ),
    "file_batch": lambda store, who, tail: store.file_batch(who, StoreId("vs_" + tail), BatchId("vsfb_1")),
    "attachment": lambda store, who, tail: store.attachment(
        who, StoreId("vs_" + tail), FileId("file-" + tail)
    ),
    "attachments": lambda store, who, tail: store.attachments(
        who, StoreId("vs_" + tail), ALL, Page(), status=None
    ),
    "delete_attachment": lambda store, who, tail: store.delete_attachment(
        who, StoreId("vs_" + tail), FileId("file-" + tail)
    ),
    "totals": lambda store, who, tail: _values(store.totals(who, [StoreId("vs_" + tail)])),
    "live": lambda store, who, tail: _values(
        store.live(who, [(StoreId("vs_" + tail), FileId("file-" + tail))])
    ),
    "response": lambda store, who, tail: store.response(who, ResponseId("resp_" + tail)),
    "chain": lambda store, who, tail: store.chain(who, ResponseId("resp_" + tail)),
    "response_status": lambda store, who, tail: store.response_status(who, ResponseId("resp_" + tail)),
    "delete_response": lambda store, who, tail: store.delete_response(who, ResponseId("resp_" + tail)),
    "responses": lambda store, who, _: store.responses(who, ALL, Page()),
    "events": lambda store, who, tail: store.events(who, ResponseId("resp_" + tail), after=-1, limit=9),
    "logged_sources": lambda store, who, tail: store.logged_sources(
        who, ResponseId("resp_" + tail), through=9
    ),
    "items_with_parents": lambda store, who, tail: _values(
        store.items_with_parents(who, ["msg_resp_1_0" if tail == "1" else "msg_2"])
    ),
    "conversation": lambda store, who, tail: store.conversation(who, _conversation(tail)),
    "update_conversation": lambda store, who, tail: store.update_conversation(
        who, _conversation(tail), metadata={}
    ),
    "delete_conversation": lambda store, who, tail: store.delete_conversation(who, _conversation(tail)),
    "conversation_items": lambda store, who, tail: store.conversation_items(who, _conversation(tail)),
    "conversation_page": lambda store, who, tail: store.conversation_page(who, _conversation(tail), Page()),
    "conversation_item": lambda store, who, tail: store.conversation_item(who, _conversation(tail), "msg_1"),
    "append_items": lambda store, who, tail: store.append_items(who, _conversation(tail), items_of("msg_9")),
    "delete_conversation_item": lambda store, who, tail: store.delete_conversation_item(
        who, _conversation(tail), "msg_1"
    ),
    "claim_key": lambda store, who, tail: store.claim_key(
        who, "key-" + tail, fingerprint="f", claim=who.id, at=100
    ),
    "lock_conversation": lambda store, who, tail: store.lock_conversation(who, _conversation(tail), RESPONSE),
    "prompt": lambda store, who, tail: store.prompt(who, _prompt(tail)),
    "prompts": lambda store, who, _: store.prompts(who, ALL, Page()),
    "update_prompt": lambda store, who, tail: store.update_prompt(
        who, _prompt(tail), name="Other", default_version=None
    ),
    "delete_prompt": lambda store, who, tail: store.delete_prompt(who, _prompt(tail)),
    "add_prompt_version": lambda store, who, tail: store.add_prompt_version(
        who, _prompt(tail), template={}, variables=(), created_at=1
    ),
    "prompt_version": lambda store, who, tail: store.prompt_version(who, _prompt(tail), 1),
    "prompt_versions": lambda store, who, tail: store.prompt_versions(who, _prompt(tail), Page()),
}


def _prompt(tail: str) -> PromptId:
    return PromptId("pmpt_" + tail)


def _conversation(tail: str) -> ConversationId:
    return ConversationId("conv_" + tail)


async def _values(mapping: Awaitable[Any]) -> list[object]:
    return list((await mapping).values())


def test_every_call_on_behalf_of_somebody_is_in_the_table_of_tenants() -> None:
    taking = {
        name
        for name, member in inspect.getmembers(StateStore, inspect.isfunction)
        if "principal" in inspect.signature(member).parameters
    }
    assert taking - {"touch_store", "finish_key", "release_key", "request_cancel", "stored_bytes"} == set(
        CALLS
    )


@pytest.mark.parametrize("name", CALLS)
async def test_foreign_rows_answer_exactly_as_rows_that_do_not_exist(store: SqlStateStore, name: str) -> None:
    await furnish(store)
    await store.add_file(file_of(ANN, "file-11"))
    await store.put_attachments([attachment_of(ANN, file="file-11", batch_id="vsfb_1")], batch=batch_of(ANN))
    foreign, absent = await CALLS[name](store, EVE, "1"), await CALLS[name](store, EVE, "2")
    own = await CALLS[name](store, BOB, "1")
    assert (foreign, own != absent) == (absent, True)


@pytest.mark.parametrize("tenant", ["ACME", "acme ", " acme", "acm_", "acm%", "%", "acme\x00"])
async def test_tenants_are_compared_exactly(store: SqlStateStore, tenant: str) -> None:
    await furnish(store)
    lookalike = Principal("ann", tenant)
    found = [
        await store.file(lookalike, FILE),
        await store.response(lookalike, RESPONSE),
        await store.store(lookalike, STORE),
    ]
    assert found == [None] * 3


async def test_foreign_caller_changes_nothing_by_deleting(store: SqlStateStore) -> None:
    await furnish(store)
    for name in (
        "delete_file",
        "delete_store",
        "delete_attachment",
        "delete_response",
        "delete_conversation_item",
        "delete_conversation",
    ):
        await CALLS[name](store, EVE, "1")
    present = [
        await store.file(ANN, FILE),
        await store.store(ANN, STORE),
        await store.attachment(ANN, STORE, FILE),
        await store.response(ANN, RESPONSE),
        await store.conversation_item(ANN, ConversationId("conv_1"), "msg_1"),
    ]
    assert None not in present


async def test_foreign_caller_changes_no_conversation(store: SqlStateStore) -> None:
    await furnish(store)
    for name in ("update_conversation", "append_items", "lock_conversation"):
        await CALLS[name](store, EVE, "1")
    conversation = ConversationId("conv_1")
    seen = (
        await store.conversation(ANN, conversation),
        await store.lock_conversation(ANN, conversation, ResponseId("resp_2")),
    )
    assert seen == (conversation_of(ANN), items_of("msg_1"))


async def test_foreign_caller_leaves_no_trace_by_touching(store: SqlStateStore) -> None:
    await furnish(store)
    await store.touch_store(EVE, STORE, at=900)
    assert await store.store(ANN, STORE) == store_of(ANN)


async def test_plan_that_permits_everything_does_not_cross_tenants(store: SqlStateStore) -> None:
    await furnish(store)
    plan = Matching(any_of([Compare("eq", ("tenant",), "acme"), Not(Compare("eq", ("tenant",), "acme"))]))
    found = [
        await store.files(EVE, plan, Page(), purpose=None),
        await store.stores(EVE, plan, Page()),
        await store.responses(EVE, plan, Page()),
    ]
    assert found == [Rows((), has_more=False)] * 3


# ---------------------------------------------------------------- shared stores


async def share(store: SqlStateStore) -> None:
    """Make a store shared by all tenants, with a completed file of each of two tenants."""
    await store.add_store(store_of(ANN, shared=True))
    for who, file in ((ANN, "file-1"), (EVE, "file-2")):
        await store.add_file(file_of(who, file))
        await store.put_attachments([attached_of(who, file=file, usage_bytes=len(who.tenant), chunks=1)])


async def test_shared_store_is_visible_to_all_tenants(store: SqlStateStore) -> None:
    await share(store)
    listed = await store.stores(EVE, ALL, Page())
    assert (await store.store(EVE, STORE), listed.rows) == (
        store_of(ANN, shared=True),
        (store_of(ANN, shared=True),),
    )


@pytest.mark.parametrize("shared", ["true", 1, None, [True]])
async def test_only_the_stamp_true_shares_a_store(store: SqlStateStore, shared: object) -> None:
    row = store_of(ANN)
    await store.add_store(replace(row, stamp=dict(row.stamp) | {"shared": shared}))
    assert await store.store(EVE, STORE) is None


async def test_in_a_shared_store_each_tenant_knows_of_its_own_files_only(store: SqlStateStore) -> None:
    await share(store)
    listed = await store.attachments(EVE, STORE, ALL, Page(), status=None)
    live = await store.live(EVE, [(STORE, FileId("file-1")), (STORE, FileId("file-2"))])
    totals = await store.totals(EVE, [STORE])
    assert ([row.file_id for row in listed.rows], [file for _, file in live], totals) == (
        ["file-2"],
        ["file-2"],
        {STORE: Totals(completed=1, usage_bytes=len("globex"))},
    )


async def test_in_a_shared_store_no_tenant_sees_when_another_was_active(store: SqlStateStore) -> None:
    await share(store)
    await store.touch_store(ANN, STORE, at=500)
    await store.touch_store(EVE, STORE, at=300)
    seen = [
        row.last_active_at
        for who in (ANN, BOB, EVE, Principal("zoe", "initech"))
        if (row := await store.store(who, STORE))
    ]
    assert seen == [500, 500, 300, 100]


async def test_shared_store_is_deleted_by_its_makers_tenant_only(store: SqlStateStore) -> None:
    await share(store)
    assert [
        await store.delete_store(EVE, STORE),
        await store.delete_store(BOB, STORE),
        await store.store(EVE, STORE),
    ] == [
        False,
        True,
        None,
    ]


async def test_activity_never_goes_back(store: SqlStateStore) -> None:
    await store.add_store(store_of(ANN))
    for at in (300, 200, 301, 301):
        await store.touch_store(ANN, STORE, at=at)
    assert await store.store(ANN, STORE) == replace(store_of(ANN), last_active_at=301)


# ---------------------------------------------------------------- attachments


async def test_attachment_is_replaced_whole(store: SqlStateStore) -> None:
    await furnish(store)
    row = attachment_of(BOB, created_at=200, stamp=stamp_of(BOB), requested={}, attributes={})
    await store.put_attachments([row])
    assert await store.attachment(ANN, STORE, FILE) == row


async def test_file_of_another_tenant_cannot_be_attached(store: SqlStateStore) -> None:
    await share(store)
    with pytest.raises(NotFound):
        await store.put_attachments([attachment_of(EVE, file="file-1")])
    assert await store.attachment(ANN, STORE, FILE) is not None


async def test_nothing_is_attached_to_a_store_of_another_tenant(store: SqlStateStore) -> None:
    await store.add_store(store_of(ANN))
    await store.add_file(file_of(EVE, "file-2"))
    with pytest.raises(NotFound):
        await store.put_attachments([attachment_of(EVE, file="file-2")])


async def test_nothing_is_attached_once_its_file_is_deleted(store: SqlStateStore) -> None:
    await furnish(store)
    await store.delete_file(ANN, FILE)
    with pytest.raises(NotFound):
        await store.put_attachments([attachment_of(ANN)])


async def test_completed_attachment_is_live_with_its_stamp_and_name(store: SqlStateStore) -> None:
    await furnish(store)
    live = await store.live(BOB, [(STORE, FILE), (STORE, FILE), (STORE, FileId("file-9"))])
    assert live == {
        (STORE, FILE): LiveFile(
            "a.txt", stamp_of(ANN), {"colour": "blue", "size": 1.5, "new": True}, "acme/file-1/e1"
        )
    }


@pytest.mark.parametrize("end", ["replaced", "detached", "file deleted", "store deleted"])
async def test_attachment_is_no_longer_live_once_it_is(store: SqlStateStore, end: str) -> None:
    await furnish(store)
    match end:
        case "replaced":
            await store.put_attachments([attachment_of(ANN)])
        case "detached":
            assert await store.delete_attachment(ANN, STORE, FILE)
        case "file deleted":
            assert await store.delete_file(ANN, FILE) == [STORE]
        case "store deleted":
            assert await store.delete_store(ANN, STORE)
    assert await store.live(ANN, [(STORE, FILE)]) == {}


async def test_live_answers_for_many_pairs_at_once(store: SqlStateStore) -> None:
    await furnish(store)
    many = [(STORE, FileId(f"file-{number}")) for number in range(12_000)]
    assert list(await store.live(ANN, many)) == [(STORE, FILE)]


async def test_deleting_a_file_names_the_stores_it_was_in(store: SqlStateStore) -> None:
    await furnish(store)
    await store.add_store(store_of(ANN, "vs_0"))
    await store.put_attachments([attachment_of(ANN, "vs_0")])
    await store.add_file(file_of(ANN, "file-2"))
    deleted = [
        await store.delete_file(ANN, FILE),
        await store.delete_file(ANN, FileId("file-2")),
        await store.delete_file(ANN, FILE),
    ]
    assert deleted == [["vs_0", "vs_1"], [], None]


async def test_deleting_a_store_leaves_its_files(store: SqlStateStore) -> None:
    await furnish(store)
    await store.delete_store(ANN, STORE)
    assert (await store.attachment(ANN, STORE, FILE), await store.file(ANN, FILE)) == (None, file_of(ANN))


async def test_totals_count_by_status_and_the_bytes_of_completed_files(store: SqlStateStore) -> None:
    await store.add_store(store_of(ANN))
    for number, status in enumerate(
        ["in_progress", "completed", "completed", "failed", "cancelled", "cancelled", "cancelled"]
    ):
        await store.add_file(file_of(ANN, f"file-{number}"))
        await store.put_attachments(
            [attachment_of(ANN, file=f"file-{number}", status=status, usage_bytes=2**40)]
        )
    expected = Totals(in_progress=1, completed=2, failed=1, cancelled=3, usage_bytes=2**41)
    assert await store.totals(BOB, [STORE, StoreId("vs_9")]) == {STORE: expected, "vs_9": Totals()}


# ---------------------------------------------------------------- responses


async def test_later_state_of_a_response_replaces_the_earlier_whole(store: SqlStateStore) -> None:
    await store.save_response(replace(response_of(ANN, items=5), status="in_progress"))
    await store.save_response(response_of(ANN, items=2, text="y"))
    assert await store.response(ANN, RESPONSE) == response_of(ANN, items=2, text="y")


async def test_response_that_was_deleted_does_not_come_back_when_it_is_saved_again(
    store: SqlStateStore,
) -> None:
    await store.save_response(replace(response_of(ANN), status="in_progress"))
    await store.save_response(replace(response_of(ANN), status="in_progress"), again=True)
    await store.delete_response(ANN, RESPONSE)
    with pytest.raises(NotFound):
        await store.save_response(response_of(ANN), is_update=True)
    assert await store.response(ANN, RESPONSE) is None


@pytest.mark.parametrize(
    "thief", [BOB, EVE, Principal("ann", "globex")], ids=["colleague", "foreigner", "namesake"]
)
async def test_owner_and_tenant_of_a_response_are_written_once(
    store: SqlStateStore, thief: Principal
) -> None:
    await store.save_response(response_of(ANN))
    with pytest.raises(StateUnavailable):
        await store.save_response(response_of(thief, text="stolen"))
    assert await store.response(ANN, RESPONSE) == response_of(ANN)


async def test_deleted_response_is_gone_with_its_items(store: SqlStateStore) -> None:
    await store.save_response(response_of(ANN))
    deleted = [await store.delete_response(BOB, RESPONSE), await store.delete_response(BOB, RESPONSE)]
    await store.save_response(response_of(ANN, items=1))
    assert (deleted, await store.response(ANN, RESPONSE)) == ([True, False], response_of(ANN, items=1))


async def test_chain_is_oldest_first_with_items(store: SqlStateStore) -> None:
    rows = [
        response_of(
            ANN, f"resp_{number}", previous=f"resp_{number - 1}" if number else None, items=number % 4
        )
        for number in range(30)
    ]
    for row in reversed(rows):
        await store.save_response(row)
    assert await store.chain(BOB, ResponseId("resp_29")) == rows


async def test_chain_with_a_link_that_is_gone_is_absent(store: SqlStateStore) -> None:
    for number in range(3):
        await store.save_response(
            response_of(ANN, f"resp_{number}", previous=f"resp_{number - 1}" if number else None)
        )
    await store.delete_response(ANN, ResponseId("resp_0"))
    assert await store.chain(ANN, ResponseId("resp_2")) is None


async def test_chain_through_another_tenants_response_is_absent(store: SqlStateStore) -> None:
    await store.save_response(response_of(EVE, "resp_0"))
    await store.save_response(response_of(ANN, "resp_1", previous="resp_0"))
    assert await store.chain(ANN, RESPONSE) is None


async def test_chain_without_end_is_refused(store: SqlStateStore) -> None:
    await store.save_response(response_of(ANN, "resp_1", previous="resp_2", items=0))
    await store.save_response(response_of(ANN, "resp_2", previous="resp_1", items=0))
    with pytest.raises(InvalidRequest) as refusal:
        await store.chain(ANN, RESPONSE)
    assert refusal.value.param == "previous_response_id"


async def test_what_is_not_json_is_refused_and_nothing_of_it_stored(store: SqlStateStore) -> None:
    with pytest.raises(StateUnavailable):
        await store.save_response(response_of(ANN, text="\ud800"))
    assert await store.response(ANN, RESPONSE) is None


async def test_responses_saved_at_once_are_each_whole(store: SqlStateStore) -> None:
    texts = [f"version {number}" for number in range(20)]
    await asyncio.gather(
        *(
            store.save_response(response_of(ANN, items=3 + number % 3, text=text))
            for number, text in enumerate(texts)
        )
    )
    row = await store.response(ANN, RESPONSE)
    assert row in [response_of(ANN, items=3 + number % 3, text=text) for number, text in enumerate(texts)]


async def test_two_stores_over_one_database_write_at_once(store: SqlStateStore, url: str) -> None:
    names = [f"resp_{number}" for number in range(40)]
    async with SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as other:
        await asyncio.gather(
            *(
                (store, other)[number % 2].save_response(response_of(ANN, name))
                for number, name in enumerate(names)
            )
        )
        seen = await asyncio.gather(
            *((other, store)[number % 2].response(ANN, ResponseId(name)) for number, name in enumerate(names))
        )
    assert seen == [response_of(ANN, name) for name in names]


async def test_cancelled_save_leaves_all_or_nothing_and_the_store_working(store: SqlStateStore) -> None:
    for number in range(40):
        save = asyncio.wait_for(
            store.save_response(response_of(ANN, f"resp_{number}", items=6)), timeout=number * 0.00004
        )
        await asyncio.gather(save, return_exceptions=True)
    found = [await store.response(ANN, ResponseId(f"resp_{number}")) for number in range(40)]
    await store.save_response(response_of(ANN, "resp_last"))
    partial = [row for row in found if row is not None and row != response_of(ANN, row.id, items=6)]
    assert (partial, None in found, await store.response(ANN, ResponseId("resp_last"))) == (
        [],
        True,
        response_of(ANN, "resp_last"),
    )


# ---------------------------------------------------------------- lists

List = Callable[[SqlStateStore, FilterPlan, Page], Awaitable[Rows[Any]]]

LISTS: dict[str, List] = {
    "files": lambda store, plan, page: store.files(ANN, plan, page, purpose=None),
    "stores": lambda store, plan, page: store.stores(ANN, plan, page),
    "attachments": lambda store, plan, page: store.attachments(ANN, STORE, plan, page, status=None),
    "responses": lambda store, plan, page: store.responses(ANN, plan, page),
    "prompts": lambda store, plan, page: store.prompts(ANN, plan, page),
}


async def fill(store: SqlStateStore, kind: str) -> list[str]:
    """Store 23 rows of the kind, some of another tenant between; return their ids in the order in which they
    were stored.

    Their creation times say another order: several have one, and some were stored after others that began
    later.
    """
    if kind == "attachments":
        await store.add_store(store_of(ANN, shared=True))
    names = []
    for number in (number * 7 % 23 for number in range(23)):
        created, who = 100 + number // 4, BOB if number % 3 else ANN
        name, foreign = f"id-{number:02d}", f"id-x{number:02d}"
        names.append(name)
        for each, whose in ((name, who), (foreign, EVE)):
            await make(store, kind, whose, each, created=created)
    return names


async def make(store: SqlStateStore, kind: str, whose: Principal, name: str, *, created: int) -> None:
    match kind:
        case "files":
            await store.add_file(file_of(whose, name, created=created))
        case "stores":
            await store.add_store(store_of(whose, name, created=created))
        case "attachments":
            await store.add_file(file_of(whose, name))
            await store.put_attachments([attachment_of(whose, file=name, created_at=created)])
        case "responses":
            await store.save_response(response_of(whose, name, created=created, items=0))
        case "prompts":
            await store.add_prompt(prompt_of(whose, name, created=created), version_of(whose, name))


def ids_of(rows: Rows[Any]) -> list[str]:
    return [getattr(row, "file_id", None) or row.id for row in rows.rows]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("kind", LISTS)
async def test_pages_follow_each_other_without_gap_or_repetition(
    store: SqlStateStore, kind: str, order: Any
) -> None:
    names = await fill(store, kind)
    seen: list[str] = []
    after, more = None, True
    while more:
        rows = await LISTS[kind](store, ALL, Page(limit=5, order=order, after=after))
        seen, more = seen + ids_of(rows), rows.has_more
        after = seen[-1]
    assert seen == (names if order == "asc" else names[::-1])


@pytest.mark.parametrize("kind", LISTS)
async def test_whoever_pages_while_rows_are_made_at_once_meets_every_one(
    store: SqlStateStore, kind: str
) -> None:
    if kind == "attachments":
        await store.add_store(store_of(ANN, shared=True))
    names = {f"id-{number:02d}" for number in range(40)}
    seen: list[str] = []
    async with asyncio.TaskGroup() as group:
        making = [
            group.create_task(make(store, kind, ANN, name, created=100 - int(name[-2:]) // 4))
            for name in names
        ]
        complete = False
        while not complete:
            complete = all(one.done() for one in making)  # asked before the page is read
            more = True
            while more:
                rows = await LISTS[kind](
                    store, ALL, Page(limit=3, order="asc", after=seen[-1] if seen else None)
                )
                seen, more = seen + ids_of(rows), rows.has_more
    assert (len(seen), set(seen)) == (len(names), names)


async def test_files_of_a_batch_are_listed_in_the_order_in_which_they_were_sent(store: SqlStateStore) -> None:
    await store.add_store(store_of(ANN))
    names = [f"id-{number * 7 % 23:02d}" for number in range(23)]
    for name in sorted(names):
        await store.add_file(file_of(ANN, name))
    await store.put_attachments([attachment_of(ANN, file=name) for name in names])
    assert (
        ids_of(await store.attachments(ANN, STORE, ALL, Page(limit=100, order="asc"), status=None)) == names
    )


async def test_file_that_is_attached_again_is_the_newest(store: SqlStateStore) -> None:
    await store.add_store(store_of(ANN))
    for name in ("a", "b", "c"):
        await make(store, "attachments", ANN, name, created=100)
    await store.put_attachments([attachment_of(ANN, file="a")])
    assert ids_of(await store.attachments(ANN, STORE, ALL, Page(), status=None)) == ["a", "c", "b"]


@pytest.mark.parametrize("order", ["asc", "desc"])
@pytest.mark.parametrize("kind", LISTS)
async def test_page_before_a_row_holds_its_nearest_predecessors(
    store: SqlStateStore, kind: str, order: Any
) -> None:
    names = await fill(store, kind)
    listed = names if order == "asc" else names[::-1]
    pages = [
        await LISTS[kind](store, ALL, Page(limit=5, order=order, before=listed[at])) for at in (0, 3, 5, 12)
    ]
    assert [(ids_of(rows), rows.has_more) for rows in pages] == [
        ([], False),
        (listed[:3], False),
        (listed[:5], False),
        (listed[7:12], True),
    ]


@pytest.mark.parametrize("order", ["asc", "desc"])
async def test_page_between_two_rows_holds_what_is_between(store: SqlStateStore, order: Any) -> None:
    names = await fill(store, "responses")
    listed = names if order == "asc" else names[::-1]
    rows = await store.responses(ANN, ALL, Page(limit=4, order=order, after=listed[2], before=listed[12]))
    last = await store.responses(ANN, ALL, Page(limit=9, order=order, after=listed[2], before=listed[12]))
    assert [(ids_of(rows), rows.has_more), (ids_of(last), last.has_more)] == [
        (listed[3:7], True),
        (listed[3:12], False),
    ]


@pytest.mark.parametrize("cursor", ["id-99", "id-x03", "id-01", "", "\x00", "ID-00", "id-0_"])
@pytest.mark.parametrize("side", ["after", "before"])
@pytest.mark.parametrize("kind", LISTS)
async def test_cursor_that_the_caller_may_not_see_is_refused_as_one_that_does_not_exist(
    store: SqlStateStore, kind: str, side: Any, cursor: str
) -> None:
    await fill(store, kind)
    owned = Matching(Compare("eq", ("owner",), "ann"))
    await LISTS[kind](store, owned, Page(**{side: "id-03"}))
    with pytest.raises(InvalidRequest) as refusal:
        await LISTS[kind](store, owned, Page(**{side: cursor}))
    assert (refusal.value.param, refusal.value.message) == (
        side,
        f"'{side}' must be the id of an object in this list.",
    )


@pytest.mark.parametrize("kind", LISTS)
async def test_list_holds_what_the_plan_permits_and_nothing_else(store: SqlStateStore, kind: str) -> None:
    names = await fill(store, kind)
    rows = await LISTS[kind](
        store, Matching(Not(Compare("eq", ("owner",), "ann"))), Page(limit=100, order="asc")
    )
    assert ids_of(rows) == [name for name in names if int(name[-2:]) % 3]


@pytest.mark.parametrize("plan", [Nothing(), Matching(NEVER)], ids=["nothing", "never"])
@pytest.mark.parametrize("kind", LISTS)
async def test_plan_that_permits_nothing_lists_nothing(
    store: SqlStateStore, kind: str, plan: FilterPlan
) -> None:
    await fill(store, kind)
    assert await LISTS[kind](store, plan, Page()) == Rows((), has_more=False)


async def test_files_are_listed_by_purpose_and_permitted_by_what_policies_see(store: SqlStateStore) -> None:
    for name, filename, purpose in (
        ("file-1", "a.md", "assistants"),
        ("file-2", "b.md", "batch"),
        ("file-3", "a_md", "batch"),
    ):
        await store.add_file(file_of(ANN, name, filename=filename, purpose=purpose))
    plan = Matching(
        any_of(
            [
                Text("endswith", ("filename",), "_md"),
                Compare("eq", ("id",), "file-1"),
                Compare("eq", ("purpose",), "x"),
            ]
        )
    )
    rows = await store.files(ANN, plan, Page(), purpose="batch")
    assert ids_of(rows) == ["file-3"]


async def test_attachments_are_listed_by_status_and_permitted_by_their_stamp(store: SqlStateStore) -> None:
    await store.add_store(store_of(ANN))
    for number, (status, team) in enumerate(
        [("completed", "sales"), ("completed", "legal"), ("failed", "sales")]
    ):
        await store.add_file(file_of(ANN, f"file-{number}"))
        await store.put_attachments(
            [attachment_of(ANN, file=f"file-{number}", status=status, stamp=stamp_of(ANN, teams=[team]))]
        )
    rows = await store.attachments(
        ANN, STORE, Matching(Overlaps(("teams",), ("sales",))), Page(), status="completed"
    )
    assert ids_of(rows) == ["file-0"]


async def test_responses_are_permitted_by_what_the_history_rule_sees(store: SqlStateStore) -> None:
    for number in range(4):
        await store.save_response(response_of(ANN, f"resp_{number}", created=100 + number, items=0))
    seen = []
    for expression in (
        Compare("eq", ("kind",), "response"),
        Compare("ge", ("created",), 102),
        Not(Overlaps(("labels",), ("secret",))),
        Compare("eq", ("policy_revision",), "r1"),
        Compare("eq", ("model",), "small"),
    ):
        seen.append(len((await store.responses(ANN, Matching(expression), Page())).rows))
    assert seen == [4, 2, 4, 4, 0]


async def test_store_that_answers_passes_its_check(store: SqlStateStore) -> None:
    assert await store.check() is None
