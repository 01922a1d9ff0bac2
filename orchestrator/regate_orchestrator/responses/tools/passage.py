"""A passage: an admitted chunk as a tool found it, in a prompt, in the API's results, and as it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from regate_orchestrator.lineage import ChunkSource
from regate_orchestrator.values import FileId, JsonObject, StoreId


@dataclass(frozen=True, slots=True)
class Passage:
    """One admitted chunk as the model reads it and as `file_search_call.results` shows it."""

    source: ChunkSource
    filename: str
    text: str
    score: float
    attributes: JsonObject

    def as_result(self) -> JsonObject:
        """Return the passage in the API's shape (`file_search_call.results[]`)."""
        return {
            "file_id": self.source.file_id,
            "filename": self.filename,
            "score": self.score,
            "text": self.text,
            "attributes": dict(self.attributes),
        }

    def stored(self) -> JsonObject:
        """Return the passage as it is stored with the item that found it; `stored_passage` reads it."""
        return {
            **self.as_result(),
            "store_id": self.source.store_id,
            "chunk_id": self.source.chunk_id,
            "stamp": self.source.stamp,
        }


def stored_passage(result: JsonObject) -> Passage:
    """Return the passage that `Passage.stored` wrote."""
    return Passage(
        source=stored_source(result),
        filename=cast("str", result["filename"]),
        text=cast("str", result["text"]),
        score=cast("float", result["score"]),
        attributes=cast("JsonObject", result["attributes"]),
    )


def stored_source(result: JsonObject) -> ChunkSource:
    """Return the source of a stored passage."""
    return ChunkSource(
        cast("StoreId", result["store_id"]),
        cast("FileId", result["file_id"]),
        cast("str", result["chunk_id"]),
        cast("JsonObject", result["stamp"]),
    )
