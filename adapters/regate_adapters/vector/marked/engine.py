"""What an engine must do to hold marked rows. `store.py`, the counterpart, makes a `VectorStore` of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from regate_adapters.vector.marked.tree import Tree
from regate_orchestrator.ports import Vector
from regate_orchestrator.values import StoreId


@dataclass(frozen=True, slots=True)
class MarkedRow:
    """A row to store. Its id is unique within its store.

    Marks are ASCII, at most some 160 bytes each. The tenant is any string: an engine that has rules for names
    must hash it. The document is JSON text, never searched. The vector is of unit length.
    """

    id: str
    tenant: str
    marks: tuple[str, ...]
    document: str
    vector: Vector


@dataclass(frozen=True, slots=True)
class RankedRow:
    """A row as it was stored; without its vector where none was asked for."""

    id: str
    document: str
    vector: Vector


class MarkedEngine(Protocol):
    """An engine that holds marked rows. Each failure must be raised as `VectorStoreUnavailable`, within the
    engine's own deadline; it must never look like an empty answer.

    `tenant` is given where the condition confines the rows to one tenant by its outermost part; the engine
    may use it to look nowhere else. `where` is never `False`.
    """

    async def dimensions(self, store: StoreId) -> int | None:
        """Return the length of the store's vectors; None for a store that was not made."""
        ...

    async def make(self, store: StoreId, dimensions: int) -> None:
        """Make a place for the store's rows. Must be idempotent."""
        ...

    async def put(self, store: StoreId, rows: Sequence[MarkedRow]) -> None:
        """Store the rows. One with an id that is there must be replaced whole; all must be visible to every
        read on return.
        """
        ...

    async def nearest(
        self, store: StoreId, vector: Vector, where: Tree, *, tenant: str | None, limit: int
    ) -> list[RankedRow]:
        """Return the rows with the highest cosine similarity among those for which the condition holds.

        The ranking must be exact, up to the precision of 32-bit floats, and never an index's guess. Scores
        and order are made anew from the vectors, which must be as stored.
        """
        ...

    def rows(self, store: StoreId, where: Tree, *, vectors: bool) -> AsyncIterator[list[RankedRow]]:
        """Yield all rows for which the condition holds, in pages and in any order."""
        ...

    async def count(self, store: StoreId, where: Tree, *, tenant: str | None) -> int | None:
        """Return for how many rows the condition holds; None where that costs as much as reading them. Of all
        rows of a store (`True`) it must be told.
        """
        ...

    async def delete(self, store: StoreId, where: Tree) -> None:
        """Remove the rows for which the condition holds; they must be gone from every read on return. For a
        store that was not made nothing must happen.
        """
        ...

    async def drop(self, store: StoreId) -> None:
        """Remove the store's place and all its rows. Must be idempotent."""
        ...

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the engine would not answer. Must be cheap."""
        ...
