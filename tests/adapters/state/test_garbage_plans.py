"""What a gateway does by itself, again and again, costs what it finds to do and not what is stored:
every statement goes by an index.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import current_thread
from typing import Any

import pytest
from sqlalchemy import Engine, create_engine, event, insert
from tests.adapters.state.plans import overheard, pretend_much_is_stored, reads_all_of
from tests.adapters.state.samples import (
    ANN,
    EVE,
    PATIENT_SECONDS,
    attached_of,
    attachment_of,
    batch_of,
    conversation_of,
    event_of,
    file_of,
    items_of,
    response_of,
    stamp_of,
    store_of,
)

from regate_adapters.files.blobs.disk import DiskBlobStore
from regate_adapters.state.encoding import encode
from regate_adapters.state.store import SqlStateStore
from regate_adapters.state.tables import metadata
from regate_adapters.vector.memory.store import MemoryVectorStore
from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.maintenance.garbage_collection import FileGarbage, GarbageCollector
from regate_orchestrator.maintenance.membership import Membership
from regate_orchestrator.maintenance.schedule import collectors_of
from regate_orchestrator.maintenance.vector_garbage import VectorGarbage
from regate_orchestrator.ports import Chunk, UsageRow
from regate_orchestrator.rows import ApprovalRow, OrphanedChunks, UploadPart, UploadRow
from regate_orchestrator.values import (
    ConversationId,
    FileId,
    JsonObject,
    PartId,
    ResponseId,
    StoreId,
    UploadId,
)

DAY = 86_400
BEGUN = 1_000
SCHEMA = RowSchema("chunk", {name: FieldSpec(name, "string", required=True) for name in ("tenant", "owner")})


@dataclass
class Clock:
    now: float = BEGUN

    def __call__(self) -> float:
        return self.now


class Records:
    async def record(self, record: JsonObject) -> None:
        """Keep nothing."""


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(url: str, clock: Clock) -> AsyncIterator[SqlStateStore]:
    async with SqlStateStore.open(url, clock=clock, deadline_s=PATIENT_SECONDS) as opened:
        yield opened


@pytest.fixture
async def gone(store: SqlStateStore, url: str, clock: Clock) -> AsyncIterator[SqlStateStore]:
    """Another gateway on the database, which is not present any more."""
    async with SqlStateStore.open(url, clock=clock, deadline_s=PATIENT_SECONDS) as opened:
        yield opened


@pytest.fixture
async def vectors() -> MemoryVectorStore:
    made = MemoryVectorStore(SCHEMA)
    await made.create(StoreId("vs_1"), dimensions=2)
    stamp = {name: str(stamp_of(ANN)[name]) for name in SCHEMA.fields}
    await made.add(
        StoreId("vs_1"), [Chunk("acme/file-7/0/000000", FileId("file-7"), 0, "stray", (1.0, 0.0), stamp, {})]
    )
    return made


@pytest.fixture
def garbage_collector(
    store: SqlStateStore, vectors: MemoryVectorStore, clock: Clock, tmp_path: Path
) -> GarbageCollector:
    files = FileGarbage(
        files=store.files,
        orphaned_blobs=store.orphaned_blobs,
        blobs=DiskBlobStore(tmp_path / "files"),
        vectors=vectors,
        audit=Records(),
    )
    stores = VectorGarbage(
        stores=store.vector_stores,
        orphaned_chunks=store.orphaned_chunks,
        vectors=vectors,
        audit=Records(),
        clock=clock,
    )
    return GarbageCollector(collectors_of(store, files, stores, Membership(store.membership), clock))


async def litter(store: SqlStateStore, gone: SqlStateStore, clock: Clock) -> None:
    """Leave something for each collector, and let the time come in which it is due."""
    await gone.membership.heartbeat(ttl_s=60)
    for name in ("vs_1", "vs_2"):
        await store.vector_stores.add(
            replace(store_of(ANN, name, created=BEGUN, shared=True), expires_after_days=2)
        )
    for who, name, expires in (
        (ANN, "file-1", BEGUN + DAY),
        (ANN, "file-2", None),
        (EVE, "file-3", None),
        (ANN, "file-4", None),
    ):
        await store.files.add(replace(file_of(who, name), expires_at=expires))
    await store.attachments.put([attached_of(ANN), attached_of(ANN, file="file-2")])
    await store.attachments.put([attached_of(EVE, "vs_2", "file-3")])
    await store.vector_stores.touch(EVE, StoreId("vs_2"), at=BEGUN)
    await store.attachments.put([attachment_of(ANN, file="file-4", batch_id="vsfb_1")], batch=batch_of(ANN))
    await store.orphaned_blobs.reserve(ANN, FileId("file-9"), bytes=1, due_at=BEGUN)
    upload = UploadRow(
        UploadId("upload_1"), ANN.tenant, ANN.id, "a.txt", "assistants", 3, BEGUN, BEGUN + 3_600, None
    )
    await store.uploads.add(upload)
    await store.uploads.add_part(
        ANN, UploadPart(PartId("part_1"), upload.id, FileId("file-9"), 1, BEGUN), most=9, due_at=BEGUN
    )
    await store.orphaned_chunks.reserve(OrphanedChunks(StoreId("vs_9"), FileId(""), ""), ttl_s=0)
    await store.idempotency_keys.claim(ANN, "old", fingerprint="f", claim="c", at=BEGUN)
    await store.idempotency_keys.finish(ANN, "old", claim="c", fingerprint="f", created="resp_0")
    await store.idempotency_keys.claim(
        ANN, "given-up", fingerprint="f", claim="c", at=BEGUN + 3 * DAY - 7_200
    )
    await store.approvals.add(ANN, ApprovalRow("mcpr_1", "tickets/close", "d", BEGUN))
    await store.tool_uses.reserve(ANN, "tickets/close", "mcp_1", at=BEGUN)
    await store.usage.add([UsageRow("acme", "ann", "m", -900, 1, 1, 1, 0)])
    await store.conversations.add(conversation_of(ANN), items_of("msg_1"))
    await gone.conversations.lock(ANN, ConversationId("conv_1"), ResponseId("resp_1"))
    for whose, name in ((gone, "resp_1"), (store, "resp_2")):
        conversation = {"conversation_id": ConversationId("conv_1")} if whose is gone else {}
        row = replace(response_of(ANN, name), status="in_progress", background=True, **conversation)
        await whose.responses.save(row)
        await whose.events.append(ANN, ResponseId(name), [event_of(0), event_of(1)])
    await store.responses.save(replace(row, status="completed"))
    clock.now = BEGUN + 3 * DAY


async def work(store: SqlStateStore) -> None:
    """Do what else a gateway does by itself, or at its start."""
    await store.membership.heartbeat(ttl_s=60)
    await store.membership.heartbeat(ttl_s=60)
    await store.membership.forget_others()
    await store.leases.take(ttl_s=60, after="")
    await store.leases.release_all()
    await store.vector_stores.place(engine="main")
    await store.responses.cancel_requests()
    await store.orphaned_chunks.waiting()
    await store.membership.leave()


# ---------------------------------------------------------------- plans


async def test_no_statement_of_a_sweep_or_a_start_reads_a_table_that_grows(
    url: str, store: SqlStateStore, gone: SqlStateStore, garbage_collector: GarbageCollector, clock: Clock
) -> None:
    await litter(store, gone, clock)
    with overheard() as said:
        removed = await garbage_collector.once()
        await work(store)
    if url.startswith("postgres"):
        pretend_much_is_stored(url)
    whole = {}
    for one in said:
        async with store._database.maintenance.writing() as connection:
            if steps := await reads_all_of(connection, one):
                whole[one[0]] = steps

    assert {name: count > 0 for name, count in removed.items()} == dict.fromkeys(
        garbage_collector.removed, True
    )
    assert len(said) > 30
    assert whole == {}


async def test_chunks_of_several_files_are_joined_with_their_files_by_an_index(store: SqlStateStore) -> None:
    with overheard() as said:
        await store.attachments.live(
            ANN, [(StoreId(f"vs_{number % 2}"), FileId(f"file-{number}")) for number in range(5)]
        )
    async with store._database.maintenance.reading() as connection:
        whole = [await reads_all_of(connection, one) for one in said]

    assert whole == [[]]


# ---------------------------------------------------------------- what it costs

MANY = 2_000
LATER = BEGUN + 1_000 * DAY


def stored(many: int) -> dict[str, list[dict[str, Any]]]:
    """Return rows of each table that no collector has anything to do with, and whose number grows."""
    owned, text_of = {"tenant": "acme", "owner": "ann"}, [f"{number:06}" for number in range(many)]
    stamped = {**owned, "created_at": BEGUN, "stamp": {}}
    response = {
        **owned,
        "created_at": BEGUN,
        "status": "completed",
        "model": "m",
        "policy_revision": "r",
        "body": {},
    }
    file = {**stamped, "filename": "a", "bytes": 1, "purpose": "p"}
    shelf = {
        **stamped,
        "shared": False,
        "name": "s",
        "client_metadata": {},
        "embedder": "m",
        "dimensions": 2,
        "engine": "main",
    }
    attachment = {
        **stamped,
        "status": "completed",
        "requested": {},
        "attributes": {},
        "max_chunk_tokens": 1,
        "overlap_tokens": 0,
        "policy_revision": "r",
        "principal": {},
        "usage_bytes": 1,
        "chunks": 1,
        "generation": "e",
    }
    return {
        "responses": [{**response, "id": f"resp_{n}", "background": int(n) % 2 == 0} for n in text_of],
        "conversations": [
            {**owned, "id": f"conv_{n}", "created_at": BEGUN, "client_metadata": {}, "policy_revision": "r"}
            for n in text_of
        ],
        "files": [{**file, "id": f"file-{n}", "expires_at": None if int(n) % 2 else LATER} for n in text_of],
        "vector_stores": [{**shelf, "id": f"vs_{n}", "expires_after_days": 1} for n in text_of],
        "store_activity": [
            {
                "store_id": f"vs_{n}",
                "tenant": "acme",
                "last_active_at": BEGUN,
                "empties_at": None if int(n) % 2 else LATER,
            }
            for n in text_of
        ],
        "attachments": [{**attachment, "store_id": f"vs_{n}", "file_id": f"file-{n}"} for n in text_of],
        "orphaned_blobs": [{"file_id": f"file-x{n}", "bytes": 0, "due_at": LATER} for n in text_of],
        "orphaned_generations": [
            {"store_id": f"vs_{n}", "file_id": "f", "generation": "e", "due_at": LATER, "tombstoned": False}
            for n in text_of
        ],
        "idempotency_keys": [
            {
                **owned,
                "key": n,
                "fingerprint": "f",
                "claim": "c",
                "created": "resp_1",
                "created_at": BEGUN + 3 * DAY - 2,
            }
            for n in text_of
        ],
        "approvals": [
            {**owned, "id": n, "tool": "t", "digest": "d", "response_id": "", "expires_at": LATER}
            for n in text_of
        ],
        "usage": [
            {
                "tenant": "acme",
                "principal": n,
                "model": "m",
                "day": 3,
                "requests": 1,
                "input_tokens": 1,
                "output_tokens": 1,
                "cost": 0,
            }
            for n in text_of
        ],
        "tool_uses": [{**owned, "call": n, "tool": "t", "at": BEGUN + 3 * DAY - 2} for n in text_of],
    }


def fill(url: str, many: int) -> None:
    """Add so many rows to each table, and replace those that are there already."""
    engine = create_engine(url, json_serializer=encode)
    with engine.begin() as connection:
        for table, rows in stored(many).items():
            connection.execute(insert(metadata.tables[table]).prefix_with("OR REPLACE"), rows)
    engine.dispose()


async def test_a_sweep_that_finds_nothing_costs_the_same_however_much_is_stored(
    request: pytest.FixtureRequest, tmp_path: Path, vectors: MemoryVectorStore
) -> None:
    """Counted in instructions of SQLite's machine, which a plan alone does not bound."""
    clock, steps = Clock(BEGUN + 3 * DAY), 0

    def count() -> None:
        nonlocal steps
        steps += 1

    def attach(connection: sqlite3.Connection, _: Any) -> None:
        if current_thread().name.startswith("regate-"):  # the store's own, not those of the test
            connection.set_progress_handler(count, 1)

    async with SqlStateStore.open(
        f"sqlite:///{tmp_path / 'state.db'}", clock=clock, deadline_s=PATIENT_SECONDS
    ) as store:
        event.listen(Engine, "connect", attach)
        request.addfinalizer(lambda: event.remove(Engine, "connect", attach))
        files = FileGarbage(
            files=store.files,
            orphaned_blobs=store.orphaned_blobs,
            blobs=DiskBlobStore(tmp_path / "files"),
            vectors=vectors,
            audit=Records(),
        )
        stores = VectorGarbage(
            stores=store.vector_stores,
            orphaned_chunks=store.orphaned_chunks,
            vectors=vectors,
            audit=Records(),
            clock=clock,
        )
        garbage_collector = GarbageCollector(
            collectors_of(store, files, stores, Membership(store.membership), clock)
        )
        await store.membership.heartbeat(ttl_s=60)
        costs = []
        for many in (1, MANY):
            await asyncio.to_thread(fill, f"sqlite:///{tmp_path / 'state.db'}", many)
            await garbage_collector.once()
            steps = 0
            assert set((await garbage_collector.once()).values()) == {0}
            await work(store)
            costs.append(steps)

    few, much = costs
    assert 100 < much < few + MANY / 4
