"""The local engine as a kind of vector engine, and what all kinds have in common that keep its tables."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

from regate_adapters.vector.kind import Configured, EmbeddedSettings, EngineKind, Renderer
from regate_adapters.vector.local.settings import LocalSettings
from regate_orchestrator.filters.expression import expression_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import VectorStore

S = TypeVar("S", bound=EmbeddedSettings)


class Tabled(EngineKind[S]):
    """An engine on the tables of the local engine. It evaluates the algebra itself, so it applies every
    filter.
    """

    of_one_process = True
    by_words = True

    def check(self, configured: Configured[S]) -> None:
        """Accept: whether the directory can be used is checked for every embedded engine."""

    async def examine(self, configured: Configured[S]) -> str:
        """Return the directory; the file in it is not opened."""
        return f"{self.title}, in {configured.settings.path}"

    def renderer(self, schema: RowSchema) -> Renderer:  # noqa: ARG002 — any field can be held
        """Return what gives the expression as it is."""
        return expression_of

    def proof(self, folder: Path, url: str) -> Configured[S]:  # noqa: ARG002 — it has no server
        """Return one in a directory of its own."""
        return Configured(self.settings.model_validate({"path": folder / self.name}), "proof")


class Local(Tabled[LocalSettings]):
    """A SQLite file, searched in memory with NumPy."""

    settings = LocalSettings
    title = "the local engine"

    def open(
        self, configured: Configured[LocalSettings], schema: RowSchema
    ) -> AbstractAsyncContextManager[VectorStore]:
        """Return the store in the directory."""
        from regate_adapters.vector.local.store import local_store

        return local_store(configured.settings.path, schema, memory=configured.settings.memory)
