"""What may be asked of a vector store on a server, each of which must fail in time and never look empty."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import pytest

from regate_adapters.testing.vector.suite import DIMENSIONS, hostile_chunks
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Query, VectorStore
from regate_orchestrator.values import StoreId

STORE: Final = StoreId("vs_0123456789abcdef")
USED: Final = (STORE, *(StoreId(f"vs_conformance{end}") for end in ("", "_other", "_clients")))
CHUNKS: Final = hostile_chunks()
QUERY: Final = CHUNKS[0].vector

OPERATIONS: Final[dict[str, Callable[[VectorStore], Awaitable[object]]]] = {
    "create": lambda store: store.create(STORE, dimensions=DIMENSIONS),
    "add": lambda store: store.add(STORE, CHUNKS),
    "search": lambda store: store.search(STORE, Query(QUERY, limit=1), plan=Everything()),
    "texts": lambda store: store.texts(STORE, [CHUNKS[0].id], tenant="acme"),
    "restamp": lambda store: store.restamp(
        STORE, CHUNKS[0].file_id, generation="g", target="h", stamp={}, attributes={}
    ),
    "remove": lambda store: store.remove(STORE, CHUNKS[0].file_id),
    "generations": lambda store: store.generations(STORE),
    "drop": lambda store: store.drop(STORE),
    "check": lambda store: store.check(),
}


async def refusals(store: VectorStore, *, within_s: float) -> list[str]:
    """Ask everything at once; return what the log is told of each failure. All must fail in this time."""
    async with asyncio.timeout(within_s):
        refused = await asyncio.gather(*[ask(store) for ask in OPERATIONS.values()], return_exceptions=True)
    assert {type(one) for one in refused} == {VectorStoreUnavailable}
    return [one.detail for one in refused if isinstance(one, VectorStoreUnavailable)]


async def found_of(store: VectorStore) -> int:
    """Return how many chunks a search finds that is permitted everything."""
    return len((await store.search(STORE, Query(QUERY, limit=10_000), plan=Everything())).candidates)


async def refused_each(store: VectorStore) -> None:
    """Ask everything in turn; all must fail."""
    for ask in OPERATIONS.values():
        with pytest.raises(VectorStoreUnavailable):
            await ask(store)
