"""The search inside SQLite: the chunks with a permitted stamp are read from the file, and sqlite-vec computes
each one's distance as it is read. Nothing is kept in memory between searches.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

import apsw
import numpy as np
import sqlite_vec
from numpy.typing import NDArray

from regate_adapters.vector.guard import tenant_of
from regate_adapters.vector.keywords import Posting, Scores, bm25, fused
from regate_adapters.vector.local.schema import Connection, Library
from regate_adapters.vector.local.scope import scope_of, stamps_of
from regate_adapters.vector.local.store import TabledVectorStore
from regate_adapters.vector.local.writing import Place
from regate_adapters.vector.partition.columns import Columns
from regate_adapters.vector.partition.ranking import Ranked, best_of, joined
from regate_adapters.vector.partition.segments import Words
from regate_adapters.vector.partition.vectors import Places, cut
from regate_adapters.vector.words import number_of, sought_words
from regate_orchestrator.filters.expression import Expression
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Mode, Query

_READ_ROWS: Final = 4_096
_SIMILARITY: Final = "1 - vec_distance_cosine(vector, ?)"
_COLUMNS: Final[Mapping[Mode, str]] = {
    "vector": f"number, {_SIMILARITY}, x'', x''",
    "keyword": "number, 0, words, counts",
    "hybrid": f"number, {_SIMILARITY}, words, counts",
}


class InSql:
    """Searches in the file: reads the chunks with a permitted stamp, and no others."""

    def __init__(self, schema: RowSchema) -> None:
        self._schema = schema

    def ranked(self, connection: Connection, place: Place, expression: Expression, query: Query) -> Ranked:
        """Return the best chunks of those whose stamp the expression permits."""
        stamps = self._permitted(connection, place, expression)
        vector = np.array(query.vector, dtype=np.float32).tobytes()
        rows = connection.execute(
            f"SELECT {_COLUMNS[query.mode]} FROM chunks WHERE stamp IN (SELECT value FROM json_each(?))",  # noqa: S608 — one of three
            [*([] if query.mode == "keyword" else [vector]), json.dumps(stamps)],
        )
        read = _Read.of(rows, [] if query.mode == "vector" else sought_words(query.text))
        return best_of(read.numbers, read.scores(query), query)

    def _permitted(self, connection: Connection, place: Place, expression: Expression) -> list[int]:
        found = scope_of(connection, place, tenant_of(expression))
        if found is None:
            return []
        scope, _ = found
        numbers, rows = stamps_of(connection, scope, self._schema)
        truth = Columns(rows).matching(expression)
        return [number for number, holds in zip(numbers, truth.tolist(), strict=True) if holds]


@dataclass(frozen=True, slots=True)
class _Read:
    """The permitted chunks: the similarity and the number of words of each, and where the query's words
    are.
    """

    numbers: Places
    similarities: Scores
    lengths: NDArray[np.float64]
    postings: Sequence[Posting]

    @classmethod
    def of(cls, rows: Iterable[tuple[int, float | None, bytes, bytes]], words: Sequence[str]) -> _Read:
        """Return what the rows hold."""
        numbers, similarities, lengths = [], [], []
        places: list[list[Places]] = [[] for _ in words]
        counts: list[list[NDArray[np.uint16]]] = [[] for _ in words]
        source, offset = iter(rows), 0
        while part := list(islice(source, _READ_ROWS)):
            number, similarity, of_each, often = zip(*part, strict=True)
            texts = Words.of(of_each, often)
            numbers.append(np.array(number, dtype=np.int64))
            similarities.append(np.array(similarity, dtype=np.float64))  # of zeros there is none: NaN
            lengths.append(texts.lengths)
            for place, word in enumerate(words):
                having = texts.numbers == np.uint64(number_of(word))
                places[place].append(texts.rows[having] + offset)
                counts[place].append(texts.counts[having])
            offset += len(part)
        return cls(
            joined(numbers, np.int64),
            cut(np.nan_to_num(joined(similarities, np.float64))),
            joined(lengths, np.float64),
            [
                Posting(joined(at, np.int64), joined(often, np.float64))
                for at, often in zip(places, counts, strict=True)
            ],
        )

    def scores(self, query: Query) -> Scores:
        """Return the score of each chunk."""
        if query.mode == "vector":
            return self.similarities
        by_words = bm25(self.postings, self.lengths, len(self.numbers))
        return by_words if query.mode == "keyword" else fused(self.similarities, by_words, query.fusion)


def _open(path: Path) -> Connection:
    """Return a connection of a SQLite that can load extensions, which that of Python often cannot."""
    connection = apsw.Connection(str(path))
    connection.enable_load_extension(True)
    connection.load_extension(sqlite_vec.loadable_path())
    connection.enable_load_extension(False)
    return connection


LIBRARY: Final = Library(_open, apsw.Error)


def sqlite_vec_store(folder: Path, schema: RowSchema) -> TabledVectorStore:
    """Return the engine: the local engine's tables, searched inside SQLite."""
    return TabledVectorStore(folder, schema, InSql(schema), engine="sqlite-vec", library=LIBRARY)
