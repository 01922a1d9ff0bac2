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

import hashlib
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self, cast

import psycopg
from psycopg import sql

from regate_adapters.postgres import cause, connection_parameters
from regate_adapters.vector.guard import tenant_of
from regate_adapters.vector.pgvector.filter import Condition, Parameters, render
from regate_adapters.vector.pgvector.pool import Cursor, Pool
from regate_adapters.vector.pgvector.schema import (
    REACH_SETTING,
    STORE_SETTING,
    TENANT_SETTING,
    chunk_table,
    examine,
    make_chunk_table,
    prepare,
)
from regate_adapters.vector.pgvector.values import shown_json, shown_text, stored_json, stored_text
from regate_orchestrator.documents.generations import chunk_id
from regate_orchestrator.errors import VectorStoreUnavailable, naming
from regate_orchestrator.filters.expression import Constant, Expression, FilterPlan, Scalar, expression_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Candidate, Chunk, Found, Query, Vector
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
_INDEX_SETTINGS: Final = {
    "hnsw.iterative_scan": "strict_order",
    "hnsw.max_scan_tuples": "100000",
    "hnsw.scan_mem_multiplier": "4",
    # What sorts could be anything but the index; the few rows sorted after it are sorted all the same.
    "enable_sort": "off",
}

_PLACE: Final = sql.SQL("SELECT dimensions, chunks FROM stores WHERE id = {}").format(sql.Placeholder())
_LOCKED_PLACE: Final = sql.SQL("{} FOR UPDATE").format(_PLACE)
_RANKED: Final = sql.SQL(
    """WITH permitted AS MATERIALIZED (
         SELECT id, embedding <=> {query}::vector AS distance FROM {table}
         WHERE store = {store}::text AND version = {version}::text AND {condition} {order}
         LIMIT {most}::bigint),
       scored AS (
         SELECT id, LEAST(1, GREATEST(0, 1 - COALESCE(NULLIF(distance, 'NaN'), 1))) AS score,
           count(*) OVER () AS permitted
         FROM permitted),
       top AS MATERIALIZED (SELECT * FROM scored ORDER BY score DESC, id LIMIT {limit}::bigint)
       SELECT c.id, c.file, c.index, c.text, c.stamp::text, c.attributes::text, top.score, top.permitted
       FROM top JOIN {table} c ON c.store = {store}::text AND c.id = top.id
       ORDER BY top.score DESC, top.id"""
)
_NEAREST_FIRST: Final = sql.SQL("ORDER BY embedding <=> {query}::vector")
_INSERT: Final = sql.SQL(
    """INSERT INTO {table} (store, id, file, index, text, version, stamp, attributes, embedding)
       SELECT {store}::text, n.id, n.file, n.index, n.text, {version}::text,
         n.stamp::jsonb, n.attributes::jsonb, n.embedding::vector
       FROM unnest({ids}::text[], {files}::text[], {indexes}::bigint[], {texts}::text[],
         {stamps}::text[], {attributes}::text[], {vectors}::text[])
         AS n (id, file, index, text, stamp, attributes, embedding)"""
)


_GENERATION: Final = sql.SQL("regexp_replace(id, '/[^/]*$', '')")
"""Of which generation a chunk is, by its id, as `generations.generation_of` has it."""
_RESTAMP: Final = sql.SQL(
    """INSERT INTO {table} (store, id, file, index, text, version, stamp, attributes, embedding)
       SELECT store, {into}::text || '/' || regexp_replace(id, '^.*/', ''), file, index, text, version,
              {stamp}::jsonb, {attributes}::jsonb, embedding
       FROM {table}
       WHERE store = {store}::text AND file = {file}::text AND version = {version}::text
         AND regexp_replace(id, '/[^/]*$', '') = {generation}::text"""
)


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
    ) -> None:
        self._setting = setting
        with naming(setting):
            self._parameters = connection_parameters(url)
        self._schema = schema
        self._version = _version(schema)
        self._exact_below = exact_below
        self._deadline_s = deadline_s
        self._pool = Pool(self._parameters, size=_CONNECTIONS)

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
            await cursor.execute(
                sql.SQL(
                    "INSERT INTO stores (id, dimensions) VALUES ({}, {}) ON CONFLICT (id) DO NOTHING"
                ).format(sql.Placeholder(), sql.Placeholder()),
                [_name(store), dimensions],
            )
            if (await _place(cursor, store))[0] != dimensions:
                raise VectorStoreUnavailable(f"store {store} has vectors of another length than {dimensions}")

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        """Store the chunks whole, all or none of them; those with an id that is there are deleted in
        the same transaction.
        """
        distinct = list({chunk.id: chunk for chunk in chunks}.values())
        rows = [self._row(chunk) for chunk in distinct]
        async with self._transaction(
            "add", store, write=True, within_s=self._deadline_s * _ADD_FACTOR
        ) as cursor:
            dimensions, _ = await _place(cursor, store, lock=True)
            if any(len(chunk.vector) != dimensions for chunk in distinct):
                raise VectorStoreUnavailable(f"a vector has another length than the store's {dimensions}")
            replaced = 0
            for start in range(0, len(rows), _WRITE_ROWS):
                part = rows[start : start + _WRITE_ROWS]
                replaced += await _delete(
                    cursor, store, dimensions, column="id", values=[row["ids"] for row in part]
                )
                await self._insert(cursor, store, dimensions, part)
            await _count(cursor, store, len(rows) - replaced)

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        """Return the most similar chunks among those that the plan permits; see the module on what
        is exact.
        """
        query.require_mode("vector")
        expression, limit = expression_of(plan), query.limit
        if expression == Constant(holds=False):
            return Found((), total=0, permitted=0, exhausted=True)
        statements = _Query(self._schema, self._version, store, expression, query.vector, limit)
        # Compiling a statement to machine code takes longer than any of these takes to run.
        settings = {"jit": "off", "hnsw.ef_search": str(min(max(2 * limit, _MIN_EXPLORED), _MAX_EXPLORED))}
        async with self._transaction(
            "search", store, tenant=tenant_of(expression), settings=settings
        ) as cursor:
            dimensions, total = await _place(cursor, store)
            if len(query.vector) != dimensions:
                raise VectorStoreUnavailable(f"the query has another length than the store's {dimensions}")
            # Which way is taken depends on the permitted chunks alone.
            rows = await statements.exact(cursor, most=self._exact_below + 1)
            permitted = rows[0][-1] if rows else 0
            if permitted <= self._exact_below:
                return self._found(rows, total=total, permitted=permitted, exhausted=permitted <= limit)
            rows = await statements.nearest(cursor)
            if len(rows) == limit:
                return self._found(rows, total=total, permitted=None, exhausted=False)
            rows = await statements.exact(cursor, most=None)
            permitted = rows[0][-1] if rows else 0
            return self._found(rows, total=total, permitted=permitted, exhausted=permitted <= limit)

    async def texts(self, store: StoreId, ids: Sequence[str]) -> Mapping[str, str]:
        """Return the texts of those of these chunks that are there and of the present schema version."""
        wanted = sql.SQL(
            "SELECT id, text FROM {} WHERE store = {} AND id = ANY ({}::text[]) AND version = {}"
        )
        async with self._transaction("texts", store) as cursor:
            dimensions, _ = await _place(cursor, store)
            slots = [sql.Placeholder()] * 3
            names = [_name(identifier) for identifier in ids]
            await cursor.execute(
                wanted.format(chunk_table(dimensions), *slots), [_name(store), names, self._version]
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
        written = self._row(Chunk(chunk_id(target, 0), file, 0, "", (), stamp, attributes))
        values = {
            "store": _name(store),
            "file": _name(file),
            "generation": _name(generation),
            "into": _name(target),
            "version": self._version,
            "stamp": written["stamps"],
            "attributes": written["attributes"],
        }
        slots = {name: sql.Placeholder(name) for name in values}
        async with self._transaction(
            "restamp", store, write=True, within_s=self._deadline_s * _ADD_FACTOR
        ) as cursor:
            dimensions, _ = await _place(cursor, store, lock=True)
            replaced = await _delete_generation(cursor, store, dimensions, file=file, generation=target)
            await cursor.execute(_RESTAMP.format(table=chunk_table(dimensions), **slots), values)
            copied = cursor.rowcount
            await _count(cursor, store, copied - replaced)
        return copied

    async def remove(self, store: StoreId, file: FileId, *, generation: str | None = None) -> None:
        """Remove the chunks of the file, or of one generation of it, of any schema version."""
        async with self._transaction("remove", store, write=True) as cursor:
            place = await _place_or_none(cursor, store, lock=True)
            if place is None:
                return
            if generation is None:
                removed = await _delete(cursor, store, place[0], column="file", values=[_name(file)])
            else:
                removed = await _delete_generation(cursor, store, place[0], file=file, generation=generation)
            await _count(cursor, store, -removed)

    async def generations(self, store: StoreId) -> frozenset[str]:
        """Return which generations have chunks in the store, of any schema version."""
        wanted = sql.SQL("SELECT DISTINCT {} FROM {} WHERE store = {}")
        async with self._transaction("generations", store, within_s=self._deadline_s * _ADD_FACTOR) as cursor:
            place = await _place_or_none(cursor, store)
            if place is None:
                return frozenset()
            await cursor.execute(
                wanted.format(_GENERATION, chunk_table(place[0]), sql.Placeholder()), [_name(store)]
            )
            return frozenset(shown_text(generation) for (generation,) in await cursor.fetchall())

    async def is_shared(self, store: StoreId) -> bool:  # noqa: ARG002 — of every store the same
        """Return True: any program that reaches the database may write."""
        return True

    async def drop(self, store: StoreId) -> None:
        """Remove the store and all its chunks."""
        async with self._transaction("drop", store, write=True) as cursor:
            place = await _place_or_none(cursor, store, lock=True)
            if place is not None:
                await _delete(cursor, store, place[0], column="store", values=[_name(store)])
                await cursor.execute(
                    sql.SQL("DELETE FROM stores WHERE id = {}").format(sql.Placeholder()), [_name(store)]
                )

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the database does not answer within a short time, or
        lacks its tables.
        """
        async with self._transaction(
            "check", StoreId(""), within_s=min(_CHECK_SECONDS, self._deadline_s)
        ) as cursor:
            await cursor.execute(sql.SQL("SELECT 1 FROM stores LIMIT 1"))

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
            reach = {STORE_SETTING: _name(store), REACH_SETTING: "store"}
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
            raise VectorStoreUnavailable(f"PostgreSQL: {what} failed with {cause(error)}") from error

    def _row(self, chunk: Chunk) -> dict[str, Any]:
        """Return what is written for the chunk. Raises `VectorStoreUnavailable` when it is not stamped
        as declared, or not storable exactly.
        """
        if faults := self._schema.faults(chunk.stamp):
            raise VectorStoreUnavailable(f"chunk {chunk.id} is not stamped as declared: {'; '.join(faults)}")
        if not all(map(math.isfinite, chunk.vector)):
            raise VectorStoreUnavailable("a vector holds a number that is not finite")
        try:
            return {
                "ids": stored_text(chunk.id),
                "files": stored_text(chunk.file_id),
                "indexes": chunk.index,
                "texts": stored_text(chunk.text),
                "stamps": stored_json(chunk.stamp),
                "attributes": stored_json(chunk.attributes),
                "vectors": _vector(chunk.vector),
            }
        except ValueError as error:
            raise VectorStoreUnavailable(
                f"chunk {chunk.id} holds a value that cannot be stored exactly"
            ) from error

    async def _insert(
        self, cursor: Cursor, store: StoreId, dimensions: int, rows: Sequence[Mapping[str, Any]]
    ) -> None:
        columns = {name: [row[name] for row in rows] for name in rows[0]}
        slots = {name: sql.Placeholder(name) for name in (*columns, "store", "version")}
        values = {**columns, "store": _name(store), "version": self._version}
        await cursor.execute(_INSERT.format(table=chunk_table(dimensions), **slots), values)

    def _found(
        self, rows: Sequence[tuple[Any, ...]], *, total: int, permitted: int | None, exhausted: bool
    ) -> Found:
        return Found(
            tuple(self._candidate(row) for row in rows), total=total, permitted=permitted, exhausted=exhausted
        )

    def _candidate(self, row: tuple[Any, ...]) -> Candidate:
        identifier, file, index, text, stamp, attributes, score, _ = row
        return Candidate(
            id=shown_text(identifier),
            file_id=FileId(shown_text(file)),
            index=index,
            text=shown_text(text),
            score=score,
            stamp=self._schema.canonical(shown_json(stamp)),
            attributes=shown_json(attributes),
        )


class _Query:
    """One search as SQL. Made before any IO, so that what cannot be expressed is refused before any."""

    def __init__(
        self,
        schema: RowSchema,
        version: str,
        store: StoreId,
        expression: Expression,
        vector: Vector,
        limit: int,
    ) -> None:
        if not all(map(math.isfinite, vector)):
            raise VectorStoreUnavailable("the query holds a number that is not finite")
        parameters = Parameters()
        self._condition: Condition = render(expression, schema, parameters)
        self._slots = {
            "query": parameters.add(_vector(vector)),
            "store": parameters.add(_name(store)),
            "version": parameters.add(version),
            "limit": parameters.add(limit),
        }
        self._table = chunk_table(len(vector))
        self._limit = limit
        self._parameters = parameters

    async def exact(self, cursor: Cursor, *, most: int | None) -> list[tuple[Any, ...]]:
        """Return the best of the permitted rows. When these are more than `most`, the answer is of no
        use but for that count.
        """
        return await self._ranked(cursor, order=sql.SQL(""), most=most)

    async def nearest(self, cursor: Cursor) -> list[tuple[Any, ...]]:
        """Return the rows that the index finds nearest among the permitted: at most the limit, and
        fewer where it gave up.
        """
        for name, value in _INDEX_SETTINGS.items():
            await cursor.execute(
                sql.SQL("SELECT set_config({}, {}, true)").format(sql.Placeholder(), sql.Placeholder()),
                [name, value],
            )
        return await self._ranked(
            cursor, order=_NEAREST_FIRST.format(query=self._slots["query"]), most=self._limit
        )

    async def _ranked(self, cursor: Cursor, *, order: Condition, most: int | None) -> list[tuple[Any, ...]]:
        slots = {**self._slots, "most": sql.Placeholder("most")}
        statement = _RANKED.format(table=self._table, condition=self._condition, order=order, **slots)
        await cursor.execute(statement, {**self._parameters.values, "most": most})
        return await cursor.fetchall()


async def _place_or_none(cursor: Cursor, store: StoreId, *, lock: bool = False) -> tuple[int, int] | None:
    await cursor.execute(_LOCKED_PLACE if lock else _PLACE, [_name(store)])
    return cast("tuple[int, int] | None", await cursor.fetchone())


async def _place(cursor: Cursor, store: StoreId, *, lock: bool = False) -> tuple[int, int]:
    """Return the store's vector length and its number of chunks. Locked, no other writer has it until
    the transaction ends.
    """
    place = await _place_or_none(cursor, store, lock=lock)
    if place is None:
        raise VectorStoreUnavailable(f"store {store} has no place here")
    return place


async def _delete(cursor: Cursor, store: StoreId, dimensions: int, *, column: str, values: list[str]) -> int:
    statement = sql.SQL("DELETE FROM {} WHERE store = {} AND {} = ANY ({}::text[])")
    bound = statement.format(
        chunk_table(dimensions), sql.Placeholder(), sql.Identifier(column), sql.Placeholder()
    )
    await cursor.execute(bound, [_name(store), values])
    return cursor.rowcount


async def _delete_generation(
    cursor: Cursor, store: StoreId, dimensions: int, *, file: FileId, generation: str
) -> int:
    statement = sql.SQL("DELETE FROM {} WHERE store = {} AND file = {} AND {} = {}")
    bound = statement.format(
        chunk_table(dimensions), sql.Placeholder(), sql.Placeholder(), _GENERATION, sql.Placeholder()
    )
    await cursor.execute(bound, [_name(store), _name(file), _name(generation)])
    return cursor.rowcount


async def _count(cursor: Cursor, store: StoreId, change: int) -> None:
    statement = sql.SQL("UPDATE stores SET chunks = chunks + {} WHERE id = {}").format(
        sql.Placeholder(), sql.Placeholder()
    )
    await cursor.execute(statement, [change, _name(store)])


def _name(value: str) -> str:
    return stored_text(value)


def _vector(vector: Vector) -> str:
    return "[" + ",".join(repr(float(number)) for number in vector) + "]"


def _version(schema: RowSchema) -> str:
    """Return what is written on every chunk and demanded of every one found: chunks stamped under
    other required fields are not seen.
    """
    required = sorted((spec.name, spec.type) for spec in schema.fields.values() if spec.required)
    return f"{_LAYOUT}:{hashlib.sha256(repr(required).encode()).hexdigest()[:16]}"
