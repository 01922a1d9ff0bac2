"""What keeps everything: rows in the state store, chunks in the vector engines, bytes in the file storage."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from regate_adapters.files.readers.extract import WorkerExtractor
from regate_adapters.state.store import SqlStateStore
from regate_gateway.composition.opening import (
    open_blobs,
    open_policy,
    open_vector_engines,
    row_schemas_in,
    starting,
)
from regate_gateway.composition.outside.upstreams import (
    open_context_writer,
    open_models,
    open_query_rewriter,
    open_rankers,
)
from regate_gateway.composition.succession import succession
from regate_gateway.config.retrieval_settings import Vector
from regate_gateway.config.settings import Settings
from regate_gateway.config.state_settings import server_options, state_url
from regate_orchestrator.documents.embedding import EmbeddingModels
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import (
    BlobStore,
    ContextWriter,
    Extractor,
    QueryRewriter,
    StateStore,
    VectorStore,
)
from regate_orchestrator.retrieval.engines import VectorEngines
from regate_orchestrator.retrieval.moving import Moved, StoreMover, Tell
from regate_orchestrator.retrieval.ranking import Ranker
from regate_orchestrator.values import Clock, StoreId

_log = logging.getLogger("regate.gateway")


@runtime_checkable
class Pooled(Protocol):
    """A vector engine that keeps connections to a database."""

    def pool_use(self) -> Mapping[str, int]:
        """Return how many are `in_use` and `idle`, and how many calls are `waiting` for one."""
        ...


@dataclass(frozen=True, slots=True)
class Stores:
    """What keeps rows, chunks and bytes, and what makes chunks of bytes."""

    state: StateStore
    vectors: VectorEngines
    models: EmbeddingModels
    rankers: Mapping[str, Ranker]
    query_rewriter: QueryRewriter | None
    context_writer: ContextWriter | None
    blobs: BlobStore
    extractor: Extractor
    pools: Mapping[str, Callable[[], Mapping[str, int]]]
    """What the connections to databases are doing, by what they are for."""


async def open_stores(
    stack: AsyncExitStack, settings: Settings, chunk_schema: RowSchema, clock: Clock
) -> Stores:
    """Return the stores, opened on the stack. Raises `ConfigurationError`."""
    starting("opening the state store")
    setting, url = state_url(settings.state)
    opening = SqlStateStore.open(url, setting=setting, clock=clock, server=server_options(settings.state))
    state = await stack.enter_async_context(opening)
    starting("opening the vector engines")
    engines = await open_vector_engines(stack, settings.vector, chunk_schema)
    vectors = await _vectors(settings.vector, engines, state)
    starting("loading the embedding models")
    models = await open_models(stack, settings)
    rankers = await open_rankers(stack, settings)
    rewriter = await open_query_rewriter(stack, settings)
    writer = await open_context_writer(stack, settings)
    starting("opening the file storage")
    blobs = await open_blobs(stack, settings.files)
    extractor = await stack.enter_async_context(WorkerExtractor())
    pools = {
        "state": state.pool_use,
        **{f"vector.{name}": one.pool_use for name, one in engines.items() if isinstance(one, Pooled)},
    }
    return Stores(state, vectors, models, rankers, rewriter, writer, blobs, extractor, pools)


async def _vectors(vector: Vector, engines: Mapping[str, VectorStore], state: StateStore) -> VectorEngines:
    """Return all configured engines. Stores of a version that had one engine only are recorded as
    being in the default one. Stores whose engine is not configured any more are told of.
    """
    if placed := await state.vector_stores.place(engine=vector.default):
        _log.warning(
            "stores_placed",
            extra={"detail": f"{placed} vector stores of an earlier version are in {vector.default}"},
        )
    for engine, count in (await state.vector_stores.engines()).items():
        if engine not in engines:
            detail = f"they are in {engine}, which is no name in vector.stores: each request for them is 503"
            _log.warning("stores_without_engine", extra={"count": count, "detail": detail})
    return VectorEngines(engines, default=vector.default, placed=state.vector_stores.engine_of)


async def move_store(settings: Settings, store: StoreId, engine: str, tell: Tell) -> Moved:
    """Move the store to this engine. Raises `MoveRefused`, `VectorStoreUnavailable`, and `ConfigurationError`
    when a gateway runs or anything cannot be opened.
    """
    place = settings.vector.stores.get(engine)
    if place is not None and place.kind == "memory":
        raise ConfigurationError(
            f"the engine {engine} keeps its vectors in memory, which ends with this command"
        )
    # An engine of words is written and cleared together with the engine whose words it keeps.
    kept = {one.words: name for name, one in settings.vector.stores.items() if one.words is not None}
    if engine in kept:
        raise ConfigurationError(
            f"the engine {engine} keeps the words of {kept[engine]}, and no store of its own"
        )
    async with AsyncExitStack() as stack:
        if not stack.enter_context(succession(settings.data_dir)).is_held:
            raise ConfigurationError(f"a gateway uses {settings.data_dir}: stop it first")
        setting, url = state_url(settings.state)
        opening = SqlStateStore.open(url, setting=setting, server=server_options(settings.state))
        state = await stack.enter_async_context(opening)
        if state.membership.is_shared and (others := await state.membership.others_present()):
            raise ConfigurationError(
                f"{others} gateways use the state database: stop them first (one that was killed counts for "
                "a minute)"
            )
        schema = await _chunk_schema(settings)
        opened = await open_vector_engines(stack, settings.vector, schema)
        engines = {name: one for name, one in opened.items() if name not in kept}
        return await StoreMover(state.vector_stores, engines, tell).move(store, engine)


async def _chunk_schema(settings: Settings) -> RowSchema:
    """Return the chunk schema of the policies in force."""
    async with AsyncExitStack() as stack:
        policy = await open_policy(stack, settings)
        return row_schemas_in(policy.directory)["chunk"]
