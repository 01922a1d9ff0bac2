"""Marked rows in LanceDB, embedded: one table for each store, in one directory that this process alone uses.

Every search looks at all rows for which the condition holds: no index of vectors is ever made, and none
would be asked. A table is opened for each use (half a millisecond), so that each sees all that was written
before, and no store that is not in use costs memory or open files.

Each write is a version of its table. When some have come together the table is tidied up: small files become
one, versions go that nobody can be reading any more, and the indexes of conditions are brought up to date.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import math
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from weakref import WeakValueDictionary

import lancedb
import numpy as np
import pyarrow as pa
from lancedb.index import Bitmap, LabelList

from regate_adapters.vector.holding import hold
from regate_adapters.vector.lancedb.filter import tenant_key, where_clause
from regate_adapters.vector.marked.engine import MarkedRow, RankedRow
from regate_adapters.vector.marked.tree import Tree
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.ports import Vector
from regate_orchestrator.values import StoreId

_log = logging.getLogger("regate.vector")

_TIDY_EVERY: Final = 50
"""Versions of a table between two times that it is tidied up. Measured with five rows in each: a search of 50
files took 12 ms, of 400 files 68, and of one file 3. Tidying up 40,000 chunks took 0.3 s.
"""

_TIDY_ROWS: Final = 5_000
"""Rows of a table between two such times, where few writes bring many. Without indexes a search for the few
permitted of 50,000 took 85 ms, and with them 14.
"""

_KEPT: Final = timedelta(minutes=10)
"""How long a version stays that is not the newest: longer than a search that began with it may take."""

_INDEXES: Final[dict[str, Bitmap | LabelList]] = {"tenant": Bitmap(), "marks": LabelList()}
"""Of conditions, never of vectors. Measured with 100,000 chunks of 1,000 tenants under the shipped policy: a
search of all of them took 1.8 s without the index of marks and 0.1 s with it.
"""

_WRITE_FACTOR: Final = 8
_PAGE_ROWS: Final = 1_000
_CACHE_BYTES: Final = 64 << 20
_FAILURES: Final = (ValueError, RuntimeError, OSError, pa.ArrowException)


class LanceEngine:
    """Marked rows in a directory. Must be entered, which locks it for this process. Raises
    `ConfigurationError` when that is not possible.
    """

    def __init__(
        self, path: Path, *, timeout_s: float, tidy_every: int = _TIDY_EVERY, tidy_rows: int = _TIDY_ROWS
    ) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self._tidy_every = tidy_every
        self._tidy_rows = tidy_rows
        self._held: int | None = None
        self._database: lancedb.AsyncConnection | None = None
        self._writing: WeakValueDictionary[StoreId, asyncio.Lock] = WeakValueDictionary()

    async def __aenter__(self) -> Self:
        self._held = await asyncio.to_thread(hold, self._path, "Embedded LanceDB")
        try:
            session = lancedb.Session(
                index_cache_size_bytes=_CACHE_BYTES, metadata_cache_size_bytes=_CACHE_BYTES
            )
            self._database = await lancedb.connect_async(self._path, session=session)
        except _FAILURES as error:
            self._release()
            raise ConfigurationError(f"vector: LanceDB cannot be opened in {self._path}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        database: Any = self._database
        self._database = None
        if database is not None:
            database.close()
        self._release()

    # ------------------------------------------------------------ the port

    async def dimensions(self, store: StoreId) -> int | None:
        """Return the length of the store's vectors; None for a store that was not made."""
        async with self._failing("look up"):
            table = await self._table(store)
            return None if table is None else _length(await table.schema())

    async def make(self, store: StoreId, dimensions: int) -> None:
        """Make the store's table."""
        async with self._written(store, "make"):
            await self._connection().create_table(_name(store), schema=_schema(dimensions), exist_ok=True)

    async def put(self, store: StoreId, rows: Sequence[MarkedRow]) -> None:
        """Store the rows in one version: all or none of them."""
        if not all(map(math.isfinite, (number for row in rows for number in row.vector))):
            raise VectorStoreUnavailable("a vector holds a number that is not finite")
        async with self._written(store, "add"):
            table = await self._present(store)
            written = await asyncio.to_thread(_written_rows, rows, await table.schema())
            merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
            before = await table.version()
            merged = await merge.execute(written)
            await self._tidy_if_due(table, before=before, added=merged.num_inserted_rows)

    async def nearest(
        self, store: StoreId, vector: Vector, where: Tree, *, tenant: str | None, limit: int
    ) -> list[RankedRow]:
        """Return the nearest rows. Of vectors of unit length the product is the cosine, and it is a number
        for a vector of zeros too.
        """
        async with self._failing("search"):
            table = await self._present(store)
            near = table.query().nearest_to(np.array(vector, dtype=np.float32)).distance_type("dot")
            near = near.bypass_vector_index().limit(limit)
            near = near.select(["id", "document", "vector", "_distance"])
            if (condition := where_clause(where, tenant=tenant)) is not None:
                near = near.where(condition)
            return _read(await near.to_arrow())

    async def rows(self, store: StoreId, where: Tree, *, vectors: bool) -> AsyncIterator[list[RankedRow]]:
        """Yield all rows for which the condition holds, of one version of the table."""
        async with self._failing("read"):
            table = await self._present(store)
            wanted = table.query().select(["id", "document", *(["vector"] if vectors else [])])
            if (condition := where_clause(where)) is not None:
                wanted = wanted.where(condition)
            batches = await wanted.to_batches(max_batch_length=_PAGE_ROWS)
        while True:
            async with self._failing("read"):
                batch = await anext(batches, None)
            if batch is None:
                return
            yield _read(batch)

    async def count(self, store: StoreId, where: Tree, *, tenant: str | None) -> int:
        """Return for how many rows the condition holds."""
        async with self._failing("count"):
            table = await self._present(store)
            return await table.count_rows(where_clause(where, tenant=tenant))

    async def delete(self, store: StoreId, where: Tree) -> None:
        """Remove the rows for which the condition holds."""
        async with self._written(store, "remove"):
            table = await self._table(store)
            if table is not None:
                before = await table.version()
                await table.delete(where_clause(where) or "true")
                await self._tidy_if_due(table, before=before)

    async def drop(self, store: StoreId) -> None:
        """Remove the store's table with its files."""
        async with self._written(store, "drop"):
            await self._connection().drop_table(_name(store), ignore_missing=True)

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the directory cannot be listed."""
        async with self._failing("check"):
            self._connection()
            await asyncio.to_thread(os.stat, self._path / "regate.lock")

    # ------------------------------------------------------------ the tables

    def _connection(self) -> lancedb.AsyncConnection:
        if self._database is None:
            raise VectorStoreUnavailable("LanceDB is not open")
        return self._database

    async def _table(self, store: StoreId) -> lancedb.AsyncTable | None:
        """Return the store's table, at its newest version; None where there is none.

        What is left of a table whose making was broken off is none: it never had a version.
        """
        try:
            return await self._connection().open_table(_name(store))
        except ValueError:
            versions = self._path / f"{_name(store)}.lance" / "_versions"
            if await asyncio.to_thread(_has_files, versions):
                raise
            return None

    async def _present(self, store: StoreId) -> lancedb.AsyncTable:
        table = await self._table(store)
        if table is None:
            raise VectorStoreUnavailable(f"store {store} has no place here")
        return table

    async def _tidy_if_due(self, table: lancedb.AsyncTable, *, before: int, added: int = 0) -> None:
        """Tidy the table up if it passed another so many versions since, or so many rows. What was written is
        there, whatever becomes of this.
        """
        due = before // self._tidy_every != await table.version() // self._tidy_every
        if added and not due:
            rows = await table.count_rows()
            due = (rows - added) // self._tidy_rows != rows // self._tidy_rows
        if not due:
            return
        try:
            indexed = {column for index in await table.list_indices() for column in index.columns}
            for column, kind in _INDEXES.items():
                if column not in indexed:
                    await table.create_index(column, config=kind)
            await table.optimize(cleanup_older_than=_KEPT)
        except _FAILURES as error:
            _log.warning("lancedb_not_tidied_up", extra={"cause": type(error).__name__})

    @asynccontextmanager
    async def _written(self, store: StoreId, what: str) -> AsyncIterator[None]:
        """Let one write to a store be at it at a time, so that none fails because of another."""
        lock = self._writing.setdefault(store, asyncio.Lock())
        async with self._failing(what, self._timeout_s * _WRITE_FACTOR), lock:
            yield

    @asynccontextmanager
    async def _failing(self, what: str, within_s: float | None = None) -> AsyncIterator[None]:
        """Have whatever fails, or takes too long, be `VectorStoreUnavailable`. LanceDB's own words may
        quote what was asked and what was to be written.
        """
        limit = within_s or self._timeout_s
        try:
            async with asyncio.timeout(limit):
                yield
        except TimeoutError as error:
            raise VectorStoreUnavailable(f"LanceDB: {what} took longer than {limit:g} s") from error
        except _FAILURES as error:
            raise VectorStoreUnavailable(f"LanceDB: {what} failed with {type(error).__name__}") from error

    def _release(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            os.close(held)


def _name(store: StoreId) -> str:
    """Return the table's name: a digest, so that no two stores share a table where names are folded."""
    return hashlib.sha256(store.encode(errors="surrogatepass")).hexdigest()[:40]


def _has_files(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _schema(dimensions: int) -> pa.Schema:
    columns = {
        "id": pa.string(),
        "tenant": pa.string(),
        "marks": pa.list_(pa.field("item", pa.string(), nullable=False)),
        "document": pa.string(),
        "vector": pa.list_(pa.field("item", pa.float32()), dimensions),
    }
    return pa.schema([pa.field(name, kind, nullable=False) for name, kind in columns.items()])


def _length(schema: pa.Schema) -> int:
    return int(schema.field("vector").type.list_size)


def _written_rows(rows: Sequence[MarkedRow], schema: pa.Schema) -> pa.Table:
    dimensions = _length(schema)
    vectors = np.array([row.vector for row in rows], dtype=np.float32).reshape(-1, dimensions)
    columns: list[Any] = [
        pa.array([row.id for row in rows], pa.string()),
        pa.array([tenant_key(row.tenant) for row in rows], pa.string()),
        pa.array([list(row.marks) for row in rows], schema.field("marks").type),
        pa.array([row.document for row in rows], pa.string()),
        pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=schema.field("vector").type),
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _read(found: pa.Table | pa.RecordBatch) -> list[RankedRow]:
    names = found.schema.names
    nothing: list[Vector] = [()] * found.num_rows
    vectors = found.column("vector").to_pylist() if "vector" in names else nothing
    return [
        RankedRow(identifier, document, vector)
        for identifier, document, vector in zip(
            found.column("id").to_pylist(), found.column("document").to_pylist(), vectors, strict=True
        )
    ]
