"""Weaviate keeps the contract on a real server. It fails in time, and never looks empty."""

from __future__ import annotations

import http.client
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.vector.answers import Asked, always, running_answers
from tests.adapters.vector.operations import (
    CHUNKS,
    OPERATIONS,
    QUERY,
    STORE,
    USED,
    a_chunk_that_changes_its_tenant_is_there_once,
    deployments_share_nothing,
    found_of,
    gateways_of_one_server_see_the_same_chunks,
    refusals,
    refused_each,
)
from tests.engines import weaviate
from tests.engines.weaviate import WeaviateRun, running_weaviate
from tests.link import Link, State
from tests.patience import PATIENT_SECONDS

from regate_adapters.testing.ports import free_port
from regate_adapters.testing.vector.suite import DIMENSIONS, SCHEMA, Check, vector_store_conformance
from regate_adapters.vector.kind import MARKED_REFUSES, Configured
from regate_adapters.vector.registry import KINDS
from regate_adapters.vector.weaviate.collections import is_as_made, of_rows
from regate_adapters.vector.weaviate.engine import _MOST
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Query, VectorStore
from regate_orchestrator.values import StoreId

pytestmark = pytest.mark.engines

CHECKS = vector_store_conformance()
SHORT = 0.5
ENDLESS = 20
KIND = KINDS["weaviate"]
KNOWN = {"properties": {"dimensions": DIMENSIONS}}


def configured(url: str, secrets: Mapping[str, str] | None = None, **more: object) -> Configured[Any]:
    given = {"url": url, "timeout_s": PATIENT_SECONDS, **more}
    return Configured(KIND.settings(**given), "vector.stores.main", secrets or {})


def started(folder: Path, *, api_key: str | None = None) -> AbstractContextManager[WeaviateRun]:
    if weaviate.program() is None:
        pytest.skip(weaviate.MISSING)
    return running_weaviate(folder, api_key=api_key)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeaviateRun]:
    with started(tmp_path_factory.mktemp("weaviate")) as running:
        yield running


@pytest.fixture
async def store(server: WeaviateRun) -> AsyncIterator[VectorStore]:
    async with KIND.open(configured(server.url), SCHEMA) as opened:
        yield opened
        for name in USED:
            await opened.drop(name)


def sent(server: WeaviateRun, method: str, path: str, document: object = None) -> int:
    """Ask the server beside the gateway; return the status."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=PATIENT_SECONDS)
    try:
        body = None if document is None else json.dumps(document)
        connection.request(method, path, body, {"Content-Type": "application/json"})
        return connection.getresponse().status
    finally:
        connection.close()


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_weaviate_keeps_the_contract(check: Check, store: VectorStore) -> None:
    await check(store, exempt=MARKED_REFUSES)


async def test_more_rows_than_one_answer_holds_are_written_searched_read_and_removed(
    store: VectorStore,
) -> None:
    stem = CHUNKS[0].id.rpartition("/")[0]
    many = [replace(CHUNKS[0], id=f"{stem}/{number:06}", index=number) for number in range(_MOST + 500)]
    await store.create(STORE, dimensions=DIMENSIONS)
    await store.add(STORE, many)
    # All are equally near, so that no answer of the server says which are first
    first = await store.search(STORE, Query(QUERY, limit=3), plan=Everything())
    found = await found_of(store)
    generations = await store.generations(STORE)
    await store.remove(STORE, CHUNKS[0].file_id)

    assert [one.id for one in first.candidates] == [chunk.id for chunk in many[:3]]
    assert (found, len(generations), await found_of(store)) == (_MOST, 1, 0)


async def test_a_chunk_that_changes_its_tenant_is_there_once(store: VectorStore) -> None:
    await a_chunk_that_changes_its_tenant_is_there_once(store)


async def test_gateways_of_one_server_see_the_same_chunks(store: VectorStore, server: WeaviateRun) -> None:
    async with KIND.open(configured(server.url), SCHEMA) as other:
        await gateways_of_one_server_see_the_same_chunks(store, other)


async def test_deployments_with_collections_of_their_own_share_nothing(
    store: VectorStore, server: WeaviateRun
) -> None:
    async with KIND.open(configured(server.url, collections="Another"), SCHEMA) as other:
        await deployments_share_nothing(store, other)


async def test_a_store_of_any_name_has_a_place_of_its_own(store: VectorStore) -> None:
    names = [StoreId("a/b?c#d%2F"), StoreId("vs_a b"), StoreId("ü\ud800"), StoreId("x" * 200)]
    for name in names:
        await store.create(name, dimensions=DIMENSIONS)
    await store.add(names[0], CHUNKS)
    totals = [(await store.search(name, Query(QUERY, limit=1), plan=Everything())).total for name in names]
    for name in names:
        await store.drop(name)

    assert totals == [60, 0, 0, 0]


async def test_a_tenant_that_is_gone_is_a_failure_and_is_not_made_by_writing(
    store: VectorStore, server: WeaviateRun
) -> None:
    await store.create(STORE, dimensions=DIMENSIONS)
    await store.add(STORE, CHUNKS)
    assert sent(server, "DELETE", f"/v1/schema/RegateRows{DIMENSIONS}/tenants", [STORE]) == 200

    for name in ("add", "search", "texts", "restamp", "remove", "generations"):
        with pytest.raises(VectorStoreUnavailable):
            await OPERATIONS[name](store)


async def test_a_collection_that_is_gone_is_a_failure_and_is_never_made_another_way(
    server: WeaviateRun,
) -> None:
    async with KIND.open(configured(server.url, collections="Lost"), SCHEMA) as store:
        await store.create(STORE, dimensions=DIMENSIONS)
        await store.add(STORE, CHUNKS)
        assert sent(server, "DELETE", f"/v1/schema/LostRows{DIMENSIONS}") == 200

        for name in ("add", "search", "texts", "restamp", "remove", "generations", "drop"):
            with pytest.raises(VectorStoreUnavailable):
                await OPERATIONS[name](store)


async def test_a_collection_of_another_make_is_refused(server: WeaviateRun) -> None:
    assert sent(server, "POST", "/v1/schema", {"class": f"MadeRows{DIMENSIONS}"}) == 200
    async with KIND.open(configured(server.url, collections="Made"), SCHEMA) as store:
        with pytest.raises(VectorStoreUnavailable) as refused:
            await store.create(STORE, dimensions=DIMENSIONS)

    assert "is not as Regate makes it" in refused.value.detail


@pytest.mark.parametrize(
    ("change", "is_right"),
    [
        ({}, True),
        ({"description": "ours"}, True),
        ({"vectorIndexType": "hnsw"}, False),
        ({"vectorIndexConfig": {"distance": "cosine"}}, False),
        ({"vectorIndexConfig": {"distance": "dot", "bq": {"enabled": True}}}, False),
        ({"vectorIndexConfig": {"distance": "dot", "bq": {"enabled": False}}}, True),
        ({"multiTenancyConfig": {"enabled": False}}, False),
        ({"properties": []}, False),
    ],
)
def test_what_a_collection_must_be_like(change: dict[str, object], is_right: bool) -> None:
    wanted = of_rows("RegateRows8")

    assert is_as_made({**wanted, **change}, wanted) is is_right


async def test_a_server_that_was_killed_has_what_it_kept(tmp_path: Path) -> None:
    with started(tmp_path) as server:
        async with KIND.open(configured(server.url), SCHEMA) as store:
            await store.create(STORE, dimensions=DIMENSIONS)
            await store.add(STORE, CHUNKS)
            server.stop()
            await refused_each(store)
            server.start()

            assert await found_of(store) == 60


async def test_a_key_is_asked_for_and_sent(tmp_path: Path) -> None:
    with started(tmp_path, api_key="s3cret") as server:
        for key in (None, "wr0ng"):
            secrets = {} if key is None else {"api_key_env": key}
            given = configured(server.url, secrets, api_key_env="K")
            async with KIND.open(given, SCHEMA) as store:
                told = await refusals(store, within_s=PATIENT_SECONDS)
            with pytest.raises(
                ConfigurationError, match=r"401 \(the key, or user and password, are"
            ) as refused:
                await KIND.examine(given)
            assert "wr0ng" not in f"{told}{refused.value}"
        async with KIND.open(
            configured(server.url, {"api_key_env": "s3cret"}, api_key_env="K"), SCHEMA
        ) as store:
            await store.create(STORE, dimensions=DIMENSIONS)
            await store.add(STORE, CHUNKS)

            assert await found_of(store) == 60


@pytest.mark.parametrize("state", ["swallow", "drip", "half_close", "reset", "cut"])
async def test_no_operation_waits_longer_for_an_answer_than_the_setting_says(
    state: State, server: WeaviateRun
) -> None:
    async with Link(server.port, delay_s=SHORT / 5) as link:
        link.become(state)
        async with KIND.open(configured(f"http://127.0.0.1:{link.port}", timeout_s=SHORT), SCHEMA) as store:
            await refusals(store, within_s=ENDLESS)


async def test_a_server_that_is_not_there_is_a_failure() -> None:
    given = configured(f"http://127.0.0.1:{free_port()}")
    async with KIND.open(given, SCHEMA) as store:
        await refusals(store, within_s=ENDLESS)
    with pytest.raises(
        ConfigurationError, match=r"Weaviate cannot be used at .*: no connection to "
    ) as refused:
        await KIND.examine(given)
    assert "NotConnected" not in refused.value.message


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>"),
        (200, b""),
        (200, []),
        (200, {}),
        (401, {"error": "s3cret"}),
        (403, b"<html>s3cret"),
        (422, {"error": [{"message": "s3cret"}]}),
        (503, {}),
    ],
    ids=str,
)
async def test_a_wrong_answer_is_a_failure(answer: tuple[int, object]) -> None:
    with running_answers(always(*answer)) as answers:
        given = configured(answers.url, {"api_key_env": "s3cret"}, api_key_env="K")
        async with KIND.open(given, SCHEMA) as store:
            told = await refusals(store, within_s=ENDLESS)

    assert "s3cret" not in str(told)
    assert {asked.authorization for asked in answers.asked} == {"Bearer s3cret"}


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("search", {"data": {"Get": {f"RegateRows{DIMENSIONS}": None}}, "errors": [{"message": "s3cret"}]}),
        ("search", {"data": {"Get": {f"RegateRows{DIMENSIONS}": None}}}),
        ("search", {"data": {"Get": {}, "Aggregate": {f"RegateRows{DIMENSIONS}": []}}}),
        ("generations", {"data": {"Aggregate": {f"RegateRows{DIMENSIONS}": []}}}),
        ("remove", {"results": {"matches": 3, "successful": 0, "failed": 0}}),
        ("remove", {"results": {"matches": 3, "successful": 2, "failed": 1}}),
        ("add", [{"result": {"status": "SUCCESS"}}] * (len(CHUNKS) - 1)),
        ("add", [{"result": {"status": "FAILED"}}] * len(CHUNKS)),
    ],
)
async def test_an_answer_of_a_part_is_a_failure(name: str, wrong: object) -> None:
    def answering(asked: Asked) -> tuple[int, bytes]:
        return 200, json.dumps(KNOWN if asked.method == "GET" else wrong).encode()

    with running_answers(answering) as answers:
        async with KIND.open(configured(answers.url), SCHEMA) as store:
            with pytest.raises(VectorStoreUnavailable) as refused:
                await OPERATIONS[name](store)

    assert "s3cret" not in refused.value.detail


async def test_what_answers_is_told(server: WeaviateRun) -> None:
    assert await KIND.examine(configured(server.url)) == f"Weaviate 1.35.2 answers at {server.url}"
    for answer, told in [({"version": "1.32.9"}, "1.32.9 .* is too old"), ({}, "is no Weaviate")]:
        with running_answers(always(200, answer)) as answers, pytest.raises(ConfigurationError, match=told):
            await KIND.examine(configured(answers.url))


def test_a_key_that_no_header_may_hold_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no header may have"):
        KIND.check(configured("http://h", {"api_key_env": "a\r\nb"}, api_key_env="K"))


@pytest.mark.parametrize("url", ["", "localhost:8080", "ftp://h", "http://u:word@h", "http://h?x=1"])
def test_an_address_that_cannot_be_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"must (be|not hold)"):
        configured(url)


@pytest.mark.parametrize("name", ["regate", "Regate8", "Re-gate", ""])
def test_a_name_that_no_collection_may_have_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="match pattern"):
        configured("http://h", collections=name)
