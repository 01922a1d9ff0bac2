"""Chroma as a server keeps the contract that embedded Chroma keeps, for several gateways at once, and
fails in time.
"""

from __future__ import annotations

import asyncio
import http.client
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.adapters.vector.many_stores import chunks_of, fault, fill, names
from tests.postgres import Link

from regate_adapters.testing.ports import free_port
from regate_adapters.testing.vector.suite import (
    DIMENSIONS,
    SCHEMA,
    Check,
    Exempt,
    hostile_chunks,
    vector_store_conformance,
)
from regate_adapters.vector.chroma.server import ChromaServer
from regate_adapters.vector.chroma.store import ChromaVectorStore
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Query
from regate_orchestrator.values import StoreId

CHECKS = vector_store_conformance()
REFUSES: Exempt = {
    "text": "Chroma has no string predicates on metadata",
    "string_order": "Chroma orders numbers alone",
    "two_fields": "Chroma compares a field with a value only",
    "undeclared": "a path that is never stored is more likely a mistake in the policy than meant",
}
STORE = StoreId("vs_0123456789abcdef")
USED = (STORE, StoreId("vs_conformance"), StoreId("vs_conformance_other"))
QUERY = hostile_chunks(count=1)[0].vector


@dataclass(frozen=True, slots=True)
class Server:
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def _answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/api/v2/heartbeat")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


@contextmanager
def running(folder: Path, port: int, *arguments: str) -> Iterator[Server]:
    command = [str(Path(sys.executable).parent / "chroma"), "run", *arguments]
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command, cwd=folder, stdout=log, stderr=log) as process,
    ):
        try:
            give_up = time.monotonic() + 60
            while not _answers(port):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < give_up
                time.sleep(0.05)
            yield Server(port)
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder, port = tmp_path_factory.mktemp("chroma-server"), free_port()
    with running(
        folder, port, "--path", str(folder / "data"), "--host", "127.0.0.1", "--port", str(port)
    ) as started:
        yield started


@pytest.fixture
def small_server(tmp_path: Path) -> Iterator[Server]:
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
    with running(tmp_path, port, str(tmp_path / "chroma.yaml")) as started:
        yield started


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats that may take longer than a gateway would wait, but where a test says otherwise."""
    wait(monkeypatch, 30)


def wait(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr("regate_adapters.vector.chroma.store._CHECK_SECONDS", seconds)
    monkeypatch.setattr("regate_adapters.vector.chroma.server._PROBE_SECONDS", seconds)


@pytest.fixture
async def store(server: Server) -> AsyncIterator[ChromaVectorStore]:
    async with ChromaVectorStore(ChromaServer(server.url), SCHEMA) as opened:
        yield opened
        for name in USED:
            await opened.drop(name)


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_a_chroma_server_keeps_the_contract(check: Check, store: ChromaVectorStore) -> None:
    await check(store, exempt=REFUSES)


async def test_gateways_of_one_server_see_the_same_chunks(store: ChromaVectorStore, server: Server) -> None:
    chunks = hostile_chunks()
    async with ChromaVectorStore(ChromaServer(server.url), SCHEMA) as other:
        await store.create(STORE, dimensions=DIMENSIONS)
        await store.add(STORE, chunks)
        seen = await other.search(STORE, Query(QUERY, limit=1_000), plan=Everything())
        await other.remove(STORE, chunks[0].file_id)
        left = await store.search(STORE, Query(QUERY, limit=1_000), plan=Everything())
    assert (len(seen.candidates), len(left.candidates)) == (60, 55)


async def test_what_a_server_let_go_of_before_it_was_stored_is_found_again(small_server: Server) -> None:
    first, *others = names(6)
    async with ChromaVectorStore(ChromaServer(small_server.url), SCHEMA) as store:
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
    break_by: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with (
        Link(server.port) as link,
        ChromaVectorStore(ChromaServer(f"http://127.0.0.1:{link.port}"), SCHEMA) as store,
    ):
        link.become("swallow" if break_by == "swallow" else "cut")
        wait(monkeypatch, 0.5)
        async with asyncio.timeout(20):  # less than a request may take
            refused = await asyncio.gather(
                store.check(),
                store.search(STORE, Query(QUERY, limit=1), plan=Everything()),
                return_exceptions=True,
            )
        wait(monkeypatch, 30)
        link.become("pass")
        await store.check()
        await store.create(STORE, dimensions=DIMENSIONS)
        await store.drop(STORE)
    assert [type(one) for one in refused] == [VectorStoreUnavailable] * 2


async def test_a_connection_cut_in_mid_use_is_a_failure_and_not_an_empty_answer(server: Server) -> None:
    async with (
        Link(server.port) as link,
        ChromaVectorStore(ChromaServer(f"http://127.0.0.1:{link.port}"), SCHEMA) as store,
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


async def test_something_else_at_the_address_fails_the_check() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        writer.close()

    listener = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with (
        listener,
        ChromaVectorStore(
            ChromaServer(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"), SCHEMA
        ) as store,
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
        ChromaServer(url)
    assert "word" not in refusal.value.message.replace("password", "")
