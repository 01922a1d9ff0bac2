"""Where a vector store is, and with which model it was made: both are remembered, and nothing else is
ever used in their place.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.deployments import Deployment, only_on
from tests.e2e.conftest import ScriptedUpstream, World
from tests.patience import PATIENT_SECONDS

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

OTHER_MODEL = {"kind": "upstream", "upstream": "scripted", "model": "small"}

Start = Callable[..., Any]


@pytest.fixture
def two_engines(deployment: Deployment) -> dict[str, Any]:
    """Settings of `vector`: beside the usual engine there is one of another tenant's own."""
    return {"stores": {"main": dict(deployment.store), "acme-own": {"kind": "chroma"}}}


@pytest.fixture
def start(configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path) -> Start:
    """Start a gateway on the test's data, under a policy with this in `data.regate.placement`."""

    @asynccontextmanager
    async def started(*, placement: dict[str, str] | None = None, **changes: Any) -> AsyncIterator[World]:
        data = json.loads((policies / "data.json").read_text())
        data["regate"]["placement"] = placement or {}
        (policies / "data.json").write_text(json.dumps(data))
        settings = configure(**changes)
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            world = World(server.url, settings, gateway, upstream, policies)
            yield world
            for client in world.clients:
                await client.close()

    return started


async def filled(world: World, tenant: str, text: str) -> str:
    """Make a store with one document, and return its id once the document can be found."""
    client = world.client("ann", tenant)
    store = (await client.vector_stores.create(name="Handbook")).id
    await add(world, tenant, store, text)
    return store


async def add(world: World, tenant: str, store: str, text: str) -> None:
    client = world.client("ann", tenant)
    file = await client.files.create(file=("a.md", text.encode()), purpose="assistants")
    await client.vector_stores.files.create(vector_store_id=store, file_id=file.id)
    async with asyncio.timeout(60):
        while (
            state := await client.vector_stores.files.retrieve(vector_store_id=store, file_id=file.id)
        ).status == "in_progress":
            await asyncio.sleep(0.05)
    assert state.status == "completed"


async def searched(world: World, tenant: str, store: str) -> httpx.Response:
    async with world.http("ann", tenant) as http:
        return await http.post(f"/vector_stores/{store}/search", json={"query": "days of leave"})


async def engine_of(world: World, store: str) -> str | None:
    assert world.gateway.services is not None
    return await world.gateway.services.state.vector_stores.engine_of(store)  # type: ignore[arg-type]


async def test_policy_says_where_a_tenants_new_stores_are_and_they_stay_there(
    start: Start, two_engines: dict[str, Any]
) -> None:
    async with start(vector=two_engines, placement={"acme": "acme-own"}) as world:
        acme, globex = (
            await filled(world, "acme", "Acme: 28 days of leave."),
            await filled(world, "globex", "Globex: 20 days of leave."),
        )
        placed = [await engine_of(world, store) for store in (acme, globex)]
        found = [
            (await searched(world, tenant, store)).json()["data"]
            for tenant, store in (("acme", acme), ("globex", globex))
        ]
        async with httpx.AsyncClient(base_url=world.url, timeout=120) as http:
            ready = (await http.get("/readyz")).json()
    async with start(vector=two_engines | {"default": "acme-own"}, placement={"globex": "acme-own"}) as world:
        later = [
            (await searched(world, tenant, store)).json()["data"]
            for tenant, store in (("acme", acme), ("globex", globex))
        ]

    assert placed == ["acme-own", "main"]
    assert [[hit["content"][0]["text"] for hit in hits] for hits in found] == [
        ["Acme: 28 days of leave."],
        ["Globex: 20 days of leave."],
    ]
    assert later == found
    assert ready["vector_stores"] == {"main": "ok", "acme-own": "ok"}


@only_on("embedded")
async def test_engine_that_hangs_and_need_not_answer_holds_up_no_probe(
    start: Start, two_engines: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"http://127.0.0.1:{silent.getsockname()[1]}"
        own = {"kind": "weaviate", "url": address, "timeout_s": PATIENT_SECONDS}
        two_engines["stores"]["acme-own"] = own
        async with (
            start(vector=two_engines) as world,
            httpx.AsyncClient(base_url=world.url, timeout=120) as anyone,
        ):
            monkeypatch.setattr("regate_gateway.routes.health._OTHERS_SECONDS", 0.05)
            ready = await anyone.get("/readyz")
    told = {"main": "ok", "acme-own": "timeout"}
    assert (ready.status_code, ready.json()["vector_stores"]) == (200, told)


async def test_store_of_an_engine_that_is_no_longer_configured_is_unavailable_and_not_empty(
    start: Start, two_engines: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async with start(vector=two_engines, placement={"acme": "acme-own"}) as world:
        store = await filled(world, "acme", "28 days of leave.")
    async with start() as world:
        answer = await searched(world, "acme", store)
        foreign = await searched(world, "globex", store)
        async with world.http("ann", "acme") as http:
            known = await http.get(f"/vector_stores/{store}")

    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "vector_store_unavailable")
    assert (foreign.status_code, known.status_code) == (404, 200)
    (warned,) = [one.__dict__ for one in caplog.records if one.message == "stores_without_engine"]
    assert (warned["count"], "acme-own" in warned["detail"]) == (1, True)


async def test_engine_that_policy_names_and_that_is_not_configured_gets_no_store(start: Start) -> None:
    async with start(placement={"acme": "elsewhere"}) as world, world.http("ann", "acme") as http:
        answer = await http.post("/vector_stores", json={"name": "Handbook"})
        listed = await http.get("/vector_stores")

    assert (answer.status_code, answer.json()["error"]["code"], listed.json()["data"]) == (
        503,
        "policy_unavailable",
        [],
    )


async def test_store_of_another_model_is_refused_in_words_that_say_what_to_do(
    start: Start, upstream: ScriptedUpstream
) -> None:
    async with start() as world:
        store = await filled(world, "acme", "28 days of leave.")
    async with start(embeddings=OTHER_MODEL) as world:
        client = world.client("ann", "acme")
        file = await client.files.create(file=("b.md", b"30 days of leave."), purpose="assistants")
        asked_before = len(upstream.requests)
        search = await searched(world, "acme", store)
        async with world.http("ann", "acme") as http:
            attach = await http.post(f"/vector_stores/{store}/files", json={"file_id": file.id})
            tool = {"type": "file_search", "vector_store_ids": [store]}
            response = await http.post("/responses", json={"model": "small", "input": "Hi", "tools": [tool]})
        foreign = await searched(world, "globex", store)

    for answer in (search, attach, response):
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (400, "embedding_model_not_configured")
        assert "Create a new vector store" in error["message"]
    assert foreign.status_code == 404
    assert len(upstream.requests) == asked_before  # before a token is spent, and before anything is embedded


async def test_model_that_is_still_named_goes_on_serving_its_stores(start: Start) -> None:
    async with start() as world:
        store = await filled(world, "acme", "28 days of leave.")
    async with start(embeddings=OTHER_MODEL | {"also": [{"kind": "local"}]}) as world:
        await add(world, "acme", store, "Parental leave is 60 days.")
        found = (await searched(world, "acme", store)).json()["data"]
        newer = await filled(world, "acme", "In another space.")
        assert world.gateway.services is not None
        rows = [
            await world.gateway.services.state.vector_stores.get(principal(), one) for one in (store, newer)
        ]  # type: ignore[arg-type]

    assert {hit["content"][0]["text"] for hit in found} == {"28 days of leave.", "Parental leave is 60 days."}
    assert [(row.embedder, row.dimensions) for row in rows if row] == [
        ("wordllama-256", 256),
        ("upstream:small", 2),
    ]


def principal() -> Any:
    from regate_orchestrator.principal import Principal

    return Principal("ann", "acme")
