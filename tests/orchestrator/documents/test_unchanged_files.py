"""A file that is attached again is read again where its chunks would be others. Else its chunks are stored
once more under the stamp of now.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update
from tests.orchestrator.documents.ingest_world import ANN, FILE, VS, World, opened, stamp_of, working
from tests.orchestrator.scripted import Compass

from regate_adapters.state.tables import attachments
from regate_orchestrator.documents.contexts import Contexts
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.metrics import Counter, Metrics
from regate_orchestrator.ports import Query, UnreadableFile, Vector, WrittenContext
from regate_orchestrator.rows import Attachment, Sections

NAME = "file-1.txt"


class LastLine(Compass):
    """Makes vectors of a text's last line, before which its context stands."""

    async def embed(self, texts: Sequence[str], *, tenant: str) -> list[Vector]:
        return await super().embed([text.split("\n")[-1] for text in texts], tenant=tenant)


class Writer:
    """A model that writes contexts, and answers at once."""

    model = "small"

    def __init__(self, name: str = "w") -> None:
        self.name = name

    async def write(self, document: str, passage: str) -> WrittenContext:
        return WrittenContext(f"About {passage}.")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as made:
        yield made


def contexts(world: World, name: str = "w", most_chunks: int = 100) -> Contexts:
    return Contexts(Writer(name), world.state, most_chunks=most_chunks, clock=world.clock)


async def ingested(world: World, *, status: str = "completed", **options: Any) -> Attachment:
    """Return the attachment as a worker left it."""
    async with working(world.ingestion(embedder=LastLine(), **options)):
        await world.until(status)
    row = await world.state.attachments.get(ANN, VS, FILE)
    assert row is not None
    return row


async def attached(world: World, **changes: Any) -> Attachment:
    """Attach and ingest the file."""
    await world.attach(**changes)
    return await ingested(world)


async def stamped(world: World) -> list[tuple[str, Any, dict[str, Any]]]:
    """Text, visibility and attributes of each chunk that counts."""
    live = set(await world.live())
    found = await world.engine.search(VS, Query((1.0, 0.0), limit=1_000), plan=Everything())
    return sorted(
        (one.text, one.stamp["visibility"], dict(one.attributes))
        for one in found.candidates
        if one.id in live
    )


async def restamp(world: World, **fields: Any) -> None:
    """Have the attachment, which waits for a worker, carry another stamp and other attributes."""
    async with world.state._database.maintenance.writing() as connection:
        await connection.execute(
            update(attachments).values(stamp=stamp_of(ANN, **fields), attributes={"size": 2})
        )


async def test_an_unchanged_file_is_stamped_anew_and_not_read(world: World) -> None:
    metrics = Metrics()
    first = await attached(world)
    await world.attach()
    await restamp(world, visibility="private")
    before = await world.live()
    second = await ingested(world, metrics=metrics)
    (gone,) = await world.state.orphaned_chunks.take(limit=10)
    counted = metrics.all["regate_ingest_unchanged"].numbers

    assert world.reader.reading == [NAME]
    assert before == []  # under the old stamp it is found no more, from the moment it is attached again
    assert await stamped(world) == [("1", "private", {"size": 2}), ("2", "private", {"size": 2})]
    assert (second.chunks, second.usage_bytes) == (first.chunks, first.usage_bytes)
    assert second.generation != first.generation == gone.generation
    assert isinstance(counted, Counter)
    assert counted.values == {(): 1}


async def test_it_may_be_attached_again_any_number_of_times(world: World) -> None:
    for _ in range(4):
        await attached(world)

    assert (world.reader.reading, len(await world.live())) == ([NAME], 2)


@pytest.mark.parametrize(
    "change",
    [
        {"max_chunk_tokens": 400},
        {"overlap_tokens": 100},
        {"sections": Sections("heading", 800)},
        {"sections": Sections("page", 800)},
    ],
    ids=str,
)
async def test_a_file_that_is_to_be_split_otherwise_is_read_again(
    world: World, change: dict[str, Any]
) -> None:
    await attached(world)
    row = await world.attach()
    async with world.state._database.maintenance.writing() as connection:
        sections = change.get("sections")
        columns = (
            {"section_kind": sections.kind, "section_tokens": sections.max_tokens} if sections else change
        )
        await connection.execute(update(attachments).values(columns))
    await ingested(world)

    assert (row.file_id, world.reader.reading) == (FILE, [NAME, NAME])
    assert len(await world.live()) == 2


async def test_a_file_is_read_again_by_a_version_that_reads_otherwise(world: World) -> None:
    await attached(world)
    world.reader.version = "2"
    world.reader.chunked[NAME] = ["4", "5", "6"]
    row = await attached(world)

    assert (world.reader.reading, row.chunks) == ([NAME, NAME], 3)
    assert [text for text, *_ in await stamped(world)] == ["4", "5", "6"]


@pytest.mark.parametrize(
    "now",
    [
        lambda world: None,
        lambda world: contexts(world, "other"),
        lambda world: contexts(world, most_chunks=1),
    ],
    ids=["none", "of another model", "of shorter files"],
)
async def test_a_file_whose_chunks_get_other_contexts_is_read_again(
    world: World, now: Callable[[World], Contexts | None]
) -> None:
    await world.attach()
    await ingested(world, contexts=contexts(world))
    await world.attach()
    await ingested(world, contexts=contexts(world))
    assert world.reader.reading == [NAME]
    await world.attach()
    await ingested(world, contexts=now(world))

    assert world.reader.reading == [NAME, NAME]


async def test_a_file_of_which_the_engine_lost_chunks_is_read_and_nothing_else_counts(world: World) -> None:
    world.reader.chunked[NAME] = ["1", "2", "3"]
    await attached(world)
    (lost, *_) = await world.in_engine()
    place = world.engine._place(VS)
    place.chunks = {name: chunk for name, chunk in place.chunks.items() if name != lost}
    world.reader.chunked[NAME] = ["7"]  # fewer than were copied before it showed
    row = await attached(world)

    assert (world.reader.reading, row.chunks) == ([NAME, NAME], 1)
    assert [text for text, *_ in await stamped(world)] == ["7"]


async def test_chunks_of_an_earlier_version_of_the_gateway_are_made_again_once(world: World) -> None:
    await attached(world)
    async with world.state._database.maintenance.writing() as connection:
        await connection.execute(update(attachments).values(made=None))
    for _ in range(2):
        await attached(world)

    assert world.reader.reading == [NAME, NAME]


async def test_a_file_that_failed_is_read_again(world: World) -> None:
    world.reader.failing = [UnreadableFile("invalid_file", "No.")]
    await world.attach()
    await ingested(world, status="failed")
    row = await attached(world)

    assert (world.reader.reading, row.chunks) == ([NAME, NAME], 2)


async def test_a_file_that_was_detached_is_read_again(world: World) -> None:
    await attached(world)
    await world.state.attachments.delete(ANN, VS, FILE)
    await attached(world)

    assert (world.reader.reading, len(await world.live())) == ([NAME, NAME], 2)


async def test_a_file_whose_chunks_could_not_be_stored_once_more_is_read(world: World) -> None:
    await attached(world)
    broken = iter([True, False])

    async def before(call: str) -> None:
        world.engine.broken = {"add"} if call == "remove" and next(broken, False) else set()

    world.engine.before = before
    row = await attached(world)

    assert (row.attempts, world.reader.reading) == (2, [NAME, NAME])
    assert len(await world.live()) == 2
