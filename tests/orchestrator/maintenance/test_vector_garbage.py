"""What is orphaned in vector engines goes, whatever failed before; what counts never does; and what
expires goes after a record of it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from tests.orchestrator.documents.ingest_world import EVE, FILE, VS, World, opened, stamp_of, working
from tests.orchestrator.scripted import ANN, Records

from regate_orchestrator.errors import AuditUnavailable, VectorStoreUnavailable
from regate_orchestrator.maintenance.vector_garbage import VectorGarbage
from regate_orchestrator.ports import Chunk
from regate_orchestrator.rows import OrphanedChunks, StoreChanges, StoreRow, Totals
from regate_orchestrator.values import FileId, StoreId

DAY = 86_400


class Swept(World):
    """A world with its collectors."""

    audit: Records
    garbage: VectorGarbage

    def begin(self) -> None:
        self.audit = Records()
        self.garbage = VectorGarbage(
            stores=self.state.vector_stores,
            orphaned_chunks=self.state.orphaned_chunks,
            vectors=self.engine,
            audit=self.audit,
            clock=self.clock,
        )

    async def completed(self, *names: str, who=ANN) -> None:  # type: ignore[no-untyped-def] — a principal
        for name in names:
            await self.attach(name, who=who)
        async with working(self.ingestion()):
            for name in names:
                await self.until("completed", name, who=who)

    async def stray(self, generation: str, file: FileId = FILE) -> None:
        """Put a chunk into the engine of which nobody has written down anything."""
        await self.engine.add(
            VS, [Chunk(f"{generation}/000000", file, 0, "stray", (1.0, 0.0), stamp_of(ANN), {})]
        )

    async def files_in_engine(self) -> set[str]:
        return {name.split("/")[1] for name in await self.in_engine()}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[Swept]:
    async with opened(tmp_path) as plain:
        made = Swept(plain.state, plain.clock)
        made.begin()
        await made.engine.create(VS, dimensions=2)
        yield made


# ---------------------------------------------------------------- orphaned chunks


async def test_chunks_of_detached_files_go_and_those_of_attached_ones_stay(world: Swept) -> None:
    await world.completed("file-1", "file-2")
    await world.state.attachments.delete(ANN, VS, FILE)

    assert (await world.garbage.orphaned(), await world.garbage.orphaned()) == (1, 0)
    assert await world.files_in_engine() == {"file-2"}


async def test_a_file_that_is_attached_again_keeps_its_new_chunks(world: Swept) -> None:
    await world.completed("file-1")
    await world.state.attachments.delete(ANN, VS, FILE)
    await world.completed("file-1")
    await world.garbage.orphaned()

    assert len(await world.in_engine()) == 2
    assert await world.live() == await world.in_engine()


async def test_an_engine_that_fails_keeps_its_orphaned_chunks_until_it_answers(world: Swept) -> None:
    await world.completed("file-1", "file-2")
    await world.state.files.delete(ANN, FILE)
    world.engine.broken = {"remove"}
    failed, waiting = await world.garbage.orphaned(), world.garbage.waiting
    world.engine.broken = set()
    too_early = await world.garbage.orphaned()
    world.clock.time += 60

    assert (failed, waiting, too_early, await world.garbage.orphaned()) == (0, 1, 0, 1)
    assert (world.garbage.waiting, await world.files_in_engine()) == (0, {"file-2"})


async def test_the_place_of_a_deleted_store_goes(world: Swept) -> None:
    await world.completed("file-1")
    await world.state.vector_stores.delete(ANN, VS)
    await world.garbage.orphaned()

    assert await world.engine.generations(VS) == frozenset()
    assert world.garbage.waiting == 0


async def test_all_chunks_of_a_file_go_where_an_earlier_version_knew_no_generations(world: Swept) -> None:
    await world.completed("file-2")
    await world.stray("acme/file-1")
    await world.state.orphaned_chunks.reserve(OrphanedChunks(VS, FILE, ""), ttl_s=0)

    assert await world.garbage.orphaned() == 1
    assert await world.files_in_engine() == {"file-2"}


async def test_what_a_dead_worker_wrote_goes(world: Swept) -> None:
    await world.attach()
    dead = await world.state.leases.take(ttl_s=60, after="")
    assert dead is not None
    await world.stray(dead.generation)
    await world.state.leases.release_all()
    await world.completed("file-2")
    world.clock.time += 300
    await world.garbage.orphaned()

    assert {name.rpartition("/")[0] for name in await world.in_engine()} == {
        name.rpartition("/")[0] for name in await world.live()
    }


# ---------------------------------------------------------------- unknown


async def test_chunks_that_nobody_knows_of_go_and_no_other(world: Swept) -> None:
    await world.completed("file-1")
    await world.attach("file-2")
    writing = await world.state.leases.take(ttl_s=60, after="")
    assert writing is not None
    await world.stray(writing.generation, FileId("file-2"))
    for generation in (
        "acme/file-1",
        "acme/file-1/0123",
        "acme/file-9/0123",
    ):  # as an old backup would bring them back
        await world.stray(generation, FileId(generation.split("/")[1]))

    assert await world.garbage.unknown() == 3
    assert {name.rpartition("/")[0] for name in await world.in_engine()} == {
        writing.generation,
        *(name.rpartition("/")[0] for name in await world.live()),
    }


async def test_stores_are_looked_through_one_at_a_time_and_the_round_begins_anew_after_an_hour(
    world: Swept,
) -> None:
    other = StoreId("vs_2")
    await world.state.vector_stores.add(
        StoreRow(other, "s", 0, 0, {}, stamp_of(ANN, shared=False), "compass-2", 2, "main")
    )
    await world.engine.create(other, dimensions=2)
    await world.engine.add(
        other, [Chunk("acme/file-9/0/000000", FileId("file-9"), 0, "stray", (1.0, 0.0), stamp_of(ANN), {})]
    )
    await world.stray("acme/file-9")
    rounds = [await world.garbage.unknown() for _ in range(4)]
    await world.stray("acme/file-9")
    resting = [await world.garbage.unknown() for _ in range(3)]
    world.clock.time += 3_600

    assert (rounds, resting, await world.garbage.unknown()) == ([1, 1, 0, 0], [0, 0, 0], 1)


async def test_an_engine_of_this_program_alone_is_looked_through_once_and_again_only_while_a_look_failed(
    world: Swept,
) -> None:
    looks: list[str] = []

    async def note(call: str) -> None:
        looks.append(call)

    world.engine.shared, world.engine.before, world.engine.broken = False, note, {"generations"}
    with pytest.raises(VectorStoreUnavailable):
        await world.garbage.unknown()
    world.engine.broken = set()
    for _ in range(
        4
    ):  # hours: the end of the round, the look that failed, the end of that round, and nothing more
        await world.garbage.unknown()
        world.clock.time += 3_600

    assert looks == ["generations"]


# ---------------------------------------------------------------- expiry


async def test_an_expired_store_is_emptied_for_its_tenant_after_a_record_of_it(world: Swept) -> None:
    await world.state.vector_stores.update(ANN, VS, StoreChanges(expires_after_days=1))
    await world.completed("file-1", "file-2")
    await world.completed("file-3", who=EVE)
    await world.state.vector_stores.touch(EVE, VS, at=2_000)
    world.clock.time = 1_000 + DAY

    assert (await world.garbage.expired(), await world.garbage.expired()) == (2, 0)
    assert world.audit.written == [{"kind": "sweep", "phase": "store.expire", "tenant": "acme", "about": VS}]
    assert (await world.garbage.orphaned(), await world.files_in_engine()) == (2, {"file-3"})
    assert len(await world.live(who=EVE)) == 2


async def test_what_cannot_be_recorded_is_not_done(world: Swept) -> None:
    await world.state.vector_stores.update(ANN, VS, StoreChanges(expires_after_days=1))
    await world.completed("file-1")
    world.audit.failing = AuditUnavailable("full")
    world.clock.time = 1_000 + DAY
    with pytest.raises(AuditUnavailable):
        await world.garbage.expired()
    await world.state.vector_stores.update(ANN, VS, StoreChanges(expires_after_days="never"))

    assert replace((await world.state.attachments.totals(ANN, [VS]))[VS], usage_bytes=0) == Totals(
        completed=1
    )
