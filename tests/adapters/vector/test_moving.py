"""A store moves between real engines with all that counts, and nothing is lost or found twice whenever it is
broken off.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.vector.marked_memory import MemoryEngine
from tests.orchestrator.documents.ingest_world import EVE, SCHEMA, VS, World, opened, stamp_of, working
from tests.orchestrator.scripted import ANN
from tests.postgres import VERSIONS, Postgres

from regate_adapters.vector.chroma.store import ChromaVectorStore
from regate_adapters.vector.local.store import local_store
from regate_adapters.vector.marked.store import MarkedVectorStore
from regate_adapters.vector.memory.store import MemoryVectorStore
from regate_adapters.vector.pgvector.store import PgVectorStore
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Chunk, Query, VectorStore
from regate_orchestrator.retrieval.moving import MoveRefused, StoreMover
from regate_orchestrator.values import FileId, StoreId

FILES = [f"file-{number}" for number in range(1, 6)]


class Moving:
    """A store in the engine `main` that holds files of two tenants, and another engine."""

    def __init__(self, world: World, source: VectorStore, target: VectorStore) -> None:
        self.world, self.source, self.target = world, source, target
        self.told: list[tuple[int, int]] = []

    @property
    def mover(self) -> StoreMover:
        engines = {"main": self.source, "other": self.target}
        return StoreMover(self.world.state.vector_stores, engines, lambda *said: self.told.append(said))

    async def fill(self) -> None:
        self.world.engine = self.source  # type: ignore[assignment] # where the workers write
        await self.source.create(VS, dimensions=2)
        owners = {name: EVE if name == FILES[-1] else ANN for name in FILES}
        for number, (name, who) in enumerate(owners.items()):
            self.world.reader.chunked[f"{name}.txt"] = [
                f"{20 * number + place}" for place in range(3 * number + 1)
            ]
            await self.world.attach(name, who=who)
        async with working(self.world.ingestion()):
            for name, who in owners.items():
                await self.world.until("completed", name, who=who)

    async def engine(self) -> str | None:
        return await self.world.state.vector_stores.engine_of(VS)

    async def stray(self, engine: VectorStore) -> None:
        """Put a chunk into the engine that counts no more."""
        lost = Chunk("acme/file-9/lost/000000", FileId("file-9"), 0, "", (1.0, 0.0), stamp_of(ANN), {})
        await engine.add(VS, [lost])


async def texts(engine: VectorStore) -> list[str]:
    """The texts of all chunks that a search finds, each as often as it is found."""
    found = await engine.search(VS, Query((1.0, 0.0), limit=1_000), plan=Everything())
    return sorted(candidate.text for candidate in found.candidates)


async def is_absent(engine: VectorStore) -> bool:
    try:
        await texts(engine)
    except VectorStoreUnavailable:
        return True
    return False


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as found:
        yield found


@pytest.fixture(
    params=[
        "local-chroma",
        "chroma-local",
        "memory-local",
        "local-marked",
        "local-pgvector",
        "pgvector-memory",
    ]
)
async def moving(request: pytest.FixtureRequest, world: World, tmp_path: Path) -> AsyncIterator[Moving]:
    async with AsyncExitStack() as stack:

        async def made(kind: str, side: str) -> VectorStore:
            match kind:
                case "local":
                    return await stack.enter_async_context(local_store(tmp_path / side / "local", SCHEMA))
                case "chroma":
                    return await stack.enter_async_context(ChromaVectorStore(tmp_path / "chroma", SCHEMA))
                case "marked":
                    return MarkedVectorStore(MemoryEngine(), SCHEMA, shared=False)
                case "pgvector":
                    server: Postgres = request.getfixturevalue("postgres_of_version")(max(VERSIONS))
                    url = server.url(stack.enter_context(server.database()))
                    return await stack.enter_async_context(PgVectorStore(url, SCHEMA))
                case _:
                    return MemoryVectorStore(SCHEMA)

        source, target = request.param.split("-")
        found = Moving(world, await made(source, "source"), await made(target, "target"))
        await found.fill()
        yield found


async def test_a_store_moves_with_all_that_counts_and_leaves_nothing(moving: Moving) -> None:
    before = await texts(moving.source)
    await moving.stray(moving.source)
    moved = await moving.mover.move(VS, "other")

    assert (len(before), moved.chunks, moved.written) == (35, 35, 35)
    assert moved.compared == 40  # two plans for each of twenty chunks
    assert (await moving.engine(), await texts(moving.target)) == ("other", before)
    assert await is_absent(moving.source)
    assert moving.told[-1] == (35, 35)
    again = await moving.mover.move(VS, "other")
    assert (again.was_there, await texts(moving.target)) == (True, before)
    assert await is_absent(moving.source)


@pytest.mark.parametrize("moving", ["local-local", "local-pgvector", "pgvector-local"], indirect=True)
async def test_what_was_written_around_chunks_is_found_by_its_words_where_they_went(moving: Moving) -> None:
    place, stamp = StoreId("vs_around"), stamp_of(ANN)
    chunk = Chunk(
        "acme/file-7/first/000000", FileId("file-7"), 0, "30 days", (1.0, 0.0), stamp, {}, context="Leave"
    )
    for engine in (moving.source, moving.target):
        await engine.create(place, dimensions=2)
    await moving.source.add(place, [chunk])
    async for page in moving.source.chunks(place):
        await moving.target.add(place, page)

    for query in ("leave", "days"):
        wanted = Query((1.0, 0.0), limit=5, text=query, mode="keyword")
        before, after = [
            await engine.search(place, wanted, plan=Everything()) for engine in (moving.source, moving.target)
        ]
        assert (before, [one.text for one in after.candidates]) == (after, ["30 days"])


@pytest.fixture
async def plain(world: World) -> Moving:
    found = Moving(world, MemoryVectorStore(SCHEMA), Breaking(SCHEMA))
    await found.fill()
    return found


class Broken(Exception):
    """The process ends here."""


class Breaking(MemoryVectorStore):
    """An engine before which the process ends, at a call that the test names."""

    def __init__(self, schema: Any) -> None:
        super().__init__(schema)
        self.breaks_at: int | None = None
        self.calls = 0

    def _count(self) -> None:
        self.calls += 1
        if self.calls == self.breaks_at:
            raise Broken

    async def create(self, store: StoreId, *, dimensions: int) -> None:
        self._count()
        await super().create(store, dimensions=dimensions)

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        for chunk in chunks:  # one after the other, as an engine without transactions
            self._count()
            await super().add(store, [chunk])

    async def drop(self, store: StoreId) -> None:
        self._count()
        await super().drop(store)


async def test_a_move_that_is_broken_off_anywhere_goes_on(plain: Moving) -> None:
    target = plain.target
    assert isinstance(target, Breaking)
    before, broken = await texts(plain.source), 0
    while await plain.engine() == "main":
        target.breaks_at, target.calls = broken + 1, 0
        try:
            await plain.mover.move(VS, "other")
        except Broken:
            broken += 1
            assert (await plain.engine(), await texts(plain.source)) == ("main", before)

    assert broken > 10
    assert (await texts(target), await is_absent(plain.source)) == (before, True)


async def test_generations_that_are_there_whole_are_not_written_again(plain: Moving) -> None:
    target = plain.target
    assert isinstance(target, Breaking)
    target.breaks_at = 3 + 1 + 4 + 3  # the places; all of two files, and a part of the third
    with pytest.raises(Broken):
        await plain.mover.move(VS, "other")
    target.breaks_at = None
    there = len(await texts(target))

    moved = await plain.mover.move(VS, "other")

    assert (0 < there < 35, 0 < moved.written < 35) == (True, True)
    assert len(await texts(target)) == 35


async def test_what_broke_off_after_the_switch_is_cleared_away_by_the_same_call(plain: Moving) -> None:
    before = await texts(plain.source)
    contents = await plain.world.state.vector_stores.contents(VS)
    assert contents is not None
    await plain.mover.move(VS, "other")
    await plain.source.create(VS, dimensions=2)
    await plain.stray(plain.source)

    moved = await plain.mover.move(VS, "other")

    assert (moved.was_there, await is_absent(plain.source)) == (True, True)
    assert await texts(plain.target) == before


async def test_a_move_that_is_given_up_leaves_nothing_at_the_target(plain: Moving) -> None:
    target, before = plain.target, await texts(plain.source)
    assert isinstance(target, Breaking)
    target.breaks_at = 3 + 1 + 4  # the places, and a part of the files
    with pytest.raises(Broken):
        await plain.mover.move(VS, "other")
    target.breaks_at = None
    there = len(await texts(target))

    moved = await plain.mover.move(VS, "main")

    assert (there > 0, moved.was_there, await is_absent(target)) == (True, True, True)
    assert (await plain.engine(), await texts(plain.source)) == ("main", before)


async def test_a_store_with_files_in_progress_stays(plain: Moving) -> None:
    await plain.world.attach("file-77")
    with pytest.raises(MoveRefused, match="1 files of vs_1 are in progress"):
        await plain.mover.move(VS, "other")

    assert (await plain.engine(), await is_absent(plain.target)) == ("main", True)


class Meddling(MemoryVectorStore):
    """An engine in which a file is detached while it is written to, as by a gateway that runs."""

    world: World

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        await super().add(store, chunks)
        await self.world.state.attachments.delete(ANN, VS, FileId(FILES[0]))


async def test_a_store_that_is_changed_meanwhile_stays(plain: Moving) -> None:
    before = await texts(plain.source)
    meddling = Meddling(SCHEMA)
    meddling.world, plain.target = plain.world, meddling
    with pytest.raises(MoveRefused, match="was changed meanwhile"):
        await plain.mover.move(VS, "other")

    assert (await plain.engine(), await texts(plain.source)) == ("main", before)


class Losing(MemoryVectorStore):
    """An engine that loses a chunk."""

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        await super().add(store, chunks[1:])


class Confusing(MemoryVectorStore):
    """An engine that writes down another tenant than it was told."""

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        await super().add(store, [replace(one, stamp={**one.stamp, "tenant": "globex"}) for one in chunks])


@pytest.mark.parametrize(
    ("engine", "said"),
    [(Losing, "of 1 chunks can be read from the engine other"), (Confusing, "does not find the same")],
)
async def test_a_target_that_does_not_keep_what_it_is_given_is_noticed(
    plain: Moving, engine: type[MemoryVectorStore], said: str
) -> None:
    before = await texts(plain.source)
    plain.target = engine(SCHEMA)
    with pytest.raises(MoveRefused, match=said):
        await plain.mover.move(VS, "other")

    assert (await plain.engine(), await texts(plain.source)) == ("main", before)


async def test_two_names_of_one_place_are_noticed_before_anything_is_dropped(plain: Moving) -> None:
    before = await texts(plain.source)
    plain.target = plain.source
    with pytest.raises(MoveRefused, match="'main' and 'other' are one place under two names"):
        await plain.mover.move(VS, "other")

    assert (await plain.engine(), await texts(plain.source)) == ("main", before)


@pytest.mark.parametrize(
    ("store", "engine", "said"),
    [("vs_2", "other", "there is no vector store vs_2"), (VS, "third", "'third' is not among")],
)
async def test_what_is_not_there_is_refused(plain: Moving, store: str, engine: str, said: str) -> None:
    with pytest.raises(MoveRefused, match=said):
        await plain.mover.move(StoreId(store), engine)
