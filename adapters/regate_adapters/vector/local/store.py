"""The `VectorStore` in a SQLite file: durable there, and searched in memory, exactly.

Each tenant's part of a store is a partition of its own, read when it is first searched. A search looks at the
partition of the tenant that its plan is confined to and at no other, so what others store costs it nothing
and moves nothing: neither a score nor the time it takes. The plan is applied before anything is ranked.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar

from regate_adapters.vector.guard import tenant_of
from regate_adapters.vector.holding import hold
from regate_adapters.vector.local import writing
from regate_adapters.vector.local.partition import Changes, Partition, Scope
from regate_adapters.vector.local.ranking import ranked
from regate_adapters.vector.local.reading import candidates_of, texts_of
from regate_adapters.vector.local.schema import connect, prepare, shown, stored
from regate_adapters.vector.local.writing import Place, Stamped, Written, place_of, place_or_none
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Constant, Expression, FilterPlan, Scalar, expression_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Chunk, Found, Mode, Query
from regate_orchestrator.values import FileId, JsonObject, StoreId

MEMORY: Final = 512 << 20
_THREADS: Final = 4
_TRIES: Final = 5
T = TypeVar("T")


class LocalVectorStore:
    """Chunks of one row schema in a file below a folder. Must be entered, which makes the file or brings it
    up to date, and raises `ConfigurationError` when it cannot be used.

    At most `memory` bytes of what was searched are kept in memory between searches.
    """

    def __init__(self, folder: Path, schema: RowSchema, *, memory: int = MEMORY) -> None:
        self._folder = folder
        self._schema = schema
        self._version = _version(schema)
        self._memory = memory
        self._partitions: OrderedDict[Scope, Partition] = OrderedDict()
        self._lock = threading.Lock()
        self._kept = 0
        self._loading: dict[Scope, threading.Lock] = {}
        self._writing = threading.Lock()
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="vectors")

    async def __aenter__(self) -> Self:
        self._held = await asyncio.to_thread(hold, self._folder, "The local engine")
        try:
            await asyncio.to_thread(prepare, self._folder)
        except BaseException:
            os.close(self._held)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._executor.shutdown)
        for connection in self._connections:
            connection.close()
        os.close(self._held)

    async def create(self, store: StoreId, *, dimensions: int) -> None:
        """Make the store's place. Raises `VectorStoreUnavailable` when it is there with other dimensions."""

        def make(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO stores (id, dimensions) VALUES (?, ?) ON CONFLICT DO NOTHING",
                [stored(store), dimensions],
            )
            if place_of(connection, store).dimensions != dimensions:
                raise VectorStoreUnavailable(f"store {store} has vectors of another length than {dimensions}")

        await self._write(make)

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        """Store the chunks whole, all or none of them; those with an id that is there are replaced."""
        distinct = list({chunk.id: chunk for chunk in chunks}.values())

        def put(connection: sqlite3.Connection) -> None:
            place = place_of(connection, store)
            if any(len(chunk.vector) != place.dimensions for chunk in distinct):
                raise VectorStoreUnavailable(
                    f"a vector has another length than the store's {place.dimensions}"
                )
            writing.write(connection, place, written)

        written = await self._run(lambda: [Written.of(self._schema, self._version, one) for one in distinct])
        await self._write(put)

    async def modes(self, store: StoreId) -> frozenset[Mode]:  # noqa: ARG002 — of every store the same
        """Return all there are."""
        return frozenset({"vector", "keyword", "hybrid"})

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        """Return the chunks that fit best among those that the plan permits."""
        expression = expression_of(plan)
        if expression == Constant(holds=False):
            return Found((), total=0, permitted=0, exhausted=True)
        return await self._run(lambda: self._search(store, query, expression))

    async def texts(self, store: StoreId, ids: Sequence[str], *, tenant: str) -> Mapping[str, str]:
        """Return the texts of those of these chunks of the tenant that are there and of the present schema
        version.
        """

        def read() -> Mapping[str, str]:
            with self._reading() as connection:
                place = place_of(connection, store)
                return texts_of(connection, place, ids, tenant=tenant, version=self._version)

        return await self._run(read)

    async def restamp(
        self,
        store: StoreId,
        file: FileId,
        *,
        generation: str,
        target: str,
        stamp: JsonObject,
        attributes: Mapping[str, Scalar],
    ) -> int:
        """Store each chunk of the generation once more, of the present schema version, with this stamp
        and these attributes; all or none.
        """
        stamped = Stamped.of(self._schema, self._version, stamp, attributes)

        def copy(connection: sqlite3.Connection) -> int:
            names = {"file": stored(file), "generation": stored(generation), "target": stored(target)}
            return writing.copy_stamped(connection, place_of(connection, store), stamped, **names)

        return await self._write(copy)

    async def remove(self, store: StoreId, file: FileId, *, generation: str | None = None) -> None:
        """Remove the chunks of the file, or of one generation of it, of any schema version."""
        condition, values = "file = ?", [stored(file)]
        if generation is not None:
            condition, values = "file = ? AND generation = ?", [stored(file), stored(generation)]

        def delete(connection: sqlite3.Connection) -> None:
            place = place_or_none(connection, store)
            if place is not None:
                writing.remove(connection, place, condition, values)

        await self._write(delete)

    async def generations(self, store: StoreId) -> frozenset[str]:
        """Return which generations have chunks in the store, of any schema version."""

        def read() -> frozenset[str]:
            with self._reading() as connection:
                found = connection.execute(
                    "SELECT DISTINCT generation FROM chunks JOIN stores ON stores.number = store "
                    "WHERE stores.id = ?",
                    [stored(store)],
                )
                return frozenset(shown(generation) for (generation,) in found)

        return await self._run(read)

    async def is_shared(self, store: StoreId) -> bool:  # noqa: ARG002 — of every store the same
        """Return False: the file is this program's alone."""
        return False

    async def drop(self, store: StoreId) -> None:
        """Remove the store and all its chunks."""

        def delete(connection: sqlite3.Connection) -> None:
            place = place_or_none(connection, store)
            if place is not None:
                writing.drop(connection, place)

        await self._write(delete)

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the file cannot be read."""

        def read() -> None:
            with self._reading() as connection:
                connection.execute("SELECT 1 FROM stores LIMIT 1").fetchone()

        await self._run(read)

    # ------------------------------------------------------------ a search, in a thread

    def _search(self, store: StoreId, query: Query, expression: Expression) -> Found:
        for _ in range(_TRIES):
            with self._reading() as connection:
                place = place_of(connection, store)
                if len(query.vector) != place.dimensions:
                    raise VectorStoreUnavailable(
                        f"the query has another length than the store's {place.dimensions}"
                    )
                partition = self._partition_of(connection, place, tenant_of(expression))
                best = ranked(partition, expression, query)
                found = candidates_of(connection, best, query.limit, self._schema)
                if found is not None:
                    return Found(
                        found,
                        total=place.chunks,
                        permitted=best.permitted,
                        exhausted=best.matching <= query.limit,
                    )
        raise VectorStoreUnavailable(f"chunks of store {store} were removed faster than they could be found")

    def _partition_of(self, connection: sqlite3.Connection, place: Place, tenant: str | None) -> Partition:
        """Return the chunks of the tenant, or of the whole store, as they are now."""
        if tenant is None:
            query = "SELECT ?1, sum(added), sum(removed) FROM partitions WHERE store = ?1"
            row = connection.execute(query, [place.number]).fetchone()
        else:
            query = "SELECT number, added, removed FROM partitions WHERE store = ? AND tenant = ?"
            row = connection.execute(query, [place.number, stored(tenant)]).fetchone()
        if row is None or row[1] is None:
            return Partition.empty(Scope(place.number), place.dimensions)
        number, added, removed = row
        scope, changes = Scope(number, is_store=tenant is None), Changes(added, removed)
        known = self._partitions.get(scope)
        if known is None or not known.changes.are_after(changes):
            with self._lock:
                loading = self._loading.setdefault(scope, threading.Lock())
            with loading:  # one thread reads it, for all that wait
                known = self._partitions.get(scope) or Partition.empty(scope, place.dimensions)
                if not known.changes.are_after(changes):
                    known = known.refreshed(connection, changes, self._schema, self._version)
        self._keep(known)
        return known

    def _keep(self, partition: Partition) -> None:
        """Keep the partition in memory, and let go of those that were searched longest ago beyond its
        bound.
        """
        with self._lock:
            before = self._partitions.get(partition.scope)
            if before is not partition:
                self._kept += partition.size - (0 if before is None else before.size)
                self._partitions[partition.scope] = partition
            self._partitions.move_to_end(partition.scope)
            while self._kept > self._memory and self._partitions:
                scope, oldest = self._partitions.popitem(last=False)
                self._loading.pop(scope, None)
                self._kept -= oldest.size

    # ------------------------------------------------------------ the file

    async def _run(self, work: Callable[[], T]) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._executor, work)
        except sqlite3.Error as error:
            raise VectorStoreUnavailable(f"the vectors in {self._folder}: {error}") from error

    async def _write(self, work: Callable[[sqlite3.Connection], T]) -> T:
        def within() -> T:
            with self._writing:
                connection = self._connection()
                connection.execute("BEGIN IMMEDIATE")
                try:
                    done = work(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    connection.execute("ROLLBACK")
                    raise
                return done

        return await self._run(within)

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Yield a connection that sees the file as it is now until it is given back."""
        connection = self._connection()
        connection.execute("BEGIN")
        try:
            yield connection
        finally:
            connection.execute("ROLLBACK")

    def _connection(self) -> sqlite3.Connection:
        """Return the connection of this thread."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = connect(self._folder)
            self._connections.append(connection)
        return connection


def _version(schema: RowSchema) -> str:
    """Return what tells stamps under these required fields from stamps under others."""
    required = sorted((spec.name, spec.type) for spec in schema.fields.values() if spec.required)
    return hashlib.sha256(repr(required).encode()).hexdigest()[:16]
