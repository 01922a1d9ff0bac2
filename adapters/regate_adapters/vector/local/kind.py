"""The local engine as a kind of vector engine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from regate_adapters.vector.kind import Configured, EngineKind, Renderer
from regate_adapters.vector.local.settings import LocalSettings
from regate_orchestrator.filters.expression import expression_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import VectorStore

_MIB = 1 << 20


class Local(EngineKind[LocalSettings]):
    """A SQLite file, searched in memory. It evaluates the algebra itself, so it applies every filter."""

    settings = LocalSettings
    title = "the local engine"
    of_one_process = True
    by_words = True

    def check(self, configured: Configured[LocalSettings]) -> None:
        """Accept: whether the directory can be used is checked for every embedded engine."""

    async def examine(self, configured: Configured[LocalSettings]) -> str:
        """Return the directory; the file in it is not opened."""
        return f"the local engine, in {configured.settings.path}"

    def open(
        self, configured: Configured[LocalSettings], schema: RowSchema
    ) -> AbstractAsyncContextManager[VectorStore]:
        """Return the store in the directory."""
        from regate_adapters.vector.local.store import LocalVectorStore

        settings = configured.settings
        return LocalVectorStore(settings.path, schema, memory=settings.memory_mb * _MIB)

    def renderer(self, schema: RowSchema) -> Renderer:  # noqa: ARG002 — any field can be held
        """Return what gives the expression as it is."""
        return expression_of

    def proof(self, folder: Path, url: str) -> Configured[LocalSettings]:  # noqa: ARG002 — it has no server
        """Return one in a directory of its own."""
        return Configured(LocalSettings(path=folder / "local"), "proof")
