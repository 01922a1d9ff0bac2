"""A Milvus server as a kind of vector engine."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from regate_adapters.vector.kind import Configured, Extra
from regate_adapters.vector.marked.kind import MarkedKind, examined
from regate_adapters.vector.milvus.settings import MilvusSettings
from regate_orchestrator.values import StoreId

if TYPE_CHECKING:
    from regate_adapters.vector.marked.engine import MarkedEngine
    from regate_adapters.vector.marked.tree import Tree
    from regate_adapters.vector.milvus.engine import MilvusEngine


class Milvus(MarkedKind[MilvusSettings]):
    """A Milvus server."""

    settings = MilvusSettings
    title = "a Milvus server"
    extra = Extra("milvus", module="pymilvus", what="Milvus's client")
    server = "milvus"

    def check(self, configured: Configured[MilvusSettings]) -> None:
        """Accept: the settings themselves say what an address is."""

    async def examine(self, configured: Configured[MilvusSettings]) -> str:
        """Return the server's version. Raises `ConfigurationError` when it does not answer."""
        address = configured.settings.url
        async with aclosing(await asyncio.to_thread(_engine, configured)) as engine:
            with examined("Milvus", address):
                return f"Milvus {await engine.version()} answers at {address}"

    @asynccontextmanager
    async def engine(self, configured: Configured[MilvusSettings]) -> AsyncIterator[MarkedEngine]:
        """Yield the engine on the server."""
        async with aclosing(await asyncio.to_thread(_engine, configured)) as engine:
            yield engine

    def written(self, condition: Tree) -> object:
        """Return an expression of Milvus."""
        from regate_adapters.vector.milvus.filter import render

        return condition is not False and render(condition, store=StoreId(""))

    def proof(self, folder: Path, url: str) -> Configured[MilvusSettings]:  # noqa: ARG002 — it has no files
        """Return one on the server."""
        return Configured(MilvusSettings(url=url, collections="regate_proof", timeout_s=60), "proof")


def _engine(configured: Configured[MilvusSettings]) -> MilvusEngine:
    """Return the engine. Its client takes a second to load, so this is called in a thread."""
    from regate_adapters.vector.milvus.connecting import client_of
    from regate_adapters.vector.milvus.engine import MilvusEngine

    settings, token = configured.settings, configured.secrets.get("token_env")
    return MilvusEngine(
        client_of(settings.url, token, database=settings.database),
        timeout_s=settings.timeout_s,
        collections=settings.collections,
    )
