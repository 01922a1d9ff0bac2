"""The vector engines to measure, each with our adapter on it and with two ways past the adapter: its own
search without any filter, and exact.

Servers are started for the run: pgvector's is among the development dependencies, those of the others are
where `python -m tests.engines` put them. Nothing here knows of policies.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import psycopg
from psycopg import sql
from tests.postgres import VERSIONS, running_postgres

from bench.corpus import DIMENSIONS, Vectors, name
from regate_adapters.testing.proof.targets import engines_here
from regate_adapters.vector.chroma.store import ChromaVectorStore
from regate_adapters.vector.kind import Configured
from regate_adapters.vector.marked.store import MarkedVectorStore
from regate_adapters.vector.pgvector.store import PgVectorStore
from regate_adapters.vector.registry import KINDS
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Query, Vector, VectorStore
from regate_orchestrator.values import StoreId

STORE: Final = StoreId("vs_bench")
K: Final = 10
SERVERS: Final = ("opensearch", "weaviate", "qdrant", "milvus")
"""What must be obtained first (`python -m tests.engines`), and is measured on demand alone."""
EMBEDDED: Final = ("local", "faiss", "sqlite_vec", "pgvector", "chroma", "lancedb")
"""What the development dependencies bring. LanceDB is last: it warns of processes that start after it."""
_TABLED: Final = ("local", "faiss", "sqlite_vec")
Search = Callable[[Vector], Awaitable[list[str]]]

_MEMORY: Final = {"shared_buffers": "1GB", "maintenance_work_mem": "512MB", "effective_cache_size": "2GB"}
_NEAREST: Final = sql.SQL(
    "SELECT id FROM regate_vectors.{} ORDER BY embedding <=> %s::vector LIMIT {}"
).format(sql.Identifier(f"chunks_{DIMENSIONS}"), sql.Literal(K))


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine with its adapter. `unfiltered` and `exact` go past the adapter and see every chunk."""

    name: str
    store: VectorStore
    unfiltered: Search
    exact: Search
    files: Path | None
    """Where its files are, as far as that is known."""
    settled: Callable[[], Awaitable[None]]
    """Must be called when all is stored, before anything is measured: the engine does what it would do
    in time by itself.
    """


def opened(kind: str, schema: RowSchema, vectors: Vectors) -> AbstractAsyncContextManager[Engine]:
    """Return the engine of this kind, to be filled with these vectors. Exits where it cannot be had."""
    if kind == "pgvector":
        return pgvector(schema)
    if kind == "chroma":
        return chroma(schema, vectors)
    if kind in _TABLED:
        return tabled(kind, schema, vectors)
    return marked(kind, schema, vectors)


@asynccontextmanager
async def pgvector(schema: RowSchema) -> AsyncIterator[Engine]:
    """Enter with PostgreSQL, in its newest version here."""
    async with AsyncExitStack() as stack:
        server = stack.enter_context(running_postgres(VERSIONS[0], **_MEMORY))
        store = await stack.enter_async_context(PgVectorStore(server.url(), schema))
        around = await stack.enter_async_context(
            await psycopg.AsyncConnection.connect(server.url(), autocommit=True)
        )

        async def searching(vector: Vector, *, index: bool) -> list[str]:
            await around.execute(sql.SQL("SET enable_indexscan = {}").format(sql.Literal(index)))
            await around.execute("SET hnsw.ef_search = 200")
            # Not prepared: a plan that is kept would use the index in spite of the setting.
            cursor = await around.execute(_NEAREST, ["[" + ",".join(map(repr, vector)) + "]"], prepare=False)
            return [row[0] for row in await cursor.fetchall()]

        async def settled() -> None:
            await around.execute("VACUUM ANALYZE")

        yield Engine(
            f"pgvector on PostgreSQL {server.version}",
            store,
            lambda vector: searching(vector, index=True),
            lambda vector: searching(vector, index=False),
            None,
            settled,
        )


@asynccontextmanager
async def chroma(schema: RowSchema, vectors: Vectors) -> AsyncIterator[Engine]:
    """Enter with embedded Chroma. It has no exact search, so that is a matrix product over the vectors
    in memory.
    """
    with tempfile.TemporaryDirectory(prefix="regate-bench-") as folder:
        async with ChromaVectorStore(Path(folder), schema) as store:

            def nearest(vector: Vector) -> list[str]:
                # The very collection that the adapter searches
                with store._collection(STORE) as collection:  # noqa: SLF001
                    found = collection.query(
                        query_embeddings=[np.asarray(vector, dtype=np.float32)], n_results=K, include=[]
                    )
                return list(found["ids"][0])

            yield Engine(
                "Chroma, embedded",
                store,
                lambda vector: asyncio.to_thread(nearest, vector),
                _exact_among(vectors),
                Path(folder),
                _nothing,
            )


@asynccontextmanager
async def tabled(kind: str, schema: RowSchema, vectors: Vectors) -> AsyncIterator[Engine]:
    """Enter with the local engine, or with another one on its tables. Its search without a filter looks at
    every chunk, too; beside it, a matrix product over the vectors in memory.
    """
    with tempfile.TemporaryDirectory(prefix="regate-bench-") as folder:
        async with _tabled_store(kind, Path(folder), schema) as store:

            async def unfiltered(vector: Vector) -> list[str]:
                found = await store.search(STORE, Query(vector, K), plan=Everything())
                return [one.id for one in found.candidates]

            yield Engine(kind, store, unfiltered, _exact_among(vectors), Path(folder), _nothing)


def _tabled_store(kind: str, folder: Path, schema: RowSchema) -> AbstractAsyncContextManager[VectorStore]:
    engine = KINDS[kind]
    return engine.open(Configured(engine.settings.model_validate({"path": folder}), "bench"), schema)


async def _nothing() -> None:
    """Do what an engine does that has nothing left to do."""


def _exact_among(vectors: Vectors) -> Search:
    async def exact(vector: Vector) -> list[str]:
        scores = vectors @ np.asarray(vector, dtype=np.float32)
        return [name(int(number)) for number in np.argpartition(-scores, K)[:K]]

    return exact


@asynccontextmanager
async def marked(kind: str, schema: RowSchema, vectors: Vectors) -> AsyncIterator[Engine]:
    """Enter with an engine of marked rows, embedded or on a server that is started for it. Its own search
    without a filter is what it does of itself when it is asked for the nearest; beside it, a matrix product
    over the vectors in memory.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="regate-bench-")))
        store = await stack.enter_async_context(
            KINDS[kind].open(configured_here(kind, folder, stack), schema)
        )
        assert isinstance(store, MarkedVectorStore)

        async def unfiltered(vector: Vector) -> list[str]:
            # Past the adapter, which would look at each row once more
            found = await store._engine.nearest(STORE, vector, True, tenant=None, limit=K)  # noqa: SLF001
            return [row.id for row in found]

        yield Engine(kind, store, unfiltered, _exact_among(vectors), folder, _nothing)


def configured_here(kind: str, folder: Path, stack: AsyncExitStack) -> Configured[Any]:
    """Return how an engine of this kind is opened, with its files below the folder; a server is started for
    it, and stopped by the stack. Exits where it cannot be had.
    """
    here = engines_here(folder, stack, servers={KINDS[kind].server or ""})
    if kind not in here.configured:
        raise SystemExit(f"{kind} is not here: {here.absent.get(kind, 'it has no proof')}")
    return here.configured[kind]
