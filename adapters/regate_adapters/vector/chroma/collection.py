"""What is read of one Chroma collection, page by page, in a thread. Not when and for whom: `store.py`,
the counterpart, says that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

import numpy as np

from regate_adapters.vector.chroma.filter import Where
from regate_adapters.vector.chroma.layout import FILE_KEY, VERSION_KEY, ChromaLayout
from regate_adapters.vector.ranking import Rows, best, cosines
from regate_orchestrator.documents.generations import generation_of
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.ports import Candidate, Chunk, Vector
from regate_orchestrator.values import FileId

if TYPE_CHECKING:
    from chromadb.api.models.Collection import Collection

DIMENSIONS: Final = "dimensions"
_READ_STAMPS: Final = 100
_READ_ROWS: Final = 500  # keeps the interpreter lock for 10 ms at most; 2,000 kept it for 40
_LISTED_ROWS: Final = 5_000
_OVERFETCH: Final = 4
_MIN_FETCHED: Final = 200
_BEHIND: Final = ("Nothing found on disk", "Error finding id")
_NO_CHUNK: Final = "none"


def ids_of(collection: Collection, layout: ChromaLayout, file: FileId, generation: str | None) -> list[str]:
    """Return the ids of the file's chunks, or of those of one generation, in their order."""
    ids: list[str] = collection.get(where={layout.prefix + FILE_KEY: {"$eq": file}}, include=[])["ids"]
    return sorted(identifier for identifier in ids if generation in (None, generation_of(identifier)))


def listed(collection: Collection, *, offset: int) -> list[str]:
    """Return the ids of the chunks beyond the offset, as many as can be read at once. What is written
    or removed meanwhile may be missed.
    """
    ids: list[str] = collection.get(limit=_LISTED_ROWS, offset=offset, include=[])["ids"]
    return ids


def chunks_from(
    collection: Collection, layout: ChromaLayout, *, offset: int
) -> tuple[int | None, list[Chunk]]:
    """Return the chunks of the present schema version among those beyond the offset that can be read at
    once, and where to go on; None at the end.
    """
    got = collection.get(limit=_READ_ROWS, offset=offset, include=["documents", "metadatas", "embeddings"])
    version, found = layout.prefix + VERSION_KEY, []
    for *row, vector in zip(got["ids"], got["documents"], got["metadatas"], got["embeddings"], strict=True):
        if row[2].get(version) == layout.version:
            one = layout.candidate(*row, score=0.0)
            found.append(
                Chunk(one.id, one.file_id, one.index, one.text, vector.tolist(), one.stamp, one.attributes)
            )
    return (offset + _READ_ROWS if len(got["ids"]) == _READ_ROWS else None), found


def pages(ids: Sequence[str], rows: int = _READ_ROWS) -> Iterator[list[str]]:
    """Yield the ids in pages that can be read at once, or of so many rows."""
    for start in range(0, len(ids), rows):
        yield list(ids[start : start + rows])


def is_behind(error: Exception) -> bool:
    """Return whether the index lacks chunks that are in Chroma's log: it was let go of before it had
    been stored with them.
    """
    from chromadb.errors import InternalError

    return isinstance(error, InternalError) and any(words in str(error) for words in _BEHIND)


def read_on(collection: Collection) -> None:
    """Let the index take in what the log has: any write does that, also the removal of a chunk that is
    not there.
    """
    collection.delete(ids=[_NO_CHUNK])


def nearest(collection: Collection, query: Rows, where: Where, limit: int) -> list[str]:
    """Return the ids that the approximate index finds nearest among those the filter permits."""
    count = max(limit * _OVERFETCH, _MIN_FETCHED)
    (ids,) = collection.query(query_embeddings=[query], n_results=count, where=where, include=[])["ids"]
    return list(ids)


def stamped(
    collection: Collection, ids: Sequence[str], layout: ChromaLayout
) -> Iterator[tuple[str, Mapping[str, object]]]:
    """Yield the chunks of the present schema version as filters see them, read in pages."""
    version = layout.prefix + VERSION_KEY
    for start in range(0, len(ids), _READ_STAMPS):
        page = collection.get(ids=list(ids[start : start + _READ_STAMPS]), include=["metadatas"])
        for identifier, metadata in zip(page["ids"], page["metadatas"], strict=True):
            if metadata.get(version) == layout.version:
                yield identifier, layout.row(layout.candidate(identifier, "", metadata, score=0.0))


def rank(collection: Collection, ids: Sequence[str], query: Rows) -> list[tuple[str, float]]:
    """Return those of these chunks that are there with their scores, the best first, read in pages."""
    names: list[str] = []
    scores = [np.zeros(0)]
    for part in pages(ids):
        page = collection.get(ids=part, include=["embeddings"])
        names.extend(page["ids"])
        scores.append(
            cosines(np.asarray(page["embeddings"], dtype=np.float32).reshape(-1, len(query)), query)
        )
    return best(names, np.concatenate(scores), len(names))


def fetched(
    collection: Collection, ranked: Sequence[tuple[str, float]], where: Where | None, layout: ChromaLayout
) -> Iterator[Candidate]:
    """Yield the ranked chunks, as far as they are there and the condition holds for them."""
    got = collection.get(
        ids=[identifier for identifier, _ in ranked], where=where, include=["documents", "metadatas"]
    )
    found = dict(zip(got["ids"], zip(got["documents"], got["metadatas"], strict=True), strict=True))
    for identifier, score in ranked:
        if identifier in found:
            text, metadata = found[identifier]
            yield layout.candidate(identifier, text, metadata, score=score)


def rows_of(vectors: Sequence[Vector], dimensions: int) -> Rows:
    """Return the vectors as rows; raises `VectorStoreUnavailable` for another length than the
    store\'s, or for what is not finite.
    """
    if any(len(vector) != dimensions for vector in vectors):
        raise VectorStoreUnavailable(f"a vector has another length than the store's {dimensions}")
    rows = np.array(vectors, dtype=np.float32)
    if not np.isfinite(rows).all():
        raise VectorStoreUnavailable("a vector holds a number that is not finite")
    return rows


def dimensions_of(collection: Collection) -> int:
    """Return the length of the store\'s vectors."""
    return int((collection.metadata or {}).get(DIMENSIONS, 0))
