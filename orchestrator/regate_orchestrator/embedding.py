"""The embedding models: a store is only ever filled and searched with the one that its vectors were made with.

Vectors of two models cannot be compared, though they may be of one length: what came out would be nonsense that looks like an answer.
"""

from __future__ import annotations

from collections.abc import Sequence

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.ports import Embedder
from regate_orchestrator.rows import StoreRow


class EmbeddingModels:
    """The configured models: `default`, which new stores use, and those of earlier stores."""

    def __init__(self, default: Embedder, *others: Embedder) -> None:
        self.default = default
        self._by_name = {embedder.name: embedder for embedder in (*others, default)}

    def of(self, store: StoreRow) -> Embedder:
        """Return the model that the store's vectors were made with; raises `InvalidRequest` when it is not configured any more.

        The caller must have decided that the principal may know of the store.
        """
        if store.embedder not in self._by_name:
            raise InvalidRequest(
                f"The vector store {store.id} was filled with an embedding model that is not configured here any more, so it can neither be "
                "searched nor added to. Create a new vector store with its files, or have the operator configure the model again.",
                code="embedding_model_not_configured",
            )
        return self._by_name[store.embedder]

    def require(self, stores: Sequence[StoreRow]) -> None:
        """Raise as `of` does for the first of the stores whose model is not configured."""
        for store in stores:
            self.of(store)
