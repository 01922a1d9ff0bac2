"""Marked rows in OpenSearch or Elasticsearch: one index for each length of vectors, for the rows of all
stores, and one that knows which stores were made.

Rows of one tenant of a store lie in one shard (`_routing`), and have that tenant's place written on them.
Indices are written to by an alias that must be there: one that is missing is an error, and is not made anew
with other types.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final
from urllib.parse import quote

import numpy as np

from regate_adapters.vector.json_server import JsonServer, encoded
from regate_adapters.vector.marked.engine import MarkedRow, RankedRow
from regate_adapters.vector.marked.tree import Tree
from regate_adapters.vector.opensearch.dialects import Dialect
from regate_adapters.vector.opensearch.filter import rendered
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.ports import Vector
from regate_orchestrator.values import JsonObject, StoreId

_PAGE: Final = 250
_WRITE_ROWS: Final = 250
_WRITE_BYTES: Final = 4 * 1024 * 1024
_DELETE_ROWS: Final = 2_000
_FRUITLESS: Final = 20
"""So many times a deletion that met nothing but conflicts is begun anew."""
_WORD: Final[JsonObject] = {"type": "keyword", "doc_values": False}
_TELLING: Final = ("type", "dimension", "dims", "normalizer", "ignore_above")
"""What of a field decides whether filters and vectors are compared whole."""
_STORES: Final[JsonObject] = {"dynamic": False, "properties": {}}


class OpenSearchEngine:
    """The engine at a server. The server must be entered."""

    def __init__(self, server: JsonServer, dialect: Dialect, *, prefix: str) -> None:
        self._server = server
        self._dialect = dialect
        self._stores = f"{prefix}-stores"
        self._prefix = prefix

    async def dimensions(self, store: StoreId) -> int | None:
        """Return what is written of the store; a read by id sees the newest."""
        reply = await self._server.ask("GET", self._entry(store), also={404})
        if reply.status == 404:
            return None
        with self._server.reading():
            return int(reply.document["_source"]["dimensions"])

    async def make(self, store: StoreId, dimensions: int) -> None:
        """Make the indices where they are not there, and write the store down."""
        await self._make_index(self._rows_of(dimensions), self._mapping(dimensions))
        await self._make_index(self._stores, _STORES)
        entry = f"{self._entry(store)}?op_type=create&require_alias=true"
        reply = await self._server.ask("PUT", entry, {"dimensions": dimensions}, also={409})
        if reply.status == 409 and await self.dimensions(store) != dimensions:
            raise VectorStoreUnavailable(f"store {store} has vectors of another length than {dimensions}")

    async def put(self, store: StoreId, rows: Sequence[MarkedRow]) -> None:
        """Write the rows in parts, and remove what the same ids had at other tenants."""
        index = self._rows_of(len(rows[0].vector))
        for part in _parts(store, rows):
            reply = await self._server.ask(
                "POST", f"/{index}/_bulk?refresh=true&require_alias=true", b"".join(line for _, line in part)
            )
            with self._server.reading():
                if reply.document["errors"] is not False or len(reply.document["items"]) != len(part):
                    raise VectorStoreUnavailable(f"{self._server.called} did not store all rows")
            await self._remove_elsewhere(index, store, [row for row, _ in part])

    async def nearest(
        self, store: StoreId, vector: Vector, where: Tree, *, tenant: str | None, limit: int
    ) -> list[RankedRow]:
        """Return the rows that a script scores highest, of those that the filter leaves."""
        query = np.asarray(vector, dtype=np.float32)
        scored: JsonObject = {
            "script_score": {
                "query": {"bool": {"filter": _within(store, where, tenant)}},
                "script": self._dialect.script(query.tolist()),
            }
        }
        body: JsonObject = {"query": scored, "sort": [{"_score": "desc"}, {"id": "asc"}]}
        found: list[RankedRow] = []
        async for page in self._pages(self._rows_of(len(query)), body, _routing(store, tenant), limit=limit):
            found += page
        return found

    async def rows(self, store: StoreId, where: Tree, *, vectors: bool) -> AsyncIterator[list[RankedRow]]:
        """Yield the rows in the order of their ids."""
        if (dimensions := await self.dimensions(store)) is None:
            return
        query: JsonObject = {"bool": {"filter": _within(store, where, None)}}
        body: JsonObject = {"query": query, "sort": [{"id": "asc"}, {"place": "asc"}]}
        async for page in self._pages(self._rows_of(dimensions), body, "", vectors=vectors):
            yield page

    async def count(self, store: StoreId, where: Tree, *, tenant: str | None) -> int:
        """Return how many rows the filter leaves."""
        if (dimensions := await self.dimensions(store)) is None:
            return 0
        query = {"bool": {"filter": _within(store, where, tenant)}}
        return await self._count(self._rows_of(dimensions), query, _routing(store, tenant))

    async def delete(self, store: StoreId, where: Tree) -> None:
        """Remove the rows that the filter leaves."""
        if (dimensions := await self.dimensions(store)) is not None:
            await self._delete(self._rows_of(dimensions), {"bool": {"filter": _within(store, where, None)}})

    async def drop(self, store: StoreId) -> None:
        """Remove the store's rows, and then what is written of it."""
        await self.delete(store, True)
        await self._server.ask("DELETE", self._entry(store), also={404})

    async def check(self) -> None:
        """Have the index of stores searched, if there is one."""
        reply = await self._server.ask("POST", f"/{self._stores}/_search", {"size": 0}, also={404})
        if reply.status != 404:
            self._require_whole(reply.document)

    # ------------------------------------------------------------ its own

    def _rows_of(self, dimensions: int) -> str:
        return f"{self._prefix}-rows-{dimensions}"

    def _entry(self, store: StoreId) -> str:
        return f"/{self._stores}/_doc/{quote(store, safe='')}"

    def _mapping(self, dimensions: int) -> JsonObject:
        properties: JsonObject = {
            "store": _WORD,
            "marks": _WORD,
            "id": {"type": "keyword"},
            "place": {"type": "keyword"},
            "vector": self._dialect.field(dimensions),
        }
        # The vector is read from `packed`, which has it as it was stored and in fewer bytes
        return {"dynamic": False, "_source": {"excludes": ["vector"]}, "properties": properties}

    async def _make_index(self, alias: str, mapping: JsonObject) -> None:
        if (await self._server.ask("GET", f"/_alias/{alias}", also={404})).status != 404:
            await self._require_ours(alias, mapping)
            return
        body = {"mappings": mapping, "aliases": {alias: {}}}
        reply = await self._server.ask("PUT", f"/{alias}-1", body, also={400})
        with self._server.reading():
            fault = reply.document["error"]["type"] if reply.status == 400 else ""
        if fault not in ("", "resource_already_exists_exception"):
            raise VectorStoreUnavailable(f"{self._server.called} did not make the index {alias}-1: {fault}")
        await self._require_ours(alias, mapping)

    async def _require_ours(self, alias: str, mapping: JsonObject) -> None:
        """Raise `VectorStoreUnavailable` for an index in which filters would mean something else."""
        found = (await self._server.ask("GET", f"/{alias}/_mapping")).document
        with self._server.reading():
            others = [other for one in found.values() for other in _others(one["mappings"], mapping)]
        if others:
            raise VectorStoreUnavailable(
                f"the index {alias} of {self._server.called} is not as Regate makes it: its field {others[0]}"
            )

    async def _remove_elsewhere(self, index: str, store: StoreId, rows: Sequence[MarkedRow]) -> None:
        """Remove rows of these ids that other tenants have: in another shard they were not replaced."""
        for place in dict.fromkeys(_place(store, row.tenant) for row in rows):
            ids = [row.id for row in rows if _place(store, row.tenant) == place]
            elsewhere: JsonObject = {
                "bool": {
                    "filter": [{"term": {"store": store}}, {"terms": {"id": ids}}],
                    "must_not": [{"term": {"place": place}}],
                }
            }
            if await self._count(index, elsewhere, ""):
                await self._delete(index, elsewhere)

    async def _pages(
        self, index: str, body: JsonObject, routing: str, *, limit: int | None = None, vectors: bool = True
    ) -> AsyncIterator[list[RankedRow]]:
        fields = ["id", "document", "packed"] if vectors else ["id", "document"]
        after: JsonObject = {}
        left = limit
        while left is None or left > 0:
            size = _PAGE if left is None else min(left, _PAGE)
            asked = {**body, **after, "size": size, "_source": fields, "track_total_hits": False}
            hits = (await self._search(index, asked, routing))["hits"]["hits"]
            with self._server.reading():
                page = [_ranked(hit["_source"]) for hit in hits]
                after = {"search_after": hits[-1]["sort"]} if hits else {}
            yield page
            if len(hits) < size:
                return
            left = None if left is None else left - size

    async def _count(self, index: str, query: JsonObject, routing: str) -> int:
        found = await self._search(index, {"query": query, "size": 0, "track_total_hits": True}, routing)
        with self._server.reading():
            return int(found["hits"]["total"]["value"])

    async def _search(self, index: str, body: JsonObject, routing: str) -> Any:
        path = f"/{index}/_search?allow_partial_search_results=false{routing}"
        found = (await self._server.ask("POST", path, body)).document
        self._require_whole(found)
        return found

    def _require_whole(self, found: Any) -> None:
        with self._server.reading():
            shards = found["_shards"]
            is_whole = shards["failed"] == 0 and shards["successful"] == shards["total"] > 0
            if not is_whole or found["timed_out"] or not isinstance(found["hits"]["hits"], list):
                raise VectorStoreUnavailable(f"{self._server.called} searched only a part")

    async def _delete(self, index: str, query: JsonObject) -> None:
        path = f"/{index}/_delete_by_query?refresh=true&conflicts=proceed&max_docs={_DELETE_ROWS}"
        fruitless = 0
        while True:
            done = (await self._server.ask("POST", path, {"query": query})).document
            with self._server.reading():
                if done["failures"] or done["timed_out"]:
                    raise VectorStoreUnavailable(f"{self._server.called} did not delete all rows")
                deleted, conflicts = int(done["deleted"]), int(done["version_conflicts"])
            if not conflicts and deleted < _DELETE_ROWS:
                return
            fruitless = 0 if deleted else fruitless + 1
            if fruitless == _FRUITLESS:
                raise VectorStoreUnavailable(f"{self._server.called} met conflicts at each deletion")


def _within(store: StoreId, where: Tree, tenant: str | None) -> list[JsonObject]:
    within = {"store": store} if tenant is None else {"place": _place(store, tenant)}
    return [{"term": within}, *rendered(where)]


def _place(store: StoreId, tenant: str) -> str:
    return _digest(f"{store}\0{tenant}")


def _routing(store: StoreId, tenant: str | None) -> str:
    return "" if tenant is None else f"&routing={_place(store, tenant)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:40]


def _parts(store: StoreId, rows: Sequence[MarkedRow]) -> Iterator[list[tuple[MarkedRow, bytes]]]:
    """Yield the rows with the lines that store each, as many at once as one request may hold."""
    part: list[tuple[MarkedRow, bytes]] = []
    size = 0
    for row in rows:
        line = _lines(store, row)
        if part and (len(part) == _WRITE_ROWS or size + len(line) > _WRITE_BYTES):
            yield part
            part, size = [], 0
        part.append((row, line))
        size += len(line)
    if part:
        yield part


def _lines(store: StoreId, row: MarkedRow) -> bytes:
    place, vector = _place(store, row.tenant), np.asarray(row.vector, dtype="<f4")
    action = {"index": {"_id": _digest(f"{store}\0{row.id}"), "routing": place}}
    written = {
        "store": store,
        "place": place,
        "id": row.id,
        "marks": row.marks,
        "document": row.document,
        "packed": base64.b64encode(vector.tobytes()).decode(),
        "vector": vector.tolist(),
    }
    return encoded(action, written)


def _ranked(written: Any) -> RankedRow:
    packed = base64.b64decode(written.get("packed", ""), validate=True)
    vector: list[float] = np.frombuffer(packed, dtype="<f4").tolist()
    return RankedRow(str(written["id"]), str(written["document"]), vector)


def _others(found: Any, wanted: Any) -> list[str]:
    """Return the names of the fields that are wanted and missing, or there and of another kind."""
    fields, properties = found.get("properties", {}), wanted["properties"]
    return [
        name
        for name, field in properties.items()
        if any(fields.get(name, {}).get(what) != field.get(what) for what in _TELLING)
    ]
