"""One search as SQL: all permitted rows ranked, or those that the index finds. `store.py` says which."""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np
from psycopg import sql

from regate_adapters.vector.keywords import Scores
from regate_adapters.vector.partition.ranking import Similar
from regate_adapters.vector.partition.vectors import Places
from regate_adapters.vector.pgvector.conditions import Condition
from regate_adapters.vector.pgvector.filter import Parameters, render
from regate_adapters.vector.pgvector.pool import Cursor
from regate_adapters.vector.pgvector.schema import chunk_table
from regate_adapters.vector.pgvector.values import stored_text
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Expression
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Vector
from regate_orchestrator.values import StoreId

_INDEX_SETTINGS: Final = {
    "hnsw.iterative_scan": "strict_order",
    "hnsw.max_scan_tuples": "100000",
    "hnsw.scan_mem_multiplier": "4",
    # What sorts could be anything but the index; the few rows sorted after it are sorted all the same.
    "enable_sort": "off",
}
_SET_FOR_INDEX: Final = sql.SQL("SELECT {}").format(
    sql.SQL(", ").join(
        sql.SQL("set_config({}, {}, true)").format(*map(sql.Literal, pair))
        for pair in _INDEX_SETTINGS.items()
    )
)
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
_SIMILAR: Final = sql.SQL(
    """SELECT number, LEAST(1, GREATEST(0, 1 - COALESCE(NULLIF(embedding <=> {query}::vector, 'NaN'), 1)))
       FROM {table} WHERE store = {store}::text AND version = {version}::text AND {condition}"""
)
_NEAREST_FIRST: Final = sql.SQL("ORDER BY embedding <=> {query}::vector")


class SearchStatements:
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
            "query": parameters.add(vector_text(vector)),
            "store": parameters.add(stored_text(store)),
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
        await cursor.execute(_SET_FOR_INDEX)
        return await self._ranked(
            cursor, order=_NEAREST_FIRST.format(query=self._slots["query"]), most=self._limit
        )

    async def similarities(self, cursor: Cursor) -> Similar:
        """Return how similar all permitted rows are, by their numbers."""
        statement = _SIMILAR.format(table=self._table, condition=self._condition, **self._slots)
        await cursor.execute(statement, self._parameters.values)
        found = np.array(await cursor.fetchall(), dtype=np.float64).reshape(-1, 2)
        found = found[np.argsort(found[:, 0])]
        known, scores = found[:, 0].astype(np.int64), found[:, 1]

        def similar(numbers: Places) -> Scores:
            if not len(known):
                return np.zeros(len(numbers))
            places = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
            # One that was removed meanwhile is not found when it is read, and the search is made again.
            return np.where(known[places] == numbers, scores[places], 0.0)

        return similar

    async def _ranked(self, cursor: Cursor, *, order: Condition, most: int | None) -> list[tuple[Any, ...]]:
        slots = {**self._slots, "most": sql.Placeholder("most")}
        statement = _RANKED.format(table=self._table, condition=self._condition, order=order, **slots)
        await cursor.execute(statement, {**self._parameters.values, "most": most})
        return await cursor.fetchall()


def vector_text(vector: Vector) -> str:
    """Return the vector as pgvector reads it."""
    return "[" + ",".join(repr(float(number)) for number in vector) + "]"
