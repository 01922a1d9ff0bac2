"""Conformance of a state store with its port. Knows nothing of the database behind it: whatever `url`
yields must pass.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, get_type_hints

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
from regate_orchestrator.rows import (
    ApprovalRow,
    LiveFile,
    LoggedEvent,
    Page,
    Rows,
    StoreChanges,
    Totals,
    UploadPart,
    UploadRow,
)
from regate_orchestrator.values import (
    BatchId,
    ConversationId,
    FileId,
    PartId,
    PromptId,
    ResponseId,
    StoreId,
    UploadId,
)

FILE, STORE, RESPONSE = FileId("file-1"), StoreId("vs_1"), ResponseId("resp_1")


LATER = 2**40


def upload_of(who: Principal) -> UploadRow:
    return UploadRow(UploadId("upload_1"), who.tenant, who.id, "a.txt", "assistants", 3, 100, LATER, None)


def part_of(name: str) -> UploadPart:
    return UploadPart(PartId(name), UploadId("upload_1"), FileId("file-of-" + name), 1, 100)


async def furnish(store: SqlStateStore, who: Principal = ANN) -> None:
    """Give a tenant one of each: a file attached to a store, a response with an event, a conversation
    with an item, and a prompt.
    """
    await store.files.add(file_of(who))
    await store.contexts.keep(who, FileId("file-1"), {"a": "text"})
    await store.vector_stores.add(store_of(who))
    await store.attachments.put([attached_of(who)])
    await store.responses.save(response_of(who))
    sources = (ChunkSource(StoreId("vs_1"), FileId("file-1"), "acme/file-1/000000", {"tenant": "acme"}),)
    await store.events.append(who, RESPONSE, [LoggedEvent(event_of(0).event, sources)])
    await store.conversations.add(conversation_of(who), items_of("msg_1"))
    await store.prompts.add(prompt_of(who), version_of(who))
    await store.idempotency_keys.claim(BOB, "key-1", fingerprint="f", claim="claim_1", at=100)
    await store.approvals.add(BOB, _approval("mcpr_1"))
    await store.tool_uses.reserve(BOB, "tickets/1", "mcp_9", at=100)
    await store.uploads.add(upload_of(BOB))
    await store.uploads.add_part(BOB, part_of("part_1"), most=9, due_at=LATER)


# ---------------------------------------------------------------- what is stored comes back


async def test_file_comes_back_as_stored(store: SqlStateStore) -> None:
    row = file_of(
        ANN,
        filename="Größe 100%_'; DROP TABLE files; --\u2028.txt",
        level=2**53,
        labels=["é", "e\u0301"],
        ratio=0.1,
    )
    await store.files.add(row)
    assert await store.files.get(BOB, FILE) == row


async def test_vector_store_comes_back_as_stored(store: SqlStateStore) -> None:
    row = replace(store_of(ANN), last_active_at=170)
    await store.vector_stores.add(row)
    assert await store.vector_stores.get(BOB, STORE) == row


async def test_engine_of_a_store_is_told_whosever_it_is(store: SqlStateStore) -> None:
    await store.vector_stores.add(replace(store_of(ANN), engine="second"))
    found = [await store.vector_stores.engine_of(STORE), await store.vector_stores.engine_of(StoreId("vs_0"))]
    assert found == ["second", None]


async def test_stores_of_each_engine_are_counted_whosever_they_are(store: SqlStateStore) -> None:
    for number, (owner, engine) in enumerate([(ANN, "main"), (ANN, "second"), (EVE, "second")]):
        row = replace(store_of(owner), id=StoreId(f"vs_{number}"), engine=engine)
        await store.vector_stores.add(row)
    assert await store.vector_stores.engines() == {"main": 1, "second": 2}


async def test_stores_that_have_an_engine_keep_it(store: SqlStateStore) -> None:
    await store.vector_stores.add(store_of(ANN))
    assert (await store.vector_stores.place(engine="second"), await store.vector_stores.engine_of(STORE)) == (
        0,
        "main",
    )


async def test_attachment_comes_back_as_stored(store: SqlStateStore) -> None:
    row = attachment_of(ANN, error_code="invalid_file", error_message="no text")
    await store.files.add(file_of(ANN))
    await store.vector_stores.add(store_of(ANN))
    await store.attachments.put([row])
    assert await store.attachments.get(BOB, STORE, FILE) == row


async def test_response_comes_back_with_its_items_in_order(store: SqlStateStore) -> None:
    row = response_of(ANN, items=12, text="nul \x00 in an answer")
    await store.responses.save(row)
    assert await store.responses.get(BOB, RESPONSE) == row


async def test_what_never_was_is_absent(store: SqlStateStore) -> None:
    found = [
        await store.files.get(ANN, FILE),
        await store.vector_stores.get(ANN, STORE),
        await store.attachments.get(ANN, STORE, FILE),
        await store.responses.get(ANN, RESPONSE),
        await store.responses.chain(ANN, RESPONSE),
    ]
    assert found == [None] * 5


@pytest.mark.parametrize(
    "name", ["", "file-1\x00", "\ud800", "file 1", "FILE-1", "file-1\n", "é", "%", "file-_", "x" * 100_000]
)
async def test_name_that_is_no_identifier_is_absent_and_no_error(store: SqlStateStore, name: str) -> None:
    await furnish(store)
    found = [
        await store.files.get(ANN, FileId(name)),
        await store.vector_stores.get(ANN, StoreId(name)),
        await store.attachments.get(ANN, StoreId(name), FileId(name)),
        await store.responses.get(ANN, ResponseId(name)),
        await store.responses.chain(ANN, ResponseId(name)),
        await store.files.delete(ANN, FileId(name)),
        await store.attachments.live(ANN, [(STORE, FileId(name))]) or None,
    ]
    assert found == [None] * 7


@pytest.mark.parametrize("filename", ["a\x00b", "a\ud800b"])
async def test_filename_that_no_database_holds_is_the_callers_fault(
    store: SqlStateStore, filename: str
) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        await store.files.add(file_of(ANN, filename=filename))
    assert refusal.value.param == "file"


@pytest.mark.parametrize(
    "value", ["a\x00b", "\ud800", float("nan"), float("inf"), 2**63, ["\x00"], {"\x00": 1}]
)
async def test_stamp_that_no_filter_could_judge_is_not_stored(store: SqlStateStore, value: object) -> None:
    with pytest.raises(StateUnavailable):
        await store.files.add(file_of(ANN, level=value))
    assert await store.files.get(ANN, FILE) is None


async def test_stamp_without_a_tenant_is_not_stored(store: SqlStateStore) -> None:
    with pytest.raises(StateUnavailable):
        await store.files.add(replace(file_of(ANN), stamp={"owner": "ann"}))


# ---------------------------------------------------------------- tenants

Call = Callable[[SqlStateStore, Principal, str], Awaitable[object]]
ALL = Everything()

CALLS: dict[str, Call] = {
    "files.get": lambda store, who, tail: store.files.get(who, FileId("file-" + tail)),
    "files.page": lambda store, who, _: store.files.page(who, ALL, Page(), purpose=None),
    "files.delete": lambda store, who, tail: store.files.delete(who, FileId("file-" + tail)),
    "files.named": lambda store, who, tail: _values(store.files.named(who, [FileId("file-" + tail)])),
    "vector_stores.get": lambda store, who, tail: store.vector_stores.get(who, StoreId("vs_" + tail)),
    "vector_stores.page": lambda store, who, _: store.vector_stores.page(who, ALL, Page()),
    "attachments.stores_holding": lambda store, who, tail: store.attachments.stores_holding(
        who, FileId("file-" + tail)
    ),
    "vector_stores.delete": lambda store, who, tail: store.vector_stores.delete(who, StoreId("vs_" + tail)),
    "vector_stores.update": lambda store, who, tail: store.vector_stores.update(
        who, StoreId("vs_" + tail), StoreChanges(name="Another")
    ),
    "attachments.in_progress_among": lambda store, who, tail: store.attachments.in_progress_among(
        who, StoreId("vs_1"), [FileId("file-" + tail + tail)]
    ),
    "file_batches.get": lambda store, who, tail: store.file_batches.get(
        who, StoreId("vs_" + tail), BatchId("vsfb_1")
    ),
    "attachments.get": lambda store, who, tail: store.attachments.get(
        who, StoreId("vs_" + tail), FileId("file-" + tail)
    ),
    "attachments.page": lambda store, who, tail: store.attachments.page(
        who, StoreId("vs_" + tail), ALL, Page(), status=None
    ),
    "attachments.delete": lambda store, who, tail: store.attachments.delete(
        who, StoreId("vs_" + tail), FileId("file-" + tail)
    ),
    "attachments.totals": lambda store, who, tail: _values(
        store.attachments.totals(who, [StoreId("vs_" + tail)])
    ),
    "attachments.live": lambda store, who, tail: _values(
        store.attachments.live(who, [(StoreId("vs_" + tail), FileId("file-" + tail))])
    ),
    "contexts.of": lambda store, who, tail: store.contexts.of(who, FileId("file-" + tail), ["a"]),
    "responses.get": lambda store, who, tail: store.responses.get(who, ResponseId("resp_" + tail)),
    "responses.chain": lambda store, who, tail: store.responses.chain(who, ResponseId("resp_" + tail)),
    "responses.status": lambda store, who, tail: store.responses.status(who, ResponseId("resp_" + tail)),
    "responses.delete": lambda store, who, tail: store.responses.delete(who, ResponseId("resp_" + tail)),
    "responses.page": lambda store, who, _: store.responses.page(who, ALL, Page()),
    "events.read": lambda store, who, tail: store.events.read(
        who, ResponseId("resp_" + tail), after=-1, limit=9
    ),
    "events.sources": lambda store, who, tail: store.events.sources(
        who, ResponseId("resp_" + tail), through=9
    ),
    "items.with_parents": lambda store, who, tail: _values(
        store.items.with_parents(who, ["msg_resp_1_0" if tail == "1" else "msg_2"])
    ),
    "conversations.get": lambda store, who, tail: store.conversations.get(who, _conversation(tail)),
    "conversations.update": lambda store, who, tail: store.conversations.update(
        who, _conversation(tail), metadata={}
    ),
    "conversations.delete": lambda store, who, tail: store.conversations.delete(who, _conversation(tail)),
    "conversations.items": lambda store, who, tail: store.conversations.items(who, _conversation(tail)),
    "conversations.item_page": lambda store, who, tail: store.conversations.item_page(
        who, _conversation(tail), Page()
    ),
    "conversations.item": lambda store, who, tail: store.conversations.item(
        who, _conversation(tail), "msg_1"
    ),
    "conversations.append": lambda store, who, tail: store.conversations.append(
        who, _conversation(tail), items_of("msg_9")
    ),
    "conversations.delete_item": lambda store, who, tail: store.conversations.delete_item(
        who, _conversation(tail), "msg_1"
    ),
    "idempotency_keys.claim": lambda store, who, tail: store.idempotency_keys.claim(
        who, "key-" + tail, fingerprint="f", claim=who.id, at=100
    ),
    "conversations.lock": lambda store, who, tail: store.conversations.lock(
        who, _conversation(tail), RESPONSE
    ),
    "prompts.get": lambda store, who, tail: store.prompts.get(who, _prompt(tail)),
    "prompts.page": lambda store, who, _: store.prompts.page(who, ALL, Page()),
    "prompts.update": lambda store, who, tail: store.prompts.update(
        who, _prompt(tail), name="Other", default_version=None
    ),
    "prompts.delete": lambda store, who, tail: store.prompts.delete(who, _prompt(tail)),
    "prompts.add_version": lambda store, who, tail: store.prompts.add_version(
        who, _prompt(tail), template={}, variables=(), created_at=1
    ),
    "prompts.version": lambda store, who, tail: store.prompts.version(who, _prompt(tail), 1),
    "prompts.versions": lambda store, who, tail: store.prompts.versions(who, _prompt(tail), Page()),
    "approvals.named": lambda store, who, tail: store.approvals.named(who, ["mcpr_" + tail]),
    "approvals.use": lambda store, who, tail: store.approvals.use(who, _approval("mcpr_" + tail), at=100),
    "tool_uses.reserve": lambda store, who, tail: store.tool_uses.reserve(
        who, "tickets/" + tail, f"mcp_{tail}_{who.id}", at=100
    ),
    "uploads.get": lambda store, who, tail: store.uploads.get(who, _upload(tail)),
    "uploads.parts": lambda store, who, tail: store.uploads.parts(who, _upload(tail)),
    "uploads.add_part": lambda store, who, tail: store.uploads.add_part(
        who, replace(part_of("part_9"), upload=_upload(tail)), most=9, due_at=LATER
    ),
    "uploads.complete": lambda store, who, tail: store.uploads.complete(
        who, _upload(tail), file_of(who, "file-9")
    ),
    "uploads.cancel": lambda store, who, tail: store.uploads.cancel(who, _upload(tail)),
}


def _approval(identifier: str) -> ApprovalRow:
    return ApprovalRow(identifier, "tickets/close", "digest", LATER)


def _prompt(tail: str) -> PromptId:
    return PromptId("pmpt_" + tail)


def _upload(tail: str) -> UploadId:
    return UploadId("upload_" + tail)


def _conversation(tail: str) -> ConversationId:
    return ConversationId("conv_" + tail)


async def _values(mapping: Awaitable[Any]) -> list[object]:
    return list((await mapping).values())


SILENT = {
    "vector_stores.touch",
    "idempotency_keys.finish",
    "idempotency_keys.release",
    "responses.request_cancel",
    "approvals.add",
    "tool_uses.release",
    "orphaned_blobs.reserve",
    "orphaned_blobs.resize",
    "contexts.keep",
    "conversations.unlock",
    "events.append",
    "files.usage",
    "stored_bytes.of",
}
"""Calls that name no row of another, or whose answer tells nothing of it."""


def test_every_call_on_behalf_of_somebody_is_in_the_table_of_tenants() -> None:
    parts = inspect.getmembers(StateStore, lambda member: isinstance(member, property))
    taking = {
        f"{part}.{name}"
        for part, member in parts
        for name, call in inspect.getmembers(get_type_hints(member.fget)["return"], inspect.isfunction)
        if "principal" in inspect.signature(call).parameters
    }
    assert taking - SILENT == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
async def test_foreign_rows_answer_exactly_as_rows_that_do_not_exist(store: SqlStateStore, name: str) -> None:
    await furnish(store)
    await store.files.add(file_of(ANN, "file-11"))
    await store.attachments.put([attachment_of(ANN, file="file-11", batch_id="vsfb_1")], batch=batch_of(ANN))
    foreign, absent = await CALLS[name](store, EVE, "1"), await CALLS[name](store, EVE, "2")
    own = await CALLS[name](store, BOB, "1")
    assert (foreign, own != absent) == (absent, True)


async def test_what_goes_on_for_another_tenant_is_left_alone(store: SqlStateStore) -> None:
    await furnish(store)
    await store.orphaned_blobs.reserve(ANN, FileId("file-9"), bytes=5, due_at=LATER)
    await store.conversations.lock(ANN, ConversationId("conv_1"), ResponseId("resp_7"))
    await store.conversations.unlock(EVE, ConversationId("conv_1"), ResponseId("resp_7"))
    await store.orphaned_blobs.resize(EVE, FileId("file-9"), bytes=0)
    with pytest.raises(StateUnavailable):
        await store.events.append(EVE, RESPONSE, [event_of(1)])
    with pytest.raises(InvalidRequest):
        await store.conversations.lock(ANN, ConversationId("conv_1"), ResponseId("resp_8"))

    assert len(await store.events.read(ANN, RESPONSE, after=-1, limit=9)) == 1
    assert (await store.files.usage(ANN)).bytes == file_of(ANN).bytes + 5


@pytest.mark.parametrize("tenant", ["ACME", "acme ", " acme", "acm_", "acm%", "%", "acme\x00"])
async def test_tenants_are_compared_exactly(store: SqlStateStore, tenant: str) -> None:
    await furnish(store)
    lookalike = Principal("ann", tenant)
    found = [
        await store.files.get(lookalike, FILE),
        await store.responses.get(lookalike, RESPONSE),
        await store.vector_stores.get(lookalike, STORE),
    ]
    assert found == [None] * 3


async def test_foreign_caller_changes_nothing_by_deleting(store: SqlStateStore) -> None:
    await furnish(store)
    for name in (
        "files.delete",
        "vector_stores.delete",
        "attachments.delete",
        "responses.delete",
        "conversations.delete_item",
        "conversations.delete",
    ):
        await CALLS[name](store, EVE, "1")
    present = [
        await store.files.get(ANN, FILE),
        await store.vector_stores.get(ANN, STORE),
        await store.attachments.get(ANN, STORE, FILE),
        await store.responses.get(ANN, RESPONSE),
        await store.conversations.item(ANN, ConversationId("conv_1"), "msg_1"),
    ]
    assert None not in present


async def test_foreign_caller_changes_no_conversation(store: SqlStateStore) -> None:
    await furnish(store)
    for name in ("conversations.update", "conversations.append", "conversations.lock"):
        await CALLS[name](store, EVE, "1")
    conversation = ConversationId("conv_1")
    seen = (
        await store.conversations.get(ANN, conversation),
        await store.conversations.lock(ANN, conversation, ResponseId("resp_2")),
    )
    assert seen == (conversation_of(ANN), items_of("msg_1"))


async def test_foreign_caller_leaves_no_trace_by_touching(store: SqlStateStore) -> None:
    await furnish(store)
    await store.vector_stores.touch(EVE, STORE, at=900)
    assert await store.vector_stores.get(ANN, STORE) == store_of(ANN)


async def test_plan_that_permits_everything_does_not_cross_tenants(store: SqlStateStore) -> None:
    await furnish(store)
    plan = Matching(any_of([Compare("eq", ("tenant",), "acme"), Not(Compare("eq", ("tenant",), "acme"))]))
    found = [
        await store.files.page(EVE, plan, Page(), purpose=None),
        await store.vector_stores.page(EVE, plan, Page()),
        await store.responses.page(EVE, plan, Page()),
    ]
    assert found == [Rows((), has_more=False)] * 3


# ---------------------------------------------------------------- shared stores


async def share(store: SqlStateStore) -> None:
    """Make a store shared by all tenants, with a completed file of each of two tenants."""
    await store.vector_stores.add(store_of(ANN, shared=True))
    for who, file in ((ANN, "file-1"), (EVE, "file-2")):
        await store.files.add(file_of(who, file))
        await store.attachments.put([attached_of(who, file=file, usage_bytes=len(who.tenant), chunks=1)])


async def test_shared_store_is_visible_to_all_tenants(store: SqlStateStore) -> None:
    await share(store)
    listed = await store.vector_stores.page(EVE, ALL, Page())
    assert (await store.vector_stores.get(EVE, STORE), listed.rows) == (
        store_of(ANN, shared=True),
        (store_of(ANN, shared=True),),
    )


@pytest.mark.parametrize("shared", ["true", 1, None, [True]])
async def test_only_the_stamp_true_shares_a_store(store: SqlStateStore, shared: object) -> None:
    row = store_of(ANN)
    await store.vector_stores.add(replace(row, stamp=dict(row.stamp) | {"shared": shared}))
    assert await store.vector_stores.get(EVE, STORE) is None


async def test_in_a_shared_store_each_tenant_knows_of_its_own_files_only(store: SqlStateStore) -> None:
    await share(store)
    listed = await store.attachments.page(EVE, STORE, ALL, Page(), status=None)
    live = await store.attachments.live(EVE, [(STORE, FileId("file-1")), (STORE, FileId("file-2"))])
    totals = await store.attachments.totals(EVE, [STORE])
    assert ([row.file_id for row in listed.rows], [file for _, file in live], totals) == (
        ["file-2"],
        ["file-2"],
        {STORE: Totals(completed=1, usage_bytes=len("globex"))},
    )


async def test_in_a_shared_store_no_tenant_sees_when_another_was_active(store: SqlStateStore) -> None:
    await share(store)
    await store.vector_stores.touch(ANN, STORE, at=500)
    await store.vector_stores.touch(EVE, STORE, at=300)
    seen = [
        row.last_active_at
        for who in (ANN, BOB, EVE, Principal("zoe", "initech"))
        if (row := await store.vector_stores.get(who, STORE))
    ]
    assert seen == [500, 500, 300, 100]


async def test_shared_store_is_deleted_by_its_makers_tenant_only(store: SqlStateStore) -> None:
    await share(store)
    assert [
        await store.vector_stores.delete(EVE, STORE),
        await store.vector_stores.delete(BOB, STORE),
        await store.vector_stores.get(EVE, STORE),
    ] == [
        False,
        True,
        None,
    ]


async def test_activity_never_goes_back(store: SqlStateStore) -> None:
    await store.vector_stores.add(store_of(ANN))
    for at in (300, 200, 301, 301):
        await store.vector_stores.touch(ANN, STORE, at=at)
    assert await store.vector_stores.get(ANN, STORE) == replace(store_of(ANN), last_active_at=301)


# ---------------------------------------------------------------- attachments


async def test_attachment_is_replaced_whole(store: SqlStateStore) -> None:
    await furnish(store)
    row = attachment_of(BOB, created_at=200, stamp=stamp_of(BOB), requested={}, attributes={})
    await store.attachments.put([row])
    assert await store.attachments.get(ANN, STORE, FILE) == row


async def test_file_of_another_tenant_cannot_be_attached(store: SqlStateStore) -> None:
    await share(store)
    with pytest.raises(NotFound):
        await store.attachments.put([attachment_of(EVE, file="file-1")])
    assert await store.attachments.get(ANN, STORE, FILE) is not None


async def test_nothing_is_attached_to_a_store_of_another_tenant(store: SqlStateStore) -> None:
    await store.vector_stores.add(store_of(ANN))
    await store.files.add(file_of(EVE, "file-2"))
    with pytest.raises(NotFound):
        await store.attachments.put([attachment_of(EVE, file="file-2")])


async def test_nothing_is_attached_once_its_file_is_deleted(store: SqlStateStore) -> None:
    await furnish(store)
    await store.files.delete(ANN, FILE)
    with pytest.raises(NotFound):
        await store.attachments.put([attachment_of(ANN)])


async def test_completed_attachment_is_live_with_its_stamp_and_name(store: SqlStateStore) -> None:
    await furnish(store)
    live = await store.attachments.live(BOB, [(STORE, FILE), (STORE, FILE), (STORE, FileId("file-9"))])
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
            await store.attachments.put([attachment_of(ANN)])
        case "detached":
            assert await store.attachments.delete(ANN, STORE, FILE)
        case "file deleted":
            assert await store.files.delete(ANN, FILE) == [STORE]
        case "store deleted":
            assert await store.vector_stores.delete(ANN, STORE)
    assert await store.attachments.live(ANN, [(STORE, FILE)]) == {}


async def test_live_answers_for_many_pairs_at_once(store: SqlStateStore) -> None:
    await furnish(store)
    many = [(STORE, FileId(f"file-{number}")) for number in range(12_000)]
    assert list(await store.attachments.live(ANN, many)) == [(STORE, FILE)]


async def test_deleting_a_file_names_the_stores_it_was_in(store: SqlStateStore) -> None:
    await furnish(store)
    await store.vector_stores.add(store_of(ANN, "vs_0"))
    await store.attachments.put([attachment_of(ANN, "vs_0")])
    await store.files.add(file_of(ANN, "file-2"))
    deleted = [
        await store.files.delete(ANN, FILE),
        await store.files.delete(ANN, FileId("file-2")),
        await store.files.delete(ANN, FILE),
    ]
    assert deleted == [["vs_0", "vs_1"], [], None]


async def test_deleting_a_store_leaves_its_files(store: SqlStateStore) -> None:
    await furnish(store)
    await store.vector_stores.delete(ANN, STORE)
    assert (await store.attachments.get(ANN, STORE, FILE), await store.files.get(ANN, FILE)) == (
        None,
        file_of(ANN),
    )


async def test_totals_count_by_status_and_the_bytes_of_completed_files(store: SqlStateStore) -> None:
    await store.vector_stores.add(store_of(ANN))
    for number, status in enumerate(
        ["in_progress", "completed", "completed", "failed", "cancelled", "cancelled", "cancelled"]
    ):
        await store.files.add(file_of(ANN, f"file-{number}"))
        await store.attachments.put(
            [attachment_of(ANN, file=f"file-{number}", status=status, usage_bytes=2**40)]
        )
    expected = Totals(in_progress=1, completed=2, failed=1, cancelled=3, usage_bytes=2**41)
    assert await store.attachments.totals(BOB, [STORE, StoreId("vs_9")]) == {
        STORE: expected,
        "vs_9": Totals(),
    }


# ---------------------------------------------------------------- responses


async def test_later_state_of_a_response_replaces_the_earlier_whole(store: SqlStateStore) -> None:
    await store.responses.save(replace(response_of(ANN, items=5), status="in_progress"))
    await store.responses.save(response_of(ANN, items=2, text="y"))
    assert await store.responses.get(ANN, RESPONSE) == response_of(ANN, items=2, text="y")


async def test_response_that_was_deleted_does_not_come_back_when_it_is_saved_again(
    store: SqlStateStore,
) -> None:
    await store.responses.save(replace(response_of(ANN), status="in_progress"))
    await store.responses.save(replace(response_of(ANN), status="in_progress"), is_update=True)
    await store.responses.delete(ANN, RESPONSE)
    with pytest.raises(NotFound):
        await store.responses.save(response_of(ANN), is_update=True)
    assert await store.responses.get(ANN, RESPONSE) is None


@pytest.mark.parametrize(
    "thief", [BOB, EVE, Principal("ann", "globex")], ids=["colleague", "foreigner", "namesake"]
)
async def test_owner_and_tenant_of_a_response_are_written_once(
    store: SqlStateStore, thief: Principal
) -> None:
    await store.responses.save(response_of(ANN))
    with pytest.raises(StateUnavailable):
        await store.responses.save(response_of(thief, text="stolen"))
    assert await store.responses.get(ANN, RESPONSE) == response_of(ANN)


async def test_deleted_response_is_gone_with_its_items(store: SqlStateStore) -> None:
    await store.responses.save(response_of(ANN))
    deleted = [await store.responses.delete(BOB, RESPONSE), await store.responses.delete(BOB, RESPONSE)]
    await store.responses.save(response_of(ANN, items=1))
    assert (deleted, await store.responses.get(ANN, RESPONSE)) == ([True, False], response_of(ANN, items=1))


async def test_chain_is_oldest_first_with_items(store: SqlStateStore) -> None:
    rows = [
        response_of(
            ANN, f"resp_{number}", previous=f"resp_{number - 1}" if number else None, items=number % 4
        )
        for number in range(30)
    ]
    for row in reversed(rows):
        await store.responses.save(row)
    assert await store.responses.chain(BOB, ResponseId("resp_29")) == rows


async def test_chain_with_a_link_that_is_gone_is_absent(store: SqlStateStore) -> None:
    for number in range(3):
        await store.responses.save(
            response_of(ANN, f"resp_{number}", previous=f"resp_{number - 1}" if number else None)
        )
    await store.responses.delete(ANN, ResponseId("resp_0"))
    assert await store.responses.chain(ANN, ResponseId("resp_2")) is None


async def test_chain_through_another_tenants_response_is_absent(store: SqlStateStore) -> None:
    await store.responses.save(response_of(EVE, "resp_0"))
    await store.responses.save(response_of(ANN, "resp_1", previous="resp_0"))
    assert await store.responses.chain(ANN, RESPONSE) is None


async def test_chain_without_end_is_refused(store: SqlStateStore) -> None:
    await store.responses.save(response_of(ANN, "resp_1", previous="resp_2", items=0))
    await store.responses.save(response_of(ANN, "resp_2", previous="resp_1", items=0))
    with pytest.raises(InvalidRequest) as refusal:
        await store.responses.chain(ANN, RESPONSE)
    assert refusal.value.param == "previous_response_id"


async def test_what_is_not_json_is_refused_and_nothing_of_it_stored(store: SqlStateStore) -> None:
    with pytest.raises(StateUnavailable):
        await store.responses.save(response_of(ANN, text="\ud800"))
    assert await store.responses.get(ANN, RESPONSE) is None


async def test_responses_saved_at_once_are_each_whole(store: SqlStateStore) -> None:
    texts = [f"version {number}" for number in range(20)]
    await asyncio.gather(
        *(
            store.responses.save(response_of(ANN, items=3 + number % 3, text=text))
            for number, text in enumerate(texts)
        )
    )
    row = await store.responses.get(ANN, RESPONSE)
    assert row in [response_of(ANN, items=3 + number % 3, text=text) for number, text in enumerate(texts)]


async def test_two_stores_over_one_database_write_at_once(store: SqlStateStore, url: str) -> None:
    names = [f"resp_{number}" for number in range(40)]
    async with SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as other:
        await asyncio.gather(
            *(
                (store, other)[number % 2].responses.save(response_of(ANN, name))
                for number, name in enumerate(names)
            )
        )
        seen = await asyncio.gather(
            *(
                (other, store)[number % 2].responses.get(ANN, ResponseId(name))
                for number, name in enumerate(names)
            )
        )
    assert seen == [response_of(ANN, name) for name in names]


async def test_cancelled_save_leaves_all_or_nothing_and_the_store_working(store: SqlStateStore) -> None:
    for number in range(40):
        save = asyncio.wait_for(
            store.responses.save(response_of(ANN, f"resp_{number}", items=6)), timeout=number * 0.00004
        )
        await asyncio.gather(save, return_exceptions=True)
    found = [await store.responses.get(ANN, ResponseId(f"resp_{number}")) for number in range(40)]
    await store.responses.save(response_of(ANN, "resp_last"))
    partial = [row for row in found if row is not None and row != response_of(ANN, row.id, items=6)]
    assert (partial, None in found, await store.responses.get(ANN, ResponseId("resp_last"))) == (
        [],
        True,
        response_of(ANN, "resp_last"),
    )


# ---------------------------------------------------------------- lists

List = Callable[[SqlStateStore, FilterPlan, Page], Awaitable[Rows[Any]]]

LISTS: dict[str, List] = {
    "files": lambda store, plan, page: store.files.page(ANN, plan, page, purpose=None),
    "stores": lambda store, plan, page: store.vector_stores.page(ANN, plan, page),
    "attachments": lambda store, plan, page: store.attachments.page(ANN, STORE, plan, page, status=None),
    "responses": lambda store, plan, page: store.responses.page(ANN, plan, page),
    "prompts": lambda store, plan, page: store.prompts.page(ANN, plan, page),
}


async def fill(store: SqlStateStore, kind: str) -> list[str]:
    """Store 23 rows of the kind, some of another tenant between; return their ids in the order in which they
    were stored.

    Their creation times say another order: several have one, and some were stored after others that began
    later.
    """
    if kind == "attachments":
        await store.vector_stores.add(store_of(ANN, shared=True))
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
            await store.files.add(file_of(whose, name, created=created))
        case "stores":
            await store.vector_stores.add(store_of(whose, name, created=created))
        case "attachments":
            await store.files.add(file_of(whose, name))
            await store.attachments.put([attachment_of(whose, file=name, created_at=created)])
        case "responses":
            await store.responses.save(response_of(whose, name, created=created, items=0))
        case "prompts":
            await store.prompts.add(prompt_of(whose, name, created=created), version_of(whose, name))


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
        await store.vector_stores.add(store_of(ANN, shared=True))
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
    await store.vector_stores.add(store_of(ANN))
    names = [f"id-{number * 7 % 23:02d}" for number in range(23)]
    for name in sorted(names):
        await store.files.add(file_of(ANN, name))
    await store.attachments.put([attachment_of(ANN, file=name) for name in names])
    assert (
        ids_of(await store.attachments.page(ANN, STORE, ALL, Page(limit=100, order="asc"), status=None))
        == names
    )


async def test_file_that_is_attached_again_is_the_newest(store: SqlStateStore) -> None:
    await store.vector_stores.add(store_of(ANN))
    for name in ("a", "b", "c"):
        await make(store, "attachments", ANN, name, created=100)
    await store.attachments.put([attachment_of(ANN, file="a")])
    assert ids_of(await store.attachments.page(ANN, STORE, ALL, Page(), status=None)) == ["a", "c", "b"]


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
    rows = await store.responses.page(
        ANN, ALL, Page(limit=4, order=order, after=listed[2], before=listed[12])
    )
    last = await store.responses.page(
        ANN, ALL, Page(limit=9, order=order, after=listed[2], before=listed[12])
    )
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
        await store.files.add(file_of(ANN, name, filename=filename, purpose=purpose))
    plan = Matching(
        any_of(
            [
                Text("endswith", ("filename",), "_md"),
                Compare("eq", ("id",), "file-1"),
                Compare("eq", ("purpose",), "x"),
            ]
        )
    )
    rows = await store.files.page(ANN, plan, Page(), purpose="batch")
    assert ids_of(rows) == ["file-3"]


async def test_attachments_are_listed_by_status_and_permitted_by_their_stamp(store: SqlStateStore) -> None:
    await store.vector_stores.add(store_of(ANN))
    for number, (status, team) in enumerate(
        [("completed", "sales"), ("completed", "legal"), ("failed", "sales")]
    ):
        await store.files.add(file_of(ANN, f"file-{number}"))
        await store.attachments.put(
            [attachment_of(ANN, file=f"file-{number}", status=status, stamp=stamp_of(ANN, teams=[team]))]
        )
    rows = await store.attachments.page(
        ANN, STORE, Matching(Overlaps(("teams",), ("sales",))), Page(), status="completed"
    )
    assert ids_of(rows) == ["file-0"]


async def test_responses_are_permitted_by_what_the_history_rule_sees(store: SqlStateStore) -> None:
    for number in range(4):
        await store.responses.save(response_of(ANN, f"resp_{number}", created=100 + number, items=0))
    seen = []
    for expression in (
        Compare("eq", ("kind",), "response"),
        Compare("ge", ("created",), 102),
        Not(Overlaps(("labels",), ("secret",))),
        Compare("eq", ("policy_revision",), "r1"),
        Compare("eq", ("model",), "small"),
    ):
        seen.append(len((await store.responses.page(ANN, Matching(expression), Page())).rows))
    assert seen == [4, 2, 4, 4, 0]


async def test_store_that_answers_passes_its_check(store: SqlStateStore) -> None:
    assert await store.check() is None
