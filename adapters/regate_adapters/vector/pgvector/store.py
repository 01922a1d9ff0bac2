"""The `VectorStore` on PostgreSQL with pgvector: the filter is a WHERE clause, and the ranking exact up to a
measured number of rows.

It never decides what is permitted: `filter.py`, the counterpart, renders the plan. Beside the plan every
statement names its store and the schema version, and row-level security keeps it to that store, and to the
tenant of the plan's guard, whatever the rendering says.

Up to `exact_below` permitted chunks the ranking is exact over the permitted alone, so that other tenants'
chunks move nothing. Beyond it pgvector's index proposes, scanning on until the limit is filled with permitted
rows; where it gives up first, the ranking is exact after all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

import psycopg
from psycopg import sql

from regate_adapters.postgres import connection_parameters, told
from regate_adapters.vector.guard import one_tenant, tenant_of
from regate_adapters.vector.pgvector.places import (
    GENERATION,
    Place,
    chunks_after,
    count_chunks,
    delete_chunks,
    delete_generation,
    drop_place,
    make_place,
    place_of,
    place_or_none,
)
from regate_adapters.vector.pgvector.pool import Cursor, Pool
from regate_adapters.vector.pgvector.query import SearchStatements
from regate_adapters.vector.pgvector.rows import candidate_of, row_of
from regate_adapters.vector.pgvector.schema import (
    REACH_SETTING,
    STORE_SETTING,
    TENANT_SETTING,
    chunk_table,
    examine,
    make_chunk_table,
    prepare,
)
from regate_adapters.vector.pgvector.statements import INSERT, RESTAMP
from regate_adapters.vector.pgvector.values import shown_text, stored_text
from regate_adapters.vector.pgvector.ways import CountedAsMany
from regate_adapters.vector.pgvector.worded import MEMORY, Words
from regate_orchestrator.documents.generations import chunk_id
from regate_orchestrator.errors import VectorStoreUnavailable, naming
from regate_orchestrator.filters.expression import Constant, Expression, FilterPlan, Scalar, expression_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Chunk, Found, Mode, Query
from regate_orchestrator.values import FileId, JsonObject, StoreId

EXACT_BELOW: Final = 50_000
"""Measured on 2 cores with 50,000 chunks of 256 dimensions: 61 ms when all are permitted, 114 under the
shipped policy, 2 to 4 for 1 % or less.

The index took 10 to 32 ms for all of them with a recall of 1, on vectors that lie in clusters. Among the few
permitted of many it was worse on both counts (1 % of 20,000: 26 ms, recall 0.88), which is why it is asked
for the many alone.
"""

_LAYOUT: Final = "1"
_CONNECTIONS: Final = 8
_DEADLINE_SECONDS: Final = 8.0
_ADD_FACTOR: Final = 8
_OPEN_FACTOR: Final = 4
_CHECK_SECONDS: Final = 2.0
_WRITE_ROWS: Final = 500
_MIN_EXPLORED: Final = 200
_MAX_EXPLORED: Final = 1_000  # pgvector's own bound of ef_search
_TRIES: Final = 5
_NO_JIT: Final = {"jit": "off"}
"""Compiling a statement to machine code takes longer than any of these takes to run."""


class PgVectorStore:
    """Chunks of one row schema in a PostgreSQL database with pgvector 0.8 or later. Must be entered, which
    brings its tables up to date.

    Raises `ConfigurationError`, naming the setting that holds the URL, when the database cannot serve.

    Any number of processes may share it.
    """

    def __init__(
        self,
        url: str,
        schema: RowSchema,
        *,
        setting: str = "vector.stores",
        exact_below: int = EXACT_BELOW,
        deadline_s: float = _DEADLINE_SECONDS,
        pool_size: int = _CONNECTIONS,
        connect_s: float | None = None,
        memory: int = MEMORY,
    ) -> None:
        self._setting = setting
        with naming(setting):
            self._parameters = connection_parameters(url, connect_s=connect_s)
        self._schema = schema
        self._version = f"{_LAYOUT}:{schema.digest}"
        self._exact_below = exact_below
        self._counted = CountedAsMany()
        self._words = Words(schema, self._version, memory=memory)
        self._deadline_s = deadline_s
        self._pool = Pool(self._parameters, size=pool_size)

    async def __aenter__(self) -> Self:
        with naming(self._setting):
            self._pool.on_connect = (
                await prepare(self._parameters, within_s=self._deadline_s * _OPEN_FACTOR)
            ).on_connect
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    async def examine(self) -> str:
        """Return in words what is there, without having entered. Raises `ConfigurationError` when it
        cannot serve; changes nothing.
        """
        with naming(self._setting):
            return await examine(self._parameters, within_s=self._deadline_s * _OPEN_FACTOR)

    async def create(self, store: StoreId, *, dimensions: int) -> None:
        """Make the store's place. Raises `VectorStoreUnavailable` when it is there with vectors of
        another length.
        """
        async with self._transaction("create", store, write=True) as cursor:
            await make_chunk_table(cursor, dimensions)
            await make_place(cursor, store, dimensions)
            if (await place_of(cursor, store)).dimensions != dimensions:
                raise VectorStoreUnavailable(f"store {store} has vectors of another length than {dimensions}")

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        """Store the chunks whole, all or none of them; those with an id that is there are deleted in
        the same transaction.
        """
        distinct = list({chunk.id: chunk for chunk in chunks}.values())
        rows = [row_of(chunk, self._schema) for chunk in distinct]
        async with self._transaction(
            "add", store, write=True, tenant=one_tenant(distinct), within_s=self._deadline_s * _ADD_FACTOR
        ) as cursor:
            dimensions = (await place_of(cursor, store, lock=True)).dimensions
            if any(len(chunk.vector) != dimensions for chunk in distinct):
                raise VectorStoreUnavailable(f"a vector has another length than the store's {dimensions}")
            replaced = 0
            for start in range(0, len(rows), _WRITE_ROWS):
                part = rows[start : start + _WRITE_ROWS]
                replaced += await delete_chunks(
                    cursor, store, dimensions, column="id", values=[row["ids"] for row in part]
                )
                await self._insert(cursor, store, dimensions, part)
            await count_chunks(cursor, store, added=len(rows), removed=replaced)

    async def modes(self, store: StoreId) -> frozenset[Mode]:  # noqa: ARG002 — of every store the same
        """Return all there are."""
        return frozenset({"vector", "keyword", "hybrid"})

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        """Return the chunks that fit best among those that the plan permits; see the module on what is
        exact.
        """
        expression = expression_of(plan)
        if expression == Constant(holds=False):
            return Found((), total=0, permitted=0, exhausted=True)
        if query.mode == "vector":
            return await self._near(store, query, expression)
        return await self._worded(store, query, expression)

    async def _worded(self, store: StoreId, query: Query, expression: Expression) -> Found:
        # Made in every mode, so that what is refused is refused in every mode
        statements = self._statements(store, query, expression)
        tenant = tenant_of(expression)
        for _ in range(_TRIES):
            async with self._transaction("search", store, tenant=tenant, settings=_NO_JIT) as cursor:
                place = await self._searched(cursor, store, query)
                similar = await statements.similarities(cursor) if query.mode == "hybrid" else None
                best = await self._words.ranked(
                    cursor, store, place, expression, query, tenant=tenant, similar=similar
                )
                scores = dict(zip(best.numbers.tolist(), best.scores.tolist(), strict=True))
                rows = await self._words.chosen(cursor, store, place, list(scores))
            if len(rows) == len(scores):
                found = [candidate_of((*row, scores[one], None), self._schema) for one, row in rows.items()]
                found.sort(key=lambda one: (-one.score, one.id))
                is_whole = best.matching <= query.limit
                best_found = tuple(found[: query.limit])
                return Found(best_found, total=place.chunks, permitted=best.permitted, exhausted=is_whole)
        raise VectorStoreUnavailable(f"chunks of store {store} were removed faster than they could be found")

    async def _near(self, store: StoreId, query: Query, expression: Expression) -> Found:
        limit = query.limit
        statements = self._statements(store, query, expression)
        explored = str(min(max(2 * limit, _MIN_EXPLORED), _MAX_EXPLORED))
        settings = {**_NO_JIT, "hnsw.ef_search": explored}
        async with self._transaction(
            "search", store, tenant=tenant_of(expression), settings=settings
        ) as cursor:
            place = await self._searched(cursor, store, query)
            # Which way is taken depends on the permitted chunks alone.
            if place.chunks <= self._exact_below or not self._counted.holds(store, place, expression):
                rows = await statements.exact(cursor, most=self._exact_below + 1)
                permitted = rows[0][-1] if rows else 0
                if permitted <= self._exact_below:
                    return _found(rows, place, permitted, schema=self._schema, limit=limit)
                self._counted.note(store, place, expression)
            rows = await statements.nearest(cursor)
            if len(rows) == limit:
                return _found(rows, place, None, schema=self._schema, limit=limit)
            rows = await statements.exact(cursor, most=None)
            permitted = rows[0][-1] if rows else 0
            return _found(rows, place, permitted, schema=self._schema, limit=limit)

    def _statements(self, store: StoreId, query: Query, expression: Expression) -> SearchStatements:
        return SearchStatements(self._schema, self._version, store, expression, query.vector, query.limit)

    async def _searched(self, cursor: Cursor, store: StoreId, query: Query) -> Place:
        """Return the place of a store that is searched with vectors of its own length."""
        place = await place_of(cursor, store)
        if len(query.vector) != place.dimensions:
            raise VectorStoreUnavailable(f"the query has another length than the store's {place.dimensions}")
        return place

    async def texts(self, store: StoreId, ids: Sequence[str], *, tenant: str) -> Mapping[str, str]:
        """Return the texts of those of these chunks of the tenant that are there and of the present schema
        version.
        """
        wanted = sql.SQL(
            "SELECT id, text FROM {} WHERE store = {} AND id = ANY ({}::text[]) AND version = {}"
        )
        async with self._transaction("texts", store, tenant=tenant) as cursor:
            dimensions = (await place_of(cursor, store)).dimensions
            slots = [sql.Placeholder()] * 3
            names = [stored_text(identifier) for identifier in ids]
            await cursor.execute(
                wanted.format(chunk_table(dimensions), *slots), [stored_text(store), names, self._version]
            )
            return {shown_text(identifier): shown_text(text) for identifier, text in await cursor.fetchall()}

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
        written = row_of(Chunk(chunk_id(target, 0), file, 0, "", (), stamp, attributes), self._schema)
        values = {
            "store": stored_text(store),
            "file": stored_text(file),
            "generation": stored_text(generation),
            "into": stored_text(target),
            "version": self._version,
            "stamp": written["stamps"],
            "attributes": written["attributes"],
        }
        slots = {name: sql.Placeholder(name) for name in values}
        whose = one_tenant([Chunk("", file, 0, "", (), stamp, {})])
        async with self._transaction(
            "restamp", store, write=True, tenant=whose, within_s=self._deadline_s * _ADD_FACTOR
        ) as cursor:
            dimensions = (await place_of(cursor, store, lock=True)).dimensions
            replaced = await delete_generation(cursor, store, dimensions, file=file, generation=target)
            await cursor.execute(RESTAMP.format(table=chunk_table(dimensions), **slots), values)
            copied = cursor.rowcount
            await count_chunks(cursor, store, added=copied, removed=replaced)
        return copied

    async def remove(self, store: StoreId, file: FileId, *, generation: str | None = None) -> None:
        """Remove the chunks of the file, or of one generation of it, of any schema version."""
        async with self._transaction("remove", store, write=True) as cursor:
            place = await place_or_none(cursor, store, lock=True)
            if place is None:
                return
            if generation is None:
                removed = await delete_chunks(
                    cursor, store, place.dimensions, column="file", values=[stored_text(file)]
                )
            else:
                removed = await delete_generation(
                    cursor, store, place.dimensions, file=file, generation=generation
                )
            await count_chunks(cursor, store, removed=removed)

    async def generations(self, store: StoreId) -> frozenset[str]:
        """Return which generations have chunks in the store, of any schema version."""
        wanted = sql.SQL("SELECT DISTINCT {} FROM {} WHERE store = {}")
        async with self._transaction("generations", store, within_s=self._deadline_s * _ADD_FACTOR) as cursor:
            place = await place_or_none(cursor, store)
            if place is None:
                return frozenset()
            await cursor.execute(
                wanted.format(GENERATION, chunk_table(place.dimensions), sql.Placeholder()),
                [stored_text(store)],
            )
            return frozenset(shown_text(generation) for (generation,) in await cursor.fetchall())

    async def chunks(self, store: StoreId) -> AsyncIterator[Sequence[Chunk]]:
        """Yield the store's chunks of the present schema version, in the order of their ids."""
        last = ""
        while True:
            async with self._transaction("chunks", store) as cursor:
                last, page = await chunks_after(cursor, store, last, version=self._version)
            if not page:
                return
            yield page

    async def is_shared(self, store: StoreId) -> bool:  # noqa: ARG002 — of every store the same
        """Return True: any program that reaches the database may write."""
        return True

    async def drop(self, store: StoreId) -> None:
        """Remove the store and all its chunks."""
        async with self._transaction("drop", store, write=True) as cursor:
            place = await place_or_none(cursor, store, lock=True)
            if place is not None:
                await drop_place(cursor, store, place)

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the database does not answer within a short time, or
        lacks its tables.
        """
        async with self._transaction(
            "check", StoreId(""), within_s=min(_CHECK_SECONDS, self._deadline_s)
        ) as cursor:
            await cursor.execute(sql.SQL("SELECT 1 FROM stores LIMIT 1"))

    def pool_use(self) -> Mapping[str, int]:
        """Return how many connections are in use and idle, and how many calls wait for one."""
        return self._pool.use()

    # ------------------------------------------------------------ the database

    @asynccontextmanager
    async def _transaction(
        self,
        what: str,
        store: StoreId,
        *,
        write: bool = False,
        tenant: str | None = None,
        settings: Mapping[str, str] | None = None,
        within_s: float | None = None,
    ) -> AsyncIterator[Cursor]:
        """Yield a cursor in a transaction that reaches this store's rows only, and this tenant's only
        where one is named.
        """
        deadline_s = within_s or self._deadline_s
        try:
            reach = {STORE_SETTING: stored_text(store), REACH_SETTING: "store"}
            if tenant is not None:
                reach |= {REACH_SETTING: "tenant", TENANT_SETTING: stored_text(tenant)}
            async with self._pool.transaction(
                {**reach, **(settings or {})}, write=write, within_s=deadline_s
            ) as cursor:
                yield cursor
        except TimeoutError as error:
            raise VectorStoreUnavailable(f"PostgreSQL: {what} took longer than {deadline_s:g} s") from error
        except (psycopg.Error, OSError, ValueError) as error:
            # A failed statement may quote what was to be written, and no text of a chunk goes to a log (I11).
            raise VectorStoreUnavailable(f"PostgreSQL: {what} failed with {told(error)}") from error

    async def _insert(
        self, cursor: Cursor, store: StoreId, dimensions: int, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        slots = {name: sql.Placeholder(name) for name in (*columns, "store", "version")}
        values = {**columns, "store": stored_text(store), "version": self._version}
        await cursor.execute(INSERT.format(table=chunk_table(dimensions), **slots), values)


def _found(
    rows: Sequence[tuple[Any, ...]], place: Place, permitted: int | None, *, schema: RowSchema, limit: int
) -> Found:
    candidates = tuple(candidate_of(row, schema) for row in rows)
    is_whole = permitted is not None and permitted <= limit
    return Found(candidates, total=place.chunks, permitted=permitted, exhausted=is_whole)
