"""Two tenants, one shared store: what each can find, list, read and infer."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.e2e.conftest import World, text, tool_call

ACME = "# Leave\n\nAcme employees have 28 days of annual leave. The canary of acme is blue-heron.\n"
GLOBEX = "# Leave\n\nGlobex employees have 25 days of annual leave. The canary of globex is red-kite.\n"


async def ingest(
    client: openai.AsyncOpenAI, store: str, name: str, content: str, attributes: dict[str, Any] | None = None
) -> str:
    """Upload and attach a document, and wait until it can be found; return the file's id."""
    file = await client.files.create(file=(name, content.encode()), purpose="assistants")
    await client.vector_stores.files.create(
        vector_store_id=store, file_id=file.id, attributes=attributes or {}
    )
    async with asyncio.timeout(60):
        while (
            attached := await client.vector_stores.files.retrieve(vector_store_id=store, file_id=file.id)
        ).status == "in_progress":
            await asyncio.sleep(0.05)  # the API is polled, as clients do
    assert attached.status == "completed", attached.last_error
    return file.id


async def shared_store(world: World) -> str:
    """A store of acme's that all tenants may use."""
    admin = world.client("admin", roles=["store_admin"])
    return (await admin.vector_stores.create(name="shared", metadata={"regate.share": "all_tenants"})).id


async def found(
    client: openai.AsyncOpenAI, store: str, query: str = "How many days of annual leave?", **more: Any
) -> list[str]:
    page = await client.vector_stores.search(vector_store_id=store, query=query, **more)
    return [part.text for hit in page.data for part in hit.content]


async def test_each_tenant_finds_its_own_documents_only(world: World) -> None:
    store = await shared_store(world)
    alice, gita = world.client("alice", "acme", teams=["hr"]), world.client("gita", "globex", teams=["hr"])
    await ingest(alice, store, "leave.md", ACME)
    await ingest(gita, store, "leave.md", GLOBEX)

    assert [("blue-heron" in hit, "red-kite" in hit) for hit in await found(alice, store)] == [(True, False)]
    assert [("blue-heron" in hit, "red-kite" in hit) for hit in await found(gita, store)] == [(False, True)]


async def test_hits_and_scores_do_not_depend_on_other_tenants(world: World) -> None:
    store = await shared_store(world)
    alice, gita = world.client("alice", "acme"), world.client("gita", "globex")
    await ingest(alice, store, "leave.md", ACME)
    before = (await alice.vector_stores.search(vector_store_id=store, query="annual leave")).model_dump_json()
    for number in range(5):
        await ingest(gita, store, f"leave-{number}.md", GLOBEX + f"annual leave {number}")

    assert (
        await alice.vector_stores.search(vector_store_id=store, query="annual leave")
    ).model_dump_json() == before


async def test_a_shared_store_is_counted_and_listed_per_tenant(world: World) -> None:
    store = await shared_store(world)
    await ingest(world.client("alice", "acme"), store, "leave.md", ACME)
    gita = world.client("gita", "globex")

    seen = await gita.vector_stores.retrieve(vector_store_id=store)
    assert (seen.file_counts.total, seen.usage_bytes) == (0, 0)
    assert [file.id async for file in gita.vector_stores.files.list(vector_store_id=store)] == []


async def test_team_documents_are_found_by_the_team_only(world: World) -> None:
    alice = world.client("alice", "acme", teams=["hr", "staff"])
    store = (await alice.vector_stores.create(name="acme", metadata={"regate.visibility": "tenant"})).id
    await ingest(alice, store, "leave.md", ACME, {"regate.visibility": "tenant"})
    await ingest(
        alice,
        store,
        "severance.md",
        "Severance pay is three months. Canary grey-owl.",
        {"regate.teams": "hr"},
    )
    bob = world.client("bob", "acme", teams=["rnd"])

    assert ["grey-owl" in hit for hit in await found(bob, store, "severance pay")] == [False]
    assert any("grey-owl" in hit for hit in await found(alice, store, "severance pay"))


async def test_deny_label_added_while_running_takes_effect_without_a_restart(world: World) -> None:
    alice = world.client("alice", "acme", teams=["hr"])
    store = (await alice.vector_stores.create(name="acme")).id
    await ingest(alice, store, "leave.md", ACME, {"regate.labels": "secret-project"})
    assert len(await found(alice, store)) == 1
    revision = await world.gateway.services.enforcer.revision()  # type: ignore[union-attr]
    data = json.loads((world.policies / "data.json").read_text())
    data["regate"]["deny_labels"]["secret-project"] = "project-lead"
    (world.policies / "data.json").write_text(json.dumps(data))
    async with asyncio.timeout(120):
        while await world.gateway.services.enforcer.revision() == revision:  # type: ignore[union-attr]
            await asyncio.sleep(0.05)

    assert await found(alice, store) == []
    assert len(await found(world.client("alice", "acme", teams=["hr"], roles=["project-lead"]), store)) == 1


async def test_client_filters_narrow_by_the_clients_own_attributes(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="acme")).id
    await ingest(alice, store, "a.md", "Annual leave in Rome. One.", {"city": "rome", "year": 2026})
    await ingest(alice, store, "b.md", "Annual leave in Oslo. Two.", {"city": "oslo", "year": 2024})

    assert len(await found(alice, store, filters={"type": "eq", "key": "city", "value": "rome"})) == 1
    assert len(await found(alice, store, filters={"type": "gt", "key": "year", "value": 2020})) == 2
    either = {
        "type": "or",
        "filters": [
            {"type": "ne", "key": "city", "value": "rome"},
            {"type": "eq", "key": "land", "value": "globex"},
        ],
    }
    assert ["Oslo" in hit for hit in await found(alice, store, filters=either)] == [True]


@pytest.mark.parametrize(
    "attributes", [{"tenant": "globex"}, {"owner": "bob"}, {"_gw_schema": 1}, {"regate.tenant": "globex"}]
)
async def test_no_client_can_set_or_shadow_a_policy_attribute(
    world: World, attributes: dict[str, Any]
) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="acme")).id
    file = await alice.files.create(file=("a.md", b"text"), purpose="assistants")

    with pytest.raises(openai.BadRequestError) as refused:
        await alice.vector_stores.files.create(vector_store_id=store, file_id=file.id, attributes=attributes)
    assert str(refused.value.param).startswith("attributes")


async def test_one_may_request_only_what_one_holds(world: World) -> None:
    alice = world.client("alice", "acme", teams=["hr"])
    store = (await alice.vector_stores.create(name="acme")).id
    file = await alice.files.create(file=("a.md", b"text"), purpose="assistants")

    with pytest.raises(openai.PermissionDeniedError):
        await alice.vector_stores.files.create(
            vector_store_id=store, file_id=file.id, attributes={"regate.teams": "board"}
        )


async def test_detached_file_is_found_no_more(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="acme")).id
    file = await ingest(alice, store, "leave.md", ACME)
    await alice.vector_stores.files.delete(vector_store_id=store, file_id=file)

    assert await found(alice, store) == []


async def test_user_may_detach_an_own_file_from_a_store_of_another_tenant(world: World) -> None:
    store = await shared_store(world)
    gita = world.client("gita", "globex")
    file = await ingest(gita, store, "leave.md", GLOBEX)

    assert (await gita.vector_stores.files.delete(vector_store_id=store, file_id=file)).deleted
    assert await found(gita, store) == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/vector_stores/{store}"),
        ("DELETE", "/vector_stores/{store}"),
        ("GET", "/vector_stores/{store}/files"),
        ("GET", "/vector_stores/{store}/files/{file}"),
        ("GET", "/vector_stores/{store}/files/{file}/content"),
        ("DELETE", "/vector_stores/{store}/files/{file}"),
        ("POST", "/vector_stores/{store}/search"),
        ("POST", "/vector_stores/{store}/files"),
        ("GET", "/files/{file}"),
        ("GET", "/files/{file}/content"),
        ("DELETE", "/files/{file}"),
        ("GET", "/responses/{response}"),
        ("DELETE", "/responses/{response}"),
        ("GET", "/responses/{response}?stream=true"),
        ("POST", "/responses/{response}/cancel"),
        ("GET", "/responses/{response}/input_items"),
    ],
)
async def test_foreign_ids_answer_exactly_as_absent_ones(world: World, method: str, path: str) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="acme")).id
    file = await ingest(alice, store, "leave.md", ACME)
    response = (await alice.responses.create(model="small", input="Hi")).id
    foreign = {"store": store, "file": file, "response": response}
    absent = {"store": "vs_" + "0" * 48, "file": "file-" + "0" * 48, "response": "resp_" + "0" * 48}
    body = (
        {"query": "leave"} if path.endswith("search") else {"file_id": "{file}"} if method == "POST" else None
    )
    answers = []
    async with world.http("gita", "globex") as gita:
        for ids in (foreign, absent):
            sent = None if body is None else {key: value.format(**ids) for key, value in body.items()}
            answer = await gita.request(method, path.format(**ids), json=sent)
            shown = answer.text
            for name, identifier in ids.items():
                shown = shown.replace(identifier, f"<{name}>")
            answers.append((answer.status_code, shown, sorted(set(answer.headers) - {"content-length"})))

    assert answers[0] == answers[1]
    assert answers[0][0] == 404


async def test_one_foreign_store_in_a_list_fails_the_whole_request_before_a_token_is_spent(
    world: World,
) -> None:
    alice, gita = world.client("alice", "acme"), world.client("gita", "globex")
    mine = (await gita.vector_stores.create(name="globex")).id
    theirs = (await alice.vector_stores.create(name="acme")).id

    with pytest.raises(openai.NotFoundError):
        await gita.responses.create(
            model="small", input="x", tools=[{"type": "file_search", "vector_store_ids": [mine, theirs]}]
        )
    assert world.upstream.requests == []


async def test_model_cannot_widen_a_search_by_its_arguments(world: World) -> None:
    store = await shared_store(world)
    alice, gita = world.client("alice", "acme"), world.client("gita", "globex")
    await ingest(alice, store, "leave.md", ACME)
    await ingest(gita, store, "leave.md", GLOBEX)
    wide = {
        "query": "annual leave",
        "vector_store_ids": [store],
        "filters": {"type": "eq", "key": "tenant", "value": "acme"},
        "tenant": "acme",
    }
    world.upstream.turns = [tool_call("file_search", wide), text("Done.")]
    await gita.responses.create(
        model="small", input="leave?", tools=[{"type": "file_search", "vector_store_ids": [store]}]
    )

    assert "red-kite" in world.upstream.prompt
    assert "blue-heron" not in world.upstream.prompt


async def test_counts_of_what_was_filtered_are_in_the_audit_record_and_not_in_the_answer(
    world: World,
) -> None:
    store = await shared_store(world)
    alice, gita = world.client("alice", "acme"), world.client("gita", "globex")
    await ingest(alice, store, "leave.md", ACME)
    await ingest(gita, store, "leave.md", GLOBEX)
    async with world.http("gita", "globex") as http:
        answer = await http.post(f"/vector_stores/{store}/search", json={"query": "annual leave"})

    (retrieval,) = [record["retrieval"] for record in world.audit(subject="gita") if "retrieval" in record]
    assert (retrieval["total"], retrieval["permitted"], retrieval["returned"]) == (2, 1, 1)
    assert set(answer.json()) == {"object", "search_query", "data", "has_more", "next_page"}
    assert world.gateway.services.retrieval.mismatches == 0  # type: ignore[union-attr]


async def test_every_kind_of_document_is_read(world: World, tmp_path: Path) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="acme")).id
    await ingest(
        alice,
        store,
        "page.html",
        "<html><body><h1>Leave</h1><p>HTML canary swift.</p><script>x()</script></body></html>",
    )
    await ingest(alice, store, "plain.txt", "Text canary lark.")
    everything = " ".join(await found(alice, store, "canary"))

    assert "swift" in everything
    assert "lark" in everything
    assert "x()" not in everything


async def test_unreadable_file_fails_with_a_reason_and_is_never_found(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="acme")).id
    file = await alice.files.create(file=("broken.pdf", b"%PDF-1.4 not really"), purpose="assistants")
    await alice.vector_stores.files.create(vector_store_id=store, file_id=file.id)
    async with asyncio.timeout(60):
        while (
            attached := await alice.vector_stores.files.retrieve(vector_store_id=store, file_id=file.id)
        ).status == "in_progress":
            await asyncio.sleep(0.05)

    assert attached.status == "failed"
    assert attached.last_error is not None
    assert attached.last_error.code == "invalid_file"
