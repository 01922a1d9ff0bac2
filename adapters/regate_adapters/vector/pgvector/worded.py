"""One search by words, or by words and vectors, as SQL: how often each permitted row has each word of the
query, and how near it is. What that makes of a score is `keywords.py`'s to say.

Rows that were written before words were kept have none; of those the text is read in their place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from psycopg import sql

from regate_adapters.vector.keywords import Posting, Scores, bm25, fused
from regate_adapters.vector.pgvector.conditions import Condition
from regate_adapters.vector.pgvector.filter import Parameters, render
from regate_adapters.vector.pgvector.pool import Cursor
from regate_adapters.vector.pgvector.query import vector_text
from regate_adapters.vector.pgvector.schema import chunk_table
from regate_adapters.vector.pgvector.values import shown_text, stored_text
from regate_adapters.vector.words import number_of, words_of
from regate_orchestrator.filters.expression import Expression
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Query
from regate_orchestrator.values import StoreId

_MOST_COUNTED: Final = 2**15 - 1
_COUNTED: Final = sql.SQL(
    """SELECT id, {similarity}, length, {counts}, CASE WHEN length IS NULL THEN text END FROM {table}
       WHERE store = {store}::text AND version = {version}::text AND {condition}"""
)
_SIMILARITY: Final = sql.SQL(
    "LEAST(1, GREATEST(0, 1 - COALESCE(NULLIF(embedding <=> {query}::vector, 'NaN'), 1)))"
)
_COUNT: Final = sql.SQL("COALESCE(counts[array_position(words, {word}::bigint)], 0)")
_CHOSEN: Final = sql.SQL(
    """SELECT id, file, index, text, stamp::text, attributes::text FROM {table}
       WHERE store = {store}::text AND id = ANY ({ids}::text[])"""
)


def stored_words(text: str) -> dict[str, Any]:
    """Return the words of a text as columns of its row."""
    counted = sorted((signed(word), min(often, _MOST_COUNTED)) for word, often in words_of(text).items())
    return {
        "words": f"{{{','.join(str(number) for number, _ in counted)}}}",
        "counts": f"{{{','.join(str(often) for _, often in counted)}}}",
        "lengths": sum(often for _, often in counted),
    }


def signed(word: str) -> int:
    """Return the number of a word as PostgreSQL's 64 bits hold it."""
    number = number_of(word)
    return number - (1 << 64) if number >> 63 else number


@dataclass(frozen=True, slots=True)
class Scored:
    """The best rows by their ids, best first; how many the plan permits, and how many the mode finds at
    all.
    """

    best: Sequence[tuple[str, float]]
    permitted: int
    matching: int


class WordedStatements:
    """One search as SQL. Made before any IO, so that what cannot be expressed is refused before any."""

    def __init__(
        self, schema: RowSchema, version: str, store: StoreId, expression: Expression, query: Query
    ) -> None:
        self._parameters = Parameters()
        self._condition: Condition = render(expression, schema, self._parameters)
        self._query = query
        self._words = sorted(words_of(query.text))
        self._table = chunk_table(len(query.vector))
        self._store = stored_text(store)
        self._version = version

    async def scored(self, cursor: Cursor) -> Scored:
        """Return the best of the permitted rows."""
        add = self._parameters.add
        counts = sql.SQL("ARRAY[{}]::bigint[]").format(
            sql.SQL(", ").join(_COUNT.format(word=add(signed(word))) for word in self._words)
        )
        is_near = self._query.mode == "hybrid"
        similarity = (
            _SIMILARITY.format(query=add(vector_text(self._query.vector))) if is_near else sql.SQL("0.0")
        )
        statement = _COUNTED.format(
            similarity=similarity,
            counts=counts,
            table=self._table,
            store=add(self._store),
            version=add(self._version),
            condition=self._condition,
        )
        await cursor.execute(statement, self._parameters.values)
        rows = await cursor.fetchall()
        scores = self._scores(rows)
        ids = [shown_text(row[0]) for row in rows]
        wanted = [place for place in range(len(ids)) if is_near or scores[place] > 0]
        ranked = sorted(wanted, key=lambda place: (-scores[place], ids[place]))
        best = [(ids[place], float(scores[place])) for place in ranked[: self._query.limit]]
        return Scored(best, len(rows), len(wanted))

    async def chosen(self, cursor: Cursor, scored: Scored) -> list[tuple[Any, ...]]:
        """Return the best rows whole, best first."""
        slots = {"store": sql.Placeholder("store"), "ids": sql.Placeholder("ids")}
        ids = [stored_text(identifier) for identifier, _ in scored.best]
        await cursor.execute(_CHOSEN.format(table=self._table, **slots), {"store": self._store, "ids": ids})
        rows = {shown_text(row[0]): row for row in await cursor.fetchall()}
        return [(*rows[identifier], score, None) for identifier, score in scored.best]

    def _scores(self, rows: Sequence[tuple[Any, ...]]) -> Scores:
        counted = np.zeros((len(rows), len(self._words)))
        lengths = np.zeros(len(rows))
        for place, (_, _, length, counts, text) in enumerate(rows):
            if text is None:
                lengths[place], counted[place] = length, counts
            else:
                words = words_of(shown_text(text))
                lengths[place], counted[place] = words.total(), [words[word] for word in self._words]
        postings = []
        for column in counted.T:
            places = np.flatnonzero(column)
            postings.append(Posting(places, column[places]))
        by_words = bm25(postings, lengths, len(rows))
        if self._query.mode == "keyword":
            return by_words
        similarities = np.array([row[1] for row in rows], dtype=np.float64)
        return fused(similarities, by_words, self._query.fusion)
