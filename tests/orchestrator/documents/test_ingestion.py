"""Ingestion with workers that die, hang and race: a file is found whole or not at all, and what is
given up is given up with a reason.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection
from pathlib import Path

import pytest
from tests.orchestrator.documents.ingest_world import (
    ANN,
    EVE,
    FILE,
    VS,
    Clock,
    World,
    opened,
    stamp_of,
    working,
)
from tests.patience import until

from regate_adapters.state.documents.leases import LeaseState
from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.documents.ingestion import MAX_ATTEMPTS, WORKERS, Pace
from regate_orchestrator.errors import EmbeddingsUnavailable, InvalidRequest, StateUnavailable, TextTooLong
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.metrics import Counter, Histogram, Metrics
from regate_orchestrator.ports import Query, UnreadableFile
from regate_orchestrator.rows import Attachment, FileBatch, Totals
from regate_orchestrator.values import BatchId


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as made:
        yield made


async def test_a_file_is_found_when_it_is_completed(world: World) -> None:
    world.reader.chunked["file-1.txt"] = [str(angle) for angle in range(150)]
    await world.attach()
    async with working(world.ingestion()):
        await world.until("completed")
    row = await world.state.attachments.get(ANN, VS, FILE)
    assert row is not None

    assert (row.chunks, row.usage_bytes) == (150, sum(len(str(angle)) + 8 for angle in range(150)))
    assert await world.live() == [f"{row.generation}/{index:06d}" for index in range(150)]


async def test_nothing_of_a_file_is_found_before_it_is_whole(world: World) -> None:
    world.reader.chunked["file-1.txt"] = [str(angle) for angle in range(150)]
    seen: list[list[str]] = []

    async def look(call: str) -> None:
        seen.append(await world.live())

    world.engine.before = look
    await world.attach()
    async with working(world.ingestion()):
        await world.until("completed")

    assert seen == [[], [], []]
    assert len(await world.live()) == 150


async def test_work_begins_as_soon_as_there_is_some(world: World) -> None:
    ingestion = world.ingestion(pace=Pace(poll_s=600))
    async with working(ingestion):
        await asyncio.sleep(0)
        await world.attach()
        ingestion.wake()
        await world.until("completed")

    assert len(await world.live()) == 2


async def test_what_a_killed_process_left_is_taken_up_by_the_next(world: World) -> None:
    await world.attach()
    dead = await world.state.leases.take(ttl_s=3_600, after="")
    assert dead is not None
    await world.engine.add(VS, [])
    resumed = world.ingestion()
    count = await resumed.resume()
    async with working(resumed):
        await world.until("completed")

    assert (count, len(await world.live())) == (1, 2)


async def test_a_worker_whose_claim_lapsed_changes_nothing_any_more(world: World) -> None:
    async def loser_removed_what_it_wrote() -> bool:
        return len(await world.in_engine()) == 2

    world.reader.gate.clear()
    await world.attach()
    async with working(world.ingestion(pace=Pace(lease_s=60, renew_s=600, poll_s=0.01))):
        await world.reader.began.acquire()
        world.clock.time += 61  # as when the first had been stopped for a minute
        async with working(world.ingestion()):
            await world.reader.began.acquire()
            world.reader.gate.set()
            await world.until("completed")
            await until(loser_removed_what_it_wrote)

    assert await world.live() == await world.in_engine()


@pytest.mark.parametrize("end", ["detached", "file deleted", "store deleted", "cancelled"])
async def test_a_file_that_is_taken_away_while_it_is_read_leaves_nothing(world: World, end: str) -> None:
    world.reader.gate.clear()
    await world.attach(batch_id="vsfb_1")
    async with working(world.ingestion(pace=Pace(renew_s=600, poll_s=0.01))):
        await world.reader.began.acquire()
        row = await world.state.attachments.get(ANN, VS, FILE)
        assert row is not None
        match end:
            case "detached":
                await world.state.attachments.delete(ANN, VS, FILE)
            case "file deleted":
                await world.state.files.delete(ANN, FILE)
            case "store deleted":
                await world.state.vector_stores.delete(ANN, VS)
            case _:
                assert await world.state.file_batches.cancel(
                    FileBatch(BatchId("vsfb_1"), row.store_id, 0, "acme", "ann")
                )
        world.reader.gate.set()
        async with asyncio.timeout(120):
            while not await world.state.orphaned_chunks.unknown_generations(
                VS, [row.generation]
            ):  # the worker has removed what it wrote, and said so
                await asyncio.sleep(0.005)

    assert (await world.in_engine(), await world.status()) == (
        [],
        "cancelled" if end == "cancelled" else "gone",
    )


async def test_work_on_what_is_no_longer_wanted_ends_before_it_is_done(world: World) -> None:
    world.reader.gate.clear()
    await world.attach()
    async with working(world.ingestion()):
        await world.reader.began.acquire()
        await world.state.attachments.delete(ANN, VS, FILE)
        await world.attach("file-2")
        await (
            world.reader.began.acquire()
        )  # the worker has turned to the next, though the gate was never opened
        world.reader.gate.set()
        await world.until("completed", "file-2")

    assert len(await world.live()) == 2


async def test_attached_again_in_the_middle_only_the_later_counts(world: World) -> None:
    world.reader.gate.clear()
    await world.attach()
    async with working(world.ingestion(), world.ingestion()):
        await world.reader.began.acquire()
        await world.state.attachments.delete(ANN, VS, FILE)
        await world.attach()
        await world.reader.began.acquire()
        world.reader.gate.set()
        await world.until("completed")
        async with asyncio.timeout(120):
            while len(await world.in_engine()) != 2:
                await asyncio.sleep(0.005)

    assert await world.live() == await world.in_engine()


# ---------------------------------------------------------------- failures


async def test_an_unreadable_file_fails_at_once_with_its_reason(world: World) -> None:
    world.reader.failing = [UnreadableFile("unsupported_file", "No text in here.")]
    await world.attach()
    async with working(world.ingestion()):
        await world.until("failed")
    row = await world.state.attachments.get(ANN, VS, FILE)

    assert row is not None
    assert (row.attempts, row.error_code, row.error_message) == (1, "unsupported_file", "No text in here.")


async def test_chunk_that_the_embedding_model_does_not_take_fails_at_once_with_what_to_change(
    world: World,
) -> None:
    world.reader.failing = [TextTooLong(512)]
    await world.attach()
    async with working(world.ingestion()):
        await world.until("failed")
    row = await world.state.attachments.get(ANN, VS, FILE)

    assert row is not None
    assert (row.attempts, row.error_code) == (1, "invalid_file")
    assert [words in str(row.error_message) for words in ("512 tokens", f"below {row.max_chunk_tokens}")] == [
        True,
        True,
    ]


async def test_what_failed_for_want_of_a_dependency_is_tried_again(world: World) -> None:
    world.reader.failing = [EmbeddingsUnavailable("down"), ZeroDivisionError()]
    await world.attach()
    async with working(world.ingestion()):
        await world.until("completed")
    row = await world.state.attachments.get(ANN, VS, FILE)

    assert row is not None
    assert row.attempts == 3


async def test_how_long_a_file_waited_and_what_came_of_it_is_counted(world: World) -> None:
    world.reader.failing = [EmbeddingsUnavailable("down")]
    await world.attach()
    world.clock.time += 200
    metrics = Metrics()
    ingestion = world.ingestion(metrics=metrics)
    waits, outcomes = metrics.all["regate_ingest_wait_seconds"], metrics.all["regate_ingest"]
    assert isinstance(waits.numbers, Histogram)
    assert isinstance(outcomes.numbers, Counter)
    counts = outcomes.numbers.values
    async with working(ingestion):
        await until(lambda: counts[("completed",)])  # a file is shown as completed a moment before it counts

    assert waits.numbers.values[()].buckets()[3:5] == [("60.0", 0), ("300.0", 1)]
    assert counts == {("completed",): 1, ("failed",): 0, ("repeated",): 1, ("given_up",): 0}


async def test_what_fails_again_and_again_is_given_up(world: World) -> None:
    world.reader.failing = [EmbeddingsUnavailable("down") for _ in range(MAX_ATTEMPTS)]
    await world.attach()
    async with working(world.ingestion()):
        await world.until("failed")
    row = await world.state.attachments.get(ANN, VS, FILE)

    assert row is not None
    assert (row.attempts, row.error_code) == (MAX_ATTEMPTS, "server_error")
    assert (world.reader.failing, await world.in_engine()) == ([], [])


async def test_what_cannot_succeed_is_not_tried_again(world: World) -> None:
    world.reader.failing = [InvalidRequest("no such model")]
    await world.attach()
    async with working(world.ingestion()):
        await world.until("failed")

    assert world.reader.failing == []


async def test_a_file_at_which_workers_die_is_given_up(world: World) -> None:
    await world.attach()
    for _ in range(MAX_ATTEMPTS):  # each claim's worker was killed
        assert await world.state.leases.take(ttl_s=60, after="") is not None
        await world.state.leases.release_all()
    async with working(world.ingestion()):
        await world.until("failed")
    row = await world.state.attachments.get(ANN, VS, FILE)

    assert row is not None
    assert (row.error_code, row.error_message) == (
        "server_error",
        "The file could not be processed: 3 attempts were broken off.",
    )


async def test_chunks_written_before_a_failure_are_removed_and_not_logged(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    world.reader.chunked["file-1.txt"] = [str(angle) for angle in range(100)] + ["no angle"]
    await world.attach()
    async with working(world.ingestion()):
        await world.until("failed")

    assert await world.in_engine() == []
    assert "no angle" not in caplog.text


async def test_chunks_that_cannot_be_removed_are_left_over(world: World) -> None:
    world.reader.chunked["file-1.txt"] = [str(angle) for angle in range(100)] + ["no angle"]
    world.engine.broken = {"remove"}
    await world.attach()
    async with working(world.ingestion()):
        await world.until("failed")
    written = await world.in_engine()
    world.clock.time += 1_000
    taken = await world.state.orphaned_chunks.take(limit=10)

    assert len(written) == 64 * MAX_ATTEMPTS
    assert {name.rpartition("/")[0] for name in written} == {chunks.generation for chunks in taken}


async def test_ending_the_process_is_no_fault_of_the_file(world: World) -> None:
    world.reader.gate.clear()
    await world.attach()
    for _ in range(MAX_ATTEMPTS + 2):
        async with working(world.ingestion()):
            await world.reader.began.acquire()
    world.reader.gate.set()
    async with working(world.ingestion()):
        await world.until("completed")
    row = await world.state.attachments.get(ANN, VS, FILE)

    assert row is not None
    assert row.attempts == 1


class Faltering(LeaseState):
    """Leases that do not answer the first workers that ask for work."""

    failing = 3

    async def take(self, *, ttl_s: int, after: str, passing_over: Collection[str] = ()) -> Attachment | None:
        if self.failing:
            self.failing -= 1
            raise StateUnavailable("down")
        return await super().take(ttl_s=ttl_s, after=after, passing_over=passing_over)


async def test_a_state_store_that_fails_for_a_while_ends_no_worker(tmp_path: Path) -> None:
    async with SqlStateStore.open(f"sqlite:///{tmp_path / 'state.db'}") as state:
        state.leases = leases = Faltering(state._database)
        world = World(state, Clock())
        await world.make()
        await world.attach()
        async with working(world.ingestion()):
            await world.until("completed")

    assert leases.failing == 0


# ---------------------------------------------------------------- many


async def test_a_tenant_with_many_files_does_not_keep_another_waiting(world: World) -> None:
    for number in range(20):
        await world.attach(f"file-a{number:02d}")
    await world.attach("file-z", who=EVE)
    async with working(world.ingestion()):
        await world.until("completed", "file-z", who=EVE)
        done = (await world.state.attachments.totals(ANN, [VS]))[VS].completed

    assert done <= 3


async def test_progress_shows_in_the_counts(world: World) -> None:
    for number in range(4):
        await world.attach(f"file-{number}")
    world.reader.failing = [UnreadableFile("invalid_file", "no text")]
    before = (await world.state.attachments.totals(ANN, [VS]))[VS]
    async with working(world.ingestion(), world.ingestion(), world.ingestion()), asyncio.timeout(120):
        while (after := (await world.state.attachments.totals(ANN, [VS]))[VS]).in_progress:
            await asyncio.sleep(0.005)

    assert before == Totals(in_progress=4)
    assert (after.completed, after.failed) == (3, 1)


async def test_chunks_carry_the_stamp_and_attributes_of_their_attachment(world: World) -> None:
    await world.attach()
    async with working(world.ingestion()):
        await world.until("completed")
    found = await world.engine.search(VS, Query((1.0, 0.0), limit=10), plan=Everything())
    assert [candidate.stamp for candidate in found.candidates] == [stamp_of(ANN)] * 2


async def test_files_of_a_tenant_that_take_for_ever_keep_no_other_tenant_waiting(world: World) -> None:
    world.reader.gate.clear()
    for number in range(9):
        await world.attach(f"file-{number}")
    ingestion = world.ingestion()
    async with working(*[ingestion] * WORKERS):
        for _ in range(WORKERS // 2):
            await world.reader.began.acquire()
        for number in range(10, 19):
            await world.attach(f"file-{number}", who=EVE)
        await world.reader.began.acquire()
        reading = list(world.reader.reading)

    assert [int(name.removeprefix("file-").removesuffix(".txt")) // 10 for name in reading] == [0] * (
        WORKERS // 2
    ) + [1]
