"""What is read of the local engine's file once it is known which chunks are wanted."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from regate_adapters.vector.local.schema import Connection, shown, stored
from regate_adapters.vector.local.writing import Place
from regate_adapters.vector.partition.ranking import Ranked
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Candidate, Chunk
from regate_orchestrator.values import FileId

_MOST_ASKED: Final = 500


def candidates_of(
    connection: Connection, ranked: Ranked, limit: int, schema: RowSchema
) -> tuple[Candidate, ...] | None:
    """Return the best chunks, best first, ties broken by id; None when one of them is not there any more."""
    scores = dict(zip(ranked.numbers.tolist(), ranked.scores.tolist(), strict=True))
    ids = dict(_rows(connection, "SELECT number, id FROM chunks WHERE number IN ({})", list(scores)))
    if len(ids) < len(scores):
        return None
    best = sorted(scores, key=lambda number: (-scores[number], shown(ids[number])))[:limit]
    found = {
        row[0]: row[1:]
        for row in _rows(
            connection,
            "SELECT chunks.number, file, place, text, stamp.stamp, attributes FROM chunks "
            "JOIN stamps AS stamp ON stamp.number = chunks.stamp JOIN texts ON texts.number = chunks.number "
            "WHERE chunks.number IN ({})",
            best,
        )
    }
    return tuple(_candidate(shown(ids[one]), scores[one], found[one], schema) for one in best)


def texts_of(
    connection: Connection, place: Place, ids: Sequence[str], *, tenant: str, version: str
) -> Mapping[str, str]:
    """Return the texts of those of these chunks that are the tenant's and of this schema version."""
    rows = _rows(
        connection,
        "SELECT id, text FROM chunks JOIN texts ON texts.number = chunks.number "
        "JOIN partitions ON partitions.number = chunks.partition JOIN stamps ON stamps.number = chunks.stamp "
        "WHERE chunks.id IN ({}) AND chunks.store = ? AND tenant = ? AND version = ?",
        [stored(identifier) for identifier in ids],
        place.number,
        stored(tenant),
        version,
    )
    return {shown(identifier): shown(text) for identifier, text in rows}


def chunks_after(connection: Connection, place: Place, last: int, *, version: str) -> tuple[int, list[Chunk]]:
    """Return the store's next chunks of this schema version beyond that number, and the last one's number;
    none at the end.
    """
    rows = connection.execute(
        "SELECT chunks.number, id, file, place, text, vector, stamp.stamp, attributes, words, counts "
        "FROM chunks "
        "JOIN stamps AS stamp ON stamp.number = chunks.stamp JOIN texts ON texts.number = chunks.number "
        "WHERE chunks.store = ? AND chunks.number > ? AND version = ? ORDER BY chunks.number LIMIT ?",
        [place.number, last, version, _MOST_ASKED],
    ).fetchall()
    chunks = [
        Chunk(
            shown(identifier),
            FileId(shown(file)),
            index,
            shown(text),
            np.frombuffer(vector, dtype=np.float32).tolist(),
            json.loads(stamp),
            json.loads(attributes),
            words=(words, counts),
        )
        for _, identifier, file, index, text, vector, stamp, attributes, words, counts in rows
    ]
    return (rows[-1][0] if rows else last), chunks


def _rows(connection: Connection, query: str, wanted: Sequence[object], *values: object) -> Iterator[Any]:
    """Yield the rows of a query that names some values in a list, asked for part of them at a time."""
    for start in range(0, len(wanted), _MOST_ASKED):
        part = wanted[start : start + _MOST_ASKED]
        yield from connection.execute(query.format(", ".join("?" * len(part))), [*part, *values])


def _candidate(identifier: str, score: float, row: Sequence[Any], schema: RowSchema) -> Candidate:
    file, place, text, stamp, attributes = row
    return Candidate(
        identifier,
        FileId(shown(file)),
        place,
        shown(text),
        score,
        schema.canonical(json.loads(stamp)),
        json.loads(attributes),
    )
