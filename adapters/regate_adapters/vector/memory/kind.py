"""The memory as a kind of vector engine."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, nullcontext
from pathlib import Path

from regate_adapters.vector.kind import Configured, EngineKind, Renderer
from regate_adapters.vector.memory.settings import MemorySettings
from regate_orchestrator.filters.expression import expression_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import VectorStore


class Memory(EngineKind[MemorySettings]):
    """Vectors in memory. It evaluates the algebra itself, so it applies every filter."""

    settings = MemorySettings
    title = "memory (lost at exit)"
    keeps = False
    of_one_process = True
    by_words = True

    def check(self, configured: Configured[MemorySettings]) -> None:
        """Accept: there is nothing to set."""

    async def examine(self, configured: Configured[MemorySettings]) -> str:  # noqa: ARG002 — nothing is set
        """Return that what is there goes with the process."""
        return "in memory, lost at exit"

    def open(
        self,
        configured: Configured[MemorySettings],  # noqa: ARG002 — likewise
        schema: RowSchema,
    ) -> AbstractAsyncContextManager[VectorStore]:
        """Return an empty store."""
        from regate_adapters.vector.memory.store import MemoryVectorStore

        return nullcontext(MemoryVectorStore(schema))

    def renderer(self, schema: RowSchema) -> Renderer:  # noqa: ARG002 — any field can be held
        """Return what gives the expression as it is."""
        return expression_of

    def proof(self, folder: Path, url: str) -> Configured[MemorySettings]:  # noqa: ARG002 — it needs neither
        """Return an empty one."""
        return Configured(MemorySettings(), "proof")
