"""What engines of marked rows on a server have to do beside keeping the contract, on any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import numpy as np

from regate_adapters.testing.vector.suite import DIMENSIONS, hostile_chunks
from regate_adapters.vector.marked.engine import MarkedEngine, MarkedRow
from regate_adapters.vector.marked.tree import Has, Lacks, Tree
from regate_orchestrator.values import StoreId

STORE: Final = StoreId("vs_0123456789abcdef")
QUERY: Final = hostile_chunks(count=1)[0].vector


def row(name: str, *marks: str, tenant: str = "acme", document: str = "{}") -> MarkedRow:
    return MarkedRow(name, tenant, marks, document, QUERY)


async def ids(engine: MarkedEngine, where: Tree, store: StoreId = STORE) -> list[str]:
    return sorted([one.id async for page in engine.rows(store, where, vectors=False) for one in page])


async def _vectors_come_back_as_they_were_stored(engine: MarkedEngine) -> None:
    vectors = {chunk.id: chunk.vector for chunk in hostile_chunks()} | {"zero": (0.0,) * DIMENSIONS}
    await engine.make(STORE, DIMENSIONS)
    await engine.put(STORE, [MarkedRow(name, "", ("m",), "{}", vector) for name, vector in vectors.items()])
    found = await engine.nearest(STORE, QUERY, True, tenant=None, limit=100)
    read = [one async for page in engine.rows(STORE, True, vectors=True) for one in page]

    expected = {name: np.float32(vector).tolist() for name, vector in vectors.items()}
    assert {one.id: np.float32(one.vector).tolist() for one in found} == expected
    assert {one.id: np.float32(one.vector).tolist() for one in read} == expected


async def _tenants_of_any_name_are_kept_apart(engine: MarkedEngine) -> None:
    tenants = ["", "acme", "ACME", "a\x00b", "\ud800", "e\u0301", "\u00e9", "t" * 5_000]
    await engine.make(STORE, DIMENSIONS)
    await engine.put(STORE, [row(str(number), "m", tenant=name) for number, name in enumerate(tenants)])
    found = [await engine.nearest(STORE, QUERY, True, tenant=name, limit=9) for name in tenants]
    counted = [await engine.count(STORE, Has(("m",)), tenant=name) for name in tenants]

    assert [[one.id for one in rows] for rows in found] == [[str(number)] for number in range(len(tenants))]
    assert counted == [1] * len(tenants)


async def _large_rows_are_sent_in_parts_and_read_in_pages(engine: MarkedEngine) -> None:
    marks = tuple(f"teams@s:{number:0150}" for number in range(300))
    rows = [row(f"{number:04}", *marks, f"own={number}", document="x" * 100_000) for number in range(300)]
    await engine.make(STORE, DIMENSIONS)
    await engine.put(STORE, rows)

    assert await ids(engine, True) == [one.id for one in rows]
    assert await ids(engine, Has(("own=7", marks[0][:-1]))) == ["0007"]
    assert await ids(engine, Lacks((marks[-1],))) == []


async def _a_store_is_made_again_with_vectors_of_another_length(engine: MarkedEngine) -> None:
    await engine.make(STORE, DIMENSIONS)
    await engine.put(STORE, [row("1", "m")])
    await engine.drop(STORE)
    gone = (await engine.dimensions(STORE), await engine.count(STORE, True, tenant=None))
    await engine.make(STORE, 3)
    await engine.put(STORE, [MarkedRow("2", "acme", ("m",), "{}", (1.0, 0.0, 0.0))])

    assert gone == (None, 0)
    assert (await engine.dimensions(STORE), await ids(engine, True)) == (3, ["2"])


async def gateways_of_one_server_see_the_same_rows(engine: MarkedEngine, other: MarkedEngine) -> None:
    """Check that two gateways, which make one store at once, write and remove for each other."""
    await asyncio.gather(*[one.make(STORE, 5) for one in (engine, other) for _ in range(4)])
    vector = (0.6, 0.8, 0.0, 0.0, 0.0)
    await engine.put(STORE, [MarkedRow(name, "acme", ("m",), "{}", vector) for name in ("1", "2")])
    await other.delete(STORE, Has(("m",)))
    await other.put(STORE, [MarkedRow("3", "acme", ("m",), "{}", vector)])

    assert await ids(engine, True) == ["3"]


async def fill_to_be_killed(engine: MarkedEngine) -> list[str]:
    """Write and remove rows; return the ids of those that must be there after a kill."""
    await engine.make(STORE, DIMENSIONS)
    await engine.put(STORE, [row(str(number), f"n={number}") for number in range(50)])
    await engine.delete(STORE, Has(("n=7",)))
    return sorted(str(number) for number in range(50) if number != 7)


DRIVER_CHECKS: Final[dict[str, Callable[[MarkedEngine], Awaitable[None]]]] = {
    check.__name__.removeprefix("_"): check
    for check in (
        _vectors_come_back_as_they_were_stored,
        _tenants_of_any_name_are_kept_apart,
        _large_rows_are_sent_in_parts_and_read_in_pages,
        _a_store_is_made_again_with_vectors_of_another_length,
    )
}
