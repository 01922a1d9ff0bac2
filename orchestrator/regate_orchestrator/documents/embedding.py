"""The embedding models: a store is only ever filled and searched with the one that its vectors were made
with.

Vectors of two models cannot be compared, though they may be of one length: what came out would be nonsense
that looks like an answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from regate_orchestrator.documents.chunking import Chunking, default_chunking
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.ports import Embedder
from regate_orchestrator.rows import StoreRow


class EmbeddingModels:
    """The configured models: `default`, which new stores use, and those of earlier stores. `limits`:
    tokens that each takes, by name, if known.
    """

    def __init__(self, default: Embedder, *others: Embedder, limits: Mapping[str, int] | None = None) -> None:
        self.default = default
        self._limits = limits or {}
        self._by_name = {embedder.name: embedder for embedder in (*others, default)}

    def of(self, store: StoreRow) -> Embedder:
        """Return the model that the store's vectors were made with; raises `InvalidRequest` when it is not
        configured any more.

        The caller must have decided that the principal may know of the store.
        """
        if store.embedder not in self._by_name:
            raise InvalidRequest(
                f"The vector store {store.id} was filled with an embedding model that is not "
                "configured here any more, so it can neither be "
                "searched nor added to. Create a new vector store with its files, or have the operator "
                "configure the model again.",
                code="embedding_model_not_configured",
            )
        return self._by_name[store.embedder]

    def chunking(self, store: StoreRow) -> Chunking:
        """Return how files of the store are split where the client does not say."""
        return default_chunking(self._limits.get(store.embedder))

    def require_chunks_that_fit(self, store: StoreRow, sizes: Sequence[int]) -> None:
        """Raise `InvalidRequest` for chunks of so many tokens of which the store's model takes fewer."""
        limit = self._limits.get(store.embedder)
        if limit is not None and any(size > limit for size in sizes):
            message = (
                f"'max_chunk_size_tokens' must be at most {limit}: the embedding model of the vector store "
                f"{store.id} takes no more."
            )
            raise InvalidRequest(message, param="chunking_strategy")

    def require(self, stores: Sequence[StoreRow]) -> None:
        """Raise as `of` does for the first of the stores whose model is not configured."""
        for store in stores:
            self.of(store)
