"""LanceDB as a kind of vector engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

from regate_adapters.vector.kind import MARKED_REFUSES, Configured, EngineKind, Extra, Renderer
from regate_adapters.vector.lancedb.settings import LanceDbSettings
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import VectorStore


class LanceDb(EngineKind[LanceDbSettings]):
    """LanceDB inside the gateway's process."""

    settings = LanceDbSettings
    title = "LanceDB embedded"
    refuses = MARKED_REFUSES
    extra = Extra("lancedb", module="lancedb", what="LanceDB")
    of_one_process = True

    def check(self, configured: Configured[LanceDbSettings]) -> None:
        """Accept: whether the directory can be used is checked for every embedded engine."""

    async def examine(self, configured: Configured[LanceDbSettings]) -> str:
        """Return the directory; it is not opened, since only one process may hold it."""
        return f"embedded LanceDB in {configured.settings.path}"

    def open(
        self, configured: Configured[LanceDbSettings], schema: RowSchema
    ) -> AbstractAsyncContextManager[VectorStore]:
        """Return the store in the directory."""
        return _opened(configured.settings, schema)

    def renderer(self, schema: RowSchema) -> Renderer:
        """Return what renders a condition on marks."""
        from regate_adapters.vector.lancedb.filter import DEEPEST, MOST_CONDITIONS
        from regate_adapters.vector.marked.filter import render
        from regate_adapters.vector.marked.marks import Marking

        marking = Marking.of(schema)
        return lambda plan: render(plan, marking, deepest=DEEPEST, most_conditions=MOST_CONDITIONS)

    def proof(self, folder: Path, url: str) -> Configured[LanceDbSettings]:  # noqa: ARG002 — it has no server
        """Return one in a directory of its own."""
        return Configured(LanceDbSettings(path=folder / "lancedb"), "proof")


@asynccontextmanager
async def _opened(settings: LanceDbSettings, schema: RowSchema) -> AsyncIterator[VectorStore]:
    from regate_adapters.vector.lancedb.engine import LanceEngine
    from regate_adapters.vector.lancedb.filter import DEEPEST, MOST_CONDITIONS
    from regate_adapters.vector.marked.store import MarkedVectorStore

    async with LanceEngine(settings.path, timeout_s=settings.timeout_s) as engine:
        yield MarkedVectorStore(
            engine, schema, shared=False, deepest=DEEPEST, most_conditions=MOST_CONDITIONS
        )
