"""A program: the part of Qdrant's HTTP API that Regate uses, with Qdrant's own engine behind it.

The server of Qdrant is in no package registry. Its engine is, as `qdrant-edge-py`: storage, filters, indexes
and the comparison of vectors are Qdrant's own code here. What stands before them is not: it reads the
requests and writes the answers that Qdrant's documentation shows. So nothing that is seen through it says how
a server shards, replicates, or limits its clients.

    python qdrant_over_edge.py PORT FOLDER [API_KEY]
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import qdrant_edge as edge
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

FOLDER, KEY = Path(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else None
SHARDS: dict[str, Any] = {}
FIRST = 0


def answered(result: Any, status: int = 200) -> JSONResponse:
    return JSONResponse({"result": result, "status": "ok", "time": 0.001}, status)


def refused(status: int, error: str) -> JSONResponse:
    return JSONResponse({"status": {"error": error}, "time": 0.001}, status)


def shard(name: str) -> Any:
    if name not in SHARDS and (FOLDER / name / "config.json").exists():
        SHARDS[name] = edge.EdgeShard.load(str(FOLDER / name / "shard"))
    return SHARDS.get(name)


def config(name: str) -> Any:
    return json.loads((FOLDER / name / "config.json").read_text())


def filter_of(given: Any) -> Any:
    if given is None:
        return None
    assert set(given) <= {"must", "should", "must_not", "min_should"}, given
    return edge.Filter(
        **{
            name: None if (parts := given.get(name)) is None else [condition_of(part) for part in parts]
            for name in ("must", "should", "must_not")
        }
    )


def condition_of(given: Any) -> Any:
    if "key" not in given:
        return filter_of(given)
    given = {name: value for name, value in given.items() if value is not None}
    (kind,) = given["match"]
    match = {"any": edge.MatchAny, "value": edge.MatchValue}[kind](given["match"][kind])
    assert set(given) == {"key", "match"}, given
    return edge.FieldCondition(given["key"], match=match)


def shown(point: Any, *, score: bool = False) -> dict[str, Any]:
    found: dict[str, Any] = {"id": str(point.id), "payload": point.payload}
    if point.vector is not None:
        found["vector"] = point.vector
    return {**found, "version": 0, "score": point.score} if score else found


async def root(_: Request) -> JSONResponse:
    return JSONResponse({"title": "qdrant - vector search engine", "version": "0.9.0-edge", "commit": None})


async def exists(request: Request) -> JSONResponse:
    return answered({"exists": shard(request.path_params["name"]) is not None})


async def create(request: Request) -> JSONResponse:
    name, body = request.path_params["name"], await request.json()
    if shard(name) is not None:
        return refused(409, f"Wrong input: Collection `{name}` already exists!")
    vectors, hnsw = body["vectors"], body["hnsw_config"]
    assert vectors["distance"] == "Dot"
    made = edge.EdgeConfig(
        vectors=edge.EdgeVectorParams(vectors["size"], edge.Distance.Dot),
        hnsw_config=edge.HnswIndexConfig(m=hnsw["m"], ef_construct=100, full_scan_threshold=10_000),
    )
    (FOLDER / name).mkdir(parents=True)
    SHARDS[name] = edge.EdgeShard.create(str(FOLDER / name / "shard"), made)
    (FOLDER / name / "config.json").write_text(
        json.dumps({"size": vectors["size"], "distance": vectors["distance"], "m": hnsw["m"]})
    )
    return answered(True)


async def described(request: Request) -> JSONResponse:
    name = request.path_params["name"]
    if (found := shard(name)) is None:
        return refused(404, f"Not found: Collection `{name}` doesn't exist!")
    kept = config(name)
    schema = {
        field: {
            "data_type": "keyword",
            "params": {"type": "keyword", "is_tenant": index.params.is_tenant},
            "points": index.points,
        }
        for field, index in found.info().payload_schema.items()
    }
    hnsw = {"m": kept["m"], "ef_construct": 100, "full_scan_threshold": 10000}
    optimizers = {"deleted_threshold": 0.2, "vacuum_min_vector_number": 1000, "default_segment_number": 0}
    return answered(
        {
            "status": "green",
            "optimizer_status": "ok",
            "points_count": found.info().points_count,
            "segments_count": found.info().segments_count,
            "config": {
                "params": {"vectors": {"size": kept["size"], "distance": kept["distance"]}},
                "hnsw_config": hnsw,
                "optimizer_config": {**optimizers, "flush_interval_sec": 5},
                "wal_config": {"wal_capacity_mb": 32, "wal_segments_ahead": 0},
            },
            "payload_schema": schema,
        }
    )


async def index(request: Request) -> JSONResponse:
    body = await request.json()
    params = body["field_schema"]
    assert params["type"] == "keyword"
    made = edge.KeywordIndexParams(is_tenant=params.get("is_tenant"))
    return changed(request, edge.UpdateOperation.create_field_index(body["field_name"], made))


async def upsert(request: Request) -> JSONResponse:
    points = [
        edge.Point(one["id"], one["vector"], one["payload"]) for one in (await request.json())["points"]
    ]
    return changed(request, edge.UpdateOperation.upsert_points(points))


async def delete(request: Request) -> JSONResponse:
    match await request.json():
        case {"points": points}:
            return changed(request, edge.UpdateOperation.delete_points(points))
        case {"filter": given}:
            return changed(request, edge.UpdateOperation.delete_points_by_filter(filter_of(given)))
    return refused(400, "Format error in JSON body")


def changed(request: Request, operation: Any) -> JSONResponse:
    name = request.path_params["name"]
    if (found := shard(name)) is None:
        return refused(404, f"Not found: Collection `{name}` doesn't exist!")
    found.update(operation)
    status = "completed" if request.query_params.get("wait") == "true" else "acknowledged"
    return answered({"operation_id": time.monotonic_ns(), "status": status})


async def read(request: Request) -> JSONResponse:
    name, what = request.path_params["name"], request.path_params.get("what")
    if (found := shard(name)) is None:
        return refused(404, f"Not found: Collection `{name}` doesn't exist!")
    body = await request.json()
    payload, vector = body.get("with_payload"), body.get("with_vector") or False
    if what is None:
        records = found.retrieve(body["ids"], with_payload=payload, with_vector=vector)
        return answered([shown(one) for one in records])
    chosen = filter_of(body.get("filter"))
    if what == "count":
        return answered({"count": found.count(edge.CountRequest(exact=body["exact"], filter=chosen))})
    if what == "scroll":
        points, offset = found.scroll(
            edge.ScrollRequest(
                limit=body["limit"],
                offset=body.get("offset"),
                filter=chosen,
                with_payload=payload,
                with_vector=vector,
            )
        )
        following = None if offset is None else str(offset)
        return answered({"points": [shown(one) for one in points], "next_page_offset": following})
    query = edge.QueryRequest(
        query=edge.Query.Nearest(body["query"]["nearest"]),
        limit=body["limit"],
        filter=chosen,
        params=edge.SearchParams(exact=body["params"]["exact"]),
        with_payload=payload,
        with_vector=vector,
    )
    return answered({"points": [shown(one, score=True) for one in found.query(query)]})


class Guarded:
    """Takes the header `api-key` where a key is set, and says what failed as Qdrant does."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and KEY is not None and scope["path"] != "/":
            given = dict(scope["headers"]).get(b"api-key")
            if given != KEY.encode():
                what = "Must provide an API key" if given is None else "Invalid API key or JWT"
                await JSONResponse(what, 401)(scope, receive, send)
                return
        await self.app(scope, receive, send)


async def failed(_: Request, error: Exception) -> JSONResponse:
    return refused(400 if "expected dim" in str(error) else 500, f"Wrong input: {error}")


NAME = "/collections/{name}"
ROUTES = [
    Route("/", root),
    Route(NAME + "/exists", exists),
    Route(NAME, create, methods=["PUT"]),
    Route(NAME, described, methods=["GET"]),
    Route(NAME + "/index", index, methods=["PUT"]),
    Route(NAME + "/points", upsert, methods=["PUT"]),
    Route(NAME + "/points", read, methods=["POST"]),
    Route(NAME + "/points/delete", delete, methods=["POST"]),
    Route(NAME + "/points/{what}", read, methods=["POST"]),
]

if __name__ == "__main__":
    app = Starlette(routes=ROUTES, exception_handlers={Exception: failed})
    uvicorn.run(Guarded(app), host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
