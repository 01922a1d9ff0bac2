"""A Qdrant server as a kind of vector engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from regate_adapters.vector.kind import Configured, Extra
from regate_adapters.vector.marked.kind import MarkedKind, examined
from regate_adapters.vector.qdrant.settings import QdrantSettings
from regate_orchestrator.values import StoreId

if TYPE_CHECKING:
    from regate_adapters.vector.marked.engine import MarkedEngine
    from regate_adapters.vector.marked.tree import Tree
    from regate_adapters.vector.qdrant.engine import QdrantEngine


class Qdrant(MarkedKind[QdrantSettings]):
    """A Qdrant server."""

    settings = QdrantSettings
    title = "a Qdrant server"
    extra = Extra("qdrant", module="qdrant_client", what="Qdrant's client")
    server = "qdrant"

    def check(self, configured: Configured[QdrantSettings]) -> None:
        """Accept: the settings themselves say what an address is."""

    async def examine(self, configured: Configured[QdrantSettings]) -> str:
        """Return the server's version. Raises `ConfigurationError` when it does not answer."""
        address = configured.settings.url
        async with aclosing(await asyncio.to_thread(_engine, configured)) as engine:
            with examined("Qdrant", address):
                return f"Qdrant {await engine.version()} answers at {address}"

    @asynccontextmanager
    async def engine(self, configured: Configured[QdrantSettings]) -> AsyncIterator[MarkedEngine]:
        """Yield the engine on the server."""
        async with aclosing(await asyncio.to_thread(_engine, configured)) as engine:
            yield engine

    def written(self, condition: Tree) -> object:
        """Return a filter in the JSON of Qdrant's API."""
        from regate_adapters.vector.qdrant.filter import render

        return condition is not False and render(condition, store=StoreId(""))

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
