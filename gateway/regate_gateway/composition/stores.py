"""What keeps everything: rows in the state store, chunks in the vector engines, bytes in the file storage."""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack
from dataclasses import dataclass

from regate_adapters.files.readers.extract import WorkerExtractor
from regate_adapters.state.store import SqlStateStore
from regate_gateway.composition.opening import open_blobs, open_vector_engine, starting
from regate_gateway.composition.outside.upstreams import open_models
from regate_gateway.config.database import state_url
from regate_gateway.config.settings import Settings, Vector
from regate_orchestrator.documents.embedding import EmbeddingModels
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import BlobStore, Extractor, StateStore
from regate_orchestrator.retrieval.engines import VectorEngines
from regate_orchestrator.values import Clock

_log = logging.getLogger("regate.gateway")


@dataclass(frozen=True, slots=True)
class Stores:
    """What keeps rows, chunks and bytes, and what makes chunks of bytes."""

    state: StateStore
    vectors: VectorEngines
    models: EmbeddingModels
    blobs: BlobStore
    extractor: Extractor


async def open_stores(
    stack: AsyncExitStack, settings: Settings, chunk_schema: RowSchema, clock: Clock
) -> Stores:
    """Return the stores, opened on the stack. Raises `ConfigurationError`."""
    starting("opening the state store")
    setting, url = state_url(settings)
    state = await stack.enter_async_context(SqlStateStore.open(url, setting=setting, clock=clock))
    starting("opening the vector engines")
    vectors = await _vectors(stack, settings.vector, chunk_schema, state)
    starting("loading the embedding models")
    models = await open_models(stack, settings)
    starting("opening the file storage")
    blobs = await open_blobs(stack, settings.files)
    extractor = await stack.enter_async_context(WorkerExtractor())
    return Stores(state, vectors, models, blobs, extractor)


async def _vectors(
    stack: AsyncExitStack, vector: Vector, schema: RowSchema, state: StateStore
) -> VectorEngines:
    """Return all configured engines. Stores of a version that had one engine only are recorded as
    being in the default one.
    """
    engines = {
        name: await open_vector_engine(stack, name, store, schema) for name, store in vector.stores.items()
    }
    if placed := await state.vector_stores.place(engine=vector.default):
        _log.warning(
            "stores_placed",
            extra={"detail": f"{placed} vector stores of an earlier version are in {vector.default}"},
        )
    return VectorEngines(engines, default=vector.default, placed=state.vector_stores.engine_of)
