"""What may be asked of a vector store on a server, each of which must fail in time and never look empty."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Final

import pytest

from regate_adapters.testing.vector.suite import DIMENSIONS, hostile_chunks
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Compare, Everything, Matching
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


async def a_chunk_that_changes_its_tenant_is_there_once(store: VectorStore) -> None:
    """Check that it is replaced wherever the engine keeps it, which may depend on the tenant."""
    tenants = ["acme", "", "globex", "t\0ü\ud800"]
    await store.create(STORE, dimensions=DIMENSIONS)
    for tenant in tenants:
        await store.add(STORE, [replace(CHUNKS[0], stamp={**CHUNKS[0].stamp, "tenant": tenant})])

    plans = [Matching(Compare("eq", ("tenant",), tenant)) for tenant in tenants]
    found = [await store.search(STORE, Query(QUERY, limit=9), plan=plan) for plan in plans]

    assert [len(one.candidates) for one in found] == [0, 0, 0, 1]
    assert (found[-1].total, await found_of(store)) == (1, 1)


async def gateways_of_one_server_see_the_same_chunks(store: VectorStore, other: VectorStore) -> None:
    """Check that what one gateway writes or removes, another sees."""
    await store.create(STORE, dimensions=DIMENSIONS)
    await store.add(STORE, CHUNKS)
    seen = await found_of(other)
    await other.remove(STORE, CHUNKS[0].file_id)
    left = await found_of(store)

    assert (seen, left) == (60, 55)


async def deployments_share_nothing(store: VectorStore, other: VectorStore) -> None:
    """Check that a store of one is not there for another on the same server."""
    await store.create(STORE, dimensions=DIMENSIONS)
    await other.check()
    with pytest.raises(VectorStoreUnavailable):
        await found_of(other)
