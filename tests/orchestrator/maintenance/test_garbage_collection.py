"""Collectors over a real state store, real storage and a real vector store, some of which a test breaks."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from regate_adapters.files.blobs.disk import DiskBlobStore
from regate_adapters.state.store import SqlStateStore
from regate_adapters.vector.memory.store import MemoryVectorStore
from regate_orchestrator.errors import StateUnavailable, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.maintenance.garbage_collection import FileGarbage, GarbageCollector
from regate_orchestrator.ports import Chunk, Query
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Attachment, FileRow, StoreRow
from regate_orchestrator.values import FileId, JsonObject, StoreId

ANN = Principal("ann", "acme")
VECTOR = (1.0, 0.0)
SCHEMA = RowSchema("chunk", {name: FieldSpec(name, "string", required=True) for name in ("tenant", "owner")})
STAMP = {"tenant": "acme", "owner": "ann"}
STORE = StoreId("vs_1")
FILES = [FileId(f"file-{number}") for number in "123"]


class Disk(DiskBlobStore):
    """A directory that does not let go of some files."""

    stuck: frozenset[FileId] = frozenset()

    async def delete(self, file: FileId) -> None:
        if file in self.stuck:
            raise StateUnavailable("the disk")
        await super().delete(file)


class Vectors(MemoryVectorStore):
    """A vector store that does not let go of some files."""

    stuck: frozenset[FileId] = frozenset()

    async def remove(self, store: StoreId, file: FileId, *, generation: str | None = None) -> None:
        if file in self.stuck:
            raise VectorStoreUnavailable("the engine")
        await super().remove(store, file, generation=generation)


@dataclass
class Audit:
    records: list[JsonObject] = field(default_factory=list)

    async def record(self, record: JsonObject) -> None:
        self.records.append(record)


class Scene:
    """Three files that are attached to a store, with bytes and a chunk each; the first two expire at 100."""

    def __init__(self, root: Path, state: SqlStateStore) -> None:
        self.root = root / "files"
        self.state = state
        self.blobs = Disk(self.root)
        self.vectors = Vectors(SCHEMA)
        self.audit = Audit()
        self.garbage = FileGarbage(
            files=state.files,
            orphaned_blobs=state.orphaned_blobs,
            blobs=self.blobs,
            vectors=self.vectors,
            audit=self.audit,
        )

    async def fill(self) -> None:
        await self.vectors.create(STORE, dimensions=2)
        await self.state.vector_stores.add(StoreRow(STORE, "s", 0, 0, {}, STAMP, "model", 2, "main"))
        for file, expires in zip(FILES, (100, 100, None), strict=True):
            await self.put(file)
            await self.state.files.add(FileRow(file, "a.txt", 1, "user_data", 0, STAMP, expires))
            row = Attachment(
                STORE,
                file,
                0,
                "completed",
                STAMP,
                {},
                {},
                800,
                400,
                "r1",
                ANN.as_input(),
                generation=f"acme/{file}",
            )
            await self.state.attachments.put([row])
            await self.vectors.add(STORE, [Chunk(f"acme/{file}/0", file, 0, "text", VECTOR, STAMP, {})])

    async def put(self, file: FileId) -> None:
        async def once() -> AsyncIterator[bytes]:
            yield b"x"

        await self.blobs.write(file, once(), limit=1)

    async def left(self) -> dict[str, list[str]]:
        found = await self.vectors.search(STORE, Query(VECTOR, limit=10), plan=Everything())
        rows = [await self.state.files.get(ANN, file) for file in FILES]
        return {
            "bytes": sorted(path.name for path in self.root.iterdir()),
            "chunks": sorted(candidate.file_id for candidate in found.candidates),
            "rows": [row.id for row in rows if row is not None],
        }


@dataclass
class Clock:
    time: float = 50

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def scene(tmp_path: Path, clock: Clock) -> AsyncIterator[Scene]:
    async with SqlStateStore.open(f"sqlite:///{tmp_path / 'state.db'}", clock=clock) as state:
        made = Scene(tmp_path, state)
        await made.fill()
        yield made


async def test_nothing_is_swept_before_its_time(scene: Scene, clock: Clock) -> None:
    clock.time = 99

    assert (await scene.garbage.expired(), await scene.garbage.orphaned()) == (0, 0)
    assert await scene.left() == {"bytes": FILES, "chunks": FILES, "rows": FILES}


async def test_an_expired_file_is_removed_with_its_chunks_and_bytes_after_a_record_of_it(
    scene: Scene, clock: Clock
) -> None:
    clock.time = 100

    assert await scene.garbage.expired() == 2
    clock.time = 0  # nothing hides what is there
    assert await scene.left() == {"bytes": FILES[2:], "chunks": FILES[2:], "rows": FILES[2:]}
    assert scene.audit.records == [
        {"kind": "sweep", "phase": "file.expire", "tenant": "acme", "about": file, "stores": [STORE]}
        for file in FILES[:2]
    ]


@pytest.mark.parametrize("broken", ["blobs", "vectors"])
async def test_what_cannot_be_removed_now_keeps_its_row_and_no_other_file(
    scene: Scene, clock: Clock, broken: str
) -> None:
    clock.time = 100
    place: Disk | Vectors = getattr(scene, broken)
    place.stuck = frozenset(FILES[:1])
    first = await scene.garbage.expired()
    clock.time = 0
    rows = (await scene.left())["rows"]
    clock.time, place.stuck = 100, frozenset()
    again = await scene.garbage.expired()
    clock.time = 0

    assert (first, rows, again) == (1, [FILES[0], FILES[2]], 1)
    assert await scene.left() == {"bytes": FILES[2:], "chunks": FILES[2:], "rows": FILES[2:]}


async def test_bytes_of_an_upload_that_died_are_removed_and_those_of_files_are_not(
    scene: Scene, clock: Clock
) -> None:
    died, going = FileId("file-d"), FileId("file-e")
    for file, due in ((died, 200), (going, 201)):
        await scene.state.orphaned_blobs.reserve(ANN, file, bytes=0, due_at=due)
        await scene.put(file)
    clock.time = 200

    assert (await scene.garbage.orphaned(), await scene.garbage.orphaned()) == (1, 0)
    assert sorted(path.name for path in scene.root.iterdir()) == [*FILES, going]


async def test_bytes_that_cannot_be_removed_now_are_not_forgotten(scene: Scene) -> None:
    scene.blobs.stuck = frozenset(FILES[:1])
    for file in FILES[:2]:
        await scene.state.files.delete(ANN, file)
    first = await scene.garbage.orphaned()
    scene.blobs.stuck = frozenset()

    assert (first, await scene.garbage.orphaned()) == (1, 1)
    assert sorted(path.name for path in scene.root.iterdir()) == FILES[2:]


async def test_more_than_a_batch_is_swept_at_once(scene: Scene) -> None:
    for number in range(250):
        await scene.state.orphaned_blobs.reserve(ANN, FileId(f"file-{number:04x}"), bytes=0, due_at=0)

    assert await scene.garbage.orphaned() == 250


# ---------------------------------------------------------------- the garbage_collector


async def test_a_sweep_that_fails_keeps_no_other_from_running() -> None:
    async def broken() -> int:
        raise ZeroDivisionError

    async def works() -> int:
        return 3

    assert await GarbageCollector({"broken": broken, "works": works}).once() == {"works": 3}


async def test_it_sweeps_at_start_and_again_until_it_is_cancelled() -> None:
    runs = asyncio.Semaphore(0)

    async def counted() -> int:
        runs.release()
        return 0

    async with asyncio.TaskGroup() as tasks:
        working = tasks.create_task(GarbageCollector({"counted": counted}, every_s=0.001).work())
        for _ in range(3):
            await runs.acquire()
        working.cancel()

    assert working.cancelled()
