"""Marked rows in Weaviate: one collection for each length of vectors, each store a tenant of it, and one
collection that knows which stores were made.

A tenant of Weaviate is a shard of its own, so a store is searched without those beside it, and goes as a
whole. A tenant of Regate is a condition within: stores that several share are searched and changed across
them. Rows have places, which are numbers, so that more rows than one answer holds can be read range by range.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final
from uuid import UUID

import numpy as np

from regate_adapters.vector.json_server import JsonServer, encoded
from regate_adapters.vector.marked.engine import MarkedRow, RankedRow
from regate_adapters.vector.marked.tree import Tree
from regate_adapters.vector.weaviate.collections import is_as_made, of_rows, of_stores
from regate_adapters.vector.weaviate.filter import (
    EVERY_PLACE,
    conjoined,
    equal,
    in_graphql,
    place_below,
    place_from,
    rendered,
)
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.ports import Vector
from regate_orchestrator.values import JsonObject, StoreId

_PAGE: Final = 500
_USUAL: Final = 300
"""How many rows a range is to hold that is asked for, so that most are whole at once."""
_MOST: Final = 10_000
"""The most that Weaviate gives in one answer, unless it is configured (`QUERY_MAXIMUM_RESULTS`)."""
_WRITE_ROWS: Final = 250
_WRITE_BYTES: Final = 4 * 1024 * 1024
_PLAIN_NAME: Final = re.compile(r"vs_[A-Za-z0-9_-]{1,60}")


class WeaviateEngine:
    """The engine at a server. The server must be entered."""

    def __init__(self, server: JsonServer, *, prefix: str) -> None:
        self._server = server
        self._prefix = prefix
        self._stores = f"{prefix}Stores"

    async def dimensions(self, store: StoreId) -> int | None:
        """Return what is written of the store."""
        reply = await self._server.ask("GET", self._entry(store), also={404})
        if reply.status == 404:
            return None
        with self._server.reading():
            return int(reply.document["properties"]["dimensions"])

    async def make(self, store: StoreId, dimensions: int) -> None:
        """Make the collections where they are not there, the store's tenant, and write the store down."""
        rows = self._rows_of(dimensions)
        await self._make_collection(of_rows(rows))
        await self._make_collection(of_stores(self._stores))
        await self._server.ask("POST", f"/v1/schema/{rows}/tenants", [{"name": _name(store)}])
        properties: JsonObject = {"store": _printable(store), "dimensions": dimensions}
        written: JsonObject = {"class": self._stores, "id": _uuid(store), "properties": properties}
        await self._write([encoded(written)])

    async def put(self, store: StoreId, rows: Sequence[MarkedRow]) -> None:
        """Write the rows in parts; one with an id that is there is replaced."""
        collection, tenant = self._rows_of(len(rows[0].vector)), _name(store)
        for part in _parts(_object(collection, tenant, row) for row in rows):
            await self._write(part)

    async def nearest(
        self, store: StoreId, vector: Vector, where: Tree, *, tenant: str | None, limit: int
    ) -> list[RankedRow]:
        """Return the rows with the highest product, all that the filter leaves being compared."""
        collection, filters = self._rows_of(len(vector)), _within(where, tenant)
        query = np.asarray(vector, dtype=np.float32)
        if limit > _MOST:
            return await self._nearest_of_all(collection, store, query, filters, limit)
        near = f"nearVector:{{vector:{json.dumps(query.tolist())}}}"
        return await self._get(collection, store, filters, limit, vectors=True, near=near)

    async def rows(self, store: StoreId, where: Tree, *, vectors: bool) -> AsyncIterator[list[RankedRow]]:
        """Yield the rows in the order of their places."""
        if (dimensions := await self.dimensions(store)) is None:
            return
        async for page in self._all(self._rows_of(dimensions), store, _within(where, None), vectors=vectors):
            yield page

    async def count(self, store: StoreId, where: Tree, *, tenant: str | None) -> int | None:
        """Return how many rows there are; None where there is a filter, since Weaviate would read them."""
        if filters := _within(where, tenant):
            return None
        if (dimensions := await self.dimensions(store)) is None:
            return 0
        return await self._count(self._rows_of(dimensions), store, filters)

    async def delete(self, store: StoreId, where: Tree) -> None:
        """Remove the rows that the filter leaves, as many at once as Weaviate does."""
        if (dimensions := await self.dimensions(store)) is None:
            return
        match_: JsonObject = {"class": self._rows_of(dimensions), "where": conjoined(_within(where, None))}
        path = f"/v1/batch/objects?tenant={_name(store)}&consistency_level=ALL"
        while True:
            reply = await self._server.ask("DELETE", path, {"match": match_, "output": "minimal"})
            with self._server.reading():
                done = reply.document["results"]
                matches, successful = int(done["matches"]), int(done["successful"])
                if done["failed"] or (matches and not successful):
                    raise VectorStoreUnavailable(f"{self._server.called} did not delete all rows")
            if successful >= matches:
                return

    async def drop(self, store: StoreId) -> None:
        """Remove the store's tenant with all rows, and then what is written of it."""
        if (dimensions := await self.dimensions(store)) is None:
            return
        tenants = f"/v1/schema/{self._rows_of(dimensions)}/tenants"
        await self._server.ask("DELETE", tenants, [_name(store)])
        await self._server.ask("DELETE", f"{self._entry(store)}?consistency_level=ALL", also={404})

    async def check(self) -> None:
        """Ask which version it is, which takes the key too."""
        reply = await self._server.ask("GET", "/v1/meta")
        with self._server.reading():
            str(reply.document["version"])

    # ------------------------------------------------------------ its own

    def _rows_of(self, dimensions: int) -> str:
        return f"{self._prefix}Rows{dimensions}"

    def _entry(self, store: StoreId) -> str:
        return f"/v1/objects/{self._stores}/{_uuid(store)}"

    async def _make_collection(self, wanted: JsonObject) -> None:
        path = f"/v1/schema/{wanted['class']}"
        found = await self._server.ask("GET", path, also={404})
        if found.status == 404:
            await self._server.ask("POST", "/v1/schema", wanted, also={422})  # another gateway was first
            found = await self._server.ask("GET", path)
        with self._server.reading():
            if not is_as_made(found.document, wanted):
                raise VectorStoreUnavailable(
                    f"the collection {wanted['class']} of {self._server.called} is not as Regate makes it"
                )

    async def _write(self, objects: Sequence[bytes]) -> None:
        body = b'{"objects":[%s]}' % b",".join(objects)
        reply = await self._server.ask("POST", "/v1/batch/objects?consistency_level=ALL", body)
        with self._server.reading():
            statuses = [one["result"]["status"] for one in reply.document]
        if statuses != ["SUCCESS"] * len(objects):
            raise VectorStoreUnavailable(f"{self._server.called} did not store all rows")

    async def _get(
        self,
        collection: str,
        store: StoreId,
        filters: Sequence[JsonObject],
        limit: int,
        *,
        vectors: bool,
        near: str = "",
    ) -> list[RankedRow]:
        arguments = f"{_of_tenant(store, filters)} limit:{limit} {near}"
        fields = "key document _additional{vector}" if vectors else "key document"
        found = await self._query(f"{{Get{{{collection}({arguments}){{{fields}}}}}}}")
        with self._server.reading():
            return [_ranked(one) for one in found["Get"][collection]]

    async def _count(self, collection: str, store: StoreId, filters: Sequence[JsonObject]) -> int:
        arguments = _of_tenant(store, filters)
        found = await self._query(f"{{Aggregate{{{collection}({arguments}){{meta{{count}}}}}}}}")
        with self._server.reading():
            (one,) = found["Aggregate"][collection]
            return int(one["meta"]["count"])

    async def _query(self, query: str) -> Any:
        reply = await self._server.ask("POST", "/v1/graphql", {"query": query})
        with self._server.reading():
            if reply.document.get("errors"):
                raise VectorStoreUnavailable(f"{self._server.called} answered a query with an error")
            return reply.document["data"]

    async def _all(
        self, collection: str, store: StoreId, filters: Sequence[JsonObject], *, vectors: bool
    ) -> AsyncIterator[list[RankedRow]]:
        """Yield the rows range by range. A range with more than one answer may hold is halved."""
        if not (count := await self._count(collection, store, filters)):
            return
        step = EVERY_PLACE * _USUAL // count + 1
        starts = range(0, EVERY_PLACE, step)
        ranges = [(start, min(start + step, EVERY_PLACE)) for start in starts][::-1]
        while ranges:
            start, end = ranges.pop()
            within = [*filters, place_from(start), place_below(end)]
            page = await self._get(collection, store, within, _PAGE, vectors=vectors)
            if len(page) < _PAGE:
                yield page
            elif end - start > 1:
                middle = (start + end) // 2
                ranges += [(middle, end), (start, middle)]
            else:
                raise VectorStoreUnavailable(f"{self._server.called} has too many rows at one place")

    async def _nearest_of_all(
        self,
        collection: str,
        store: StoreId,
        query: np.typing.NDArray[np.float32],
        filters: Sequence[JsonObject],
        limit: int,
    ) -> list[RankedRow]:
        """Return the nearest where they are more than one answer holds: all are read, and compared here."""
        found: list[RankedRow] = []
        async for page in self._all(collection, store, filters, vectors=True):
            found += page
        if len(found) <= limit:
            return found
        with self._server.reading():
            products = np.array([row.vector for row in found], dtype=np.float32) @ query
        return [found[place] for place in np.argsort(-products, kind="stable")[:limit]]


def _within(where: Tree, tenant: str | None) -> list[JsonObject]:
    return [*([] if tenant is None else [equal("tenant", _digest(tenant))]), *rendered(where)]


def _of_tenant(store: StoreId, filters: Sequence[JsonObject]) -> str:
    """Return the arguments that say which store is asked, and the filter if there is any."""
    where = f" where:{in_graphql(conjoined(filters))}" if filters else ""
    return f'tenant:"{_name(store)}"{where}'


def _name(store: StoreId) -> str:
    """Return the store's name as Weaviate's tenants may have one."""
    return store if _PLAIN_NAME.fullmatch(store) else f"other-{_digest(store)[:40]}"


def _uuid(text: str) -> str:
    return str(UUID(bytes=hashlib.sha256(_bytes(text)).digest()[:16], version=5))


def _place(text: str) -> int:
    return int.from_bytes(hashlib.sha256(_bytes(text)).digest()[-4:]) % EVERY_PLACE


def _digest(text: str) -> str:
    return hashlib.sha256(_bytes(text)).hexdigest()[:40]


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogatepass")


def _printable(text: str) -> str:
    return text.encode(errors="replace").decode()


def _object(collection: str, tenant: str, row: MarkedRow) -> bytes:
    return encoded(
        {
            "class": collection,
            "tenant": tenant,
            "id": _uuid(row.id),
            "vector": np.asarray(row.vector, dtype=np.float32),
            "properties": {
                "marks": row.marks,
                "tenant": _digest(row.tenant),
                "place": _place(row.id),
                "key": row.id,
                "document": row.document,
            },
        }
    )


def _parts(objects: Iterator[bytes]) -> Iterator[list[bytes]]:
    """Yield as many at once as one request may hold."""
    part: list[bytes] = []
    size = 0
    for one in objects:
        if part and (len(part) == _WRITE_ROWS or size + len(one) > _WRITE_BYTES):
            yield part
            part, size = [], 0
        part.append(one)
        size += len(one)
    if part:
        yield part


def _ranked(found: Any) -> RankedRow:
    additional = found.get("_additional")
    vector = () if additional is None else [float(number) for number in additional["vector"]]
    return RankedRow(str(found["key"]), str(found["document"]), vector)
