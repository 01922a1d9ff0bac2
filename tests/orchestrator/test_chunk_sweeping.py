"""The sweep of chunks that belong to nothing, over a real state store and a vector store that a test breaks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.orchestrator.test_sweeping import ANN, FILES, STORE, Clock, Scene

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.chunk_sweeping import ChunkSweep
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.rows import Attachment, LooseChunks

HOUR = 3_600
FILE = FILES[2]


@dataclass
class Place:
    scene: Scene
    sweep: ChunkSweep
    clock: Clock

    async def attach(self, status: str) -> None:
        stamp = {"tenant": "acme", "owner": "ann"}
        await self.scene.state.put_attachment(Attachment(STORE, FILE, 0, "in_progress", stamp, {}, {}, 800, 400, "r1", ANN.as_input()))
        if status != "in_progress":
            await self.scene.state.finish_attachment(STORE, FILE, status=status)

    async def chunks(self) -> list[str]:
        return (await self.scene.left())["chunks"]


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Place]:
    clock = Clock()
    async with SqlStateStore.open(f"sqlite:///{tmp_path / 'state.db'}", clock=clock) as state:
        scene = Scene(tmp_path, state)
        await scene.fill()
        yield Place(scene, ChunkSweep(state, scene.vectors), clock)


async def test_chunks_of_a_detached_file_are_swept_when_nobody_removed_them(place: Place) -> None:
    await place.scene.state.delete_attachment(ANN, STORE, FILE)
    swept = [await place.sweep.loose(), await place.sweep.loose()]
    assert (swept, await place.chunks()) == ([1, 0], FILES[:2])


async def test_chunks_of_a_deleted_file_are_swept(place: Place) -> None:
    await place.scene.state.delete_file(ANN, FILE)
    swept = [await place.sweep.loose(), await place.sweep.loose()]
    assert (swept, await place.chunks()) == ([1, 0], FILES[:2])


async def test_a_deleted_store_is_dropped_by_the_sweep(place: Place) -> None:
    await place.scene.state.delete_store(ANN, STORE)
    swept = [await place.sweep.loose(), await place.sweep.loose()]
    assert swept == [1, 0]
    with pytest.raises(VectorStoreUnavailable):
        await place.chunks()


async def test_what_was_being_ingested_is_swept_again_when_nobody_can_be_adding_to_it(place: Place) -> None:
    await place.attach("in_progress")
    await place.scene.state.delete_attachment(ANN, STORE, FILE)
    await place.sweep.remove(LooseChunks(STORE, FILE))
    early = await place.sweep.loose()
    place.clock.time += HOUR
    assert (early, await place.sweep.loose()) == (0, 1)


async def test_chunks_that_are_attached_again_are_not_swept(place: Place) -> None:
    await place.scene.state.delete_attachment(ANN, STORE, FILE)
    await place.attach("completed")
    assert (await place.sweep.loose(), await place.chunks()) == (0, FILES)


async def test_what_the_engine_does_not_let_go_is_tried_again_and_keeps_nothing_else(place: Place) -> None:
    place.scene.vectors.stuck = frozenset({FILES[1]})
    for file in FILES[1:]:
        await place.scene.state.delete_attachment(ANN, STORE, file)
    first = await place.sweep.loose()
    place.scene.vectors.stuck = frozenset()
    assert (first, await place.sweep.loose(), await place.chunks()) == (1, 1, FILES[:1])
