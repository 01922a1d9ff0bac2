"""What changes the local engine's file. Each function works in the transaction of the connection."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from regate_adapters.vector.guard import TENANT
from regate_adapters.vector.local.schema import Connection, shown, stored
from regate_adapters.vector.partition.segments import words_of_chunk
from regate_orchestrator.documents.generations import generation_of, renamed
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Scalar
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Chunk
from regate_orchestrator.values import JsonObject, StoreId

_MOST_ASKED: Final = 500
_INSERT: Final = (
    "INSERT INTO chunks (store, partition, stamp, id, file, generation, place, vector, words, counts) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_COPY: Final = (
    "INSERT INTO chunks (store, partition, stamp, id, file, generation, place, vector, words, counts) "
    "SELECT store, ?, ?, ?, file, ?, place, vector, words, counts FROM chunks WHERE number = ?"
)


@dataclass(frozen=True, slots=True)
class Stamped:
    """A stamp with attributes, as it is kept."""

    tenant: bytes
    version: str
    stamp: str
    attributes: str

    @classmethod
    def of(
        cls, schema: RowSchema, version: str, stamp: JsonObject, attributes: Mapping[str, Scalar]
    ) -> Stamped:
        """Return the stamp as it is kept. Raises `VectorStoreUnavailable` when it is not as declared."""
        if faults := schema.faults(stamp):
            raise VectorStoreUnavailable(f"a chunk is not stamped as declared: {'; '.join(faults)}")
        tenant = stored(str(stamp.get(TENANT, "")))
        return cls(tenant, version, json.dumps(dict(stamp)), json.dumps(dict(attributes)))

    @property
    def digest(self) -> bytes:
        """Return what tells it from all others of its partition."""
        return hashlib.sha256(json.dumps([self.version, self.stamp, self.attributes]).encode()).digest()


@dataclass(frozen=True, slots=True)
class Written:
    """A chunk as it is kept."""

    stamped: Stamped
    id: bytes
    file: bytes
    generation: bytes
    place: int
    vector: bytes
    words: bytes
    counts: bytes
    text: bytes

    @classmethod
    def of(cls, schema: RowSchema, version: str, chunk: Chunk) -> Written:
        """Return the chunk as it is kept."""
        words, counts = words_of_chunk(chunk)
        return cls(
            Stamped.of(schema, version, chunk.stamp, chunk.attributes),
            stored(chunk.id),
            stored(chunk.file_id),
            stored(generation_of(chunk.id)),
            chunk.index,
            np.array(chunk.vector, dtype=np.float32).tobytes(),
            words,
            counts,
            stored(chunk.text),
        )


@dataclass(frozen=True, slots=True)
class Place:
    """Where a store is: its number, the length of its vectors, and how many chunks it has."""

    number: int
    dimensions: int
    chunks: int


def place_or_none(connection: Connection, store: StoreId) -> Place | None:
    """Return where the store is; None for one that has no place."""
    row = connection.execute(
        "SELECT number, dimensions, chunks FROM stores WHERE id = ?", [stored(store)]
    ).fetchone()
    return None if row is None else Place(*row)


def place_of(connection: Connection, store: StoreId) -> Place:
    """Return where the store is. Raises `VectorStoreUnavailable` for one that has no place."""
    place = place_or_none(connection, store)
    if place is None:
        raise VectorStoreUnavailable(f"store {store} has no place here")
    return place


def write(connection: Connection, place: Place, chunks: Sequence[Written]) -> None:
    """Write the chunks, each in place of one with its id."""
    for start in range(0, len(chunks), _MOST_ASKED):
        ids = [chunk.id for chunk in chunks[start : start + _MOST_ASKED]]
        remove(connection, place, f"id IN ({', '.join('?' * len(ids))})", ids)
    stamps = {
        stamped: stamp_number(connection, place, stamped) for stamped in {one.stamped for one in chunks}
    }
    for chunk in chunks:
        partition, stamp = stamps[chunk.stamped]
        connection.execute(
            _INSERT,
            [
                *(place.number, partition, stamp, chunk.id, chunk.file, chunk.generation, chunk.place),
                *(chunk.vector, chunk.words, chunk.counts),
            ],
        )
        connection.execute("INSERT INTO texts VALUES (last_insert_rowid(), ?)", [chunk.text])
    count_added(connection, place, {partition for partition, _ in stamps.values()}, len(chunks))


def stamp_number(connection: Connection, place: Place, stamped: Stamped) -> tuple[int, int]:
    """Return the numbers of the stamp's partition and of the stamp, which are made if they are not there."""
    connection.execute(
        "INSERT INTO partitions (store, tenant) VALUES (?, ?) ON CONFLICT DO NOTHING",
        [place.number, stamped.tenant],
    )
    (partition,) = connection.execute(
        "SELECT number FROM partitions WHERE store = ? AND tenant = ?", [place.number, stamped.tenant]
    ).fetchone()
    connection.execute(
        "INSERT INTO stamps (partition, digest, version, stamp, attributes) VALUES (?, ?, ?, ?, ?) "
        "ON CONFLICT DO NOTHING",
        [partition, stamped.digest, stamped.version, stamped.stamp, stamped.attributes],
    )
    (stamp,) = connection.execute(
        "SELECT number FROM stamps WHERE partition = ? AND digest = ?", [partition, stamped.digest]
    ).fetchone()
    return partition, stamp


def count_added(connection: Connection, place: Place, partitions: Iterable[int], chunks: int) -> None:
    """Note that chunks were added to these partitions."""
    for partition in partitions:
        connection.execute("UPDATE partitions SET added = added + 1 WHERE number = ?", [partition])
    connection.execute("UPDATE stores SET chunks = chunks + ? WHERE number = ?", [chunks, place.number])


def remove(connection: Connection, place: Place, condition: str, values: Sequence[object]) -> int:
    """Remove the store's chunks for which the condition in SQL holds, and the stamps that no chunk has any
    more; return how many chunks went.
    """
    gone = connection.execute(
        f"DELETE FROM chunks WHERE store = ? AND {condition} RETURNING number, partition, stamp",  # noqa: S608 — conditions are our own
        [place.number, *values],
    ).fetchall()
    connection.executemany("DELETE FROM texts WHERE number = ?", [(number,) for number, _, _ in gone])
    connection.executemany(
        "DELETE FROM stamps WHERE number = ? "
        "AND NOT EXISTS (SELECT 1 FROM chunks WHERE stamp = stamps.number)",
        [(stamp,) for stamp in {stamp for _, _, stamp in gone}],
    )
    connection.executemany(
        "UPDATE partitions SET removed = removed + 1 WHERE number = ?",
        [(partition,) for partition in {partition for _, partition, _ in gone}],
    )
    if gone:
        connection.execute(
            "UPDATE stores SET chunks = chunks - ? WHERE number = ?", [len(gone), place.number]
        )
    return len(gone)


def copy_stamped(
    connection: Connection,
    place: Place,
    stamped: Stamped,
    *,
    file: bytes,
    generation: bytes,
    target: bytes,
) -> int:
    """Write the chunks of the generation that have a stamp of the same schema version once more, under the
    target's ids and this stamp; return how many.
    """
    remove(connection, place, "file = ? AND generation = ?", [file, target])
    sources = connection.execute(
        "SELECT chunks.number, id FROM chunks JOIN stamps ON stamps.number = chunks.stamp "
        "WHERE store = ? AND file = ? AND generation = ? AND version = ?",
        [place.number, file, generation, stamped.version],
    ).fetchall()
    if not sources:
        return 0
    partition, stamp = stamp_number(connection, place, stamped)
    for number, identifier in sources:
        connection.execute(
            _COPY,
            [partition, stamp, stored(renamed(shown(identifier), target=shown(target))), target, number],
        )
        connection.execute(
            "INSERT INTO texts SELECT last_insert_rowid(), text FROM texts WHERE number = ?", [number]
        )
    count_added(connection, place, [partition], len(sources))
    return len(sources)


def drop(connection: Connection, place: Place) -> None:
    """Remove the store with all that is in it."""
    connection.execute(
        "DELETE FROM texts WHERE number IN (SELECT number FROM chunks WHERE store = ?)", [place.number]
    )
    connection.execute("DELETE FROM chunks WHERE store = ?", [place.number])
    connection.execute(
        "DELETE FROM stamps WHERE partition IN (SELECT number FROM partitions WHERE store = ?)",
        [place.number],
    )
    connection.execute("DELETE FROM partitions WHERE store = ?", [place.number])
    connection.execute("DELETE FROM stores WHERE number = ?", [place.number])
