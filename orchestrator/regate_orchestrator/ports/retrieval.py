"""Vector stores and embedders, as the core needs them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol, TypeAlias

from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import FilterPlan, Scalar
from regate_orchestrator.values import FileId, JsonObject, StoreId

Vector: TypeAlias = Sequence[float]
Mode: TypeAlias = Literal["vector", "keyword", "hybrid"]
"""How chunks are found and ranked: by the vector's neighbourhood, by the text's words, or by both."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk to store. Its id is minted by us and names its generation (`documents/generations.py`); `stamp`
    conforms to the chunk schema.

    The vector is of unit length. `context` says what the text leaves unsaid: the chunk is found by its words
    too, and it is never shown. An engine that gives a chunk back knows no context any more; `words` are those
    by which it was found, as engines with a search by words keep them and as no other need understand them.
    """

    id: str
    file_id: FileId
    index: int
    text: str
    vector: Vector
    stamp: JsonObject
    attributes: Mapping[str, Scalar]
    context: str = ""
    words: tuple[bytes, bytes] | None = None

    @property
    def sought(self) -> str:
        """Return what the chunk is found by: its words, and its vector where the model makes one of them."""
        return in_context(self.text, self.context)


def in_context(text: str, context: str) -> str:
    """Return what a chunk of this text and context is found by."""
    return f"{context}\n{text}" if context else text


@dataclass(frozen=True, slots=True)
class Fusion:
    """How a hybrid search makes one score of two. The weights are positive or zero, and not both zero.

    By `score`, it is the weighted mean of the cosine similarity and of the words' score, both from 0 to 1. By
    `rank`, it is the weighted mean of `RANK_DAMPING + 1` over `RANK_DAMPING` plus the rank (Cormack, Clarke
    and Büttcher, "Reciprocal rank fusion", SIGIR 2009); equal scores have one rank, and a chunk without any
    of the words has none.
    """

    embedding: float = 0.5
    text: float = 0.5
    by: Literal["score", "rank"] = "score"


RANK_DAMPING: Final = 60


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for: the text and its vector, at most so many chunks, found in this mode."""

    vector: Vector
    limit: int
    text: str = ""
    mode: Mode = "vector"
    fusion: Fusion = Fusion()

    def require_mode(self, *served: Mode) -> None:
        """Raise `VectorStoreUnavailable` when the query asks for a mode that is not among those served."""
        if self.mode not in served:
            raise VectorStoreUnavailable(
                f"the engine cannot search in mode {self.mode}, only in {', '.join(served)}"
            )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A chunk that a store returned. Nothing but the post-check may look at it before it is admitted.

    `stamp` is the canonical view as stored. `score` is higher for what is nearer, and means something within
    one search only: in mode `vector` it is the cosine similarity, negative values cut to 0; in mode `keyword`
    BM25 over the permitted chunks as a part of the most that the query's words could reach, from 0 to 1; in
    mode `hybrid` what `Fusion` says. Scores of different modes must never be compared.
    """

    id: str
    file_id: FileId
    index: int
    text: str
    score: float
    stamp: JsonObject
    attributes: Mapping[str, Scalar]


@dataclass(frozen=True, slots=True)
class Found:
    """A search's answer, best first. `total` counts the chunks in the store and `permitted` those matching
    the plan: audit only (never shown).

    `permitted` is None where the store cannot count them cheaply. `exhausted` says that no further candidate
    matches the plan.
    """

    candidates: tuple[Candidate, ...]
    total: int
    permitted: int | None
    exhausted: bool


class VectorStore(Protocol):
    """A vector engine. Proven by `regate_adapters.testing.vector_store_conformance`."""

    async def create(self, store: StoreId, *, dimensions: int) -> None:
        """Make the store's place. Must be idempotent."""
        ...

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        """Store the chunks whole: all policy fields with their types. A chunk with an existing id is
        replaced, never merged.
        """
        ...

    async def modes(self, store: StoreId) -> frozenset[Mode]:
        """Return the modes in which the store can be searched; `vector` is always among them. Must do no IO
        in the engine.
        """
        ...

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        """Return the chunks that fit the query best among those the plan permits. Mode `keyword` finds those
        alone that have one of the words.

        A mode that the engine does not serve must be refused before any IO (`Query.require_mode`).

        The plan must be applied inside the search. `Nothing` must do no IO. What cannot be rendered exactly
        must raise `FilterNotExpressible` before any IO; a failing engine must raise `VectorStoreUnavailable`,
        never answer empty. Hits, order and scores must not depend on chunks that the plan does not permit.
        Ties are broken by chunk id.
        """
        ...

    async def texts(self, store: StoreId, ids: Sequence[str], *, tenant: str) -> Mapping[str, str]:
        """Return the texts of those of these chunks of the tenant that are there, by id. The caller has
        decided that they may be read.
        """
        ...

    async def restamp(
        self,
        store: StoreId,
        file: FileId,
        *,
        generation: str,
        target: str,
        stamp: JsonObject,
        attributes: Mapping[str, Scalar],
    ) -> int:
        """Store each chunk of the file's generation once more, under the generation `into` and with this
        stamp and these attributes; return how many.

        Index, text and vector must be the very same, stamp and attributes replaced and never merged; the
        chunks of `generation` must stay as they are. Must be idempotent: what a broken-off call left of
        `into` is replaced.
        """
        ...

    async def remove(self, store: StoreId, file: FileId, *, generation: str | None = None) -> None:
        """Remove the chunks of this generation of the file; without one, all chunks of the file. Must
        be idempotent.
        """
        ...

    async def generations(self, store: StoreId) -> frozenset[str]:
        """Return which generations have chunks in the store; none for a store that is not there. For
        housekeeping: may be slow.
        """
        ...

    def chunks(self, store: StoreId) -> AsyncIterator[Sequence[Chunk]]:
        """Yield all chunks of the store, whole, in pages and in any order: what `add` was given, vectors up
        to the precision of 32-bit floats. Those stamped under other required fields than the present must
        be left out.

        For moving a store: may be slow, and nothing may write to the store meanwhile. Raises
        `VectorStoreUnavailable` for a store that is not there.
        """
        ...

    async def is_shared(self, store: StoreId) -> bool:
        """Return whether other programs may write to the store's engine while this one uses it. Must
        do no IO in the engine.
        """
        ...

    async def drop(self, store: StoreId) -> None:
        """Remove the store and all its chunks. Must be idempotent."""
        ...

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the engine would not answer. Must be cheap: readiness
        calls it.
        """
        ...


class Embedder(Protocol):
    """An embedding model."""

    @property
    def name(self) -> str:
        """Return what identifies the vector space, e.g. `wordllama-256`; vectors of different names
        are never compared.
        """
        ...

    async def dimensions(self) -> int:
        """Return the vectors' length; may load the model or ask the upstream the first time."""
        ...

    async def embed(self, texts: Sequence[str], *, tenant: str) -> list[Vector]:
        """Return one unit-length vector a text. Caches, if any, must be keyed by tenant. Raises
        `EmbeddingsUnavailable`, and `TextTooLong`.
        """
        ...


@dataclass(frozen=True, slots=True)
class WrittenContext:
    """What a model wrote of a passage's surroundings, and what it took, as far as it was told."""

    text: str
    input_tokens: int = 0
    output_tokens: int = 0


class ContextWriter(Protocol):
    """A model that says where in its document a passage stands. It is shown nothing of another document."""

    @property
    def model(self) -> str:
        """Return the model's name, for counting what it took."""
        ...

    @property
    def name(self) -> str:
        """Return all that decides what it writes but document and passage; by it contexts are kept."""
        ...

    async def write(self, document: str, passage: str) -> WrittenContext:
        """Return the context, which is not empty. Raises `ContextUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class RewrittenQuery:
    """What a model made of a query, and what it took, as far as it was told. `text` is one line, or None
    where the model wrote nothing that can be a query.
    """

    text: str | None
    input_tokens: int = 0
    output_tokens: int = 0


class QueryRewriter(Protocol):
    """A model that writes a query anew. It is shown that query and nothing else, and must keep nothing of
    it.
    """

    @property
    def upstream(self) -> str:
        """Return the name of the model's upstream, for traces."""
        ...

    @property
    def model(self) -> str:
        """Return the model's name, for counting what it took."""
        ...

    async def rewrite(self, query: str) -> RewrittenQuery:
        """Return what the model makes of the query. Raises `QueryRewritingUnavailable`."""
        ...


class Reranker(Protocol):
    """A model that reads a query and a passage together. It is shown admitted passages only."""

    async def relevance(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return for each text how relevant it is to the query, from 0 to 1. Raises
        `RerankingUnavailable`.
        """
        ...
