"""LanceDB keeps the contract; what it was asked to keep outlives a kill; and what fails is told."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Final

import pytest
from tests.adapters.vector.marked_memory import MemoryEngine

from regate_adapters.testing.vector.suite import SCHEMA, Check, hostile_chunks, vector_store_conformance
from regate_adapters.vector.kind import MARKED_REFUSES, Configured
from regate_adapters.vector.lancedb.kind import LanceDb
from regate_adapters.vector.lancedb.settings import LanceDbSettings
from regate_adapters.vector.marked.engine import MarkedEngine, MarkedRow
from regate_adapters.vector.marked.tree import Has, Lacks, Some, Tree, all_of
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Query
from regate_orchestrator.values import StoreId

pytest.importorskip("lancedb", reason="LanceDB is not installed: pip install 'regate[lancedb]'")

from regate_adapters.vector.lancedb.engine import LanceEngine, _name

STORE: Final = StoreId("vs_1")
WRITER: Final = Path(__file__).with_name("lancedb_writer.py")
EVERY_ROW: Final[Tree] = True


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[LanceEngine]:
    async with LanceEngine(tmp_path / "lancedb", timeout_s=120) as found:
        yield found


def row(identifier: str, *marks: str, tenant: str = "acme", place: int = 0) -> MarkedRow:
    vector = tuple(float(number == place) for number in range(4))
    return MarkedRow(identifier, tenant, marks, f'["{identifier}"]', vector)


async def ids(engine: MarkedEngine, where: Tree = EVERY_ROW) -> list[str]:
    return sorted([one.id async for page in engine.rows(STORE, where, vectors=False) for one in page])


async def refusal(asked: Awaitable[object]) -> str:
    with pytest.raises(VectorStoreUnavailable) as refused:
        await asked
    return refused.value.detail or ""


@pytest.mark.parametrize("check", vector_store_conformance(), ids=str)
async def test_lancedb_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    configured = Configured(LanceDbSettings(path=tmp_path, timeout_s=120), "vector.stores.main")
    async with LanceDb().open(configured, SCHEMA) as store:
        await check(store, exempt=MARKED_REFUSES)


async def test_many_rows_in_few_writes_are_indexed(tmp_path: Path) -> None:
    async with LanceEngine(tmp_path, timeout_s=120, tidy_rows=100) as engine:
        await engine.make(STORE, 4)
        indexed = []
        for start in range(0, 120, 60):
            await engine.put(STORE, [row(f"id{number}", "m") for number in range(start, start + 60)])
            indexed.append(any(tmp_path.glob("*.lance/_indices/*")))

    assert indexed == [False, True]


# Tidied up after every second write, so that files, versions and indexes change all the time.
async def test_finds_what_a_dictionary_finds_while_it_is_tidied_up(tmp_path: Path) -> None:
    dice, oracle = random.Random(5), MemoryEngine()
    names = [f"m{number}" for number in range(6)]
    tenants = ("acme", "", "a\x00b", "\ud800", "o'neil")
    async with LanceEngine(tmp_path, timeout_s=120, tidy_every=2) as engine:
        for one in (engine, oracle):
            await one.make(STORE, 4)
        for _ in range(40):
            rows = {
                identifier: row(
                    identifier,
                    *dice.sample(names, dice.randrange(4)),
                    tenant=dice.choice(tenants),
                    place=dice.randrange(4),
                )
                for identifier in (f"id{dice.randrange(60)}" for _ in range(5))
            }
            gone = all_of(
                [Has((dice.choice(names),)), Has((dice.choice(names),)), Lacks((dice.choice(names),))]
            )
            for one in (engine, oracle):
                await one.put(STORE, list(rows.values()))
                await one.delete(STORE, gone)
            where = Some((Has((dice.choice(names), dice.choice(names))), Lacks((dice.choice(names),))))
            tenant = dice.choice((*tenants, None))
            assert await ids(engine, where) == await ids(oracle, where)
            near = [
                [one.id for one in await each.nearest(STORE, (1, 0, 0, 0), where, tenant=tenant, limit=100)]
                for each in (engine, oracle)
            ]
            assert sorted(near[0]) == sorted(near[1])
            counts = [await each.count(STORE, where, tenant=tenant) for each in (engine, oracle)]
            assert counts[0] == counts[1] == len(near[0])


async def test_rows_outlive_the_process_and_are_found_by_the_next(tmp_path: Path) -> None:
    for number in range(2):
        async with LanceEngine(tmp_path, timeout_s=120) as engine:
            assert (await engine.dimensions(STORE) is None) == (number == 0)
            await engine.make(STORE, 4)
            await engine.put(STORE, [row(f"id{number}")])
            assert await ids(engine) == [f"id{one}" for one in range(number + 1)]


async def test_what_was_acknowledged_outlives_a_kill_amid_writes(tmp_path: Path) -> None:
    acknowledged: dict[str, str] = {}
    for life in range(4):
        with subprocess.Popen(
            [sys.executable, str(WRITER), str(tmp_path), str(life)], stdout=subprocess.PIPE, text=True
        ) as writer:
            assert writer.stdout is not None
            for _ in range(12 + 9 * life):  # in the midst of the next write, and of tidying up
                identifier, _, document = writer.stdout.readline().strip().partition(" ")
                acknowledged[identifier] = document
            writer.kill()
            for line in writer.stdout:  # said before it died
                identifier, _, document = line.strip().partition(" ")
                acknowledged |= {identifier: document} if line.endswith("\n") else {}
        async with LanceEngine(tmp_path, timeout_s=120) as engine:
            rows = [one async for page in engine.rows(STORE, EVERY_ROW, vectors=True) for one in page]
            found = {one.id: one for one in rows}
            assert len(rows) == len(found)
            assert {one: found[one].document for one in acknowledged if one in found} == acknowledged
            beyond = {identifier.partition("/")[0] for identifier in found.keys() - acknowledged.keys()}
            assert len(beyond) <= 1  # the write that was not acknowledged: all of it, or none
            assert all(sum(one.startswith(f"{write}/") for one in found) == 3 for write in beyond)
            assert len(
                await engine.nearest(STORE, (1, 0, 0, 0), Has(("kept",)), tenant="acme", limit=9_999)
            ) == len(found)
            await engine.delete(STORE, Has((f"life{life}",)))
            acknowledged = {
                one: text for one, text in acknowledged.items() if not text.startswith(f"[{life}")
            }


async def test_a_table_whose_making_was_broken_off_is_none(engine: LanceEngine, tmp_path: Path) -> None:
    for left in ("", "data", "_versions"):
        (tmp_path / "lancedb" / f"{_name(STORE)}.lance" / left).mkdir(parents=True)
        assert await engine.dimensions(STORE) is None
        await engine.make(STORE, 4)
        await engine.put(STORE, [row("id")])
        assert await ids(engine) == ["id"]
        await engine.drop(STORE)


async def test_a_damaged_table_is_a_failure_and_never_empty(tmp_path: Path) -> None:
    async with LanceEngine(tmp_path, timeout_s=120) as engine:
        await engine.make(STORE, 4)
        await engine.put(STORE, [row("secret-id", "mark")])
    for file in (tmp_path / f"{_name(STORE)}.lance/data").iterdir():
        file.write_bytes(file.read_bytes()[:40])
    async with LanceEngine(tmp_path, timeout_s=120) as engine:
        for ask in (
            engine.nearest(STORE, (1, 0, 0, 0), Has(("mark",)), tenant="acme", limit=3),
            engine.count(STORE, Has(("mark",)), tenant=None),
            ids(engine),
            engine.put(STORE, [row("secret-id")]),
        ):
            said = await refusal(ask)
            assert " failed with " in said
            assert "mark" not in said
            assert str(tmp_path) not in said
    for file in (tmp_path / f"{_name(STORE)}.lance/_versions").iterdir():
        file.write_bytes(b"")
    async with LanceEngine(tmp_path, timeout_s=120) as engine:
        assert "look up failed" in await refusal(engine.dimensions(STORE))


async def test_what_takes_too_long_is_a_failure(tmp_path: Path) -> None:
    async with LanceEngine(tmp_path, timeout_s=120) as engine:
        await engine.make(STORE, 4)
        await engine.put(STORE, [row("id")])
    async with LanceEngine(tmp_path, timeout_s=1e-9) as engine:
        for what, ask in (
            ("search", engine.nearest(STORE, (1, 0, 0, 0), EVERY_ROW, tenant=None, limit=3)),
            ("count", engine.count(STORE, EVERY_ROW, tenant=None)),
            ("read", ids(engine)),
            ("look up", engine.dimensions(STORE)),
            ("add", engine.put(STORE, [row("other")])),
        ):
            assert f"{what} took longer than" in await refusal(ask)


async def test_a_store_that_is_not_there_is_a_failure_to_all_but_removal(engine: LanceEngine) -> None:
    await engine.delete(STORE, Has(("mark",)))
    await engine.drop(STORE)
    assert await engine.dimensions(STORE) is None
    for ask in (
        engine.nearest(STORE, (1, 0, 0, 0), EVERY_ROW, tenant=None, limit=3),
        engine.count(STORE, EVERY_ROW, tenant=None),
        ids(engine),
        engine.put(STORE, [row("id")]),
    ):
        assert "has no place here" in await refusal(ask)


async def test_writers_of_one_store_do_not_make_each_other_fail(engine: LanceEngine) -> None:
    await engine.make(STORE, 4)
    names = [f"id{number}" for number in range(24)]
    await asyncio.gather(*(engine.put(STORE, [row(name, name)]) for name in names))
    await asyncio.gather(*(engine.delete(STORE, Has((name,))) for name in names[:12]), ids(engine))

    assert await ids(engine) == sorted(names[12:])


async def test_versions_and_files_do_not_pile_up(tmp_path: Path) -> None:
    async with LanceEngine(tmp_path, timeout_s=120, tidy_every=4) as engine:
        await engine.make(STORE, 4)
        for number in range(12):
            await engine.put(STORE, [row(f"id{number}")])
        table = await engine._present(STORE)
        stats = await table.stats()

    assert stats["fragment_stats"]["num_fragments"] <= 4
    assert stats["num_indices"] == 2


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_a_vector_that_is_not_finite_is_not_stored(engine: LanceEngine, number: float) -> None:
    await engine.make(STORE, 4)
    odd = MarkedRow("id", "acme", ("mark",), "[]", (number, 0, 0, 0))
    assert "not finite" in await refusal(engine.put(STORE, [odd]))

    assert await ids(engine) == []


async def test_a_second_process_is_refused(engine: LanceEngine, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Embedded LanceDB serves one process"):
        async with LanceEngine(tmp_path / "lancedb", timeout_s=120):
            pass


async def test_a_directory_that_is_gone_is_not_ready(engine: LanceEngine, tmp_path: Path) -> None:
    await engine.check()
    (tmp_path / "lancedb").rename(tmp_path / "elsewhere")
    assert "check failed" in await refusal(engine.check())


async def test_the_kind_opens_what_its_settings_say(tmp_path: Path) -> None:
    kind, configured = LanceDb(), Configured(LanceDbSettings(path=tmp_path / "here"), "vector.stores.main")
    chunks = hostile_chunks(count=3)
    async with kind.open(configured, SCHEMA) as store:
        await store.create(STORE, dimensions=len(chunks[0].vector))
        await store.add(STORE, chunks)
        found = await store.search(STORE, Query(chunks[0].vector, limit=1), plan=Everything())
        assert not await store.is_shared(STORE)

    assert [one.id for one in found.candidates] == [chunks[0].id]
    assert await kind.examine(configured) == f"embedded LanceDB in {tmp_path / 'here'}"
