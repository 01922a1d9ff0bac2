"""A Qdrant server as a kind of vector engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from regate_adapters.vector.kind import MARKED_REFUSES, Configured, EngineKind, Extra, Renderer
from regate_adapters.vector.qdrant.settings import QdrantSettings
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import VectorStore
from regate_orchestrator.values import StoreId

if TYPE_CHECKING:
    from regate_adapters.vector.qdrant.engine import QdrantEngine


class Qdrant(EngineKind[QdrantSettings]):
    """A Qdrant server."""

    settings = QdrantSettings
    title = "a Qdrant server"
    refuses = MARKED_REFUSES
    extra = Extra("qdrant", module="qdrant_client", what="Qdrant's client")
    server = "qdrant"

    def check(self, configured: Configured[QdrantSettings]) -> None:
        """Accept: the settings themselves say what an address is."""

    async def examine(self, configured: Configured[QdrantSettings]) -> str:
        """Return the server's version. Raises `ConfigurationError` when it does not answer."""
        address = configured.settings.url
        async with aclosing(await asyncio.to_thread(_engine, configured)) as engine:
            try:
                return f"Qdrant {await engine.version()} answers at {address}"
            except VectorStoreUnavailable as error:
                raise ConfigurationError(f"no Qdrant answers at {address}: {error.detail}") from error

    @asynccontextmanager
    async def _opened(
        self, configured: Configured[QdrantSettings], schema: RowSchema
    ) -> AsyncIterator[VectorStore]:
        from regate_adapters.vector.marked.store import MarkedVectorStore

        async with aclosing(await asyncio.to_thread(_engine, configured)) as engine:
            yield MarkedVectorStore(engine, schema, shared=True)

    def open(
        self, configured: Configured[QdrantSettings], schema: RowSchema
    ) -> AbstractAsyncContextManager[VectorStore]:
        """Return the store on the server, which may start after the gateway."""
        return self._opened(configured, schema)

    def renderer(self, schema: RowSchema) -> Renderer:
        """Return what renders a filter in the JSON of Qdrant's API."""
        from regate_adapters.vector.marked import filter as marked
        from regate_adapters.vector.marked.marks import Marking
        from regate_adapters.vector.qdrant.filter import render

        marking = Marking.of(schema)

        def rendered(plan: FilterPlan) -> object:
            tree = marked.render(plan, marking)
            return tree is not False and render(tree, store=StoreId(""))

        return rendered

    def proof(self, folder: Path, url: str) -> Configured[QdrantSettings]:  # noqa: ARG002 — it has no files
        """Return one on the server."""
        return Configured(QdrantSettings(url=url, collections="regate-proof", timeout_s=60), "proof")


def _engine(configured: Configured[QdrantSettings]) -> QdrantEngine:
    """Return the engine. Its client takes a second to load, so this is called in a thread."""
    from regate_adapters.vector.qdrant.connecting import client_of
    from regate_adapters.vector.qdrant.engine import QdrantEngine

    settings, key = configured.settings, configured.secrets.get("api_key_env")
    return QdrantEngine(
        client_of(settings.url, key, timeout_s=settings.timeout_s),
        timeout_s=settings.timeout_s,
        collections=settings.collections,
    )
