"""What is remembered of searches: for which of them more rows are permitted than are ranked exactly, so that
these are not counted again each time.

What is remembered is always true. Of a store from which nothing was removed since, no plan permits fewer rows
than when they were counted; once something was, they are counted anew. So the way that a search takes is the
same with this memory and without, and depends on no other tenant's chunks.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from regate_adapters.vector.pgvector.places import Place
from regate_orchestrator.filters.expression import Expression
from regate_orchestrator.values import StoreId

_ENTRIES: Final = 1_000
_LONGEST: Final = 20_000
"""Characters of the longest expression that is remembered: all of them take 20 MB at most."""


class CountedAsMany:
    """The searches for which the permitted rows were counted as too many, the last thousand of them."""

    def __init__(self, *, entries: int = _ENTRIES) -> None:
        self._entries = entries
        self._removed: OrderedDict[tuple[StoreId, str], int] = OrderedDict()
        """By store and expression, how often chunks had been removed when they were counted."""

    def holds(self, store: StoreId, place: Place, expression: Expression) -> bool:
        """Return whether the rows that this permits are known to be too many, in the place as it is now."""
        return self._removed.get(_key(store, expression)) == place.removed

    def note(self, store: StoreId, place: Place, expression: Expression) -> None:
        """Remember that they are too many. The place must have been read before they were counted."""
        key = _key(store, expression)
        if len(key[1]) > _LONGEST:
            return
        self._removed[key] = place.removed
        self._removed.move_to_end(key)
        if len(self._removed) > self._entries:
            self._removed.popitem(last=False)


def _key(store: StoreId, expression: Expression) -> tuple[StoreId, str]:
    # As text, in which 1, 1.0 and True differ
    return store, repr(expression)
