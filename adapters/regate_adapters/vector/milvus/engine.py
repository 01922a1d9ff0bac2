"""Marked rows in a Milvus server, by its own client over gRPC. What is common to engines of marked rows is
`marked/store.py`, the counterpart.

All rows whose vectors have one length are entities of one collection (`layout.py`); store and tenant are
fields of theirs, under which each question is asked. Every read is of consistency `Strong`, so it sees each
write that was answered before.

The client's asynchronous half is experimental by its own words, so the other half is asked, in threads of
this engine.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

import numpy as np

from regate_adapters.vector.marked.batches import batches
from regate_adapters.vector.marked.engine import MarkedRow, RankedRow
from regate_adapters.vector.marked.tree import Tree
from regate_adapters.vector.milvus.filter import key_of, render
from regate_adapters.vector.milvus.layout import (
    METRIC,
    MOST_MARKS,
    NO_VECTOR,
    STRONG,
    make_registry,
    make_rows,
    pieces_of,
)
from regate_adapters.vector.ranking import best, cosines
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.ports import Vector
from regate_orchestrator.values import StoreId

if TYPE_CHECKING:
    from pymilvus import MilvusClient

R = TypeVar("R")

_PUT_FACTOR: Final = 8
_CHECK_SECONDS: Final = 1.5
_THREADS: Final = 32
_PAGE_ROWS: Final = 256
_DELETED_ROWS: Final = 1_000
_BATCH: Final = {
    "most_rows": 256,
    "most_bytes": 8_000_000,
    "number_bytes": 4,
}  # a server takes 64 MB by default
_MOST_RANKED: Final = 16_384
"""The most entities that Milvus returns of a search."""
_NOT_CONNECTED: Final = 2
"""The code by which the client says that nothing answered, or nothing that is a Milvus."""

_SHOWN: Final = ("name", "document", "store", "tenant")


@dataclass(frozen=True, slots=True)
class _Turn:
    """A client for as long as one question may take."""

    client: MilvusClient
    give_up: float

    @property
    def left_s(self) -> float:
        """Return how long the next answer may take. Raises `TimeoutError` when the time is up."""
        left = self.give_up - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


class MilvusEngine:
    """Marked rows in the collections of one server whose names begin alike. Any number of gateways may use
    them at once. `connect` makes the client, when it is first needed.
    """

    def __init__(
        self, connect: Callable[[float], MilvusClient], *, timeout_s: float, collections: str
    ) -> None:
        self._connect = connect
        self._timeout_s = timeout_s
        self._prefix = collections
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="milvus")
        self._connecting = threading.Lock()
        self._made: MilvusClient | None = None
        self._present: set[str] = set()
        self._lengths: dict[StoreId, int] = {}

    async def aclose(self) -> None:
        """Close the client's connection; what is still asked fails."""
        made, self._made = self._made, None
        if made is not None:
            await asyncio.to_thread(made.close)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def version(self) -> str:
        """Return the server's version; fails where there is none, or where it refuses the token."""

        def ask(turn: _Turn) -> str:
            turn.client.has_collection(self._registry, timeout=turn.left_s)
            return str(turn.client.get_server_version(timeout=turn.left_s))

        return await self._ask("the first question", ask)

    async def dimensions(self, store: StoreId) -> int | None:
        """Return the length of the store's vectors; None for a store that was not made."""

        def ask(turn: _Turn) -> int | None:
            if not self._has(turn, self._registry):
                return None
            found = _queried(turn, self._registry, f'id == "{key_of(store)}"', ["id", "dimensions"], limit=2)
            if not found:
                return None
            (noted,) = found
            length = noted["dimensions"]
            if noted["id"] != key_of(store) or not isinstance(length, int) or length < 1:
                raise ValueError
            return length

        length = await self._ask("finding a store", ask)
        if length is None:
            self._lengths.pop(store, None)
        else:
            self._lengths[store] = length
        return length

    async def make(self, store: StoreId, dimensions: int) -> None:
        """Make the collections that are not there, and note the store's length."""
        noted = {"id": key_of(store), "dimensions": dimensions, "vector": list(NO_VECTOR)}

        def ask(turn: _Turn) -> None:
            make_registry(turn.client, self._registry, within_s=turn.left_s)
            make_rows(turn.client, self._collection(dimensions), dimensions, within_s=turn.left_s)
            _upsert(turn, self._registry, [noted])

        await self._ask("making a store", ask, _PUT_FACTOR)

    async def put(self, store: StoreId, rows: Sequence[MarkedRow]) -> None:
        """Store the rows, each whole, as many at once as one request may hold."""

        def ask(turn: _Turn) -> None:
            for batch in batches(rows, **_BATCH):
                collection = self._there(turn, len(batch[0].vector))
                _upsert(turn, collection, [_entity(store, row) for row in batch])

        await self._ask("adding chunks", ask, _PUT_FACTOR)

    async def nearest(
        self, store: StoreId, vector: Vector, where: Tree, *, tenant: str | None, limit: int
    ) -> list[RankedRow]:
        """Return the rows with the highest similarity; each that the filter leaves is compared. Where more
        are wanted than Milvus returns at once, all are read and compared here.
        """
        if limit > _MOST_RANKED:
            pages = self._pages(store, len(vector), where, tenant=tenant, vectors=True)
            return _nearest([row async for page in pages for row in page], vector, limit)
        key = None if tenant is None else key_of(tenant)

        def ask(turn: _Turn) -> list[RankedRow]:
            (found,) = turn.client.search(
                self._there(turn, len(vector)),
                data=[[float(number) for number in vector]],
                anns_field="vector",
                filter=render(where, store=store, tenant=tenant),
                limit=limit,
                output_fields=[*_SHOWN, "vector"],
                search_params={"metric_type": METRIC, "params": {}},
                consistency_level=STRONG,
                timeout=turn.left_s,
            )
            return [_row(hit["entity"], store, tenant=key, length=len(vector)) for hit in found]

        return await self._ask("the search", ask)

    async def rows(self, store: StoreId, where: Tree, *, vectors: bool) -> AsyncIterator[list[RankedRow]]:
        """Yield all rows for which the condition holds, by the keys of their entities."""
        length = await self._length(store)
        if length is not None:
            async for page in self._pages(store, length, where, tenant=None, vectors=vectors):
                yield page

    async def count(self, store: StoreId, where: Tree, *, tenant: str | None) -> int:
        """Return for how many rows the condition holds."""
        length = await self._length(store)
        if length is None:
            return 0

        def ask(turn: _Turn) -> int:
            expression = render(where, store=store, tenant=tenant)
            (found,) = _queried(turn, self._there(turn, length), expression, ["count(*)"])
            return int(found["count(*)"])

        return await self._ask("counting chunks", ask)

    async def delete(self, store: StoreId, where: Tree) -> None:
        """Remove the rows for which the condition holds: they are looked for first, by a read that sees every
        write.
        """
        length = await self.dimensions(store)
        if length is None:
            return

        def ask(turn: _Turn) -> None:
            collection, last = self._there(turn, length), ""
            while True:
                found = _queried(turn, collection, _after(last, where, store), ["id"], limit=_DELETED_ROWS)
                keys = [str(one["id"]) for one in found]
                if keys:
                    turn.client.delete(collection, ids=keys, timeout=turn.left_s)
                if len(keys) < _DELETED_ROWS:
                    return
                last = max(keys)

        await self._ask("removing chunks", ask, _PUT_FACTOR)

    async def drop(self, store: StoreId) -> None:
        """Remove the store's rows, and then what was noted of it."""
        if await self.dimensions(store) is None:
            return
        await self.delete(store, True)

        def ask(turn: _Turn) -> None:
            turn.client.delete(self._registry, ids=[key_of(store)], timeout=turn.left_s)

        await self._ask("removing a store", ask)
        self._lengths.pop(store, None)

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the server does not answer within a short time."""

        def ask(turn: _Turn) -> None:
            turn.client.has_collection(self._registry, timeout=turn.left_s)

        await self._ask("the check", ask, min(1.0, _CHECK_SECONDS / self._timeout_s))

    # ------------------------------------------------------------ the server

    @property
    def _registry(self) -> str:
        return f"{self._prefix}_stores"

    def _collection(self, dimensions: int) -> str:
        return f"{self._prefix}_{dimensions}"

    async def _length(self, store: StoreId) -> int | None:
        return self._lengths.get(store) or await self.dimensions(store)

    async def _pages(
        self, store: StoreId, length: int, where: Tree, *, tenant: str | None, vectors: bool
    ) -> AsyncIterator[list[RankedRow]]:
        fields = ["id", *_SHOWN, *(["vector"] if vectors else [])]
        key = None if tenant is None else key_of(tenant)
        last = ""

        def ask(turn: _Turn) -> tuple[str, list[RankedRow]]:
            expression = _after(last, where, store, tenant)
            found = _queried(turn, self._there(turn, length), expression, fields, limit=_PAGE_ROWS)
            page = [_row(one, store, tenant=key, length=length if vectors else 0) for one in found]
            return max((str(one["id"]) for one in found), default=""), page

        while True:
            last, page = await self._ask("reading chunks", ask)
            yield page
            if len(page) < _PAGE_ROWS:
                return

    def _has(self, turn: _Turn, name: str) -> bool:
        """Return whether the collection is there, and have it loaded. One that is there is not asked for
        again until a question fails.
        """
        if name not in self._present and turn.client.has_collection(name, timeout=turn.left_s):
            turn.client.load_collection(name, timeout=turn.left_s)
            self._present.add(name)
        return name in self._present

    def _there(self, turn: _Turn, dimensions: int) -> str:
        """Return the collection of vectors of this length. Raises `ValueError` where it is not there."""
        name = self._collection(dimensions)
        if not self._has(turn, name):
            raise ValueError
        return name

    async def _ask(self, what: str, call: Callable[[_Turn], R], factor: float = 1) -> R:
        """Return what the call returns, asked in a thread; what fails there comes out as
        `VectorStoreUnavailable`, without the words of others, which may quote chunks and tokens.
        """
        within_s = self._timeout_s * factor
        give_up = time.monotonic() + within_s
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(within_s):
                return await loop.run_in_executor(self._threads, self._asked, call, give_up)
        except VectorStoreUnavailable:
            raise
        except TimeoutError:
            reason = f"took longer than {within_s:g} s"
        except Exception as error:  # noqa: BLE001 — whatever a client raises, the engine has not answered
            reason = f"failed with {_told(error)}"
        self._present.clear()
        raise VectorStoreUnavailable(f"Milvus: {what} {reason}") from None

    def _asked(self, call: Callable[[_Turn], R], give_up: float) -> R:
        if not self._connecting.acquire(timeout=max(0.0, give_up - time.monotonic())):
            raise TimeoutError
        try:
            if self._made is None:
                self._made = self._connect(max(0.0, give_up - time.monotonic()))
            turn = _Turn(self._made, give_up)
        finally:
            self._connecting.release()
        return call(turn)


def _queried(
    turn: _Turn, collection: str, expression: str, fields: list[str], limit: int | None = None
) -> Sequence[Mapping[str, Any]]:
    """Return the entities of a query. One with a limit returns those with the first keys, as Milvus has it
    for its client's own iterator.
    """
    first = {} if limit is None else {"limit": limit, "iterator": "True", "reduce_stop_for_best": True}
    found: Sequence[Mapping[str, Any]] = turn.client.query(
        collection,
        filter=expression,
        output_fields=fields,
        consistency_level=STRONG,
        timeout=turn.left_s,
        **first,
    )
    return found


def _upsert(turn: _Turn, collection: str, entities: list[dict[str, Any]]) -> None:
    """Store the entities. Raises `ValueError` when not all were taken."""
    done = turn.client.upsert(collection, entities, timeout=turn.left_s)
    if done["upsert_count"] != len(entities):
        raise ValueError


def _after(last: str, where: Tree, store: StoreId, tenant: str | None = None) -> str:
    return f'{render(where, store=store, tenant=tenant)} and id > "{last}"'


def _entity(store: StoreId, row: MarkedRow) -> dict[str, Any]:
    if len(row.marks) > MOST_MARKS:
        raise ValueError
    return {
        "id": hashlib.sha256(repr((store, row.id)).encode()).hexdigest(),
        "store": key_of(store),
        "tenant": key_of(row.tenant),
        "marks": list(row.marks),
        "document": pieces_of(row.document),
        "name": row.id,
        "vector": [float(number) for number in row.vector],
    }


def _row(entity: Mapping[str, Any], store: StoreId, *, tenant: str | None, length: int) -> RankedRow:
    """Return the entity as a row. Raises `ValueError` for one that was not asked for, or has not what was."""
    name, pieces = entity["name"], entity["document"]
    vector = entity["vector"] if length else ()
    is_asked = entity["store"] == key_of(store) and tenant in (None, entity["tenant"])
    if not is_asked or not isinstance(name, str) or len(vector) != length:
        raise ValueError
    return RankedRow(name, "".join(pieces), vector)


def _nearest(rows: list[RankedRow], vector: Vector, limit: int) -> list[RankedRow]:
    vectors = np.array([row.vector for row in rows], dtype=np.float32).reshape(-1, len(vector))
    found = {row.id: row for row in rows}
    scores = cosines(vectors, np.array(vector, dtype=np.float32))
    return [found[identifier] for identifier, _ in best([row.id for row in rows], scores, limit)]


def _told(error: Exception) -> str:
    """Return an error by its kind and code alone."""
    code = getattr(error, "code", None)
    why = " (no connection to a Milvus)" if code == _NOT_CONNECTED else ""
    return type(error).__name__ + (f" {code}{why}" if isinstance(code, int) else "")
