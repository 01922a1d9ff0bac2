"""Search by words: the words of a tenant's chunks in one store, kept in memory and brought up to date from
the database. What is permitted and best among them, `vector/partition/ranking.py` says.

Only what has changed is read: each store counts how often chunks were added and how often removed, and each
chunk has a number that is larger than those of all before it in its store. Rows that were written before
words were kept have none; of those the text is read in their place.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from psycopg import sql

from regate_adapters.vector.partition.columns import Row
from regate_adapters.vector.partition.partition import Changes, KeptRow, Partition
from regate_adapters.vector.partition.ranking import Ranked, Similar, ranked
from regate_adapters.vector.partition.segments import kept_words
from regate_adapters.vector.partition.vectors import Matrix
from regate_adapters.vector.pgvector.places import Place
from regate_adapters.vector.pgvector.pool import Cursor
from regate_adapters.vector.pgvector.schema import chunk_table
from regate_adapters.vector.pgvector.values import shown_json, shown_text, stored_text
from regate_orchestrator.filters.expression import Expression
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Query
from regate_orchestrator.values import StoreId

MEMORY: Final = 256 << 20
_NO_VECTOR: Final = b""
_ADDED: Final = sql.SQL(
    """SELECT number, stamp::text, attributes::text, words, counts, CASE WHEN words IS NULL THEN text END
       FROM {table}
       WHERE store = {store}::text AND version = {version}::text AND number > {after}::bigint {of_tenant}
       ORDER BY number"""
)
_THERE: Final = sql.SQL(
    """SELECT number FROM {table}
       WHERE store = {store}::text AND version = {version}::text {of_tenant} ORDER BY number"""
)
_OF_TENANT: Final = sql.SQL("AND tenant = {tenant}::text")
_CHOSEN: Final = sql.SQL(
    """SELECT id, file, index, text, stamp::text, attributes::text, number FROM {table}
       WHERE store = {store}::text AND number = ANY ({numbers}::bigint[])"""
)


@dataclass
class _Entry:
    """The words of one tenant's chunks in one store, or of all of a store."""

    partition: Partition
    stamps: dict[tuple[str, str], int] = field(default_factory=dict)
    """The numbers of the stamps that were read, which the database has none for."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class _Fetched:
    """What was read of the database (`partition.Reader`)."""

    there: Sequence[int]
    found: Sequence[tuple[int, int, bytes, bytes]]
    """Chunks: their numbers, those of their stamps, and their words."""
    new_stamps: Sequence[tuple[int, Row]]

    def numbers(self) -> Sequence[int]:
        return self.there

    def stamps(self, *, after: int) -> tuple[Sequence[int], Sequence[Row]]:
        wanted = [(number, row) for number, row in self.new_stamps if number > after]
        return [number for number, _ in wanted], [row for _, row in wanted]

    def chunks(self, *, after: int) -> Iterator[KeptRow]:
        return (
            (number, stamp, _NO_VECTOR, words, counts)
            for number, stamp, words, counts in self.found
            if number > after
        )


class Words:
    """The words of what was searched last, at most so many bytes of them."""

    def __init__(self, schema: RowSchema, version: str, *, memory: int = MEMORY) -> None:
        self._schema = schema
        self._version = version
        self._memory = memory
        self._entries: OrderedDict[tuple[StoreId, str | None], _Entry] = OrderedDict()

    async def ranked(
        self,
        cursor: Cursor,
        store: StoreId,
        place: Place,
        expression: Expression,
        query: Query,
        *,
        tenant: str | None,
        similar: Similar | None,
    ) -> Ranked:
        """Return the best of the tenant's chunks for which the expression holds, as the cursor's
        transaction sees them.
        """
        key = (store, tenant)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(Partition.empty(0, Matrix))
        self._entries.move_to_end(key)
        changes = Changes(place.added, place.removed)
        async with entry.lock:  # one search reads them, for all that wait
            if not entry.partition.changes.are_after(changes):
                fetched = await self._fetched(cursor, store, place, entry, tenant)
                entry.partition = await asyncio.to_thread(entry.partition.refreshed, fetched, changes)
                self._forget(key)
            partition = entry.partition
        return await asyncio.to_thread(ranked, partition, expression, query, similar=similar)

    async def chosen(
        self, cursor: Cursor, store: StoreId, place: Place, numbers: Sequence[int]
    ) -> dict[int, tuple[Any, ...]]:
        """Return the rows with these numbers."""
        slots = {"store": sql.Placeholder("store"), "numbers": sql.Placeholder("numbers")}
        await cursor.execute(
            _CHOSEN.format(table=chunk_table(place.dimensions), **slots),
            {"store": stored_text(store), "numbers": list(numbers)},
        )
        return {row[-1]: row[:-1] for row in await cursor.fetchall()}

    async def _fetched(
        self, cursor: Cursor, store: StoreId, place: Place, entry: _Entry, tenant: str | None
    ) -> _Fetched:
        """Read what has changed since the entry was brought up to date, or all where much is gone."""
        known = entry.partition
        values = {
            "store": stored_text(store),
            "version": self._version,
            "tenant": None if tenant is None else stored_text(tenant),
            "after": int(known.segments[-1].numbers[-1]) if known.segments else 0,
        }
        slots: dict[str, Any] = {name: sql.Placeholder(name) for name in values}
        slots |= {
            "table": chunk_table(place.dimensions),
            "of_tenant": sql.SQL("") if tenant is None else _OF_TENANT.format(**slots),
        }
        there: list[int] = []
        if place.removed != known.changes.removed:
            await cursor.execute(_THERE.format(**slots), values)
            there = [number for (number,) in await cursor.fetchall()]
            if known.is_sparse(there):  # and will be made anew
                values["after"], entry.stamps = 0, {}
        await cursor.execute(_ADDED.format(**slots), values)
        found, new_stamps = [], []
        for number, stamp, attributes, words, counts, text in await cursor.fetchall():
            placed = entry.stamps.get((stamp, attributes))
            if placed is None:
                placed = entry.stamps[stamp, attributes] = len(entry.stamps) + 1
                new_stamps.append((placed, self._row(stamp, attributes)))
            kept = (words, counts) if text is None else kept_words(shown_text(text))
            found.append((number, placed, *kept))
        return _Fetched(there, found, new_stamps)

    def _row(self, stamp: str, attributes: str) -> Row:
        return {**self._schema.canonical(shown_json(stamp)), "attributes": shown_json(attributes)}

    def _forget(self, last: tuple[StoreId, str | None]) -> None:
        """Let go of what was searched longest ago beyond the bound; or of the last alone where it is larger
        than the bound by itself, so that whoever has much costs nobody else theirs.
        """
        sizes = {key: entry.partition.size for key, entry in self._entries.items()}
        if sizes.get(last, 0) > self._memory:
            del self._entries[last]
            return
        kept = sum(sizes.values())
        while kept > self._memory:
            longest_ago, _ = self._entries.popitem(last=False)
            kept -= sizes[longest_ago]
