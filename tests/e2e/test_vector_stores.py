"""Vector stores through the official client: updating, expiring, batches, stamping anew, content in
pages, and search with all it takes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from tests.e2e.conftest import ScriptedUpstream, World, text, tool_call
from tests.e2e.test_retrieval import ACME, found, ingest, shared_store

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running
from regate_orchestrator.values import StoreId

DAY = 86_400
ABSENT = {"store": "vs_" + "0" * 48, "file": "file-" + "0" * 48, "batch": "vsfb_" + "0" * 48}


class Clock:
    """The gateway's clock, which a test sets."""

    def __init__(self) -> None:
        self.time = 1_900_000_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@asynccontextmanager
async def running(
    settings: Settings, upstream: ScriptedUpstream, policies: Path, clock: Clock
) -> AsyncIterator[World]:
    app, gateway = gateway_app(settings, clock=clock)
    async with Running(app, settings.listen) as server:
        world = World(server.url, settings, gateway, upstream, policies)
        yield world
        for client in world.clients:
            await client.close()


@pytest.fixture
async def world(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, clock: Clock
) -> AsyncIterator[World]:
    async with running(configure(), upstream, policies, clock) as world:
        yield world


async def uploaded(client: openai.AsyncOpenAI, name: str, content: str) -> str:
    return (await client.files.create(file=(name, content.encode()), purpose="assistants")).id


# ---------------------------------------------------------------- stores


async def test_store_is_made_and_changed_as_asked_and_nothing_else_changes(world: World) -> None:
    alice = world.client("alice", "acme", teams=["hr"])
    made = await alice.vector_stores.create(
        name="Handbook",
        description="All rules",
        expires_after={"anchor": "last_active_at", "days": 3},
        chunking_strategy={"type": "auto"},
        metadata={"colour": "blue"},
    )
    renamed = await alice.vector_stores.update(made.id, name="Rules")
    told = await alice.vector_stores.update(made.id, metadata={"size": "big"})
    kept = await alice.vector_stores.update(made.id, expires_after=None)

    assert made.expires_after is not None
    assert made.expires_at is not None
    assert (made.expires_after.days, made.expires_at - (made.last_active_at or 0), made.status) == (
        3,
        3 * DAY,
        "completed",
    )
    assert (renamed.name, renamed.metadata, renamed.expires_at) == (
        "Rules",
        {"colour": "blue"},
        made.expires_at,
    )
    assert (told.name, told.metadata, told.expires_at) == ("Rules", {"size": "big"}, made.expires_at)
    assert (kept.name, kept.metadata, kept.expires_after, kept.expires_at) == (
        "Rules",
        {"size": "big"},
        None,
        None,
    )


NO_STORES: list[Any] = [
    {"expires_after": {"anchor": "created_at", "days": 3}},
    {"expires_after": {"anchor": "last_active_at", "days": 0}},
    {"expires_after": {"anchor": "last_active_at", "days": 366}},
    {"expires_after": {"anchor": "last_active_at"}},
    {"expires_after": {"days": 1}},
    {"expires_after": 3},
    {"metadata": {"tenant": "globex"}},
    {"metadata": {"regate.owner": "bob"}},
    {"owner": "bob"},
]


async def test_a_store_is_neither_made_nor_changed_with_what_is_not_as_described(world: World) -> None:
    async with world.http("alice", "acme") as alice:
        made = (await alice.post("/vector_stores", json={"name": "s"})).json()
        refused = [
            await alice.post(path, json=body)
            for body in NO_STORES
            for path in ("/vector_stores", f"/vector_stores/{made['id']}")
        ]
        stores = (await alice.get("/vector_stores")).json()["data"]

    assert [
        (answer.status_code, str(answer.json()["error"]["param"]).split(".")[0]) for answer in refused
    ] == [(400, next(iter(body))) for body in NO_STORES for _ in range(2)]
    assert stores == [made]


async def test_sharing_is_decided_anew_only_when_it_is_asked_for_and_only_what_one_holds(
    world: World,
) -> None:
    alice, bob = world.client("alice", "acme", teams=["hr"]), world.client("bob", "acme", teams=["rnd"])
    store = (await alice.vector_stores.create(name="s", metadata={"regate.teams": "hr", "colour": "blue"})).id
    with pytest.raises(openai.NotFoundError):
        await bob.vector_stores.retrieve(store)
    plain = await alice.vector_stores.update(store, metadata={"size": "big"})
    with pytest.raises(openai.PermissionDeniedError) as refused:
        await alice.vector_stores.update(store, metadata={"regate.teams": "board"})
    with pytest.raises(openai.PermissionDeniedError):
        await alice.vector_stores.update(store, metadata={"regate.share": "all_tenants"})
    still = await alice.vector_stores.retrieve(store)
    anew = await alice.vector_stores.update(store, metadata={"regate.visibility": "tenant"})

    assert plain.metadata == {"size": "big", "regate.teams": "hr"}  # what is in force is shown, and stays
    assert "teams: may name only teams that you hold" in str(refused.value)
    assert still == plain
    assert anew.metadata == {"regate.visibility": "tenant"}
    assert (await bob.vector_stores.retrieve(store)).id == store


async def test_a_store_that_is_shared_no_more_is_absent_for_others(world: World) -> None:
    store = await shared_store(world)
    gita = world.client("gita", "globex")
    await ingest(gita, store, "leave.md", "Globex has 25 days of leave.")
    admin = world.client("admin", roles=["store_admin"])
    await admin.vector_stores.update(store, metadata={"regate.visibility": "tenant"})
    with pytest.raises(openai.NotFoundError):
        await found(gita, store)
    await admin.vector_stores.update(store, metadata={"regate.share": "all_tenants"})

    assert len(await found(gita, store)) == 1


async def test_only_the_owner_and_the_tenants_store_admin_change_a_store(world: World) -> None:
    alice = world.client("alice", "acme", teams=["hr"])
    store = (await alice.vector_stores.create(name="s")).id
    with pytest.raises(openai.PermissionDeniedError):
        await world.client("carol", "acme", teams=["hr"]).vector_stores.update(store, name="mine")
    with pytest.raises(openai.NotFoundError):
        await world.client("eve", "globex", roles=["store_admin"]).vector_stores.update(store, name="mine")
    changed = await world.client("admin", "acme", roles=["store_admin"], teams=["hr"]).vector_stores.update(
        store, name="Ours"
    )

    assert changed.name == "Ours"


async def test_an_expired_store_can_be_read_and_deleted_and_nothing_else(world: World, clock: Clock) -> None:
    alice = world.client("alice", "acme")
    store = (
        await alice.vector_stores.create(name="s", expires_after={"anchor": "last_active_at", "days": 1})
    ).id
    file = await ingest(alice, store, "leave.md", ACME)
    other = await uploaded(alice, "b.md", "text")
    clock.time += DAY + 1
    seen = await alice.vector_stores.retrieve(store)
    refusals = []
    for attempt in (
        lambda: alice.vector_stores.search(store, query="leave"),
        lambda: alice.vector_stores.files.create(store, file_id=other),
        lambda: alice.vector_stores.file_batches.create(store, file_ids=[other]),
        lambda: alice.vector_stores.update(store, name="again"),
        lambda: alice.responses.create(
            model="small", input="x", tools=[{"type": "file_search", "vector_store_ids": [store]}]
        ),
    ):
        with pytest.raises(openai.BadRequestError) as refused:
            await attempt()
        refusals.append(refused.value.code)

    assert (seen.status, seen.file_counts.total, seen.usage_bytes) == ("expired", 0, 0)
    assert refusals == ["vector_store_expired"] * 5
    assert world.upstream.requests == []
    with pytest.raises(openai.NotFoundError):
        await alice.vector_stores.files.retrieve(file, vector_store_id=store)
    assert (await alice.vector_stores.delete(store)).deleted


async def test_using_a_store_keeps_it_and_each_tenant_has_its_own_time(world: World, clock: Clock) -> None:
    admin = world.client("admin", roles=["store_admin"])
    metadata = {"regate.share": "all_tenants"}
    store = (
        await admin.vector_stores.create(
            name="s", metadata=metadata, expires_after={"anchor": "last_active_at", "days": 1}
        )
    ).id
    gita = world.client("gita", "globex")
    unused = await gita.vector_stores.retrieve(store)
    await ingest(gita, store, "leave.md", "Globex has 25 days of leave.")
    for _ in range(3):
        clock.time += DAY - 10
        await found(gita, store)
    ours, theirs = await admin.vector_stores.retrieve(store), await gita.vector_stores.retrieve(store)

    assert (unused.status, unused.expires_at) == ("completed", None)
    assert (ours.status, theirs.status, theirs.file_counts.completed) == ("expired", "completed", 1)


async def test_what_an_expired_store_held_is_swept_from_the_engine(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, clock: Clock
) -> None:
    settings = configure()
    async with running(settings, upstream, policies, clock) as world:
        alice = world.client("alice", "acme")
        store = (
            await alice.vector_stores.create(name="s", expires_after={"anchor": "last_active_at", "days": 1})
        ).id
        file = await ingest(alice, store, "leave.md", ACME)
        before = await _generations(world, store)
    clock.time += DAY + 1
    async with running(settings, upstream, policies, clock) as world:  # collectors at its start
        async with asyncio.timeout(120):
            while await _generations(world, store):
                await asyncio.sleep(0.02)
        kept = await world.client("alice", "acme").files.retrieve(file)

    assert (len(before), kept.id) == (1, file)
    assert [record["about"] for record in world.audit(phase="store.expire")] == [store]


async def _generations(world: World, store: str) -> frozenset[str]:
    services = world.gateway.services
    assert services is not None
    return await services.vectors.generations(StoreId(store))


# ---------------------------------------------------------------- batches


async def test_a_batch_is_created_and_polled_by_the_client(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    files = [await uploaded(alice, f"{city}.md", f"Annual leave in {city}.") for city in ("Rome", "Oslo")]
    broken = await uploaded(alice, "broken.pdf", "%PDF-1.4 not really")
    batch = await alice.vector_stores.file_batches.create_and_poll(
        store, file_ids=[*files, broken, files[0]], attributes={"year": 2026}, poll_interval_ms=50
    )
    listed = [
        file
        async for file in alice.vector_stores.file_batches.list_files(
            batch.id, vector_store_id=store, limit=1
        )
    ]
    failed = await alice.vector_stores.file_batches.list_files(
        batch.id, vector_store_id=store, filter="failed"
    )

    assert batch.id.startswith("vsfb_")
    assert (batch.status, batch.file_counts.completed, batch.file_counts.failed, batch.file_counts.total) == (
        "completed",
        2,
        1,
        3,
    )
    assert sorted(file.id for file in listed) == sorted([*files, broken])
    assert [(file.id, file.last_error and file.last_error.code) for file in failed.data] == [
        (broken, "invalid_file")
    ]
    assert len(await found(alice, store, "leave", filters={"type": "eq", "key": "year", "value": 2026})) == 2


async def test_files_of_a_batch_are_uploaded_by_the_client_and_have_their_own_attributes(
    world: World,
) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    sent = [(f"{city}.md", f"Annual leave in {city}.".encode()) for city in ("Rome", "Oslo", "Bern")]
    first = await alice.vector_stores.file_batches.upload_and_poll(store, files=sent, poll_interval_ms=50)
    rome, bern = [await uploaded(alice, f"{city}.md", f"Sick leave in {city}.") for city in ("Rome", "Bern")]
    second = await alice.vector_stores.file_batches.create(
        store,
        files=[
            {"file_id": rome, "attributes": {"city": "rome"}},
            {
                "file_id": bern,
                "chunking_strategy": {
                    "type": "static",
                    "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0},
                },
            },
        ],
        attributes={"city": "ignored"},
    )
    await alice.vector_stores.file_batches.poll(second.id, vector_store_id=store, poll_interval_ms=50)
    one, other = [
        await alice.vector_stores.files.retrieve(file, vector_store_id=store) for file in (rome, bern)
    ]

    assert (first.status, first.file_counts.completed) == ("completed", 3)
    assert (one.attributes, other.attributes) == ({"city": "rome"}, {})
    assert other.chunking_strategy is not None
    assert other.chunking_strategy.model_dump()["static"]["max_chunk_size_tokens"] == 100
    assert (await alice.vector_stores.retrieve(store)).file_counts.completed == 5


async def test_a_batch_with_one_file_that_is_absent_or_foreign_attaches_nothing(world: World) -> None:
    alice, gita = world.client("alice", "acme"), world.client("gita", "globex")
    store = (await alice.vector_stores.create(name="s")).id
    own, foreign = await uploaded(alice, "a.md", "text"), await uploaded(gita, "b.md", "text")
    said = []
    for other in (foreign, ABSENT["file"]):
        with pytest.raises(openai.NotFoundError) as refused:
            await alice.vector_stores.file_batches.create(store, file_ids=[own, other])
        said.append((str(refused.value).replace(other, "<file>"), refused.value.param))

    assert said[0] == said[1]
    assert said[0][1] == "file_ids[1]"
    assert (await alice.vector_stores.retrieve(store)).file_counts.total == 0


async def test_a_batch_with_one_file_that_the_policy_refuses_attaches_nothing(world: World) -> None:
    alice = world.client("alice", "acme", teams=["hr"])
    store = (await alice.vector_stores.create(name="s")).id
    one, two = [await uploaded(alice, name, "text") for name in ("a.md", "b.md")]
    wanted: Any = [{"file_id": one}, {"file_id": two, "attributes": {"regate.teams": "board"}}]
    with pytest.raises(openai.PermissionDeniedError) as refused:
        await alice.vector_stores.file_batches.create(store, files=wanted)

    assert f"{two}: teams: may name only teams that you hold" in str(refused.value)
    assert (await alice.vector_stores.retrieve(store)).file_counts.total == 0


NO_BATCHES: list[Any] = [
    ({}, "file_ids"),
    ({"file_ids": []}, "file_ids"),
    ({"file_ids": ["file-1"], "files": [{"file_id": "file-2"}]}, "files"),
    ({"file_ids": ["file-1"] * 2_001}, "file_ids"),
    ({"files": [{}]}, "files[0].file_id"),
    ({"files": [{"file_id": "file-1", "colour": "blue"}]}, "files[0].colour"),
    (
        {"files": [{"file_id": "file-1"}, {"file_id": "file-1", "attributes": {"a": 1}}]},
        "files[1].file_id",
    ),
    ({"file_ids": ["file-1"], "attributes": {"tenant": "globex"}}, "attributes.tenant"),
]


async def test_a_batch_that_is_not_as_described_is_refused(world: World) -> None:
    async with world.http("alice", "acme") as alice:
        store = (await alice.post("/vector_stores", json={"name": "s"})).json()["id"]
        answers = [
            await alice.post(f"/vector_stores/{store}/file_batches", json=body) for body, _ in NO_BATCHES
        ]

    told = [(answer.status_code, answer.json()["error"]["param"]) for answer in answers]
    assert told == [(400, param) for _, param in NO_BATCHES]


async def test_a_cancelled_batch_keeps_what_is_completed_and_the_rest_is_never_found(world: World) -> None:
    alice = world.client("alice", "acme", teams=["hr"])
    store = (await alice.vector_stores.create(name="s")).id
    files = [await uploaded(alice, f"{number}.md", f"Annual leave, part {number}.") for number in range(40)]
    batch = await alice.vector_stores.file_batches.create(store, file_ids=files)
    with pytest.raises(openai.PermissionDeniedError):
        await world.client("carol", "acme", teams=["hr"]).vector_stores.file_batches.cancel(
            batch.id, vector_store_id=store
        )
    async with asyncio.timeout(60):
        while (
            await alice.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store)
        ).file_counts.completed == 0:
            await asyncio.sleep(0.01)  # the API is polled, as clients do
    cancelled = await alice.vector_stores.file_batches.cancel(batch.id, vector_store_id=store)
    counts = cancelled.file_counts
    again = await alice.vector_stores.file_batches.cancel(batch.id, vector_store_id=store)
    hits = await found(alice, store, "annual leave", max_num_results=50)

    assert (cancelled.status, counts.in_progress, counts.total) == ("cancelled", 0, 40)
    assert counts.completed > 0
    assert counts.cancelled > 0
    assert again == cancelled
    assert len(hits) == counts.completed


async def test_a_file_that_is_taken_out_counts_in_its_batch_no_more_and_may_be_attached_again(
    world: World,
) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    file = await uploaded(alice, "a.md", "Annual leave.")
    batch = await alice.vector_stores.file_batches.create_and_poll(
        store, file_ids=[file], poll_interval_ms=50
    )
    await alice.vector_stores.files.delete(file, vector_store_id=store)
    after = await alice.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store)
    await alice.vector_stores.files.create_and_poll(file, vector_store_id=store, poll_interval_ms=50)

    assert (batch.file_counts.total, after.file_counts.total) == (1, 0)
    assert len(await found(alice, store)) == 1


async def test_a_batch_that_is_sent_again_under_its_key_is_the_same_batch(world: World) -> None:
    async with world.http("alice", "acme") as alice:
        store = (await alice.post("/vector_stores", json={"name": "s"})).json()["id"]
        file = (
            await alice.post("/files", files={"file": ("a.md", b"text")}, data={"purpose": "assistants"})
        ).json()["id"]
        sent = {"json": {"file_ids": [file]}, "headers": {"Idempotency-Key": "once"}}
        first, second = [await alice.post(f"/vector_stores/{store}/file_batches", **sent) for _ in range(2)]  # type: ignore[arg-type]

    assert (first.status_code, first.json()["id"]) == (200, second.json()["id"])


# ---------------------------------------------------------------- files


async def test_attributes_are_replaced_and_stamped_anew(world: World) -> None:
    alice, bob = world.client("alice", "acme", teams=["hr"]), world.client("bob", "acme", teams=["rnd"])
    store = (await alice.vector_stores.create(name="s", metadata={"regate.visibility": "tenant"})).id
    file = await ingest(alice, store, "leave.md", ACME, {"regate.visibility": "tenant", "city": "rome"})
    before = await found(bob, store)
    private = await alice.vector_stores.files.update(
        file, vector_store_id=store, attributes={"regate.visibility": "private", "year": 2026}
    )
    hidden = await found(bob, store)
    with pytest.raises(openai.NotFoundError):
        await bob.vector_stores.files.update(
            file, vector_store_id=store, attributes={"regate.visibility": "tenant"}
        )
    old = await found(alice, store, filters={"type": "eq", "key": "city", "value": "rome"})
    new = await found(alice, store, filters={"type": "eq", "key": "year", "value": 2026})
    shown = await alice.vector_stores.files.update(
        file, vector_store_id=store, attributes={"regate.visibility": "tenant"}
    )

    assert (len(before), hidden, old, len(new)) == (1, [], [], 1)
    assert private.attributes == {"regate.visibility": "private", "year": 2026}
    assert (shown.status, shown.attributes, len(await found(bob, store))) == (
        "completed",
        {"regate.visibility": "tenant"},
        1,
    )


async def test_attributes_are_changed_by_whoever_added_the_file_and_widened_by_nobody_else(
    world: World,
) -> None:
    alice = world.client("alice", "acme", teams=["hr"])
    store = (await alice.vector_stores.create(name="s", metadata={"regate.visibility": "tenant"})).id
    file = await ingest(alice, store, "leave.md", ACME, {"regate.teams": "hr"})
    carol = world.client("carol", "acme", teams=["hr"])
    admin = world.client("admin", "acme", teams=["hr"], roles=["store_admin"])
    with pytest.raises(openai.PermissionDeniedError):
        await carol.vector_stores.files.update(file, vector_store_id=store, attributes={"a": 1})
    with pytest.raises(openai.PermissionDeniedError):
        await admin.vector_stores.files.update(
            file, vector_store_id=store, attributes={"regate.visibility": "tenant"}
        )
    await admin.vector_stores.files.update(file, vector_store_id=store, attributes={"a": 1})
    with pytest.raises(openai.PermissionDeniedError):
        await alice.vector_stores.files.update(
            file, vector_store_id=store, attributes={"regate.teams": "board"}
        )

    assert await found(world.client("bob", "acme", teams=["rnd"]), store) == []
    assert len(await found(carol, store, filters={"type": "eq", "key": "a", "value": 1})) == 1


NO_ATTRIBUTES: Any = ({"tenant": "globex"}, {"regate.owner": "bob"}, {"_x": 1}, {"a": None}, {"a": []}, 5)


async def test_attributes_that_are_none_are_refused_and_nothing_changes(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    file = await ingest(alice, store, "leave.md", ACME, {"city": "rome"})
    async with world.http("alice", "acme") as http:
        place, rome = f"/vector_stores/{store}/files/{file}", {"type": "eq", "key": "city", "value": "rome"}
        for attributes in NO_ATTRIBUTES:
            answer = await http.post(place, json={"attributes": attributes})
            assert answer.status_code == 400, attributes
            assert len(await found(alice, store, filters=rome)) == 1, attributes
        missing = await http.post(place, json={})

    assert (missing.status_code, missing.json()["error"]["param"]) == (400, "attributes")
    assert len(await found(alice, store, filters=rome)) == 1


async def test_a_stamp_that_is_narrowed_reaches_running_conversations(world: World) -> None:
    alice, bob = world.client("alice", "acme", teams=["hr"]), world.client("bob", "acme", teams=["rnd"])
    store = (await alice.vector_stores.create(name="s", metadata={"regate.visibility": "tenant"})).id
    file = await ingest(alice, store, "leave.md", ACME, {"regate.visibility": "tenant"})
    world.upstream.turns = [
        tool_call("file_search", {"query": "annual leave"}),
        text("28 days, says blue-heron."),
    ]
    first = await bob.responses.create(
        model="small", input="leave?", tools=[{"type": "file_search", "vector_store_ids": [store]}]
    )
    read = "blue-heron" in world.upstream.prompt
    await alice.vector_stores.files.update(
        file, vector_store_id=store, attributes={"regate.visibility": "private"}
    )
    await bob.responses.create(model="small", input="Say it again.", previous_response_id=first.id)

    assert (read, "blue-heron" in world.upstream.prompt) == (True, False)


async def test_content_is_whole_for_the_client_and_in_pages_for_whoever_asks(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    words = " ".join(f"word{number}." for number in range(900))
    file = await uploaded(alice, "long.md", words)
    strategy: Any = {"type": "static", "static": {"max_chunk_size_tokens": 100, "chunk_overlap_tokens": 0}}
    await alice.vector_stores.files.create_and_poll(
        file, vector_store_id=store, chunking_strategy=strategy, poll_interval_ms=50
    )
    whole = [part.text async for part in alice.vector_stores.files.content(file, vector_store_id=store)]
    pieces, token, pages = [], None, 0
    async with world.http("alice", "acme") as http:
        path = f"/vector_stores/{store}/files/{file}/content"
        while True:
            page = (await http.get(path, params={"limit": 7, **({"page": token} if token else {})})).json()
            pieces += [part["text"] for part in page["data"]]
            token, pages = page["next_page"], pages + 1
            if not page["has_more"]:
                break
        last = token
        bad = [(await http.get(path, params={"page": odd})).status_code for odd in ("x", "x.1", "1", "")]
        await alice.vector_stores.files.update(file, vector_store_id=store, attributes={"a": 1})
        first = (await http.get(path, params={"limit": 1})).json()["next_page"]
        await alice.vector_stores.files.update(file, vector_store_id=store, attributes={"a": 2})
        stale = await http.get(path, params={"page": first})

    assert len(whole) > 14
    assert (pieces, last, pages) == (whole, None, -(-len(whole) // 7))
    assert (bad, stale.status_code) == ([400] * 4, 400)


async def test_a_file_is_split_at_its_headings_and_says_so(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    file = await uploaded(alice, "leave.md", "# Leave\n\n## Parental\n\nSixteen weeks.\n\n# Pay\n\nMonthly.")
    strategy: Any = {"type": "heading", "heading": {"max_chunk_size_tokens": 200}}
    attached = await alice.vector_stores.files.create_and_poll(
        file, vector_store_id=store, chunking_strategy=strategy, poll_interval_ms=50
    )
    whole = [part.text async for part in alice.vector_stores.files.content(file, vector_store_id=store)]
    found = await alice.vector_stores.search(store, query="parental leave")

    assert whole == ["Leave > Parental\n\nSixteen weeks.", "Pay\n\nMonthly."]
    assert found.data[0].content[0].text == whole[0]
    assert attached.chunking_strategy is not None
    assert {"type": "heading", "heading": {"max_chunk_size_tokens": 200}}.items() <= (
        attached.chunking_strategy.model_dump().items()
    )


@pytest.mark.parametrize(
    ("strategy", "member", "code"),
    [
        ({"type": "heading"}, "heading", "missing_required_parameter"),
        ({"type": "page", "heading": {}}, "page", "missing_required_parameter"),
        (
            {"type": "heading", "heading": {"max_chunk_size_tokens": 99}},
            "heading.max_chunk_size_tokens",
            "integer_below_min_value",
        ),
        (
            {"type": "page", "page": {"max_chunk_size_tokens": "800"}},
            "page.max_chunk_size_tokens",
            "invalid_type",
        ),
        ({"type": "page", "page": {"overlap": 1}}, "page.overlap", "unknown_parameter"),
        ({"type": "sentence"}, "type", "invalid_value"),
    ],
)
async def test_a_strategy_that_cannot_be_is_refused_by_its_member(
    world: World, strategy: dict[str, Any], member: str, code: str
) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    file = await uploaded(alice, "a.md", "text")
    async with world.http("alice", "acme") as http:
        answer = await http.post(
            f"/vector_stores/{store}/files", json={"file_id": file, "chunking_strategy": strategy}
        )
    error = answer.json()["error"]

    assert (answer.status_code, error["param"], error["code"]) == (400, f"chunking_strategy.{member}", code)


# ---------------------------------------------------------------- search


async def test_search_takes_several_queries_rewrites_them_and_ranks_all_hits_together(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    await ingest(alice, store, "leave.md", "Employees have 28 days of annual leave.")
    await ingest(alice, store, "notice.md", "The notice period is three months.")
    page = await alice.vector_stores.search(
        store,
        query=["Can you tell me about annual leave?", "What is the notice period?"],
        rewrite_query=True,
        max_num_results=50,
        ranking_options={"ranker": "default-2024-11-15", "score_threshold": 0.1},
    )
    verbatim = await alice.vector_stores.search(
        store, query=["  leave? "], ranking_options={"ranker": "none"}
    )
    scores = [hit.score for hit in page.data]
    (best,) = (await alice.vector_stores.search(store, query="annual leave", max_num_results=1)).data
    none = await alice.vector_stores.search(
        store, query="annual leave", ranking_options={"score_threshold": 1.0}
    )

    assert page.model_extra is not None
    assert page.model_extra["search_query"] == ["annual leave", "the notice period"]
    assert {hit.filename for hit in page.data} == {"leave.md", "notice.md"}
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert verbatim.model_extra is not None
    assert verbatim.model_extra["search_query"] == ["  leave? "]
    assert (best.filename, none.data) == ("leave.md", [])


@pytest.mark.parametrize("query", ["a" * 100_001, ["a", "a" * 100_001], ["a" * 50_001, "b" * 50_000]])
async def test_queries_of_a_search_are_bounded_together(world: World, query: Any) -> None:
    store = (await world.client("alice", "acme").vector_stores.create(name="s")).id
    async with world.http("alice", "acme") as http:
        longest = await http.post(f"/vector_stores/{store}/search", json={"query": "a" * 100_000})
        refused = await http.post(f"/vector_stores/{store}/search", json={"query": query})
    error = refused.json()["error"]

    assert longest.status_code == 200
    assert (refused.status_code, error["param"].partition("[")[0]) == (400, "query")
    assert error["code"] in {"string_above_max_length", "invalid_value"}


CITIES: dict[str, dict[str, Any]] = {
    "rome": {"city": "rome", "year": 2026, "open": True, "size": 1.5},
    "oslo": {"city": "oslo", "year": 2024, "open": False},
    "bern": {"year": 2025},
}


def both(*filters: Any) -> dict[str, Any]:
    return {"type": "and", "filters": list(filters)}


def either(*filters: Any) -> dict[str, Any]:
    return {"type": "or", "filters": list(filters)}


def compare(kind: str, key: str, value: Any) -> dict[str, Any]:
    return {"type": kind, "key": key, "value": value}


FILTERS: list[tuple[dict[str, Any], set[str]]] = [
    (compare("eq", "city", "rome"), {"rome"}),
    (compare("ne", "city", "rome"), {"oslo", "bern"}),
    (compare("gt", "year", 2025), {"rome"}),
    (compare("gte", "year", 2025), {"rome", "bern"}),
    (compare("lt", "year", 2025), {"oslo"}),
    (compare("lte", "size", 1.5), {"rome"}),
    (compare("eq", "open", True), {"rome"}),
    (compare("in", "city", ["rome", "oslo", "nowhere"]), {"rome", "oslo"}),
    (compare("nin", "city", ["rome"]), {"oslo", "bern"}),
    (compare("in", "year", [2024, 2025]), {"oslo", "bern"}),
    (
        both(
            compare("gte", "year", 2024),
            either(compare("eq", "city", "oslo"), compare("nin", "city", ["rome", "oslo"])),
        ),
        {"oslo", "bern"},
    ),
    (
        either(
            both(compare("eq", "open", False), compare("lt", "year", 2025)), both(compare("eq", "size", 1.5))
        ),
        {"oslo", "rome"},
    ),
    (both(compare("ne", "land", "acme")), {"rome", "oslo", "bern"}),  # what no file has is like nothing
]


async def test_every_filter_of_a_search_means_what_it_says_nested_as_well(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    wanted: Any = [
        {"file_id": await uploaded(alice, f"{city}.md", f"Annual leave in {city}."), "attributes": attributes}
        for city, attributes in CITIES.items()
    ]
    await alice.vector_stores.file_batches.create(store, files=wanted)
    async with asyncio.timeout(60):
        while (await alice.vector_stores.retrieve(store)).status == "in_progress":
            await asyncio.sleep(0.02)
    answers = [
        (
            filters,
            {
                hit.filename.removesuffix(".md")
                for hit in (await alice.vector_stores.search(store, query="leave", filters=filters)).data
            },
        )
        for filters, _ in FILTERS  # type: ignore[misc]
    ]

    assert answers == FILTERS


BAD_RANKING = [
    ({"search_mode": "words"}, "search_mode"),
    ({"ranking_options": {"hybrid_search": {}}}, "ranking_options.hybrid_search.embedding_weight"),
    (
        {"ranking_options": {"hybrid_search": {"embedding_weight": 1}}},
        "ranking_options.hybrid_search.text_weight",
    ),
    (
        {"ranking_options": {"hybrid_search": {"embedding_weight": 0, "text_weight": 0}}},
        "ranking_options.hybrid_search",
    ),
    (
        {"ranking_options": {"hybrid_search": {"embedding_weight": -1, "text_weight": 1}}},
        "ranking_options.hybrid_search.embedding_weight",
    ),
    (
        {
            "search_mode": "vector",
            "ranking_options": {"hybrid_search": {"embedding_weight": 1, "text_weight": 1}},
        },
        "search_mode",
    ),
]


@pytest.mark.parametrize(("asked", "param"), BAD_RANKING)
async def test_ranking_that_cannot_be_is_refused_by_its_place(
    world: World, asked: dict[str, Any], param: str
) -> None:
    async with world.http("alice", "acme") as alice:
        store = (await alice.post("/vector_stores", json={"name": "s"})).json()["id"]
        answer = await alice.post(f"/vector_stores/{store}/search", json={"query": "x", **asked})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


async def test_search_by_words_by_vectors_and_by_both(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    await ingest(
        alice, store, "leave.md", "Employees have 28 days of annual leave. Form QX-7741 asks for it."
    )
    await ingest(alice, store, "holiday.md", "Vacation time is granted by the manager.")

    async def names(query: str, **asked: Any) -> list[str]:
        page = await alice.vector_stores.search(store, query=query, extra_body=asked)
        return [hit.filename for hit in page.data]

    weights = {"embedding_weight": 0.3, "text_weight": 0.7}
    assert await names("form qx-7741", search_mode="keyword") == ["leave.md"]
    assert await names("nowhere", search_mode="keyword") == []
    assert await names("vacation manager", search_mode="vector") == ["holiday.md", "leave.md"]
    assert (await names("qx 7741"))[0] == "leave.md"
    for fusion in ("weighted", "reciprocal_rank"):
        ranking = {"hybrid_search": {**weights, "fusion": fusion}}
        assert (await names("qx 7741", ranking_options=ranking))[0] == "leave.md"


async def test_file_search_of_a_response_ranks_as_the_tool_says_and_echoes_it(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    await ingest(alice, store, "leave.md", "Form QX-7741 asks for annual leave.")
    await ingest(alice, store, "holiday.md", "Vacation time is granted by the manager.")
    tool = {
        "type": "file_search",
        "vector_store_ids": [store],
        "search_mode": "hybrid",
        "ranking_options": {
            "hybrid_search": {"embedding_weight": 0, "text_weight": 1},
            "score_threshold": 0.2,
        },
    }
    world.upstream.turns = [tool_call("file_search", {"query": "qx-7741"}), text("By form.")]
    answer = await alice.responses.create(
        model="small",
        input="How?",
        tools=[tool],
        include=["file_search_call.results"],  # type: ignore[list-item]
    )
    (call,) = [item for item in answer.output if item.type == "file_search_call"]

    assert [(hit.filename, hit.score) for hit in call.results or []] == [
        ("leave.md", pytest.approx(0.45, abs=0.2))
    ]
    assert answer.tools[0].to_dict()["search_mode"] == "hybrid"
    assert answer.tools[0].to_dict()["ranking_options"]["hybrid_search"] == {
        "embedding_weight": 0.0,
        "text_weight": 1.0,
    }


# ---------------------------------------------------------------- foreign is absent

NEW_ROUTES = [
    ("POST", "/vector_stores/{store}", {"name": "mine"}),
    ("POST", "/vector_stores/{store}/files/{file}", {"attributes": {"a": 1}}),
    ("POST", "/vector_stores/{store}/file_batches", {"file_ids": ["{file}"]}),
    ("GET", "/vector_stores/{store}/file_batches/{batch}", None),
    ("POST", "/vector_stores/{store}/file_batches/{batch}/cancel", None),
    ("GET", "/vector_stores/{store}/file_batches/{batch}/files", None),
    ("GET", "/vector_stores/{store}/files/{file}/content?limit=1", None),
    ("GET", "/vector_stores/{own}/file_batches/{batch}", None),
    ("POST", "/vector_stores/{own}/file_batches/{batch}/cancel", None),
    ("POST", "/vector_stores/{own}/files/{file}", {"attributes": {"a": 1}}),
    ("POST", "/vector_stores/{own}/file_batches", {"file_ids": ["{file}"]}),
]


async def test_foreign_ids_answer_exactly_as_absent_ones_on_every_new_route(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="acme")).id
    file = await uploaded(alice, "leave.md", ACME)
    batch = await alice.vector_stores.file_batches.create_and_poll(
        store, file_ids=[file], poll_interval_ms=50
    )
    differing = []
    async with world.http("gita", "globex") as gita:
        own = (await gita.post("/vector_stores", json={"name": "globex"})).json()["id"]
        for method, path, body in NEW_ROUTES:
            answers = [
                await _asked(gita, method, path, body, ids | {"own": own})
                for ids in ({"store": store, "file": file, "batch": batch.id}, ABSENT)
            ]
            if answers[0] != answers[1] or answers[0][0] != 404:
                differing.append((method, path, answers))

    assert differing == []
    assert (
        await alice.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store)
    ).file_counts.completed == 1


async def _asked(
    http: httpx.AsyncClient, method: str, path: str, body: Any, ids: dict[str, str]
) -> tuple[int, str, list[str]]:
    sent = (
        None
        if body is None
        else {
            key: [one.format(**ids) for one in value] if key == "file_ids" else value
            for key, value in body.items()
        }
    )
    answer = await http.request(method, path.format(**ids), json=sent)
    shown = answer.text
    for name, identifier in ids.items():
        shown = shown.replace(identifier, f"<{name}>")
    return answer.status_code, shown, sorted(set(answer.headers) - {"content-length"})


async def test_a_batch_in_a_shared_store_is_its_own_tenants(world: World) -> None:
    store = await shared_store(world)
    alice, gita = world.client("alice", "acme"), world.client("gita", "globex")
    batch = await alice.vector_stores.file_batches.create_and_poll(
        store, file_ids=[await uploaded(alice, "leave.md", ACME)], poll_interval_ms=50
    )
    with pytest.raises(openai.NotFoundError):
        await gita.vector_stores.file_batches.retrieve(batch.id, vector_store_id=store)
    seen = await gita.vector_stores.retrieve(store)

    assert (seen.file_counts.total, seen.usage_bytes, seen.status) == (0, 0, "completed")


# ---------------------------------------------------------------- the order of lists


async def test_what_is_made_within_one_second_is_listed_in_the_order_in_which_it_was_made(
    world: World,
) -> None:
    """The clock of this gateway stands still."""
    world.upstream.turns = [text("Hi.") for _ in range(5)]
    made: dict[str, list[str]] = {}
    async with world.http() as http:

        async def create(path: str, **body: Any) -> str:
            answer = await http.post(path, json=body)
            return str(answer.json()["id"])

        made["/files"] = [await uploaded(world.client(), f"{number}.md", "Leave.") for number in range(5)]
        made["/vector_stores"] = [await create("/vector_stores", name=f"s{number}") for number in range(5)]
        made["/responses"] = [await create("/responses", model="small", input="Hi") for _ in range(5)]
        made["/prompts"] = [
            await create("/prompts", name="p", template={"instructions": "Hi"}) for _ in range(5)
        ]
        store, other = made["/vector_stores"][:2]
        for file in reversed(made["/files"]):
            await create(f"/vector_stores/{store}/files", file_id=file)
        batch = await create(
            f"/vector_stores/{other}/file_batches", file_ids=[*made["/files"][3:], *made["/files"][:3]]
        )
        made[f"/vector_stores/{store}/files"] = made["/files"][::-1]
        made[f"/vector_stores/{other}/file_batches/{batch}/files"] = [
            *made["/files"][3:],
            *made["/files"][:3],
        ]
        found: dict[str, list[str]] = {}
        for path, ids in made.items():
            first = (await http.get(f"{path}?order=asc&limit=2")).json()["data"]
            rest = (await http.get(f"{path}?order=asc&after={first[-1]['id']}")).json()["data"]
            newest = (await http.get(f"{path}?limit=1")).json()["data"]
            found[path] = [one["id"] for one in (*first, *rest)]
            assert newest[0]["id"] == ids[-1]

    assert found == made
