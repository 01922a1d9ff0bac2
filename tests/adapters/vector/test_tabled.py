"""The engines on the tables of the local engine keep the contract without exemption, find what the reference
finds whatever is done to them, and neither lose nor mix up anything.
"""

from __future__ import annotations

import asyncio
import itertools
import random
import sqlite3
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import apsw
import numpy as np
import pytest

from regate_adapters.testing.vector.corpus import QUERY, unit
from regate_adapters.testing.vector.suite import (
    DIMENSIONS,
    SCHEMA,
    Check,
    hostile_chunks,
    vector_store_conformance,
)
from regate_adapters.vector.faiss.engine import FlatIndex, faiss_store
from regate_adapters.vector.local.partitions import MEMORY, Partitions
from regate_adapters.vector.local.schema import connect
from regate_adapters.vector.local.store import TabledVectorStore, local_store
from regate_adapters.vector.memory.store import MemoryVectorStore
from regate_adapters.vector.partition.vectors import Holding, Matrix
from regate_adapters.vector.sqlite_vec.engine import LIBRARY, sqlite_vec_store
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import (
    Compare,
    CompareFields,
    Everything,
    FilterPlan,
    Matching,
    Not,
    Overlaps,
    all_of,
)
from regate_orchestrator.ports import Chunk, Fusion, Mode, Query, VectorStore
from regate_orchestrator.values import FileId, StoreId


class Opening(Protocol):
    """Opens an engine in a folder; one that keeps nothing in memory takes no bound for it."""

    def __call__(self, folder: Path, *, memory: int = ...) -> TabledVectorStore: ...


def opening_local(folder: Path, *, memory: int = MEMORY) -> TabledVectorStore:
    return local_store(folder, SCHEMA, memory=memory)


def opening_faiss(folder: Path, *, memory: int = MEMORY) -> TabledVectorStore:
    return faiss_store(folder, SCHEMA, memory=memory)


def opening_sqlite_vec(folder: Path, *, memory: int = MEMORY) -> TabledVectorStore:
    return sqlite_vec_store(folder, SCHEMA)


OPENINGS: list[Opening] = [opening_local, opening_faiss, opening_sqlite_vec]
NAMES = ["local", "faiss", "sqlite_vec"]
EACH = pytest.mark.parametrize("opening", OPENINGS, ids=NAMES)


@pytest.fixture(params=OPENINGS, ids=NAMES)
async def tabled(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TabledVectorStore]:
    async with request.param(tmp_path) as store:
        yield store


@pytest.mark.parametrize("check", vector_store_conformance(), ids=str)
async def test_the_engine_keeps_the_contract_without_exemption(
    check: Check, tabled: TabledVectorStore
) -> None:
    await check(tabled, exempt={})


VS = StoreId("vs_1")
FILES = [FileId(f"file-{number}") for number in range(4)]
STAMP = hostile_chunks(count=1)[0].stamp
WORDS = ("lamp", "oil", "storm", "ledger", "Storm")
ACME = Matching(Compare("eq", ("tenant",), "acme"))
PLANS = [
    Everything(),
    ACME,
    Matching(all_of([Compare("eq", ("tenant",), "acme"), Compare("lt", ("level",), 2)])),
    Matching(Not(Overlaps(("teams",), ("hr",)))),
    Matching(Compare("gt", ("attributes", "size"), 1)),
    Matching(CompareFields("eq", ("owner",), ("tenant",))),
]
QUERIES = [
    Query(QUERY, limit, "storm oil", mode, fusion)
    for limit in (2, 50)
    for mode, fusion in (
        ("vector", Fusion()),
        ("keyword", Fusion()),
        ("hybrid", Fusion(0.3, 0.7)),
        ("hybrid", Fusion(0.3, 0.7, by="rank")),
    )
]


def drawn(dice: random.Random, file: FileId, generation: int, tenant: str) -> list[Chunk]:
    """Some chunks of a file, of which some share their stamps."""
    stamp = {
        **STAMP,
        "tenant": tenant,
        "owner": dice.choice(["ann", tenant]),
        "level": dice.randrange(4),
        "teams": dice.choice([[], ["hr"], ["hr", "eng"]]),
    }
    size = dice.randrange(4)
    return [
        Chunk(
            f"{tenant}/{file}/{generation}/{index:06d}",
            file,
            index,
            " ".join(dice.choices(WORDS, k=dice.randrange(6))),
            unit(dice),
            stamp,
            {"size": size} if size else {},
            context=" ".join(dice.choices(WORDS, k=dice.randrange(3))),
        )
        for index in range(dice.randrange(1, 9))
    ]


@EACH
@pytest.mark.parametrize("seed", range(4))
async def test_whatever_is_done_it_finds_what_the_reference_finds(
    tmp_path: Path, opening: Opening, seed: int
) -> None:
    dice = random.Random(seed)
    reference = MemoryVectorStore(SCHEMA)
    memory = dice.choice(
        [1, 20_000, 1 << 30]
    )  # bytes: what is searched is read anew each time, at times, or once
    async with opening(tmp_path, memory=memory) as tabled:
        both: list[VectorStore] = [reference, tabled]
        for store in both:
            await store.create(VS, dimensions=DIMENSIONS)
        for step in range(40):
            file, tenant = dice.choice(FILES), dice.choice(["acme", "globex"])
            generation = f"{tenant}/{file}/{dice.randrange(2)}"
            match dice.randrange(6):
                case 0:
                    removed = dice.choice([None, generation])
                    for store in both:
                        await store.remove(VS, file, generation=removed)
                case 1:
                    stamp = {**STAMP, "tenant": tenant, "level": step}
                    copied = [
                        await store.restamp(
                            VS,
                            file,
                            generation=generation,
                            target=f"{generation}x",
                            stamp=stamp,
                            attributes={},
                        )
                        for store in both
                    ]
                    assert copied[0] == copied[1]
                case _:
                    chunks = drawn(dice, file, dice.randrange(2), tenant)
                    for store in both:
                        await store.add(VS, chunks)
            await agree(reference, tabled, dice.sample(QUERIES, 2), dice.sample(PLANS, 2))
        await agree(reference, tabled, QUERIES, PLANS)
        assert await tabled.generations(VS) == await reference.generations(VS)
    async with opening(tmp_path) as again:
        await agree(reference, again, QUERIES, PLANS)


async def agree(
    reference: VectorStore, tabled: VectorStore, queries: list[Query], plans: list[FilterPlan]
) -> None:
    for query, plan in itertools.product(queries, plans):
        expected = await reference.search(VS, query, plan=plan)
        found = await tabled.search(VS, query, plan=plan)
        scores = [one.score for one in expected.candidates]
        alike = [replace(one, score=score) for one, score in zip(found.candidates, scores, strict=True)]
        assert alike == list(expected.candidates)
        # Vectors are compared as floats of 32 bits here, and of 64 in the reference.
        assert [one.score for one in found.candidates] == pytest.approx(scores, abs=1e-6)
        assert replace(found, candidates=()) == replace(expected, candidates=())


@pytest.mark.parametrize("holding", [Matrix, FlatIndex])
def test_a_similarity_in_memory_is_of_its_own_row_to_the_last_bit(holding: Holding) -> None:
    source = np.random.default_rng(5)
    vectors = source.standard_normal((700, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = vectors[3] * np.float32(0.999)

    held = holding(vectors)
    whole = held.similarities(np.arange(700), query)
    assert whole == pytest.approx(np.clip(vectors @ query, 0, 1), abs=1e-6)
    assert held.rows.tolist() == vectors.tolist()
    for start in (0, 1, 7, 333):
        alone = holding(vectors[start : start + 1]).similarities(np.array([0]), query)
        few = holding(vectors[start:]).similarities(np.array([0, 5]), query)
        assert (alone[0], few.tolist()) == (whole[start], whole[[start, start + 5]].tolist())
    assert held.similarities(np.empty(0, dtype=np.int64), query).tolist() == []


@pytest.mark.parametrize("mode", ["vector", "keyword", "hybrid"])
async def test_what_others_store_moves_no_score_by_a_bit(tabled: TabledVectorStore, mode: Mode) -> None:
    dice = random.Random(3)
    query = Query(QUERY, 50, "storm oil", mode)
    await tabled.create(VS, dimensions=DIMENSIONS)
    await tabled.add(VS, drawn(dice, FILES[0], 0, "acme"))
    before = await tabled.search(VS, query, plan=ACME)
    for number in range(30):
        await tabled.add(VS, drawn(dice, FILES[1], number, "globex"))
    after = await tabled.search(VS, query, plan=ACME)

    assert before.candidates
    assert after.candidates == before.candidates
    assert after.total > before.total


async def test_a_vector_of_zeros_is_similar_to_nothing(tabled: TabledVectorStore) -> None:
    (chunk,) = hostile_chunks(count=1)
    await tabled.create(VS, dimensions=DIMENSIONS)
    await tabled.add(VS, [replace(chunk, vector=[0.0] * DIMENSIONS)])
    found = await tabled.search(VS, Query(QUERY, 5), plan=Everything())

    assert [one.score for one in found.candidates] == [0.0]


async def test_each_engine_finds_what_another_stored_in_the_directory(tmp_path: Path) -> None:
    dice = random.Random(2)
    reference = MemoryVectorStore(SCHEMA)
    await reference.create(VS, dimensions=DIMENSIONS)
    for number, opening in enumerate([*OPENINGS, *OPENINGS]):
        async with opening(tmp_path) as tabled:
            await tabled.create(VS, dimensions=DIMENSIONS)
            chunks = drawn(dice, FILES[number % 4], number, "acme")
            for store in (reference, tabled):
                await store.add(VS, chunks)
            await agree(reference, tabled, QUERIES, PLANS)


def test_no_statement_can_load_an_extension(tmp_path: Path) -> None:
    connection = connect(tmp_path, LIBRARY)
    try:
        with pytest.raises(apsw.SQLError, match="not authorized"):
            connection.execute("SELECT load_extension('vec0')")
    finally:
        connection.close()


async def test_strings_of_any_kind_come_back(tabled: TabledVectorStore) -> None:
    odd = "a\x00\ud800\u2028'\"%"
    (chunk,) = hostile_chunks(count=1)
    chunk = replace(
        chunk,
        id=f"{odd}/file-1/1/000001",
        text=odd,
        stamp={**chunk.stamp, "tenant": odd},
        file_id=FileId(odd),
    )
    await tabled.create(StoreId(odd), dimensions=DIMENSIONS)
    await tabled.add(StoreId(odd), [chunk])
    plan = Matching(Compare("eq", ("tenant",), odd))
    found = await tabled.search(StoreId(odd), Query(QUERY, 5), plan=plan)

    assert [(one.id, one.text, one.file_id, one.stamp["tenant"]) for one in found.candidates] == [
        (chunk.id, odd, odd, odd)
    ]
    assert await tabled.texts(StoreId(odd), [chunk.id], tenant=odd) == {chunk.id: odd}
    assert await tabled.texts(StoreId(odd), [chunk.id], tenant="acme") == {}


async def test_searches_amid_writes_see_each_file_whole_or_not_at_all(tabled: TabledVectorStore) -> None:
    dice = random.Random(1)
    await tabled.create(VS, dimensions=DIMENSIONS)
    made = [
        [replace(chunk, file_id=FileId(f"file-{number}")) for chunk in drawn(dice, FILES[0], number, "acme")]
        for number in range(60)
    ]
    sizes = {FileId(f"file-{number}"): len(chunks) for number, chunks in enumerate(made)}

    written = asyncio.Event()

    async def write() -> None:
        for number, chunks in enumerate(made):
            await tabled.add(VS, chunks)
            if number % 3 == 0:
                await tabled.remove(VS, FileId(f"file-{number}"))
        written.set()

    searches = 0
    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        while not written.is_set():
            for found in await asyncio.gather(
                *(tabled.search(VS, Query(QUERY, 1_000), plan=ACME) for _ in range(3))
            ):
                seen = Counter(one.file_id for one in found.candidates)
                assert {file: sizes[file] for file in seen} == dict(seen)
                searches += 1

    assert searches > 3


@EACH
async def test_a_file_of_a_later_version_is_refused(tmp_path: Path, opening: Opening) -> None:
    async with opening(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "vectors.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(ConfigurationError, match=r"vectors\.db are of version 99, and this program knows 1"):
        await opening(tmp_path).__aenter__()


@EACH
async def test_a_directory_of_chroma_is_refused_with_what_to_set(tmp_path: Path, opening: Opening) -> None:
    (tmp_path / "chroma.sqlite3").touch()

    with pytest.raises(ConfigurationError, match="kind: chroma"):
        await opening(tmp_path).__aenter__()
    assert not (tmp_path / "vectors.db").exists()


@EACH
async def test_a_file_that_cannot_be_read_is_a_failure_and_no_empty_answer(
    tmp_path: Path, opening: Opening
) -> None:
    async with opening(tmp_path) as tabled:
        await tabled.create(VS, dimensions=DIMENSIONS)
        with sqlite3.connect(tmp_path / "vectors.db") as connection:
            connection.execute("DROP TABLE partitions")
        connection.close()

        with pytest.raises(VectorStoreUnavailable):
            await tabled.search(VS, Query(QUERY, 1), plan=ACME)


@EACH
async def test_a_directory_that_another_process_uses_is_refused(tmp_path: Path, opening: Opening) -> None:
    async with opening(tmp_path):
        with pytest.raises(ConfigurationError, match="another process uses"):
            await opening(tmp_path).__aenter__()
    async with opening(tmp_path) as again:
        await again.check()


async def test_who_has_much_costs_nobody_else_what_is_kept_in_memory(tmp_path: Path) -> None:
    dice = random.Random(2)
    few, many = (
        [
            Chunk(
                f"{tenant}/file-1/1/{index:06d}",
                FileId("file-1"),
                index,
                "",
                unit(dice),
                {**STAMP, "tenant": tenant},
                {},
            )
            for index in range(count)
        ]
        for tenant, count in (("acme", 5), ("globex", 400))
    )
    partitions = Partitions(SCHEMA, memory=20_000)
    async with TabledVectorStore(tmp_path, SCHEMA, partitions, engine="The engine") as store:
        await store.create(VS, dimensions=DIMENSIONS)
        await store.add(VS, [*few, *many])
        for tenant, count in (("acme", 5), ("globex", 400), ("acme", 5)):
            plan = Matching(Compare("eq", ("tenant",), tenant))
            found = await store.search(VS, Query(QUERY, 500), plan=plan)
            assert len(found.candidates) == count
        kept = [partition.size for partition in partitions._partitions.values()]

    assert len(kept) == 1
    assert sum(kept) == partitions._kept < 20_000
