"""Chroma as two kinds of vector engine, embedded and as a server. Filters and layout are the same."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from regate_adapters.vector.chroma.settings import ChromaServerSettings, ChromaSettings
from regate_adapters.vector.kind import Configured, EngineKind, Extra, Renderer
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import VectorStore

if TYPE_CHECKING:
    from regate_adapters.vector.chroma.server import ChromaServer


_CHROMA: Final = Extra("chroma", module="chromadb", what="Chroma")
_REFUSES: Final[Mapping[str, str]] = {
    "text": "Chroma has no string predicates on metadata",
    "string_order": "Chroma orders numbers alone",
    "two_fields": "Chroma compares a field with a value only",
    "undeclared": "a path that is never stored is more likely a mistake in the policy than meant",
}


class Chroma(EngineKind[ChromaSettings]):
    """Chroma inside the gateway's process."""

    settings = ChromaSettings
    title = "Chroma embedded"
    extra = _CHROMA
    refuses = _REFUSES
    of_one_process = True

    def check(self, configured: Configured[ChromaSettings]) -> None:
        """Accept: whether the directory can be used is checked for every embedded engine."""

    async def examine(self, configured: Configured[ChromaSettings]) -> str:
        """Return the directory; it is not opened, since only one process may hold it."""
        return f"embedded Chroma in {configured.settings.path}"

    def open(
        self, configured: Configured[ChromaSettings], schema: RowSchema
    ) -> AbstractAsyncContextManager[VectorStore]:
        """Return the store in the directory."""
        from regate_adapters.vector.chroma.store import ChromaVectorStore

        return ChromaVectorStore(configured.settings.path, schema)

    def renderer(self, schema: RowSchema) -> Renderer:
        """Return what renders a `where`, its keys without the prefix of a store."""
        return _renderer(schema)

    def proof(self, folder: Path, url: str) -> Configured[ChromaSettings]:  # noqa: ARG002 — it has no server
        """Return one in a directory of its own."""
        return Configured(ChromaSettings(path=folder / "chroma"), "proof")


class ChromaOnServer(EngineKind[ChromaServerSettings]):
    """A Chroma server."""

    settings = ChromaServerSettings
    title = "a Chroma server"
    extra = _CHROMA
    refuses = _REFUSES

    def check(self, configured: Configured[ChromaServerSettings]) -> None:
        """Raise `ConfigurationError` for what is no address of a server."""
        _server(configured)

    async def examine(self, configured: Configured[ChromaServerSettings]) -> str:
        """Return that the server answers. Raises `ConfigurationError` when it does not."""
        address = configured.settings.url
        try:
            await asyncio.to_thread(_server(configured).probe, None)
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"no Chroma answers at {address}: {error}") from error
        return f"a Chroma server answers at {address}"

    def open(
        self, configured: Configured[ChromaServerSettings], schema: RowSchema
    ) -> AbstractAsyncContextManager[VectorStore]:
        """Return the store on the server."""
        from regate_adapters.vector.chroma.store import ChromaVectorStore

        return ChromaVectorStore(_server(configured), schema)

    def renderer(self, schema: RowSchema) -> Renderer:
        """Return what renders a `where`, its keys without the prefix of a store."""
        return _renderer(schema)

    def proof(self, folder: Path, url: str) -> None:
        """Return None: the proof of embedded Chroma is this one's."""


def _server(configured: Configured[ChromaServerSettings]) -> ChromaServer:
    from regate_adapters.vector.chroma.server import ChromaServer

    return ChromaServer(configured.settings.url, timeout_s=configured.settings.timeout_s)


def _renderer(schema: RowSchema) -> Renderer:
    from regate_adapters.vector.chroma.filter import render
    from regate_adapters.vector.chroma.layout import ChromaLayout

    layout = ChromaLayout.of(schema)
    return lambda plan: render(plan, layout)
