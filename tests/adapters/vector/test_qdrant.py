"""Qdrant keeps the contract: its own engine behind its HTTP API, and its client's local mode, which is a
second reading of what filters mean. A server that fails is a failure in time.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from typing import Final

import pytest
from pydantic import ValidationError
from tests.adapters.vector.drivers import (
    DRIVER_CHECKS,
    QUERY,
    STORE,
    fill_to_be_killed,
    gateways_of_one_server_see_the_same_rows,
    ids,
    row,
)
from tests.link import Link, State
from tests.patience import PATIENT_SECONDS

from regate_adapters.testing.ports import free_port
from regate_adapters.testing.vector.suite import (
    DIMENSIONS,
    SCHEMA,
    Check,
    hostile_chunks,
    vector_store_conformance,
)
from regate_adapters.vector.kind import MARKED_REFUSES, Configured
from regate_adapters.vector.marked.store import MarkedVectorStore
from regate_adapters.vector.qdrant.engine import QdrantEngine
from regate_adapters.vector.qdrant.kind import Qdrant
from regate_adapters.vector.qdrant.settings import QdrantSettings
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Query
from regate_orchestrator.values import StoreId

pytest.importorskip("qdrant_client", reason="install qdrant-client")
pytest.importorskip("qdrant_edge", reason="install qdrant-edge-py")

from qdrant_client import AsyncQdrantClient, models
from tests.engines.qdrant import QdrantRun, running_qdrant

from regate_adapters.vector.qdrant.connecting import client_of

pytestmark = pytest.mark.engines

CHECKS: Final = vector_store_conformance()
USED: Final = (
    STORE,
    *map(StoreId, ("vs_conformance", "vs_conformance_other", "vs_conformance_clients", "vs_modes")),
)
KEY: Final = "a-key-that-nobody-may-see"
SHORT: Final = 1.0
_ENDLESS: Final = 20


def engine_at(port: int, *, timeout_s: float = PATIENT_SECONDS, key: str | None = KEY) -> QdrantEngine:
    url = f"http://127.0.0.1:{port}"
    return QdrantEngine(client_of(url, key, timeout_s=timeout_s), timeout_s=timeout_s, collections="tests")


def store_of(engine: QdrantEngine) -> MarkedVectorStore:
    return MarkedVectorStore(engine, SCHEMA, shared=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[QdrantRun]:
    with running_qdrant(tmp_path_factory.mktemp("qdrant"), api_key=KEY) as started:
        yield started


@pytest.fixture
async def engine(server: QdrantRun) -> AsyncIterator[QdrantEngine]:
    opened = engine_at(server.port)
    yield opened
    for name in USED:
        await opened.drop(name)
    await opened.aclose()


@pytest.fixture
async def local() -> AsyncIterator[QdrantEngine]:
    opened = QdrantEngine(
        lambda: AsyncQdrantClient(":memory:"), timeout_s=PATIENT_SECONDS, collections="tests"
    )
    yield opened
    await opened.aclose()


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_qdrants_engine_keeps_the_contract(check: Check, engine: QdrantEngine) -> None:
    await check(store_of(engine), exempt=MARKED_REFUSES)


# Local mode takes more than a minute for the largest filters, which are the engine's matter anyway.
@pytest.mark.filterwarnings("ignore:Payload indexes have no effect", "ignore:Local mode performs exact")
@pytest.mark.parametrize("check", [check for check in CHECKS if "largest" not in str(check)], ids=str)
async def test_local_mode_of_its_client_keeps_the_contract(check: Check, local: QdrantEngine) -> None:
    await check(store_of(local), exempt=MARKED_REFUSES)


@pytest.mark.parametrize("check", DRIVER_CHECKS)
async def test_qdrant_does_what_a_driver_must(check: str, engine: QdrantEngine) -> None:
    await DRIVER_CHECKS[check](engine)


async def test_gateways_of_one_server_see_the_same_rows(engine: QdrantEngine, server: QdrantRun) -> None:
    async with aclosing(engine_at(server.port)) as other:
        await gateways_of_one_server_see_the_same_rows(engine, other)


async def test_a_server_that_was_killed_has_kept_what_it_took(
    engine: QdrantEngine, server: QdrantRun
) -> None:
    kept = await fill_to_be_killed(engine)
    server.stop()
    with pytest.raises(VectorStoreUnavailable):
        await engine.check()
    server.start()

    assert await ids(engine, True) == kept


async def test_a_collection_of_others_is_left_alone(engine: QdrantEngine, server: QdrantRun) -> None:
    foreign = AsyncQdrantClient(url=server.url, headers={"api-key": KEY}, check_compatibility=False)
    vectors = models.VectorParams(size=4, distance=models.Distance.DOT)
    await foreign.create_collection("tests_9", vectors_config=vectors, hnsw_config=models.HnswConfigDiff(m=0))
    await foreign.close()

    with pytest.raises(VectorStoreUnavailable) as refused:
        await engine.make(STORE, 9)
    assert "tests_9 is not one that Regate made" in (refused.value.detail or "")
    assert await engine.dimensions(STORE) is None


# ---------------------------------------------------------------- a server that fails

OPERATIONS: Final[dict[str, Callable[[MarkedVectorStore], Awaitable[object]]]] = {
    "create": lambda store: store.create(STORE, dimensions=DIMENSIONS),
    "add": lambda store: store.add(STORE, hostile_chunks()),
    "search": lambda store: store.search(STORE, Query(QUERY, limit=1), plan=Everything()),
    "texts": lambda store: store.texts(STORE, [hostile_chunks(count=1)[0].id], tenant="acme"),
    "restamp": lambda store: store.restamp(
        STORE, hostile_chunks()[0].file_id, generation="g", target="h", stamp={}, attributes={}
    ),
    "remove": lambda store: store.remove(STORE, hostile_chunks()[0].file_id),
    "generations": lambda store: store.generations(STORE),
    "drop": lambda store: store.drop(STORE),
    "check": lambda store: store.check(),
}


@pytest.mark.parametrize("state", ["swallow", "drip", "half_close", "reset", "cut"])
async def test_no_operation_waits_longer_for_a_server_than_the_setting_says(
    state: State, engine: QdrantEngine, server: QdrantRun
) -> None:
    await engine.make(STORE, DIMENSIONS)
    async with (
        Link(server.port, delay_s=SHORT / 5) as link,
        aclosing(engine_at(link.port, timeout_s=SHORT)) as broken,
    ):
        link.become(state)
        began = time.monotonic()
        refused = await asyncio.gather(
            *[ask(store_of(broken)) for _ in range(4) for ask in OPERATIONS.values()], return_exceptions=True
        )
        took = time.monotonic() - began
        link.become("pass")
        await engine.put(STORE, [row("1", "m")])

    assert {type(one) for one in refused} == {VectorStoreUnavailable}
    assert took < _ENDLESS
    assert await ids(engine, True) == ["1"]


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_server_that_is_not_there_is_a_failure(name: str) -> None:
    async with aclosing(engine_at(free_port())) as engine:
        with pytest.raises(VectorStoreUnavailable) as refused:
            await OPERATIONS[name](store_of(engine))

    assert "failed with ConnectError (All connection attempts failed)" in (refused.value.detail or "")


@pytest.mark.parametrize("key", [None, "wrong"])
async def test_a_key_that_is_refused_is_a_failure_that_says_so(key: str | None, server: QdrantRun) -> None:
    async with aclosing(engine_at(server.port, key=key)) as engine:
        for ask in OPERATIONS.values():
            with pytest.raises(VectorStoreUnavailable) as refused:
                await ask(store_of(engine))
            assert "status 401 (the API key is refused)" in (refused.value.detail or "")


async def test_examination_names_the_version_and_what_is_wrong(server: QdrantRun) -> None:
    def configured(url: str, key: str) -> Configured[QdrantSettings]:
        settings = QdrantSettings(url=url, api_key_env="QDRANT_KEY")
        return Configured(settings, "vector.stores.main", {"api_key_env": key})

    told = await Qdrant().examine(configured(server.url, KEY))
    faults = []
    for url, key in ((server.url, "other"), (f"http://127.0.0.1:{free_port()}", KEY)):
        with pytest.raises(ConfigurationError) as refused:
            await Qdrant().examine(configured(url, key))
        faults.append(refused.value.message)

    assert told == f"Qdrant 0.9.0-edge answers at {server.url}"
    assert f"Qdrant cannot be used at {server.url}: " in faults[0]
    assert ("the API key is refused" in faults[0], "ConnectError" in faults[1]) == (True, True)
    assert KEY not in "".join(faults)


@pytest.mark.parametrize(
    "url", ["", "localhost:6333", "ftp://host", "http://", "http://user:word@host:6333", "http://h?x=1"]
)
def test_an_address_that_cannot_be_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        QdrantSettings(url=url)


async def test_it_is_opened_with_its_settings_and_closed(server: QdrantRun) -> None:
    configured = Configured(
        QdrantSettings(url=server.url, api_key_env="V", collections="other", timeout_s=60),
        "p",
        {"api_key_env": KEY},
    )
    async with Qdrant().open(configured, SCHEMA) as store:
        await store.create(STORE, dimensions=DIMENSIONS)
        await store.add(STORE, hostile_chunks())
        found = await store.search(STORE, Query(QUERY, limit=3), plan=Everything())
        await store.drop(STORE)

    assert (len(found.candidates), found.total, await store.is_shared(STORE)) == (3, 60, True)
