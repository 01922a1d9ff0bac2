"""A chunk as a row of its table, and a row as a candidate."""

from __future__ import annotations

import math
from typing import Any

from regate_adapters.vector.partition.segments import words_of_chunk
from regate_adapters.vector.pgvector.query import vector_text
from regate_adapters.vector.pgvector.values import shown_json, shown_text, stored_json, stored_text
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Candidate, Chunk
from regate_orchestrator.values import FileId


def row_of(chunk: Chunk, schema: RowSchema) -> dict[str, Any]:
    """Return what is written for the chunk. Raises `VectorStoreUnavailable` when it is not stamped as
    declared, or not storable exactly.
    """
    if faults := schema.faults(chunk.stamp):
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
            "vectors": vector_text(chunk.vector),
            **dict(zip(("words", "counts"), words_of_chunk(chunk), strict=True)),
        }
    except ValueError as error:
        raise VectorStoreUnavailable(
            f"chunk {chunk.id} holds a value that cannot be stored exactly"
        ) from error


def candidate_of(row: tuple[Any, ...], schema: RowSchema) -> Candidate:
    """Return the candidate that a row of a search is."""
    identifier, file, index, text, stamp, attributes, score, _ = row
    return Candidate(
        id=shown_text(identifier),
        file_id=FileId(shown_text(file)),
        index=index,
        text=shown_text(text),
        score=score,
        stamp=schema.canonical(shown_json(stamp)),
        attributes=shown_json(attributes),
    )
