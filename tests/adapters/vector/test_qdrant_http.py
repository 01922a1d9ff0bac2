"""What a Qdrant server is asked over HTTP, word for word as its documentation has it, and what comes of
answers that are no good. The server here says only what a test has it say.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

import pytest
from aiohttp import web

from regate_adapters.vector.marked.engine import MarkedRow
from regate_adapters.vector.marked.tree import Has, Lacks, Some
from regate_adapters.vector.qdrant.engine import QdrantEngine, point_id
from regate_adapters.vector.qdrant.filter import tenant_key
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.values import StoreId

pytest.importorskip("qdrant_client", reason="install qdrant-client")

from regate_adapters.vector.qdrant.connecting import client_of

STORE: Final = StoreId("vs_1")
KEY: Final = "a-key-that-nobody-may-see"
SECRET: Final = "what-a-chunk-says"
ROW: Final = MarkedRow("acme/file-1/000001", "acme", ("tenant=s:acme", "x"), '["text"]', (0.6, 0.8))

Answer = tuple[int, Any]
Asked = tuple[str, str, Any]


def result(value: Any) -> Answer:
    return 200, {"usage": None, "time": 0.002, "status": "ok", "result": value}


COMPLETED: Final = result({"operation_id": 1000000, "status": "completed"})
NOTED: Final = result(
    [
        {
            "id": point_id(STORE),
            "payload": {"store": STORE, "dimensions": 2},
            "vector": None,
            "order_value": None,
        }
    ]
)
POINT: Final = {
    "id": point_id(STORE, ROW.id),
    "version": 3,
    "score": 0.75,
    "payload": {"store": STORE, "tenant": tenant_key("acme"), "id": ROW.id, "document": ROW.document},
    "vector": [0.6, 0.8],
}
DESCRIBED: Final = result(
    {
        "status": "green",
        "optimizer_status": "ok",
        "indexed_vectors_count": 0,
        "points_count": 0,
        "segments_count": 8,
        "config": {
            "params": {"vectors": {"size": 2, "distance": "Dot"}, "shard_number": 1, "on_disk_payload": True},
            "hnsw_config": {
                "m": 0,
                "ef_construct": 100,
                "full_scan_threshold": 10000,
                "max_indexing_threads": 0,
            },
            "optimizer_config": {
                "deleted_threshold": 0.2,
                "vacuum_min_vector_number": 1000,
                "default_segment_number": 0,
                "flush_interval_sec": 5,
            },
            "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            "quantization_config": None,
        },
        "payload_schema": {},
    }
)
USUAL: Final[Mapping[str, Answer]] = {
    "GET /collections/r_stores/exists": result({"exists": True}),
    "POST /collections/r_stores/points": NOTED,
    "POST /collections/r_2/points/query": result({"points": [POINT]}),
    "POST /collections/r_2/points/scroll": result({"points": [POINT], "next_page_offset": None}),
    "POST /collections/r_2/points/count": result({"count": 7}),
    "PUT /collections/r_2/points": COMPLETED,
    "POST /collections/r_2/points/delete": COMPLETED,
    "POST /collections/r_stores/points/delete": COMPLETED,
}


@asynccontextmanager
async def serving(answers: Mapping[str, Answer]) -> AsyncIterator[tuple[QdrantEngine, list[Asked]]]:
    """Yield an engine at a server that gives these answers, and what it was asked."""
    asked: list[Asked] = []

    async def answer(request: web.Request) -> web.Response:
        assert request.headers["api-key"] == KEY
        text = await request.text()
        asked.append((request.method, request.path_qs, json.loads(text) if text else None))
        status, body = answers.get(
            f"{request.method} {request.path}", (404, {"status": {"error": "Not found"}})
        )
        if isinstance(body, str):
            return web.Response(status=status, text=body)
        return web.json_response(body, status=status)

    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{rest:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]
        connect = client_of(f"http://127.0.0.1:{port}", KEY, timeout_s=30)
        async with aclosing(QdrantEngine(connect, timeout_s=30, collections="r")) as engine:
            yield engine, asked
    finally:
        await runner.cleanup()


def of_store(*further: Any, tenant: str | None = None) -> list[Any]:
    named = [] if tenant is None else [{"key": "tenant", "match": {"value": tenant_key(tenant)}}]
    return [{"key": "store", "match": {"value": STORE}}, *named, *further]


def marks(*names: str) -> Any:
    return {"key": "marks", "match": {"any": list(names)}}


async def test_a_search_is_exact_and_filtered_by_store_and_tenant() -> None:
    async with serving(USUAL) as (engine, asked):
        where = Some((Has(("a",)), Lacks(("b",))))
        (found,) = await engine.nearest(STORE, (0.6, 0.8), where, tenant="acme", limit=22)
        counted = await engine.count(STORE, Has(("a",)), tenant="acme")

    searched, counting = asked[0], asked[-1]
    condition = {"should": [marks("a"), {"must_not": [marks("b")]}]}
    assert (found.id, found.document, found.vector, counted) == (ROW.id, ROW.document, [0.6, 0.8], 7)
    assert searched == (
        "POST",
        "/collections/r_2/points/query",
        {
            "query": {"nearest": [0.6, 0.8]},
            "filter": {"must": of_store(condition, tenant="acme")},
            "params": {"exact": True},
            "limit": 22,
            "with_vector": True,
            "with_payload": ["id", "document", "store", "tenant"],
        },
    )
    assert counting == (
        "POST",
        "/collections/r_2/points/count",
        {"filter": {"must": of_store(marks("a"), tenant="acme")}, "exact": True},
    )


async def test_changes_wait_until_they_are_visible() -> None:
    async with serving(USUAL) as (engine, asked):
        await engine.put(STORE, [ROW])
        await engine.delete(STORE, Lacks(("x",)))

    payload = {**POINT["payload"], "marks": list(ROW.marks)}  # type: ignore[dict-item]  # an object
    assert asked[0] == (
        "PUT",
        "/collections/r_2/points?wait=true",
        {"points": [{"id": point_id(STORE, ROW.id), "vector": [0.6, 0.8], "payload": payload}]},
    )
    assert asked[-1] == (
        "POST",
        "/collections/r_2/points/delete?wait=true",
        {"filter": {"must": of_store(), "must_not": [marks("x")]}},
    )


async def test_a_collection_is_made_with_no_graph_and_with_the_index_of_tenants() -> None:
    answers = {
        **USUAL,
        "GET /collections/r_stores/exists": result({"exists": True}),
        "GET /collections/r_stores": result({**DESCRIBED[1]["result"], "config": _config(1)}),
        "PUT /collections/r_stores/index": COMPLETED,
        "PUT /collections/r_stores/points": COMPLETED,
        "GET /collections/r_2/exists": result({"exists": False}),
        "PUT /collections/r_2": result(True),
        "GET /collections/r_2": DESCRIBED,
        "PUT /collections/r_2/index": COMPLETED,
    }
    async with serving(answers) as (engine, asked):
        await engine.make(STORE, 2)

    (made,) = [body for method, path, body in asked if (method, path) == ("PUT", "/collections/r_2")]
    indexes = [body for method, path, body in asked if path == "/collections/r_2/index?wait=true"]
    assert made == {"vectors": {"size": 2, "distance": "Dot"}, "hnsw_config": {"m": 0}}
    assert indexes == [
        {"field_name": "store", "field_schema": {"type": "keyword"}},
        {"field_name": "tenant", "field_schema": {"type": "keyword", "is_tenant": True}},
        {"field_name": "marks", "field_schema": {"type": "keyword"}},
    ]
    noted = {"id": point_id(STORE), "vector": [1.0], "payload": {"store": STORE, "dimensions": 2}}
    assert asked[-1] == ("PUT", "/collections/r_stores/points?wait=true", {"points": [noted]})


def _config(size: int) -> Any:
    config = DESCRIBED[1]["result"]["config"]
    return {**config, "params": {"vectors": {"size": size, "distance": "Dot"}}}


async def _read(engine: QdrantEngine) -> object:
    return [page async for page in engine.rows(STORE, True, vectors=True)]


READS: Final[Mapping[str, Callable[[QdrantEngine], Any]]] = {
    "query": lambda engine: engine.nearest(STORE, (0.6, 0.8), True, tenant="acme", limit=3),
    "scroll": _read,
    "count": lambda engine: engine.count(STORE, True, tenant=None),
}
WRITES: Final[Mapping[str, Callable[[QdrantEngine], Any]]] = {
    "PUT /collections/r_2/points": lambda engine: engine.put(STORE, [ROW]),
    "POST /collections/r_2/points/delete": lambda engine: engine.delete(STORE, True),
    "POST /collections/r_stores/points/delete": lambda engine: engine.drop(STORE),
}
NO_GOOD: Final[Mapping[str, Answer]] = {
    "no JSON": (200, f"<html>{SECRET}</html>"),
    "nothing": (200, {}),
    "null": result(None),
    "a list": result([SECRET]),
    "an error": (500, {"status": {"error": f"Service internal error: {SECRET}"}, "time": 0.1}),
    "too many": (429, {"status": {"error": SECRET}}),
    "not there": (404, {"status": {"error": "Not found: Collection `r_2` doesn't exist!"}}),
    "forbidden": (403, "Forbidden"),
    "moved": (302, SECRET),
}


@pytest.mark.parametrize("answer", NO_GOOD.values(), ids=NO_GOOD)
@pytest.mark.parametrize("what", READS)
async def test_a_read_that_is_answered_badly_fails_and_quotes_nothing(what: str, answer: Answer) -> None:
    async with serving({**USUAL, f"POST /collections/r_2/points/{what}": answer}) as (engine, _):
        with pytest.raises(VectorStoreUnavailable) as refused:
            await READS[what](engine)

    _says_nothing(refused.value)


@pytest.mark.parametrize(
    "answer",
    [
        *NO_GOOD.values(),
        *(result({"operation_id": 1, "status": said}) for said in ("acknowledged", "wait_timeout")),
    ],
    ids=[*NO_GOOD, "acknowledged", "wait_timeout"],
)
@pytest.mark.parametrize("what", WRITES)
async def test_a_change_that_is_not_done_is_a_failure(what: str, answer: Answer) -> None:
    async with serving({**USUAL, what: answer}) as (engine, _):
        with pytest.raises(VectorStoreUnavailable) as refused:
            await WRITES[what](engine)

    _says_nothing(refused.value)


def _says_nothing(error: VectorStoreUnavailable) -> None:
    told = f"{error.detail} {''.join(traceback.format_exception(error))}"
    assert (KEY in told, SECRET in told, "127.0.0.1" in told) == (False, False, False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"payload": {**POINT["payload"], "store": "vs_2"}},  # type: ignore[dict-item]  # an object
        {"payload": {**POINT["payload"], "tenant": tenant_key("globex")}},  # type: ignore[dict-item]
        {"payload": {"store": STORE, "tenant": tenant_key("acme"), "id": ROW.id}},
        {"payload": None},
        {"vector": None},
        {"vector": [1.0]},
        {"vector": {"": [0.6, 0.8]}},
    ],
    ids=[
        "another store",
        "another tenant",
        "no document",
        "no payload",
        "no vector",
        "short",
        "named vectors",
    ],
)
async def test_a_point_that_was_not_asked_for_is_a_failure(wrong: dict[str, Any]) -> None:
    answer = result({"points": [POINT, {**POINT, **wrong}]})
    async with serving({**USUAL, "POST /collections/r_2/points/query": answer}) as (engine, _):
        with pytest.raises(VectorStoreUnavailable):
            await READS["query"](engine)


@pytest.mark.parametrize(
    "noted",
    [
        {"store": "vs_2", "dimensions": 2},
        {"store": STORE},
        {"store": STORE, "dimensions": "2"},
        {"store": STORE, "dimensions": 0},
    ],
)
async def test_a_store_that_is_noted_wrongly_is_a_failure(noted: dict[str, Any]) -> None:
    answer = result([{"id": point_id(STORE), "payload": noted}])
    async with serving({**USUAL, "POST /collections/r_stores/points": answer}) as (engine, _):
        with pytest.raises(VectorStoreUnavailable):
            await engine.dimensions(STORE)


async def test_a_server_without_collections_has_no_store() -> None:
    async with serving({"GET /collections/r_stores/exists": result({"exists": False})}) as (engine, asked):
        found = await engine.dimensions(STORE)
        await engine.delete(STORE, True)
        await engine.drop(STORE)

    assert found is None
    assert {path for _, path, _ in asked} == {"/collections/r_stores/exists"}


@pytest.mark.parametrize("answer", NO_GOOD.values(), ids=NO_GOOD)
async def test_what_is_no_qdrant_has_no_stores_that_are_missing(answer: Answer) -> None:
    async with serving({"GET /collections/r_stores/exists": answer}) as (engine, _):
        for ask in (engine.dimensions(STORE), engine.delete(STORE, True), engine.drop(STORE), engine.check()):
            with pytest.raises(VectorStoreUnavailable):
                await ask
