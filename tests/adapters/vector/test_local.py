"""The local engine keeps the contract without exemption, finds what the reference finds whatever is done to
it, and neither loses nor mixes up anything.
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
from regate_adapters.vector.local.store import TabledVectorStore, local_store
from regate_adapters.vector.local.vectors import Matrix
from regate_adapters.vector.memory.store import MemoryVectorStore
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
from regate_orchestrator.ports import Chunk, Fusion, Query, VectorStore
from regate_orchestrator.values import FileId, StoreId


@pytest.fixture
async def local(tmp_path: Path) -> AsyncIterator[TabledVectorStore]:
    async with local_store(tmp_path, SCHEMA) as store:
        yield store


@pytest.mark.parametrize("check", vector_store_conformance(), ids=str)
async def test_the_local_engine_keeps_the_contract_without_exemption(
    check: Check, local: TabledVectorStore
) -> None:
    await check(local, exempt={})


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
        )
        for index in range(dice.randrange(1, 9))
    ]


@pytest.mark.parametrize("seed", range(8))
async def test_whatever_is_done_it_finds_what_the_reference_finds(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    reference = MemoryVectorStore(SCHEMA)
    memory = dice.choice(
        [1, 20_000, 1 << 30]
    )  # bytes: what is searched is read anew each time, at times, or once
    async with local_store(tmp_path, SCHEMA, memory=memory) as local:
        both: list[VectorStore] = [reference, local]
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
            await agree(reference, local, dice.sample(QUERIES, 2), dice.sample(PLANS, 2))
        await agree(reference, local, QUERIES, PLANS)
        assert await local.generations(VS) == await reference.generations(VS)
    async with local_store(tmp_path, SCHEMA) as again:
        await agree(reference, again, QUERIES, PLANS)


async def agree(
    reference: VectorStore, local: VectorStore, queries: list[Query], plans: list[FilterPlan]
) -> None:
    for query, plan in itertools.product(queries, plans):
        expected = await reference.search(VS, query, plan=plan)
        found = await local.search(VS, query, plan=plan)
        scores = [one.score for one in expected.candidates]
        alike = [replace(one, score=score) for one, score in zip(found.candidates, scores, strict=True)]
        assert alike == list(expected.candidates)
        # Vectors are compared as floats of 32 bits here, and of 64 in the reference.
        assert [one.score for one in found.candidates] == pytest.approx(scores, abs=1e-6)
        assert replace(found, candidates=()) == replace(expected, candidates=())


def test_a_similarity_is_of_its_own_row_to_the_last_bit() -> None:
    source = np.random.default_rng(5)
    vectors = source.standard_normal((700, 256)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = vectors[3] * np.float32(0.999)

    whole = Matrix(vectors).similarities(np.arange(700), query)
    for start in (0, 1, 7, 333):
        alone = Matrix(vectors[start : start + 1]).similarities(np.array([0]), query)
        few = Matrix(vectors[start:]).similarities(np.array([0, 5]), query)
        assert (alone[0], few.tolist()) == (whole[start], whole[[start, start + 5]].tolist())


async def test_strings_of_any_kind_come_back(local: TabledVectorStore) -> None:
    odd = "a\x00\ud800\u2028'\"%"
    (chunk,) = hostile_chunks(count=1)
    chunk = replace(
        chunk,
        id=f"{odd}/file-1/1/000001",
        text=odd,
        stamp={**chunk.stamp, "tenant": odd},
        file_id=FileId(odd),
    )
    await local.create(StoreId(odd), dimensions=DIMENSIONS)
    await local.add(StoreId(odd), [chunk])
    plan = Matching(Compare("eq", ("tenant",), odd))
    found = await local.search(StoreId(odd), Query(QUERY, 5), plan=plan)

    assert [(one.id, one.text, one.file_id, one.stamp["tenant"]) for one in found.candidates] == [
        (chunk.id, odd, odd, odd)
    ]
    assert await local.texts(StoreId(odd), [chunk.id], tenant=odd) == {chunk.id: odd}
    assert await local.texts(StoreId(odd), [chunk.id], tenant="acme") == {}


async def test_searches_amid_writes_see_each_file_whole_or_not_at_all(local: TabledVectorStore) -> None:
    dice = random.Random(1)
    await local.create(VS, dimensions=DIMENSIONS)
    made = [
        [replace(chunk, file_id=FileId(f"file-{number}")) for chunk in drawn(dice, FILES[0], number, "acme")]
        for number in range(60)
    ]
    sizes = {FileId(f"file-{number}"): len(chunks) for number, chunks in enumerate(made)}

    written = asyncio.Event()

    async def write() -> None:
        for number, chunks in enumerate(made):
            await local.add(VS, chunks)
            if number % 3 == 0:
                await local.remove(VS, FileId(f"file-{number}"))
        written.set()

    searches = 0
    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        while not written.is_set():
            for found in await asyncio.gather(
                *(local.search(VS, Query(QUERY, 1_000), plan=ACME) for _ in range(3))
            ):
                seen = Counter(one.file_id for one in found.candidates)
                assert {file: sizes[file] for file in seen} == dict(seen)
                searches += 1

    assert searches > 3


async def test_a_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    async with local_store(tmp_path, SCHEMA):
        pass
    with sqlite3.connect(tmp_path / "vectors.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()

    with pytest.raises(ConfigurationError, match=r"vectors\.db are of version 99, and this program knows 1"):
        await local_store(tmp_path, SCHEMA).__aenter__()


async def test_a_directory_of_chroma_is_refused_with_what_to_set(tmp_path: Path) -> None:
    (tmp_path / "chroma.sqlite3").touch()

    with pytest.raises(ConfigurationError, match="kind: chroma"):
        await local_store(tmp_path, SCHEMA).__aenter__()
    assert not (tmp_path / "vectors.db").exists()


async def test_a_file_that_cannot_be_read_is_a_failure_and_no_empty_answer(tmp_path: Path) -> None:
    async with local_store(tmp_path, SCHEMA) as local:
        await local.create(VS, dimensions=DIMENSIONS)
        with sqlite3.connect(tmp_path / "vectors.db") as connection:
            connection.execute("DROP TABLE partitions")
        connection.close()

        with pytest.raises(VectorStoreUnavailable):
            await local.search(VS, Query(QUERY, 1), plan=ACME)


async def test_a_directory_that_another_process_uses_is_refused(tmp_path: Path) -> None:
    async with local_store(tmp_path, SCHEMA):
        with pytest.raises(ConfigurationError, match="another process uses"):
            await local_store(tmp_path, SCHEMA).__aenter__()
    async with local_store(tmp_path, SCHEMA) as again:
        await again.check()
