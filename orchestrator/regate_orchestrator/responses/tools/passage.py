"""A passage: an admitted chunk, or a page of the web, as a tool found it, in a prompt, in the API's results,
and as it is stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias, cast

from regate_orchestrator.lineage import ChunkSource, PageSource
from regate_orchestrator.values import FileId, JsonObject, StoreId

PassageSource: TypeAlias = ChunkSource | PageSource


class FileCitation(NamedTuple):
    """A citation of a file."""

    file_id: FileId
    filename: str

    def annotation(self, start: int, end: int) -> JsonObject:
        """Return the annotation of a text that ends at this place."""
        return {
            "type": "file_citation",
            "file_id": self.file_id,
            "filename": self.filename,
            "index": end,
        }


class PageCitation(NamedTuple):
    """A citation of a page."""

    url: str
    title: str

    def annotation(self, start: int, end: int) -> JsonObject:
        """Return the annotation of the text between these places."""
        return {
            "type": "url_citation",
            "url": self.url,
            "title": self.title,
            "start_index": start,
            "end_index": end,
        }


Citation: TypeAlias = FileCitation | PageCitation


@dataclass(frozen=True, slots=True)
class Passage:
    """One admitted chunk or page as the model reads it and as the results of a call show it. A page's title
    stands in for the name of its file.
    """

    source: PassageSource
    filename: str
    text: str
    score: float = 0.0
    attributes: JsonObject = field(default_factory=dict)

    @property
    def citation(self) -> Citation:
        """Return how an answer cites it."""
        if isinstance(self.source, PageSource):
            return PageCitation(self.source.url, self.filename)
        return FileCitation(self.source.file_id, self.filename)

    @property
    def heading(self) -> str:
        """Return what the model is told that it is."""
        of = f"page: {self.source.url}" if isinstance(self.source, PageSource) else "file:"
        return f"{of} {self.filename}"

    def as_result(self) -> JsonObject:
        """Return the passage in the API's shape (`file_search_call.results[]`)."""
        if isinstance(self.source, PageSource):
            return {"url": self.source.url, "title": self.filename, "text": self.text}
        return {
            "file_id": self.source.file_id,
            "filename": self.filename,
            "score": self.score,
            "text": self.text,
            "attributes": dict(self.attributes),
        }

    def stored(self) -> JsonObject:
        """Return the passage as it is stored with the item that found it; `stored_passage` reads it."""
        if isinstance(self.source, PageSource):
            return {**self.as_result(), "tool": self.source.tool, "result": self.source.result}
        return {
            **self.as_result(),
            "store_id": self.source.store_id,
            "chunk_id": self.source.chunk_id,
            "stamp": self.source.stamp,
        }


def stored_passage(result: JsonObject) -> Passage:
    """Return the passage that `Passage.stored` wrote."""
    source = stored_source(result)
    if isinstance(source, PageSource):
        return Passage(source, cast("str", result["title"]), cast("str", result["text"]))
    return Passage(
        source=source,
        filename=cast("str", result["filename"]),
        text=cast("str", result["text"]),
        score=cast("float", result["score"]),
        attributes=cast("JsonObject", result["attributes"]),
    )


def stored_source(result: JsonObject) -> PassageSource:
    """Return the source of a stored passage."""
    if "url" in result:
        return PageSource(
            cast("str", result["url"]),
            cast("JsonObject", result["tool"]),
            cast("JsonObject", result["result"]),
        )
    return ChunkSource(
        cast("StoreId", result["store_id"]),
        cast("FileId", result["file_id"]),
        cast("str", result["chunk_id"]),
        cast("JsonObject", result["stamp"]),
    )
