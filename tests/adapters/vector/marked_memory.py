"""The smallest engine that holds marked rows: a dictionary. With it the suite proves what is common to all
engines of marked rows, and nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import numpy as np

from regate_adapters.vector.marked.engine import MarkedRow, RankedRow
from regate_adapters.vector.marked.tree import All, Has, Lacks, Some, Tree
from regate_orchestrator.ports import Vector
from regate_orchestrator.values import StoreId


class MemoryEngine:
    """Rows in dictionaries, by store and id."""

    def __init__(self) -> None:
        self._dimensions: dict[StoreId, int] = {}
        self._rows: dict[StoreId, dict[str, MarkedRow]] = {}
        self.asked: list[int] = []

    async def dimensions(self, store: StoreId) -> int | None:
        return self._dimensions.get(store)

    async def make(self, store: StoreId, dimensions: int) -> None:
        self._dimensions.setdefault(store, dimensions)
        self._rows.setdefault(store, {})

    async def put(self, store: StoreId, rows: Sequence[MarkedRow]) -> None:
        self._rows[store].update({row.id: row for row in rows})

    async def nearest(
        self, store: StoreId, vector: Vector, where: Tree, *, tenant: str | None, limit: int
    ) -> list[RankedRow]:
        self.asked.append(limit)
        found = [row for row in self._matching(store, where) if tenant in (None, row.tenant)]
        one = np.array(vector, dtype=np.float32)
        products = np.array([np.array(row.vector, dtype=np.float32) @ one for row in found])
        places = np.argsort(-products, kind="stable")[:limit]
        return [_shown(found[place]) for place in places]

    async def rows(self, store: StoreId, where: Tree, *, vectors: bool) -> AsyncIterator[list[RankedRow]]:
        found = self._matching(store, where)
        for start in range(0, len(found), 7):
            yield [_shown(row) for row in found[start : start + 7]]

    async def count(self, store: StoreId, where: Tree, *, tenant: str | None) -> int:
        return sum(tenant in (None, row.tenant) for row in self._matching(store, where))

    async def delete(self, store: StoreId, where: Tree) -> None:
        for row in self._matching(store, where):
            del self._rows[store][row.id]

    async def drop(self, store: StoreId) -> None:
        self._dimensions.pop(store, None)
        self._rows.pop(store, None)

    async def check(self) -> None:
        """Always answers."""

    def _matching(self, store: StoreId, where: Tree) -> list[MarkedRow]:
        return [row for row in self._rows.get(store, {}).values() if _holds(where, frozenset(row.marks))]


def _holds(tree: Tree, marks: frozenset[str]) -> bool:
    match tree:
        case bool():
            return tree
        case Has(wanted):
            return not marks.isdisjoint(wanted)
        case Lacks(unwanted):
            return marks.isdisjoint(unwanted)
        case All(parts):
            return all(_holds(part, marks) for part in parts)
        case Some(parts):
            return any(_holds(part, marks) for part in parts)


def _shown(row: MarkedRow) -> RankedRow:
    return RankedRow(row.id, row.document, row.vector)
