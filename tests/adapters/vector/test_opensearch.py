"""OpenSearch keeps the contract on a real server, and so does Elasticsearch as far as OpenSearch can stand
for it. Both fail in time, and never look empty.
"""

from __future__ import annotations

import http.client
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import replace

import pytest
from tests.adapters.vector.answers import Answers, Asked, always, running_answers
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
from tests.engines import opensearch
from tests.engines.elasticsearch_over_opensearch import forwarded
from tests.engines.opensearch import OpenSearchRun, running_opensearch
from tests.link import Link, State
from tests.patience import PATIENT_SECONDS

from regate_adapters.testing.ports import free_port
from regate_adapters.testing.vector.suite import DIMENSIONS, SCHEMA, Check, vector_store_conformance
from regate_adapters.vector.kind import MARKED_REFUSES, Configured
from regate_adapters.vector.registry import KINDS
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Query, VectorStore
from regate_orchestrator.values import StoreId

pytestmark = pytest.mark.engines

CHECKS = vector_store_conformance()
QUICK = [check for check in CHECKS if "atom" not in str(check)]
SHORT = 0.5
ENDLESS = 20
KIND = KINDS["opensearch"]


def configured(
    url: str, kind: str = "opensearch", secrets: Mapping[str, str] | None = None, **more: object
) -> Configured[object]:
    given = {"url": url, "timeout_s": PATIENT_SECONDS, **more}
    return Configured(KINDS[kind].settings(**given), "vector.stores.main", secrets or {})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenSearchRun]:
    if not opensearch.is_installed():
        pytest.skip(opensearch.MISSING)
    with running_opensearch(tmp_path_factory.mktemp("opensearch")) as started:
        yield started


@pytest.fixture(scope="module")
def translator(server: OpenSearchRun) -> Iterator[Answers]:
    def answering(asked: Asked) -> tuple[int, bytes]:
        return forwarded(server.url, asked.method, asked.path, asked.body)

    with running_answers(answering) as answers:
        yield answers


@pytest.fixture
async def store(server: OpenSearchRun) -> AsyncIterator[VectorStore]:
    async with KIND.open(configured(server.url), SCHEMA) as opened:
        yield opened
        for name in USED:
            await opened.drop(name)


@pytest.fixture
async def elasticsearch(translator: Answers) -> AsyncIterator[VectorStore]:
    given = configured(translator.url, "elasticsearch", index_prefix="elastic")
    async with KINDS["elasticsearch"].open(given, SCHEMA) as opened:
        yield opened
        for name in USED:
            await opened.drop(name)


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_opensearch_keeps_the_contract(check: Check, store: VectorStore) -> None:
    await check(store, exempt=MARKED_REFUSES)


@pytest.mark.parametrize("check", QUICK, ids=str)
async def test_elasticsearch_keeps_the_contract_over_opensearch(
    check: Check, elasticsearch: VectorStore
) -> None:
    await check(elasticsearch, exempt=MARKED_REFUSES)


async def test_more_rows_than_one_request_holds_are_written_read_and_removed(store: VectorStore) -> None:
    many = [
        replace(CHUNKS[0], id=f"{CHUNKS[0].id.rpartition('/')[0]}/{number:06}", index=number)
        for number in range(4_500)
    ]
    await store.create(STORE, dimensions=DIMENSIONS)
    await store.add(STORE, many)
    found = await found_of(store)
    tenant = str(CHUNKS[0].stamp["tenant"])
    texts = await store.texts(STORE, [chunk.id for chunk in many], tenant=tenant)
    await store.remove(STORE, CHUNKS[0].file_id)

    assert (found, len(texts), await found_of(store)) == (4_500, 4_500, 0)


async def test_a_chunk_that_changes_its_tenant_is_there_once(store: VectorStore) -> None:
    await a_chunk_that_changes_its_tenant_is_there_once(store)


async def test_gateways_of_one_server_see_the_same_chunks(store: VectorStore, server: OpenSearchRun) -> None:
    async with KIND.open(configured(server.url), SCHEMA) as other:
        await gateways_of_one_server_see_the_same_chunks(store, other)


async def test_deployments_with_prefixes_of_their_own_share_nothing(
    store: VectorStore, server: OpenSearchRun
) -> None:
    async with KIND.open(configured(server.url, index_prefix="another"), SCHEMA) as other:
        await deployments_share_nothing(store, other)


async def test_an_index_that_is_gone_is_a_failure_and_is_not_made_by_writing(
    server: OpenSearchRun,
) -> None:
    async with KIND.open(configured(server.url, index_prefix="lost"), SCHEMA) as store:
        await store.create(STORE, dimensions=DIMENSIONS)
        await store.add(STORE, CHUNKS)
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        connection.request("DELETE", f"/lost-rows-{DIMENSIONS}-1")
        assert connection.getresponse().status == 200
        connection.close()

        for name in ("add", "search", "texts", "restamp", "remove", "generations", "drop"):
            with pytest.raises(VectorStoreUnavailable):
                await OPERATIONS[name](store)


@pytest.mark.parametrize(
    "changed",
    [
        {"marks": {"type": "text"}},
        {"place": {"type": "keyword", "ignore_above": 8}},
        {"vector": {"type": "knn_vector", "dimension": DIMENSIONS + 1}},
    ],
    ids=["type", "ignored", "length"],
)
async def test_an_index_of_other_fields_is_refused(
    changed: Mapping[str, object], server: OpenSearchRun
) -> None:
    prefix = f"other-{free_port()}"
    fields = {name: {"type": "keyword"} for name in ("store", "marks", "id", "place")}
    vector = {"type": "knn_vector", "dimension": DIMENSIONS}
    index = f"{prefix}-rows-{DIMENSIONS}"
    body = {"mappings": {"properties": {**fields, "vector": vector, **changed}}, "aliases": {index: {}}}
    assert forwarded(server.url, "PUT", f"/{index}-made", json.dumps(body).encode())[0] == 200
    async with KIND.open(configured(server.url, index_prefix=prefix), SCHEMA) as store:
        with pytest.raises(VectorStoreUnavailable) as refused:
            await store.create(STORE, dimensions=DIMENSIONS)
        (name,) = changed

    assert (
        refused.value.detail == f"the index {index} of OpenSearch is not as Regate makes it: its field {name}"
    )


async def test_a_server_that_was_killed_has_what_it_kept(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not opensearch.is_installed():
        pytest.skip(opensearch.MISSING)
    with running_opensearch(tmp_path_factory.mktemp("killed")) as server:
        async with KIND.open(configured(server.url), SCHEMA) as store:
            await store.create(STORE, dimensions=DIMENSIONS)
            await store.add(STORE, CHUNKS)
            server.stop()
            await refused_each(store)
            server.start()

            assert await found_of(store) == 60


@pytest.mark.parametrize("state", ["swallow", "drip", "half_close", "reset", "cut"])
async def test_no_operation_waits_longer_for_an_answer_than_the_setting_says(
    state: State, server: OpenSearchRun
) -> None:
    async with Link(server.port, delay_s=SHORT / 5) as link:
        link.become(state)
        given = configured(f"http://127.0.0.1:{link.port}", timeout_s=SHORT)
        async with KIND.open(given, SCHEMA) as store:
            await refusals(store, within_s=ENDLESS)


@pytest.mark.parametrize("kind", ["opensearch", "elasticsearch"])
async def test_a_server_that_is_not_there_is_a_failure(kind: str) -> None:
    given = configured(f"http://127.0.0.1:{free_port()}", kind)
    async with KINDS[kind].open(given, SCHEMA) as store:
        await refusals(store, within_s=ENDLESS)
    with pytest.raises(ConfigurationError, match=r"cannot be used at .*: no connection to "):
        await KINDS[kind].examine(given)


KNOWN = {"_source": {"dimensions": DIMENSIONS}}
SHARDS = {"total": 2, "successful": 2, "failed": 0}


@pytest.mark.parametrize(
    "answer",
    [
        (200, b"<html>"),
        (200, b""),
        (200, []),
        (200, {}),
        (401, {"error": "s3cret"}),
        (403, b"<html>s3cret"),
        (429, {}),
        (503, {"error": {"type": "s3cret"}}),
    ],
    ids=str,
)
async def test_a_wrong_answer_is_a_failure(answer: tuple[int, object]) -> None:
    with running_answers(always(*answer)) as answers:
        given = configured(
            answers.url, username="gateway", password_env="P", secrets={"password_env": "s3cret"}
        )
        async with KIND.open(given, SCHEMA) as store:
            told = await refusals(store, within_s=ENDLESS)

    assert "s3cret" not in str(told)
    assert {asked.authorization for asked in answers.asked} == {"Basic Z2F0ZXdheTpzM2NyZXQ="}


@pytest.mark.parametrize(
    "found",
    [
        {"_shards": SHARDS | {"failed": 1}, "timed_out": False},
        {"_shards": SHARDS | {"successful": 1}, "timed_out": False},
        {"_shards": SHARDS | {"successful": 0, "total": 0}, "timed_out": False},
        {"_shards": SHARDS, "timed_out": True},
    ],
    ids=str,
)
async def test_a_search_of_a_part_is_a_failure(found: dict[str, object]) -> None:
    whole = {**found, "hits": {"hits": [], "total": {"value": 0}}}

    def answering(asked: Asked) -> tuple[int, bytes]:
        return 200, json.dumps(KNOWN if asked.method == "GET" else whole).encode()

    with running_answers(answering) as answers:
        async with KIND.open(configured(answers.url), SCHEMA) as store:
            for name in ("search", "texts", "generations", "check"):
                with pytest.raises(VectorStoreUnavailable):
                    await OPERATIONS[name](store)


@pytest.mark.parametrize(
    "done",
    [
        {"failures": [{}], "timed_out": False, "deleted": 1, "version_conflicts": 0},
        {"failures": [], "timed_out": True, "deleted": 1, "version_conflicts": 0},
        {"failures": [], "timed_out": False, "deleted": 0, "version_conflicts": 3},
    ],
    ids=str,
)
async def test_a_deletion_of_a_part_is_a_failure(done: dict[str, object]) -> None:
    def answering(asked: Asked) -> tuple[int, bytes]:
        return 200, json.dumps(KNOWN if asked.method == "GET" else done).encode()

    with running_answers(answering) as answers:
        async with KIND.open(configured(answers.url), SCHEMA) as store:
            for name in ("remove", "drop"):
                with pytest.raises(VectorStoreUnavailable):
                    await OPERATIONS[name](store)


async def test_rows_that_were_refused_are_a_failure() -> None:
    def answering(asked: Asked) -> tuple[int, bytes]:
        refused = {"errors": True, "items": [{"index": {"status": 429}}] * len(CHUNKS)}
        return 200, json.dumps(KNOWN if asked.method == "GET" else refused).encode()

    with running_answers(answering) as answers:
        async with KIND.open(configured(answers.url), SCHEMA) as store:
            with pytest.raises(VectorStoreUnavailable):
                await store.add(STORE, CHUNKS)


async def test_what_answers_is_told(server: OpenSearchRun, translator: Answers) -> None:
    elastic = configured(translator.url, "elasticsearch")

    assert await KIND.examine(configured(server.url)) == f"OpenSearch 2.19.1 answers at {server.url}"
    assert await KINDS["elasticsearch"].examine(elastic) == f"Elasticsearch 9.5.3 answers at {translator.url}"
    with pytest.raises(ConfigurationError, match="is no OpenSearch"):
        await KIND.examine(configured(translator.url))
    with pytest.raises(ConfigurationError, match="is no Elasticsearch"):
        await KINDS["elasticsearch"].examine(configured(server.url, "elasticsearch"))


async def test_an_api_key_of_elasticsearch_is_sent() -> None:
    with running_answers(always(404, {})) as answers:
        given = configured(answers.url, "elasticsearch", api_key_env="K", secrets={"api_key_env": "a2V5"})
        async with KINDS["elasticsearch"].open(given, SCHEMA) as store:
            await store.check()

    assert [asked.authorization for asked in answers.asked] == ["ApiKey a2V5"]


@pytest.mark.parametrize(
    ("more", "secrets", "why"),
    [
        ({"username": "u"}, {}, "belong together"),
        ({"password_env": "P"}, {"password_env": "p"}, "belong together"),
        ({"api_key_env": "K"}, {"api_key_env": "a\r\nb"}, "no header may have"),
        (
            {"api_key_env": "K", "username": "u", "password_env": "P"},
            {"api_key_env": "k", "password_env": "p"},
            "exclude each other",
        ),
    ],
)
def test_settings_that_do_not_belong_together_are_refused(
    more: dict[str, str], secrets: dict[str, str], why: str
) -> None:
    with pytest.raises(ConfigurationError, match=why):
        KINDS["elasticsearch"].check(configured("http://h", "elasticsearch", secrets, **more))


@pytest.mark.parametrize("url", ["", "localhost:9200", "ftp://h", "http://u:word@h", "http://h?x=1"])
def test_an_address_that_cannot_be_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"must (be|not hold)"):
        configured(url)


async def test_a_store_of_any_name_has_a_place_of_its_own(store: VectorStore) -> None:
    names = [StoreId("a/b?c#d%2F"), StoreId("a/b"), StoreId("ü")]
    for name in names:
        await store.create(name, dimensions=DIMENSIONS)
    await store.add(names[0], CHUNKS)
    totals = [(await store.search(name, Query(QUERY, limit=1), plan=Everything())).total for name in names]
    for name in names:
        await store.drop(name)

    assert totals == [60, 0, 0]
