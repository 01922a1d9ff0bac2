"""What kinds of engines of marked rows do alike: how they are opened, and how they show a filter."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, TypeVar

from regate_adapters.vector.kind import MARKED_REFUSES, Configured, EngineKind, EngineSettings, Renderer
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import VectorStore

if TYPE_CHECKING:
    from regate_adapters.vector.marked.engine import MarkedEngine
    from regate_adapters.vector.marked.filter import Limits
    from regate_adapters.vector.marked.tree import Tree

S = TypeVar("S", bound=EngineSettings)


class MarkedKind(EngineKind[S]):
    """A kind of engine that holds marked rows."""

    refuses = MARKED_REFUSES

    @abstractmethod
    def engine(self, configured: Configured[S]) -> AbstractAsyncContextManager[MarkedEngine]:
        """Return the engine as a context that yields it."""

    @property
    def limits(self) -> Limits:
        """Return how large a condition the engine takes."""
        from regate_adapters.vector.marked.filter import Limits

        return Limits()

    def written(self, condition: Tree) -> object:
        """Return a condition in the engine's own words."""
        return condition

    def open(self, configured: Configured[S], schema: RowSchema) -> AbstractAsyncContextManager[VectorStore]:
        """Return the store in the engine; a server may start after the gateway."""
        return self._opened(configured, schema)

    def renderer(self, schema: RowSchema) -> Renderer:
        """Return what renders a condition in the engine's own words."""
        from regate_adapters.vector.marked.filter import render
        from regate_adapters.vector.marked.marks import Marking

        marking = Marking.of(schema)
        return lambda plan: self.written(render(plan, marking, self.limits))

    @asynccontextmanager
    async def _opened(self, configured: Configured[S], schema: RowSchema) -> AsyncIterator[VectorStore]:
        from regate_adapters.vector.marked.store import MarkedVectorStore

        async with self.engine(configured) as engine:
            yield MarkedVectorStore(engine, schema, shared=not self.of_one_process, limits=self.limits)


@contextmanager
def examined(called: str, address: str) -> Iterator[None]:
    """Have an engine's failure say that it cannot be used at this address: a `ConfigurationError`."""
    try:
        yield
    except VectorStoreUnavailable as error:
        raise ConfigurationError(f"{called} cannot be used at {address}: {error.detail}") from error
