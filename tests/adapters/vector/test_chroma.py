"""Embedded Chroma as an engine: its directory, its threads, its failures."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from regate_adapters.testing.vector.corpus import atoms, exemption
from regate_adapters.testing.vector.suite import DIMENSIONS, SCHEMA, hostile_chunks
from regate_adapters.vector.chroma.searching import EXACT_UP_TO, ONE_IN, ChromaSearch
from regate_adapters.vector.chroma.store import ChromaVectorStore
from regate_orchestrator.errors import ConfigurationError, FilterNotExpressible, VectorStoreUnavailable
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import (
    Compare,
    Everything,
    Matching,
    Overlaps,
    all_of,
    any_of,
    negate,
    plan_of,
)
from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.ports import Candidate, Chunk, Found, Query
from regate_orchestrator.values import FileId, StoreId

STORE = StoreId("vs_0123456789abcdef")
QUERY = hostile_chunks(count=1)[0].vector


async def filled(store: ChromaVectorStore, chunks: Sequence[Chunk]) -> None:
    await store.create(STORE, dimensions=DIMENSIONS)
    await store.add(STORE, chunks)


async def everything(store: ChromaVectorStore) -> Found:
    return await store.search(STORE, Query(QUERY, limit=1_000), plan=Everything())


async def test_chunks_survive_the_store_being_closed_and_opened(tmp_path: Path) -> None:
    chunks = hostile_chunks()
    async with ChromaVectorStore(tmp_path, SCHEMA) as store:
        await filled(store, chunks)
        before = await everything(store)

    async with ChromaVectorStore(tmp_path, SCHEMA) as store:
        after = await everything(store)

    assert before == after
    assert len(chunks) == len(after.candidates)


class Moving(ChromaSearch):
    """A search between whose first reads a file is stamped anew."""

    def __init__(self, store: ChromaVectorStore) -> None:
        super().__init__(EXACT_UP_TO, ONE_IN)
        self.store = store
        self.moves = 2

    def candidates(self, *args: Any, **kwargs: Any) -> Iterator[Candidate]:
        if self.moves:
            self.moves -= 1
            before, after = (f"acme/file-1/{number}" for number in (self.moves + 1, self.moves))
            stamp = hostile_chunks(count=1)[0].stamp
            self.store._restamp(STORE, FileId("file-1"), (before, after), stamp, {})
            self.store._remove(STORE, FileId("file-1"), before)
        yield from super().candidates(*args, **kwargs)


async def test_a_file_that_moves_between_two_reads_of_a_search_is_found_once(tmp_path: Path) -> None:
    chunk = replace(hostile_chunks(count=1)[0], id="acme/file-1/2/000000", file_id=FileId("file-1"))
    async with ChromaVectorStore(tmp_path, SCHEMA) as store:
        store._searching = Moving(store)
        await filled(store, [chunk])
        found = await everything(store)

    assert [candidate.id for candidate in found.candidates] == ["acme/file-1/0/000000"]


async def test_a_directory_serves_one_process(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from regate_adapters.testing.vector.suite import SCHEMA\n"
        "from regate_adapters.vector.chroma.store import ChromaVectorStore\n"
        "from regate_orchestrator.errors import ConfigurationError\n"
        "async def main():\n"
        "    try:\n"
        "        async with ChromaVectorStore(pathlib.Path(sys.argv[1]), SCHEMA): print('opened')\n"
        "    except ConfigurationError as error: print(error)\n"
        "asyncio.run(main())\n"
    )

    async with ChromaVectorStore(tmp_path, SCHEMA):
        during = await asyncio.to_thread(_run, program, str(tmp_path))
    after = await asyncio.to_thread(_run, program, str(tmp_path))

    assert f"another process uses {tmp_path}" in during
    assert after.strip() == "opened"


async def test_a_directory_is_opened_once_within_a_process_too(tmp_path: Path) -> None:
    async with ChromaVectorStore(tmp_path, SCHEMA):
        with pytest.raises(ConfigurationError, match="another process uses"):
            async with ChromaVectorStore(tmp_path, SCHEMA):
                pass


async def test_a_directory_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")

    with pytest.raises(ConfigurationError, match="cannot be used"):
        async with ChromaVectorStore(tmp_path / "file" / "store", SCHEMA):
            pass


def test_opening_and_checking_do_not_load_chroma(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        "from regate_adapters.testing.vector.suite import SCHEMA\n"
        "from regate_adapters.vector.chroma.store import ChromaVectorStore\n"
        "async def main():\n"
        "    async with ChromaVectorStore(pathlib.Path(sys.argv[1]), SCHEMA) as store: await store.check()\n"
        "asyncio.run(main())\n"
        "print('chromadb' in sys.modules)\n"
    )

    assert _run(program, str(tmp_path)).strip() == "False"


def test_the_engine_reads_no_environment_file_and_reaches_no_network(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("CHROMA_API_IMPL=no.such.Class\nANONYMIZED_TELEMETRY=True\n")
    program = (
        "import asyncio, os, pathlib, socket, sys\n"
        "from regate_adapters.testing.vector.suite import DIMENSIONS, SCHEMA, hostile_chunks\n"
        "from regate_adapters.vector.chroma.store import ChromaVectorStore\n"
        "from regate_orchestrator.filters.expression import Everything\n"
        "from regate_orchestrator.ports import Query\n"
        "os.chdir(sys.argv[1])\n"
        "def audit(event, arguments):\n"
        "    if event in ('socket.connect', 'socket.getaddrinfo'): print('network', arguments, flush=True)\n"
        "sys.addaudithook(audit)\n"
        "async def main():\n"
        "    chunks = hostile_chunks()\n"
        "    async with ChromaVectorStore(pathlib.Path('store'), SCHEMA) as store:\n"
        "        await store.create('vs_1', dimensions=DIMENSIONS)\n"
        "        await store.add('vs_1', chunks)\n"
        "        found = await store.search('vs_1', Query(chunks[0].vector, limit=3), plan=Everything())\n"
        "        print(len(found.candidates))\n"
        "asyncio.run(main())\n"
    )

    assert _run(program, str(tmp_path)).strip() == "3"


def _run(program: str, *arguments: str) -> str:
    paths = [str(Path(entry).resolve()) for entry in sys.path if entry]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n" + program, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


async def test_chunks_stamped_under_other_required_fields_are_not_seen(tmp_path: Path) -> None:
    wider = RowSchema(
        "conformance", {**SCHEMA.fields, "embargo": FieldSpec("embargo", "number", required=True)}
    )
    async with ChromaVectorStore(tmp_path, SCHEMA) as store:
        await filled(store, hostile_chunks())

    async with ChromaVectorStore(tmp_path, wider) as store:
        found = await everything(store)
        texts = await store.texts(STORE, [chunk.id for chunk in hostile_chunks()], tenant="acme")

    assert (found.candidates, found.total, texts) == ((), 60, {})


async def test_removing_a_file_removes_chunks_of_an_older_schema_too(tmp_path: Path) -> None:
    wider = RowSchema(
        "conformance", {**SCHEMA.fields, "embargo": FieldSpec("embargo", "number", required=True)}
    )
    async with ChromaVectorStore(tmp_path, SCHEMA) as store:
        await filled(store, hostile_chunks())

    async with ChromaVectorStore(tmp_path, wider) as store:
        await store.remove(STORE, FileId("file-00000001"))
        found = await everything(store)

    assert found.total == 55


async def test_a_fraction_is_not_compared_with_a_whole_number(chroma: ChromaVectorStore) -> None:
    chunk = hostile_chunks(count=1)[0]
    whole = Chunk(chunk.id, chunk.file_id, 0, "", chunk.vector, {**chunk.stamp, "level": 0}, {"size": 1})
    await filled(chroma, [whole])
    traps = any_of(
        [
            Compare("eq", ("attributes", "size"), 1.5),
            Compare("le", ("level",), -0.5),
            Compare("eq", ("level",), 0.3),
            Compare("gt", ("attributes", "size"), 1.5),
        ]
    )

    found = await chroma.search(STORE, Query(QUERY, limit=10), plan=Matching(traps))

    assert found.candidates == ()


async def test_the_largest_filters_that_are_taken_are_answered(chroma: ChromaVectorStore) -> None:
    await filled(chroma, hostile_chunks())
    teams = Overlaps(("teams",), ("hr", *(f"team-{number}" for number in range(990))))

    found = await chroma.search(STORE, Query(QUERY, limit=1_000), plan=Matching(teams))
    plain = await chroma.search(
        STORE, Query(QUERY, limit=1_000), plan=Matching(Overlaps(("teams",), ("hr",)))
    )

    assert plain.candidates == found.candidates != ()


async def test_the_engines_own_errors_never_leave(chroma: ChromaVectorStore, tmp_path: Path) -> None:
    await filled(chroma, hostile_chunks())
    with pytest.raises(VectorStoreUnavailable, match="Try again later"):
        await chroma.create(StoreId("no such / name"), dimensions=DIMENSIONS)
    unwritable = Chunk(
        "acme/1/1", FileId("file-1"), 0, "a secret \ud800", QUERY, hostile_chunks(count=1)[0].stamp, {}
    )

    with pytest.raises(VectorStoreUnavailable) as failure:
        await chroma.add(STORE, [unwritable])

    assert "secret" not in failure.value.detail


async def test_a_directory_that_is_gone_is_a_failure_and_not_an_empty_answer(tmp_path: Path) -> None:
    async with ChromaVectorStore(tmp_path / "store", SCHEMA) as store:
        await filled(store, hostile_chunks())
    for part in (tmp_path / "store").iterdir():
        shutil.rmtree(part) if part.is_dir() else part.unlink()

    async with ChromaVectorStore(tmp_path / "store", SCHEMA) as store:
        with pytest.raises(VectorStoreUnavailable):
            await everything(store)


async def test_a_store_that_is_not_open_is_unavailable(tmp_path: Path) -> None:
    store = ChromaVectorStore(tmp_path, SCHEMA)

    with pytest.raises(VectorStoreUnavailable):
        await store.check()


async def test_a_vector_that_is_not_finite_is_refused(chroma: ChromaVectorStore) -> None:
    await filled(chroma, hostile_chunks())

    with pytest.raises(VectorStoreUnavailable):
        await chroma.search(STORE, Query([float("nan")] * DIMENSIONS, limit=1), plan=Everything())


async def test_reading_and_writing_at_once_never_shows_a_chunk_that_the_plan_forbids(
    chroma: ChromaVectorStore,
) -> None:
    chunks = hostile_chunks()
    await filled(chroma, chunks)
    plan = Matching(Compare("eq", ("legal_hold",), value=False))
    held = [
        Chunk(one.id, one.file_id, one.index, one.text, one.vector, {**one.stamp, "legal_hold": True}, {})
        for one in chunks
    ]
    free = [
        Chunk(one.id, one.file_id, one.index, one.text, one.vector, {**one.stamp, "legal_hold": False}, {})
        for one in chunks
    ]
    seen: list[bool] = []

    async def search() -> None:
        for _ in range(15):
            found = await chroma.search(STORE, Query(QUERY, limit=100), plan=plan)
            seen.extend(candidate.stamp["legal_hold"] is False for candidate in found.candidates)

    async def write() -> None:
        for _ in range(4):
            await chroma.add(STORE, held)
            await chroma.add(STORE, free)

    async with asyncio.TaskGroup() as tasks:
        for work in (search, search, write, write):
            tasks.create_task(work())
    final = await chroma.search(STORE, Query(QUERY, limit=100), plan=plan)

    assert all(seen)
    assert len(chunks) == len(final.candidates)


async def test_a_cancelled_write_is_whole_or_followed_by_the_next(chroma: ChromaVectorStore) -> None:
    chunks = hostile_chunks()
    await chroma.create(STORE, dimensions=DIMENSIONS)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await chroma.add(STORE, chunks)

    for file in {chunk.file_id for chunk in chunks}:
        await chroma.remove(STORE, file)
    found = await everything(chroma)

    assert found.candidates == ()


@pytest.mark.parametrize("reserved", ["\x00empty", "\x00true", "\x00false"])
@pytest.mark.parametrize("place", ["field", "list", "attribute"])
async def test_a_value_that_the_layout_reserves_is_refused_and_not_confused(
    chroma: ChromaVectorStore, reserved: str, place: str
) -> None:
    (chunk,) = hostile_chunks(count=1)
    stamp = (
        {**chunk.stamp, "owner": reserved}
        if place == "field"
        else {**chunk.stamp, "teams": [reserved]}
        if place == "list"
        else chunk.stamp
    )
    await chroma.create(STORE, dimensions=DIMENSIONS)

    with pytest.raises(VectorStoreUnavailable) as failure:
        await chroma.add(
            STORE,
            [
                Chunk(
                    chunk.id,
                    chunk.file_id,
                    0,
                    "",
                    chunk.vector,
                    stamp,
                    {"x": reserved} if place == "attribute" else {},
                )
            ],
        )

    assert "cannot be stored exactly" in failure.value.detail


async def test_stores_of_one_directory_share_no_keys(chroma: ChromaVectorStore) -> None:
    """What a search costs would otherwise depend on the rows of other tenants' stores."""
    chunks = hostile_chunks()
    for store in ("vs_one", "vs_two"):
        await chroma.create(StoreId(store), dimensions=DIMENSIONS)
        await chroma.add(StoreId(store), chunks)

    first, second = [_keys(chroma, StoreId(store)) for store in ("vs_one", "vs_two")]

    assert len(first) == len(second) > 10
    assert first.isdisjoint(second)


def _keys(chroma: ChromaVectorStore, store: StoreId) -> set[str]:
    with chroma._collection(store) as collection:
        return {key for metadata in collection.get(include=["metadatas"])["metadatas"] for key in metadata}


# ---------------------------------------------------------------- a tenant that holds little

EVERY, NEVER = 1, 1_000_000


@pytest.mark.parametrize("one_in", [EVERY, NEVER])
async def test_filters_of_a_tenant_find_what_they_mean_whether_it_holds_few_chunks_or_many(
    tmp_path: Path, one_in: int
) -> None:
    chunks = [*hostile_chunks(), *hostile_chunks(tenant="globex")]
    guard = Compare("eq", ("tenant",), "acme")
    answered = 0
    async with ChromaVectorStore(tmp_path, SCHEMA, one_in=one_in) as store:
        await filled(store, chunks)
        for atom in list(atoms())[::7]:
            for expression in (all_of([guard, atom]), all_of([guard, negate(atom)])):
                try:
                    found = await store.search(STORE, Query(QUERY, limit=1_000), plan=plan_of(expression))
                except FilterNotExpressible:
                    assert exemption(atom) is not None
                    continue
                wanted = {
                    one.id for one in chunks if holds(expression, {**one.stamp, "attributes": one.attributes})
                }
                answered += 1

                assert {candidate.id for candidate in found.candidates} == wanted, expression
                assert found.permitted == len(wanted)
    assert answered > 100


async def test_order_and_scores_are_the_same_whether_a_tenant_holds_few_chunks_or_many(
    tmp_path: Path,
) -> None:
    plan = Matching(all_of([Compare("eq", ("tenant",), "acme"), Compare("eq", ("legal_hold",), value=False)]))
    async with (
        ChromaVectorStore(tmp_path / "few", SCHEMA, one_in=EVERY) as few,
        ChromaVectorStore(tmp_path, SCHEMA, one_in=NEVER) as many,
    ):
        for store in (few, many):
            await filled(store, [*hostile_chunks(count=200), *hostile_chunks(tenant="globex")])
        found, wanted = [await store.search(STORE, Query(QUERY, limit=7), plan=plan) for store in (few, many)]

    assert found == wanted
    assert len(found.candidates) == 7


async def test_chunks_of_a_tenant_stamped_under_other_required_fields_are_not_seen_however_few(
    tmp_path: Path,
) -> None:
    wider = RowSchema(
        "conformance", {**SCHEMA.fields, "embargo": FieldSpec("embargo", "number", required=True)}
    )
    async with ChromaVectorStore(tmp_path, SCHEMA) as store:
        await filled(store, hostile_chunks())

    async with ChromaVectorStore(tmp_path, wider, one_in=EVERY) as store:
        found = await store.search(
            STORE, Query(QUERY, limit=100), plan=Matching(Compare("eq", ("tenant",), "acme"))
        )

    assert (found.candidates, found.total) == ((), 60)
