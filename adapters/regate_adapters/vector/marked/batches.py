"""Rows in parts that a server takes at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from regate_adapters.vector.marked.engine import MarkedRow


def batches(
    rows: Sequence[MarkedRow], *, most_rows: int, most_bytes: int, number_bytes: int
) -> Iterator[list[MarkedRow]]:
    """Yield the rows in parts of so many rows and about so many bytes, of which a number of a vector takes
    these. A row that is larger by itself is a part of its own.
    """
    batch: list[MarkedRow] = []
    size = 0
    for row in rows:
        weight = len(row.document) + sum(map(len, row.marks)) + number_bytes * len(row.vector)
        if batch and (len(batch) == most_rows or size + weight > most_bytes):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += weight
    if batch:
        yield batch
