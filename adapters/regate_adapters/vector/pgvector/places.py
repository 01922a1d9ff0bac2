"""The place of a store in the tables: the length of its vectors, its number of chunks, and which of them go.
Each function works in the transaction of the cursor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from psycopg import sql

from regate_adapters.vector.pgvector.pool import Cursor
from regate_adapters.vector.pgvector.schema import chunk_table
from regate_adapters.vector.pgvector.values import shown_chunk, stored_text
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.ports import Chunk
from regate_orchestrator.values import FileId, StoreId

_PLACE: Final = sql.SQL("SELECT dimensions, chunks, added, removed FROM stores WHERE id = {}").format(
    sql.Placeholder()
)
_READ_ROWS: Final = 500
_LOCKED_PLACE: Final = sql.SQL("{} FOR UPDATE").format(_PLACE)
GENERATION: Final = sql.SQL("regexp_replace(id, '/[^/]*$', '')")
"""Of which generation a chunk is, by its id, as `generations.generation_of` has it."""


@dataclass(frozen=True, slots=True)
class Place:
    """Of a store: the length of its vectors, its number of chunks, and how often chunks were added and
    removed.
    """

    dimensions: int
    chunks: int
    added: int
    removed: int


async def make_place(cursor: Cursor, store: StoreId, dimensions: int) -> None:
    """Make the store's place if it is not there. What it counts begins with the time, so that a store that
    is made again under its old name is never taken for what it was.
    """
    statement = sql.SQL(
        """INSERT INTO stores (id, dimensions, added, removed) SELECT {}, {}, now, now
           FROM (SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS now) AS clock
           ON CONFLICT (id) DO NOTHING"""
    ).format(sql.Placeholder(), sql.Placeholder())
    await cursor.execute(statement, [stored_text(store), dimensions])


async def place_or_none(cursor: Cursor, store: StoreId, *, lock: bool = False) -> Place | None:
    """Return as `place_of` does, and None for a store that has no place."""
    await cursor.execute(_LOCKED_PLACE if lock else _PLACE, [stored_text(store)])
    row = await cursor.fetchone()
    return None if row is None else Place(*row)


async def place_of(cursor: Cursor, store: StoreId, *, lock: bool = False) -> Place:
    """Return the store's place. Locked, no other writer has it until the transaction ends."""
    place = await place_or_none(cursor, store, lock=lock)
    if place is None:
        raise VectorStoreUnavailable(f"store {store} has no place here")
    return place


async def delete_chunks(
    cursor: Cursor, store: StoreId, dimensions: int, *, column: str, values: list[str]
) -> int:
    """Delete the rows with these values in the column; return how many."""
    statement = sql.SQL("DELETE FROM {} WHERE store = {} AND {} = ANY ({}::text[])")
    bound = statement.format(
        chunk_table(dimensions), sql.Placeholder(), sql.Identifier(column), sql.Placeholder()
    )
    await cursor.execute(bound, [stored_text(store), values])
    return cursor.rowcount


async def delete_generation(
    cursor: Cursor, store: StoreId, dimensions: int, *, file: FileId, generation: str
) -> int:
    """Delete the chunks of one generation of a file; return how many."""
    statement = sql.SQL("DELETE FROM {} WHERE store = {} AND file = {} AND {} = {}")
    bound = statement.format(
        chunk_table(dimensions), sql.Placeholder(), sql.Placeholder(), GENERATION, sql.Placeholder()
    )
    await cursor.execute(bound, [stored_text(store), stored_text(file), stored_text(generation)])
    return cursor.rowcount


async def chunks_after(cursor: Cursor, store: StoreId, last: str, *, version: str) -> tuple[str, list[Chunk]]:
    """Return the store's next chunks of this schema version beyond that id, and the last id; none at the
    end.
    """
    dimensions = (await place_of(cursor, store)).dimensions
    statement = sql.SQL(
        "SELECT id, file, index, text, stamp::text, attributes::text, embedding::text, words, counts FROM {} "
        "WHERE store = {} AND id > {} AND version = {} ORDER BY id LIMIT {}"
    )
    slots = [sql.Placeholder()] * 4
    values = [stored_text(store), last, version, _READ_ROWS]
    await cursor.execute(statement.format(chunk_table(dimensions), *slots), values)
    rows = await cursor.fetchall()
    return (rows[-1][0] if rows else last), [shown_chunk(*row) for row in rows]


async def drop_place(cursor: Cursor, store: StoreId, place: Place) -> None:
    """Delete the store's place and all its chunks."""
    await delete_chunks(cursor, store, place.dimensions, column="store", values=[stored_text(store)])
    statement = sql.SQL("DELETE FROM stores WHERE id = {}").format(sql.Placeholder())
    await cursor.execute(statement, [stored_text(store)])


async def count_chunks(cursor: Cursor, store: StoreId, *, added: int = 0, removed: int = 0) -> None:
    """Note that so many chunks of the store were added and removed."""
    statement = sql.SQL(
        "UPDATE stores SET chunks = chunks + {}, added = added + {}, removed = removed + {} WHERE id = {}"
    ).format(*[sql.Placeholder()] * 4)
    await cursor.execute(statement, [added - removed, int(added > 0), int(removed > 0), stored_text(store)])
