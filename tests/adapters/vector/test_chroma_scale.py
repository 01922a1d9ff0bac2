"""More stores than embedded Chroma can keep open: all are found, again and again, and as few are open
as were meant to be.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import chromadb
import pytest
from tests.adapters.vector.many_stores import chunks_of, fault, fill, names

from regate_adapters.testing.vector.suite import DIMENSIONS, SCHEMA, hostile_chunks
from regate_adapters.vector.chroma.collection import DIMENSIONS as DIMENSIONS_KEY
from regate_adapters.vector.chroma.layout import ChromaLayout
from regate_adapters.vector.chroma.place import Directory, _add_indexes, quiet_settings
from regate_adapters.vector.chroma.store import ChromaVectorStore
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Query
from regate_orchestrator.values import StoreId

FILES, STORES = 160, 45
"""Chroma's own bound would be a fifth: 32 indexes, in 64 parts."""


class Small(Directory):
    """A directory with room for three stores."""

    most_open = 3


def open_indexes(folder: Path) -> int:
    """Return of how many collections below the folder files are open in this process."""
    opened = set()
    for descriptor in Path("/proc/self/fd").iterdir():
        try:
            target = descriptor.readlink()
        except OSError:  # the descriptor of this very listing
            continue
        if target.suffix == ".bin" and target.is_relative_to(folder):
            opened.add(target.parent)
    return len(opened)


async def test_more_stores_than_may_be_open_are_searched_twice_and_after_a_restart(tmp_path: Path) -> None:
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.adapters.vector.many_stores", str(tmp_path), str(FILES), str(STORES)),
        env={
            "PYTHONPATH": ":".join(str(Path(entry or ".").resolve()) for entry in sys.path),
            "HOME": str(tmp_path),
        },
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await program.communicate()

    assert json.loads(said) == {"searches": 4 * STORES, "faults": []}


async def test_stores_that_an_earlier_version_made_are_searched_as_well(tmp_path: Path) -> None:
    client, layout = (
        chromadb.PersistentClient(str(tmp_path), settings=quiet_settings()),
        ChromaLayout.of(SCHEMA),
    )
    for name in names(5):
        old = client.create_collection(
            name,
            embedding_function=None,
            metadata={DIMENSIONS_KEY: DIMENSIONS},
            configuration={"hnsw": {"space": "cosine"}},
        )
        chunks = chunks_of(name)
        old.add(
            ids=[chunk.id for chunk in chunks],
            embeddings=[list(chunk.vector) for chunk in chunks],
            documents=[chunk.text for chunk in chunks],
            metadatas=[layout.at(name).metadata(chunk) for chunk in chunks],
        )
    client.close()

    async with ChromaVectorStore(Small(tmp_path), SCHEMA) as store:
        faults = [await fault(store, name) for _ in range(3) for name in names(5)]

    assert faults == [None] * 15


async def test_searches_and_writes_of_many_stores_at_once_keep_few_of_them_open(tmp_path: Path) -> None:
    wanted, most, faults = names(8), 0, []
    async with ChromaVectorStore(Small(tmp_path), SCHEMA) as store:
        for name in wanted:
            await fill(store, name)

        async def search(start: int) -> None:
            nonlocal most
            for number in range(3 * len(wanted)):
                faults.append(await fault(store, wanted[(start + number) % len(wanted)]))
                most = max(most, open_indexes(tmp_path))

        async def write(name: StoreId) -> None:
            for _ in range(4):
                await store.add(name, chunks_of(name))

        async with asyncio.TaskGroup() as tasks:
            for start in (0, 3):
                tasks.create_task(search(start))
            for name in names(13)[8:]:
                await store.create(name, dimensions=DIMENSIONS)
                tasks.create_task(write(name))
        faults += [await fault(store, name) for name in names(13)]

    assert faults == [None] * len(faults)
    assert 0 < most <= Small.most_open


async def test_what_was_written_last_is_found_when_the_store_was_closed_meanwhile(tmp_path: Path) -> None:
    """Chroma stores an index after so many changes; what is newer is in its log alone."""
    first, *others = names(6)
    async with ChromaVectorStore(Small(tmp_path), SCHEMA) as store:
        await store.create(first, dimensions=DIMENSIONS)
        await store.add(first, hostile_chunks(count=250))
        await store.add(first, chunks_of(first))
        for name in others:
            await fill(store, name)
        found = await store.search(
            first, Query(hostile_chunks(count=1)[0].vector, limit=1_000), plan=Everything()
        )

    assert len(found.candidates) == 253


async def test_housekeeping_leaves_nothing_open_that_nobody_else_uses(tmp_path: Path) -> None:
    async with ChromaVectorStore(tmp_path, SCHEMA) as store:
        for name in names(3):
            await fill(store, name)
    async with ChromaVectorStore(tmp_path, SCHEMA) as store:
        looked = [len(await store.generations(name)) for name in names(3)]
        idle = open_indexes(tmp_path)
        await fault(store, names(1)[0])
        await store.generations(names(2)[1])
        used = open_indexes(tmp_path)

    assert (looked, idle, used) == ([1, 1, 1], 0, 2)


@pytest.mark.parametrize(("files", "most"), [(-1, 64), (1_048_576, 64), (1_024, 64), (256, 16), (8, 1)])
def test_a_quarter_of_the_files_that_may_be_open_are_for_indexes(
    files: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("resource.getrlimit", lambda _: (files, files))

    assert Directory(Path("unused")).most_open == most


OPENING = {
    "segments": "SELECT id, type, scope FROM segments WHERE collection = 'a'",
    "embeddings_queue": "SELECT vector FROM embeddings_queue WHERE topic = 'a' AND seq_id > 0",
}
"""What Chroma asks its database each time it opens a collection."""


def plans(folder: Path) -> dict[str, list[str]]:
    """Return how the database goes about each of them."""
    with closing(sqlite3.connect(folder / "chroma.sqlite3")) as database:
        return {
            table: [step for *_, step in database.execute(f"EXPLAIN QUERY PLAN {statement}")]
            for table, statement in OPENING.items()
        }


async def test_opening_a_store_reads_nothing_of_other_stores(tmp_path: Path) -> None:
    async with ChromaVectorStore(tmp_path, SCHEMA) as store:
        await fill(store, names(1)[0])

    assert plans(tmp_path) == {
        "segments": ["SEARCH segments USING INDEX regate_segments (collection=?)"],
        "embeddings_queue": ["SEARCH embeddings_queue USING INDEX regate_queue (topic=? AND seq_id>?)"],
    }


async def test_a_directory_that_is_there_gets_the_indexes_that_it_lacks(tmp_path: Path) -> None:
    name = names(1)[0]
    async with ChromaVectorStore(tmp_path, SCHEMA) as store:
        await fill(store, name)
    with closing(sqlite3.connect(tmp_path / "chroma.sqlite3")) as database:
        database.execute("DROP INDEX regate_segments")
        database.execute("DROP INDEX regate_queue")
    before = plans(tmp_path)
    async with ChromaVectorStore(tmp_path, SCHEMA) as store:
        wrong = await fault(store, name)

    assert "regate" not in str(before)
    assert wrong is None
    assert str(plans(tmp_path)).count("USING INDEX regate") == 2


def test_tables_that_chroma_has_no_more_are_logged_and_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    database = tmp_path / "chroma.sqlite3"
    database.touch()
    _add_indexes(database)

    assert [record.message for record in caplog.records] == ["chroma_index_missing"] * 2
