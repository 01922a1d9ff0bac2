"""Marked rows in a Qdrant server, by its own client over HTTP. What is common to engines of marked rows is
`marked/store.py`, the counterpart.

All rows whose vectors have one length are points of one collection; store and tenant are fields of theirs,
under which each question is asked. The tenant's index is marked as one (`is_tenant`). Which stores there are,
and of what length, is in a collection of its own. No index of neighbours is built, since every search
compares all points that the filter leaves.
"""

from __future__ import annotations

import asyncio
import hashlib
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import httpx

from regate_adapters.vector.marked.batches import batches
from regate_adapters.vector.marked.engine import MarkedRow, RankedRow
from regate_adapters.vector.marked.tree import Tree
from regate_adapters.vector.qdrant.filter import MARKS, STORE, TENANT, modelled, render, tenant_key
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.ports import Vector
from regate_orchestrator.values import StoreId

if TYPE_CHECKING:
    from qdrant_client import AsyncQdrantClient

PUT_FACTOR: Final = 8
_CHECK_SECONDS: Final = 1.5
_PAGE_ROWS: Final = 256
_BATCH: Final = {
    "most_rows": 256,
    "most_bytes": 8_000_000,
    "number_bytes": 22,
}  # a server takes 32 MB of JSON by default
_REFUSED: Final = (401, 403)
_DIMENSIONS: Final = "dimensions"
_SHOWN: Final = ["id", "document", STORE, TENANT]


class QdrantEngine:
    """Marked rows in the collections of one server whose names begin alike. Any number of gateways may use
    them at once. `connect` makes the client, when it is first needed.
    """

    def __init__(
        self, connect: Callable[[], AsyncQdrantClient], *, timeout_s: float, collections: str
    ) -> None:
        self._connect = connect
        self._timeout_s = timeout_s
        self._prefix = collections
        self._made: AsyncQdrantClient | None = None
        self._present: set[str] = set()
        self._lengths: dict[StoreId, int] = {}

    async def aclose(self) -> None:
        """Close the client's connections."""
        made, self._made = self._made, None
        if made is not None:
            await made.close()

    async def version(self) -> str:
        """Return the server's version; fails where there is none, or where it refuses the key."""
        async with self._asking("the first question") as client:
            found = await client.info()
            await client.collection_exists(self._registry)
        return str(found.version)

    async def dimensions(self, store: StoreId) -> int | None:
        """Return the length of the store's vectors; None for a store that was not made."""
        async with self._asking("finding a store") as client:
            if not await self._has(client, self._registry):
                return None
            found = await client.retrieve(self._registry, [point_id(store)], with_payload=True)
            if not found:
                self._lengths.pop(store, None)
                return None
            payload = found[0].payload or {}
            length = payload.get(_DIMENSIONS)
            if payload.get(STORE) != store or not isinstance(length, int) or length < 1:
                raise ValueError
        self._lengths[store] = length
        return length

    async def make(self, store: StoreId, dimensions: int) -> None:
        """Make the collections that are not there, and note the store's length."""
        from qdrant_client import models

        async with self._asking("making a store", PUT_FACTOR) as client:
            await self._ensure(client, self._registry, 1)
            await self._ensure(client, self._collection(dimensions), dimensions)
            noted = models.PointStruct(
                id=point_id(store), vector=[1.0], payload={STORE: store, _DIMENSIONS: dimensions}
            )
            _completed(await client.upsert(self._registry, [noted], wait=True))

    async def put(self, store: StoreId, rows: Sequence[MarkedRow]) -> None:
        """Store the rows, each whole, as many at once as one request may hold."""
        from qdrant_client import models

        async with self._asking("adding chunks", PUT_FACTOR) as client:
            for batch in batches(rows, **_BATCH):
                points = [
                    models.PointStruct(
                        id=point_id(store, row.id), vector=_numbers(row.vector), payload=_payload(store, row)
                    )
                    for row in batch
                ]
                collection = self._collection(len(batch[0].vector))
                _completed(await client.upsert(collection, points, wait=True))

    async def nearest(
        self, store: StoreId, vector: Vector, where: Tree, *, tenant: str | None, limit: int
    ) -> list[RankedRow]:
        """Return the rows with the highest similarity; each that the filter leaves is compared."""
        from qdrant_client import models

        async with self._asking("the search") as client:
            found = await client.query_points(
                self._collection(len(vector)),
                query=_numbers(vector),
                query_filter=modelled(render(where, store=store, tenant=tenant), models),
                search_params=models.SearchParams(exact=True),
                limit=limit,
                with_payload=_SHOWN,
                with_vectors=True,
            )
            key = None if tenant is None else tenant_key(tenant)
            return [_row(point, store, tenant=key, length=len(vector)) for point in found.points]

    async def rows(self, store: StoreId, where: Tree, *, vectors: bool) -> AsyncIterator[list[RankedRow]]:
        """Yield all rows for which the condition holds, by the ids of their points."""
        from qdrant_client import models

        length, offset = await self._length(store), None
        while length is not None:
            async with self._asking("reading chunks") as client:
                points, offset = await client.scroll(
                    self._collection(length),
                    scroll_filter=modelled(render(where, store=store), models),
                    limit=_PAGE_ROWS,
                    offset=offset,
                    with_payload=_SHOWN,
                    with_vectors=vectors,
                )
                page = [_row(point, store, length=length if vectors else 0) for point in points]
            yield page
            if offset is None:
                return

    async def count(self, store: StoreId, where: Tree, *, tenant: str | None) -> int:
        """Return for how many rows the condition holds, exactly."""
        from qdrant_client import models

        length = await self._length(store)
        if length is None:
            return 0
        async with self._asking("counting chunks") as client:
            counted = await client.count(
                self._collection(length),
                count_filter=modelled(render(where, store=store, tenant=tenant), models),
                exact=True,
            )
            return counted.count

    async def delete(self, store: StoreId, where: Tree) -> None:
        """Remove the rows for which the condition holds."""
        from qdrant_client import models

        length = await self.dimensions(store)
        if length is None:
            return
        async with self._asking("removing chunks") as client:
            chosen = models.FilterSelector(filter=modelled(render(where, store=store), models))
            _completed(await client.delete(self._collection(length), chosen, wait=True))

    async def drop(self, store: StoreId) -> None:
        """Remove the store's rows, and then what was noted of it."""
        from qdrant_client import models

        if await self.dimensions(store) is None:
            return
        await self.delete(store, True)
        async with self._asking("removing a store") as client:
            chosen = models.PointIdsList(points=[point_id(store)])
            _completed(await client.delete(self._registry, chosen, wait=True))
        self._lengths.pop(store, None)

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the server does not answer within a short time."""
        async with self._asking("the check", min(1.0, _CHECK_SECONDS / self._timeout_s)) as client:
            await client.collection_exists(self._registry)

    # ------------------------------------------------------------ the server

    @property
    def _registry(self) -> str:
        return f"{self._prefix}_stores"

    def _collection(self, dimensions: int) -> str:
        return f"{self._prefix}_{dimensions}"

    async def _length(self, store: StoreId) -> int | None:
        return self._lengths.get(store) or await self.dimensions(store)

    async def _has(self, client: AsyncQdrantClient, name: str) -> bool:
        """Return whether the collection is there. One that is there is not asked for again until a question
        fails.
        """
        if name not in self._present and await client.collection_exists(name):
            self._present.add(name)
        return name in self._present

    async def _ensure(self, client: AsyncQdrantClient, name: str, dimensions: int) -> None:
        """Make the collection unless it is there, with its indexes. Fails for one that is not ours."""
        from qdrant_client import models

        if not await self._has(client, name):
            try:
                await client.create_collection(
                    name,
                    vectors_config=models.VectorParams(size=dimensions, distance=models.Distance.DOT),
                    hnsw_config=models.HnswConfigDiff(m=0),
                )
            except Exception:
                if not await client.collection_exists(name):  # else another gateway was faster
                    raise
        vectors = (await client.get_collection(name)).config.params.vectors
        if not isinstance(vectors, models.VectorParams) or (vectors.size, vectors.distance) != (
            dimensions,
            models.Distance.DOT,
        ):
            raise VectorStoreUnavailable(f"Qdrant: the collection {name} is not one that Regate made")
        for field in (STORE, TENANT, MARKS):
            index = models.KeywordIndexParams(
                type=models.KeywordIndexType.KEYWORD, is_tenant=True if field == TENANT else None
            )
            await client.create_payload_index(name, field, field_schema=index, wait=True)
        self._present.add(name)

    @asynccontextmanager
    async def _asking(self, what: str, factor: float = 1) -> AsyncIterator[AsyncQdrantClient]:
        """Yield the client; what fails within comes out as `VectorStoreUnavailable`, without the words of
        others, which may quote chunks and keys.
        """
        within_s = self._timeout_s * factor
        try:
            async with asyncio.timeout(within_s):
                if self._made is None:
                    self._made = self._connect()
                yield self._made
        except VectorStoreUnavailable:
            raise
        except TimeoutError:
            reason = f"took longer than {within_s:g} s"
        except Exception as error:  # noqa: BLE001 — whatever a client raises, the engine has not answered
            reason = f"failed with {_told(error)}"
        else:
            return
        self._present.clear()
        raise VectorStoreUnavailable(f"Qdrant: {what} {reason}") from None


def point_id(store: StoreId, row: str | None = None) -> str:
    """Return the id of a row's point, or of the one that notes a store: Qdrant takes UUIDs alone."""
    named = repr((store, row)).encode()
    return str(uuid.UUID(bytes=hashlib.sha256(named).digest()[:16]))


def _payload(store: StoreId, row: MarkedRow) -> dict[str, object]:
    return {
        STORE: store,
        TENANT: tenant_key(row.tenant),
        MARKS: row.marks,
        "id": row.id,
        "document": row.document,
    }


def _row(point: Any, store: StoreId, *, tenant: str | None = None, length: int) -> RankedRow:
    """Return the point as a row. Raises `ValueError` for one that was not asked for, or has not what was."""
    payload, vector = point.payload or {}, point.vector if length else ()
    match payload:
        case {"id": str() as identifier, "document": str() as document, "store": str() as whose}:
            is_asked = whose == store and tenant in (None, payload.get(TENANT))
            if is_asked and isinstance(vector, list | tuple) and len(vector) == length:
                return RankedRow(identifier, document, vector)
    raise ValueError


def _numbers(vector: Vector) -> list[float]:
    return [float(number) for number in vector]


def _completed(result: Any) -> None:
    """Raise `ValueError` unless the change is visible: a server may also say that it will be."""
    if result.status != "completed":
        raise ValueError


def _told(error: Exception) -> str:
    """Return an error by its kind and status alone; only why there is no connection is said in its words."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return f"status {status}" + (" (the API key is refused)" if status in _REFUSED else "")
    cause = getattr(error, "source", None)
    told = cause if isinstance(cause, Exception) else error
    why = f" ({told})" if isinstance(told, httpx.ConnectError) and str(told) else ""
    return type(told).__name__ + why
