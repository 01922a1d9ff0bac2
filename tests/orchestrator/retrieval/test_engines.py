"""Several vector engines as one: the contract of a single one, and that a store is never looked for in
another than its own.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from regate_adapters.testing.vector.suite import SCHEMA, Check, hostile_chunks, vector_store_conformance
from regate_adapters.vector.memory.store import MemoryVectorStore
from regate_orchestrator.authz.decisions import Allow
from regate_orchestrator.errors import PolicyUnavailable, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything, Nothing
from regate_orchestrator.ports import Chunk, Query
from regate_orchestrator.retrieval.engines import VectorEngines
from regate_orchestrator.values import FileId, Json, StoreId

ONE, TWO = StoreId("vs_1"), StoreId("vs_2")
CHUNK: Chunk = next(iter(hostile_chunks()))
VECTOR = CHUNK.vector


class Rows:
    """The stores' rows: which engine each names, and how often that was asked."""

    def __init__(self, **engines: str) -> None:
        self.engines: dict[str, str] = dict(engines)
        self.asked: list[StoreId] = []

    async def engine_of(self, store: StoreId) -> str | None:
        self.asked.append(store)
        return self.engines.get(store)


class World:
    def __init__(self, **rows: str) -> None:
        self.rows = Rows(**rows)
        self.first, self.second = MemoryVectorStore(SCHEMA), MemoryVectorStore(SCHEMA)
        self.engines = self.opened()

    def opened(self, *left_out: str) -> VectorEngines:
        configured = {"first": self.first, "second": self.second}
        kept = {name: engine for name, engine in configured.items() if name not in left_out}
        return VectorEngines(kept, default="first", placed=self.rows.engine_of)

    async def furnish(self) -> None:
        """Put one chunk into a store in each engine."""
        for store, engine in ((ONE, "first"), (TWO, "second")):
            await self.engines.create(store, dimensions=len(VECTOR), engine=engine)
            self.rows.engines[store] = engine
            await self.engines.add(store, [CHUNK])


async def count(engine: MemoryVectorStore | VectorEngines, store: StoreId) -> int:
    return (await engine.search(store, Query(VECTOR, limit=10), plan=Everything())).total


class Anywhere(Rows):
    """Rows of which one names the second engine, as do all others that are asked for: for checks that
    write no rows.
    """

    async def engine_of(self, store: StoreId) -> str | None:
        return None if store.endswith("absent") else "second"


@pytest.mark.parametrize("check", vector_store_conformance(), ids=str)
async def test_engines_keep_the_contract_of_one(check: Check) -> None:
    engines = {"first": MemoryVectorStore(SCHEMA), "second": MemoryVectorStore(SCHEMA)}
    await check(VectorEngines(engines, default="first", placed=Anywhere().engine_of), exempt={})


async def test_store_is_in_its_engine_and_in_no_other() -> None:
    world = World()
    await world.furnish()

    assert [await count(world.engines, store) for store in (ONE, TWO)] == [1, 1]
    assert [await count(world.first, ONE), await count(world.second, TWO)] == [1, 1]
    for engine, store in ((world.first, TWO), (world.second, ONE)):
        with pytest.raises(VectorStoreUnavailable):
            await count(engine, store)


async def test_row_is_asked_once_as_a_store_never_moves() -> None:
    world = World()
    await world.furnish()
    again = world.opened()
    for _ in range(3):
        await count(again, TWO)

    assert world.rows.asked == [TWO]


async def test_store_of_an_engine_that_is_gone_is_looked_for_nowhere_else() -> None:
    world = World()
    await world.furnish()
    await world.first.create(TWO, dimensions=len(VECTOR))
    left = world.opened("second")
    for call in (
        left.search(TWO, Query(VECTOR, limit=1), plan=Everything()),
        left.add(TWO, [CHUNK]),
        left.texts(TWO, [CHUNK.id], tenant="acme"),
        left.remove(TWO, CHUNK.file_id),
        left.create(TWO, dimensions=3),
    ):
        with pytest.raises(VectorStoreUnavailable):
            await call

    assert await count(world.first, TWO) == 0


async def test_store_without_a_row_is_no_empty_store() -> None:
    with pytest.raises(VectorStoreUnavailable):
        await count(World().engines, StoreId("vs_0"))


async def test_nothing_is_searched_for_nothing() -> None:
    world = World()
    found = await world.engines.search(ONE, Query(VECTOR, limit=5), plan=Nothing())

    assert (found.candidates, found.exhausted, world.rows.asked) == ((), True, [])


async def test_what_is_left_of_a_deleted_store_is_removed_wherever_it_was() -> None:
    world = World()
    await world.furnish()
    again = world.opened()  # a process that has not seen the store before its row was deleted
    del world.rows.engines[TWO]
    await again.remove(TWO, CHUNK.file_id)
    emptied = await count(world.second, TWO)
    await again.drop(TWO)

    assert emptied == 0
    with pytest.raises(VectorStoreUnavailable):
        await count(world.second, TWO)


async def test_detached_file_is_removed_from_the_stores_engine() -> None:
    world = World()
    await world.furnish()
    await world.engines.remove(TWO, FileId(CHUNK.file_id))

    assert [await count(world.first, ONE), await count(world.second, TWO)] == [1, 0]


async def test_new_store_is_where_the_policy_says_else_in_the_default() -> None:
    engines = World().engines

    assert [engines.for_new(Allow("r1")), engines.for_new(Allow("r1", {"placement": "second"}))] == [
        "first",
        "second",
    ]


@pytest.mark.parametrize("engine", ["third", "", None, 7, ["first"]])
async def test_engine_that_is_not_configured_gets_no_store(engine: Json) -> None:
    with pytest.raises(PolicyUnavailable):
        World().engines.for_new(Allow("r1", {"placement": engine}))


async def test_a_store_that_was_moved_is_looked_for_again_once_its_old_engine_has_it_no_more() -> None:
    world = World()
    await world.furnish()
    assert await count(world.engines, ONE) == 1
    await world.second.create(ONE, dimensions=len(VECTOR))
    await world.second.add(ONE, [CHUNK, replace(CHUNK, id="acme/file-1/moved/000001")])
    world.rows.engines[ONE] = "second"
    await world.first.drop(ONE)

    with pytest.raises(VectorStoreUnavailable):
        await count(world.engines, ONE)
    assert await count(world.engines, ONE) == 2


async def test_what_a_broken_off_move_left_goes_with_the_store() -> None:
    world = World()
    await world.furnish()
    await world.second.create(ONE, dimensions=len(VECTOR))
    await world.second.add(ONE, [CHUNK])
    del world.rows.engines[ONE]

    await world.engines.drop(ONE)

    assert [await engine.generations(ONE) for engine in (world.first, world.second)] == [frozenset()] * 2
