"""A vector store with files in it, over a real state store and a real vector engine. What reads files
is scripted: it stands for the outside.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.orchestrator.scripted import ANN, Compass

from regate_adapters.state.store import SqlStateStore
from regate_adapters.vector.memory.store import MemoryVectorStore
from regate_orchestrator.documents.contexts import Contexts
from regate_orchestrator.documents.embedding import EmbeddingModels
from regate_orchestrator.documents.ingestion import Ingestion, Pace
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything, FilterPlan
from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import Chunk, Embedder, Found, Query
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import Attachment, FileRow, Sections, StoreRow
from regate_orchestrator.values import FileId, StoreId

VS, FILE = StoreId("vs_1"), FileId("file-1")
EVE = Principal("eve", "globex")
PACE = Pace(lease_s=60, renew_s=0.01, poll_s=0.01, backoff_s=(0, 0))
SCHEMA = RowSchema(
    "chunk",
    {
        "tenant": FieldSpec("tenant", "string", required=True),
        "owner": FieldSpec("owner", "string", required=True),
        "visibility": FieldSpec("visibility", "string", required=True),
    },
)


def stamp_of(who: Principal, **fields: Any) -> dict[str, Any]:
    return {"tenant": who.tenant, "owner": who.id, "visibility": "tenant", **fields}


@dataclass
class Clock:
    time: float = 1_000

    def __call__(self) -> float:
        return self.time


@dataclass
class Reader:
    """Takes out of each file the chunks that the test says, once `gate` is open; `failing` is what it
    raises instead, for as many times.
    """

    chunked: dict[str, list[str]] = field(default_factory=dict)
    failing: list[BaseException] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    reading: list[str] = field(default_factory=list)
    began: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(0))
    version: str = "1"

    async def chunks(
        self,
        local: AbstractAsyncContextManager[Path],
        *,
        filename: str,
        tenant: str,
        max_tokens: int,
        overlap_tokens: int,
        sections: Sections | None = None,
    ) -> list[str]:
        self.reading.append(filename)
        self.began.release()
        await self.gate.wait()
        if self.failing:
            raise self.failing.pop(0)
        return self.chunked.get(filename, ["1", "2"])

    async def text(
        self, source: AbstractAsyncContextManager[Path] | bytes, *, filename: str, tenant: str
    ) -> str:
        raise NotImplementedError


class Bytes:
    """Where the bytes of files are; nobody looks at them here."""

    @asynccontextmanager
    async def local(self, file: FileId) -> AsyncIterator[Path]:
        yield Path(file)


class Engine(MemoryVectorStore):
    """A vector engine that a test can break, and look in on: `before` runs before each call, with the
    call's name.
    """

    shared = True

    def __init__(self) -> None:
        super().__init__(SCHEMA)
        self.broken: set[str] = set()
        self.before: Callable[[str], Any] | None = None

    async def _call(self, name: str) -> None:
        if name in self.broken:
            raise VectorStoreUnavailable("broken")
        if self.before is not None:
            await self.before(name)

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        await self._call("add")
        await super().add(store, chunks)

    async def is_shared(self, store: StoreId) -> bool:
        return self.shared

    async def generations(self, store: StoreId) -> frozenset[str]:
        await self._call("generations")
        return await super().generations(store)

    async def remove(self, store: StoreId, file: FileId, *, generation: str | None = None) -> None:
        await self._call("remove")
        await super().remove(store, file, generation=generation)

    async def drop(self, store: StoreId) -> None:
        await self._call("drop")
        await super().drop(store)

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        await self._call("search")
        return await super().search(store, query, plan=plan)


class World:
    """One shared store of acme's; files are attached as the test says."""

    def __init__(self, state: SqlStateStore, clock: Clock) -> None:
        self.state, self.clock = state, clock
        self.engine, self.reader = Engine(), Reader()
        self.reader.gate.set()

    def ingestion(
        self,
        *,
        pace: Pace = PACE,
        metrics: Metrics | None = None,
        contexts: Contexts | None = None,
        embedder: Embedder | None = None,
    ) -> Ingestion:
        return Ingestion(
            state=self.state,
            blobs=Bytes(),
            extractor=self.reader,
            models=EmbeddingModels(embedder or Compass()),
            vectors=self.engine,
            contexts=contexts,
            pace=pace,
            clock=self.clock,
            metrics=metrics,
        )

    async def make(self) -> None:
        await self.state.vector_stores.add(
            StoreRow(VS, "Handbook", 1_000, 1_000, {}, stamp_of(ANN, shared=True), "compass-2", 2, "main")
        )
        await self.engine.create(VS, dimensions=2)

    async def attach(self, file: str = "file-1", *, who: Principal = ANN, **changes: Any) -> Attachment:
        stamp = stamp_of(who)
        if await self.state.files.get(who, FileId(file)) is None:
            await self.state.files.add(FileRow(FileId(file), f"{file}.txt", 1, "assistants", 1_000, stamp))
        row = Attachment(
            VS, FileId(file), 1_000, "in_progress", stamp, {}, {}, 800, 400, "r1", who.as_input(), **changes
        )
        await self.state.attachments.put([row])
        return row

    async def status(self, file: str = "file-1", *, who: Principal = ANN) -> str:
        row = await self.state.attachments.get(who, VS, FileId(file))
        return "gone" if row is None else row.status

    async def until(self, status: str, file: str = "file-1", *, who: Principal = ANN) -> None:
        """Return once the attachment has this status."""
        async with asyncio.timeout(120):
            while await self.status(file, who=who) != status:
                await asyncio.sleep(0.005)

    async def in_engine(self) -> list[str]:
        """The ids of all chunks in the engine, whatever counts."""
        found = await MemoryVectorStore.search(
            self.engine, VS, Query((1.0, 0.0), limit=1_000), plan=Everything()
        )
        return sorted(candidate.id for candidate in found.candidates)

    async def live(self, *, who: Principal = ANN) -> list[str]:
        """The ids of the chunks that can be found."""
        ids = await self.in_engine()
        files = {FileId(name.split("/")[1]) for name in ids}
        live = await self.state.attachments.live(who, [(VS, file) for file in files])
        return [name for name in ids if any(name.startswith(row.generation + "/") for row in live.values())]


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[World]:
    clock = Clock()
    async with SqlStateStore.open(f"sqlite:///{path / 'state.db'}", clock=clock) as state:
        world = World(state, clock)
        await world.make()
        yield world


@asynccontextmanager
async def working(*ingestions: Ingestion) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Let workers work, one of each, and end them on leaving."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ingestion.work()) for ingestion in ingestions]
        yield tasks
        for task in tasks:
            task.cancel()
