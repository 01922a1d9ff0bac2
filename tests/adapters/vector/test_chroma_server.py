"""Chroma as a server keeps the contract that embedded Chroma keeps, for several gateways at once, and
fails in time.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from tests.adapters.vector.many_stores import chunks_of, fault, fill, names
from tests.chroma_server import ChromaRun, running_chroma
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
from regate_adapters.vector.chroma.kind import ChromaOnServer
from regate_adapters.vector.chroma.server import ChromaServer
from regate_adapters.vector.chroma.store import ChromaVectorStore
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Query
from regate_orchestrator.values import StoreId

CHECKS = vector_store_conformance()
STORE = StoreId("vs_0123456789abcdef")
USED = (STORE, StoreId("vs_conformance"), StoreId("vs_conformance_other"))
QUERY = hostile_chunks(count=1)[0].vector


def at(port: int, *, timeout_s: float = PATIENT_SECONDS) -> ChromaServer:
    return ChromaServer(f"http://127.0.0.1:{port}", timeout_s=timeout_s)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChromaRun]:
    folder, port = tmp_path_factory.mktemp("chroma-server"), free_port()
    with running_chroma(folder, port) as started:
        yield started


@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[ChromaRun]:
    """A server that keeps two indexes, configured as docs/vector-engines.md says."""
    port, data = free_port(), str(tmp_path / "data")
    pool = {"memory": {"capacity": 2, "shards": 1}}
    settings = {
        "port": port,
        "listen_address": "127.0.0.1",
        "persist_path": data,
        "segment_manager": {"persist_path": data, "hnsw_index_pool_cache_config": pool},
    }
    (tmp_path / "chroma.yaml").write_text(json.dumps(settings))
    with running_chroma(tmp_path, port, str(tmp_path / "chroma.yaml")) as started:
        yield started


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats that may take longer than a gateway would wait, but where a test says otherwise."""
    wait(monkeypatch, 30)


def wait(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr("regate_adapters.vector.chroma.store._CHECK_SECONDS", seconds)
    monkeypatch.setattr("regate_adapters.vector.chroma.server._PROBE_SECONDS", seconds)


@pytest.fixture
async def store(server: ChromaRun) -> AsyncIterator[ChromaVectorStore]:
    async with ChromaVectorStore(at(server.port), SCHEMA) as opened:
        yield opened
        for name in USED:
            await opened.drop(name)


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_a_chroma_server_keeps_the_contract(check: Check, store: ChromaVectorStore) -> None:
    await check(store, exempt=ChromaOnServer.refuses)


async def test_gateways_of_one_server_see_the_same_chunks(
    store: ChromaVectorStore, server: ChromaRun
) -> None:
    chunks = hostile_chunks()
    async with ChromaVectorStore(at(server.port), SCHEMA) as other:
        await store.create(STORE, dimensions=DIMENSIONS)
        await store.add(STORE, chunks)
        seen = await other.search(STORE, Query(QUERY, limit=1_000), plan=Everything())
        await other.remove(STORE, chunks[0].file_id)
        left = await store.search(STORE, Query(QUERY, limit=1_000), plan=Everything())
    assert (len(seen.candidates), len(left.candidates)) == (60, 55)


async def test_what_a_server_let_go_of_before_it_was_stored_is_found_again(small_server: ChromaRun) -> None:
    first, *others = names(6)
    async with ChromaVectorStore(at(small_server.port), SCHEMA) as store:
        await store.create(first, dimensions=DIMENSIONS)
        await store.add(first, hostile_chunks(count=250))
        await store.search(first, Query(QUERY, limit=1), plan=Everything())
        await store.add(first, chunks_of(first))
        for name in others:
            await fill(store, name)
        found = await store.search(first, Query(QUERY, limit=1_000), plan=Everything())
        faults = [await fault(store, name) for _ in range(2) for name in others]

    assert (len(found.candidates), faults) == (253, [None] * 10)


@pytest.mark.parametrize("break_by", ["swallow", "cut"])
async def test_a_broken_network_fails_the_check_in_time_and_is_mended_without_a_restart(
    break_by: str, server: ChromaRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Link(server.port) as link, ChromaVectorStore(place := at(link.port), SCHEMA) as store:
        link.become("swallow" if break_by == "swallow" else "cut")
        wait(monkeypatch, 0.5)
        wait_for_answers(place, SHORT)
        async with asyncio.timeout(_ENDLESS):
            refused = await asyncio.gather(
                store.check(),
                store.search(STORE, Query(QUERY, limit=1), plan=Everything()),
                return_exceptions=True,
            )
        wait(monkeypatch, 30)
        wait_for_answers(place, PATIENT_SECONDS)
        link.become("pass")
        await store.check()
        await store.create(STORE, dimensions=DIMENSIONS)
        await store.drop(STORE)
    assert [type(one) for one in refused] == [VectorStoreUnavailable] * 2


async def test_a_connection_cut_in_mid_use_is_a_failure_and_not_an_empty_answer(server: ChromaRun) -> None:
    async with (
        Link(server.port) as link,
        ChromaVectorStore(at(link.port), SCHEMA) as store,
    ):
        await store.create(STORE, dimensions=DIMENSIONS)
        await store.add(STORE, hostile_chunks())
        link.become("cut")
        for attempt in (
            lambda: store.search(STORE, Query(QUERY, limit=1), plan=Everything()),
            lambda: store.remove(STORE, hostile_chunks()[0].file_id),
            lambda: store.drop(STORE),
            store.check,
        ):
            with pytest.raises(VectorStoreUnavailable):
                await attempt()
        link.become("pass")
        found = await store.search(STORE, Query(QUERY, limit=1_000), plan=Everything())
        await store.drop(STORE)
    assert len(found.candidates) == 60


SHORT = 1.0
"""The longest wait for a server in tests that say what happens when it is over."""

_ENDLESS = 20
"""What no test need wait: less than what one request took once."""

OPERATIONS: dict[str, Callable[[ChromaVectorStore], Awaitable[object]]] = {
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
}


def wait_for_answers(place: ChromaServer, seconds: float) -> None:
    """Have the place wait so long from now on."""
    place.timeout_s = place._deadlines._longest_s = seconds


@pytest.mark.parametrize("first", [True, False], ids=["first use", "later use"])
@pytest.mark.parametrize("state", ["swallow", "drip", "half_close", "reset"])
async def test_no_operation_waits_longer_for_a_server_than_the_setting_says(
    state: State, first: bool, server: ChromaRun
) -> None:
    async with Link(server.port, delay_s=SHORT / 5) as link:
        place = at(link.port)
        async with ChromaVectorStore(place, SCHEMA) as store:
            if not first:
                await store.create(STORE, dimensions=DIMENSIONS)
                await store.add(STORE, hostile_chunks())
            wait_for_answers(place, SHORT)
            link.become(state)
            began = time.monotonic()
            refused = await asyncio.gather(
                *[ask(store) for _ in range(6) for ask in OPERATIONS.values()], return_exceptions=True
            )
            took = time.monotonic() - began
            link.become("pass")
            wait_for_answers(place, PATIENT_SECONDS)
            await store.create(STORE, dimensions=DIMENSIONS)
            await store.drop(STORE)

    assert {type(one) for one in refused} == {VectorStoreUnavailable}
    assert took < _ENDLESS


async def test_client_that_is_made_while_the_network_breaks_keeps_nobody_waiting(server: ChromaRun) -> None:
    async with Link(server.port) as link:
        place = at(link.port)
        async with ChromaVectorStore(place, SCHEMA) as store:
            wait_for_answers(place, SHORT)
            link.swallow_after = 1
            with pytest.raises(VectorStoreUnavailable):
                await store.create(STORE, dimensions=DIMENSIONS)
            link.swallow_after = None
            wait_for_answers(place, PATIENT_SECONDS)
            await store.create(STORE, dimensions=DIMENSIONS)
            found = await store.generations(STORE)
            await store.drop(STORE)

    assert found == frozenset()


async def test_something_else_at_the_address_fails_the_check() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with (
        listener,
        ChromaVectorStore(at(listener.sockets[0].getsockname()[1]), SCHEMA) as store,
    ):
        with pytest.raises(VectorStoreUnavailable):
            await store.check()


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:8000",
        "ftp://host",
        "http://",
        "http://user:word@host:8000",
        "http://host/path",
        "http://host:x",
        "http://h?x=1",
    ],
)
def test_an_address_that_cannot_be_a_server_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        ChromaServer(url, timeout_s=1)
    assert "word" not in refusal.value.message.replace("password", "")
