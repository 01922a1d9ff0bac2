"""The `VectorStore` on Chroma: one collection per store, all calls in threads. Embedded: one process per
directory.

Where the engine is, its place says (`place.py`), and how long one client is used, `engine.py`. Nothing else
knows the difference.

It never embeds: every call that could name an embedding function names none, since Chroma's own would
download a model. It never decides what is permitted either: `filter.py`, the counterpart, renders the plan,
and the guard on the schema version is part of that.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

import numpy as np

from regate_adapters.vector.chroma.collection import (
    DIMENSIONS,
    chunks_from,
    dimensions_of,
    ids_of,
    is_behind,
    listed,
    pages,
    read_on,
    rows_of,
)
from regate_adapters.vector.chroma.engine import ChromaEngine
from regate_adapters.vector.chroma.filter import Where, render
from regate_adapters.vector.chroma.layout import ChromaLayout
from regate_adapters.vector.chroma.place import ChromaPlace, Directory
from regate_adapters.vector.chroma.searching import EXACT_UP_TO, ONE_IN, ChromaSearch
from regate_orchestrator.documents.generations import generation_of, renamed
from regate_orchestrator.errors import RegateError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything, FilterPlan, Scalar
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Chunk, Found, Mode, Query, Vector
from regate_orchestrator.values import FileId, JsonObject, StoreId

if TYPE_CHECKING:
    from chromadb.api.models.Collection import Collection

Result = TypeVar("Result")

_HNSW: Final = {"space": "cosine", "ef_search": 1_000, "sync_threshold": 200}
"""After so many changes Chroma stores a collection's index. What is newer it reads from its log and puts in
again, each time it opens it.

Measured: opening a store of 900 chunks took 300 ms at its default of 1,000 and 30 at this; 20,000 chunks took
37 s of processor time at either, and small files less, since each write reads the log too.
"""

_WRITE_ROWS: Final = 200
"""A search of a store that is not open may wait for as many to be written (`engine.py`)."""

_READERS: Final = 2
_ON_SERVER: Final = 8
"""How many read, and how many write, at once on a server: who waits for it keeps nobody else waiting."""

_READ_SECONDS: Final = 30.0
_WRITE_SECONDS: Final = 120.0
_LONG_FACTOR: Final = 8
"""So many times its time-out a server may take for what grows with a file."""

_CHECK_SECONDS: Final = 2.0


class ChromaVectorStore:
    """Chunks of one row schema in a directory of this process alone, or at another place. Must be entered,
    and left to release it.

    Raises `ConfigurationError` on entering when the place cannot be used. Chroma itself is loaded by the
    first call.
    """

    def __init__(
        self,
        place: Path | ChromaPlace,
        schema: RowSchema,
        *,
        exact_up_to: int = EXACT_UP_TO,
        one_in: int = ONE_IN,
    ) -> None:
        self._place = Directory(place) if isinstance(place, Path) else place
        self._layout = ChromaLayout.of(schema)
        self._searching = ChromaSearch(exact_up_to=exact_up_to, one_in=one_in)
        self._engine = ChromaEngine(self._place)
        self._is_open = False
        on_server = self._place.is_shared
        self._readers = ThreadPoolExecutor(_ON_SERVER if on_server else _READERS, "chroma-read")
        # INVARIANT: one thread where Chroma is embedded, so writes never overlap. Gateways of one server
        # overlap anyway.
        self._writers = ThreadPoolExecutor(_ON_SERVER if on_server else 1, "chroma-write")

    async def __aenter__(self) -> Self:
        self._place.hold()
        self._is_open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        await asyncio.to_thread(self._close)
        self._place.release()

    async def create(self, store: StoreId, *, dimensions: int) -> None:
        """Make the store's collection. Raises `VectorStoreUnavailable` when it is there with other
        dimensions.
        """
        await self._write("create", store, lambda: self._create(store, dimensions))

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        """Store the chunks whole; those with an id that is there are deleted first, since Chroma would
        merge or ignore them.
        """
        distinct = list({chunk.id: chunk for chunk in chunks}.values())
        if distinct:
            await self._write("add", store, lambda: self._add(store, distinct), factor=_LONG_FACTOR)

    async def modes(self, store: StoreId) -> frozenset[Mode]:  # noqa: ARG002 — of every store the same
        """Return that chunks are found by their vectors alone."""
        return frozenset({"vector"})

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        """Return the most similar chunks among those that the plan permits; see the module on what
        is exact.
        """
        query.require_mode("vector")
        where = render(plan, self._layout.at(store))
        if where is None:
            return Found((), total=0, permitted=0, exhausted=True)
        return await self._read(
            "search", store, lambda: self._search(store, query.vector, plan, where, query.limit)
        )

    async def texts(
        self,
        store: StoreId,
        ids: Sequence[str],
        *,
        tenant: str,  # noqa: ARG002 — it keeps no tenants apart by itself
    ) -> Mapping[str, str]:
        """Return the texts of those of these chunks that are there and of the present schema version."""
        return await self._read("texts", store, lambda: self._texts(store, list(dict.fromkeys(ids))))

    async def restamp(
        self,
        store: StoreId,
        file: FileId,
        *,
        generation: str,
        target: str,
        stamp: JsonObject,
        attributes: Mapping[str, Scalar],
    ) -> int:
        """Store each chunk of the generation once more, of the present schema version, with this stamp
        and these attributes.
        """
        return await self._write(
            "restamp",
            store,
            lambda: self._restamp(store, file, (generation, target), stamp, attributes),
            factor=_LONG_FACTOR,
        )

    async def remove(self, store: StoreId, file: FileId, *, generation: str | None = None) -> None:
        """Remove the chunks of the file, or of one generation of it, of any schema version."""
        await self._write("remove", store, lambda: self._remove(store, file, generation))

    async def generations(self, store: StoreId) -> frozenset[str]:
        """Return which generations have chunks in the store, of any schema version."""
        return await self._read("generations", store, lambda: self._generations(store))

    async def chunks(self, store: StoreId) -> AsyncIterator[Sequence[Chunk]]:
        """Yield the store's chunks of the present schema version, in the order in which Chroma lists them."""
        offset: int | None = 0
        while offset is not None:
            offset, page = await self._read("chunks", store, partial(self._chunks, store, offset))
            yield page

    async def is_shared(self, store: StoreId) -> bool:  # noqa: ARG002 — of every store the same
        """Return what the place says."""
        return self._place.is_shared

    async def drop(self, store: StoreId) -> None:
        """Remove the store's collection."""
        await self._write("drop", store, lambda: self._drop(store))

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the place is not held, or the engine there does not
        answer. Never loads Chroma.
        """
        await self._run(self._readers, "check", self._engine.probe, within_s=_CHECK_SECONDS)

    # ------------------------------------------------------------ threads

    async def _read(self, what: str, store: StoreId, work: Callable[[], Result]) -> Result:
        within_s = self._place.timeout_s or _READ_SECONDS
        return await self._run(self._readers, what, lambda: self._caught_up(store, work), within_s=within_s)

    async def _write(
        self, what: str, store: StoreId, work: Callable[[], Result], *, factor: int = 1
    ) -> Result:
        timeout_s = self._place.timeout_s
        within_s = _WRITE_SECONDS if timeout_s is None else timeout_s * factor
        return await self._run(self._writers, what, lambda: self._caught_up(store, work), within_s=within_s)

    async def _run(
        self, pool: ThreadPoolExecutor, what: str, work: Callable[[], Result], *, within_s: float
    ) -> Result:
        if not self._is_open:
            raise VectorStoreUnavailable("the store is not open")
        give_up = time.monotonic() + within_s

        def work_in_time() -> Result:
            with self._place.until(give_up):
                return work()

        try:
            async with asyncio.timeout(within_s):
                return await asyncio.get_running_loop().run_in_executor(pool, _translated, what, work_in_time)
        except TimeoutError as error:
            raise VectorStoreUnavailable(f"Chroma: {what} took longer than {within_s:g} s") from error

    def _caught_up(self, store: StoreId, work: Callable[[], Result]) -> Result:
        """Do the work, and once more where a server's index of the store lacked what it had been let
        go of without.
        """
        try:
            return work()
        except Exception as error:
            if not is_behind(error):
                raise
        with self._collection(store) as collection:
            read_on(collection)
        return work()

    @contextmanager
    def _collection(self, store: StoreId, *, briefly: bool = False) -> Iterator[Collection]:
        """Yield the store's collection, for use inside the context alone and briefly. No thread may be
        in two.
        """
        with self._engine.using(store, briefly=briefly) as client:
            yield client.get_collection(store, embedding_function=None)

    @contextmanager
    def _collection_or_none(self, store: StoreId, *, briefly: bool = False) -> Iterator[Collection | None]:
        from chromadb.errors import NotFoundError

        with self._engine.using(store, briefly=briefly) as client:
            try:
                collection = client.get_collection(store, embedding_function=None)
            except NotFoundError:
                collection = None
            yield collection

    def _close(self) -> None:
        for pool in (self._writers, self._readers):
            pool.shutdown(wait=True, cancel_futures=True)
        self._engine.close()

    # ------------------------------------------------------------ in a thread

    def _create(self, store: StoreId, dimensions: int) -> None:
        with self._engine.using(store) as client:
            collection = client.get_or_create_collection(
                store,
                embedding_function=None,
                metadata={DIMENSIONS: dimensions},
                configuration={"hnsw": dict(_HNSW)},
            )
            if dimensions_of(collection) != dimensions:
                raise VectorStoreUnavailable(f"store {store} has vectors of another length than {dimensions}")

    def _add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        layout = self._layout.at(store)
        metadatas = [layout.metadata(chunk) for chunk in chunks]
        with self._collection(store) as collection:
            rows = rows_of([chunk.vector for chunk in chunks], dimensions_of(collection))
        for start in range(0, len(chunks), _WRITE_ROWS):
            part = slice(start, start + _WRITE_ROWS)
            ids, texts = [chunk.id for chunk in chunks[part]], [chunk.text for chunk in chunks[part]]
            with self._collection(store) as collection:
                collection.delete(ids=ids)
                collection.add(ids=ids, embeddings=rows[part], documents=texts, metadatas=metadatas[part])

    def _search(self, store: StoreId, vector: Vector, plan: FilterPlan, where: Where, limit: int) -> Found:
        with self._collection(store) as collection:
            return self._searching.run(
                collection, self._layout.at(store), vector, plan=plan, where=where, limit=limit
            )

    def _texts(self, store: StoreId, ids: Sequence[str]) -> dict[str, str]:
        where = render(Everything(), self._layout.at(store))
        texts: dict[str, str] = {}
        for part in pages(ids):
            with self._collection(store) as collection:
                got = collection.get(ids=part, where=where, include=["documents"])
            texts.update(zip(got["ids"], got["documents"], strict=True))
        return texts

    def _restamp(
        self,
        store: StoreId,
        file: FileId,
        generations: tuple[str, str],
        stamp: JsonObject,
        attributes: Mapping[str, Scalar],
    ) -> int:
        layout = self._layout.at(store)
        generation, target = generations
        self._remove(store, file, target)
        with self._collection(store) as collection:
            ids = ids_of(collection, layout, file, generation)
        copied = 0
        for part in pages(ids, _WRITE_ROWS):
            with self._collection(store) as collection:
                copied += self._copy(collection, layout, part, target, stamp, attributes)
        return copied

    def _copy(
        self,
        collection: Collection,
        layout: ChromaLayout,
        ids: list[str],
        target: str,
        stamp: JsonObject,
        attributes: Mapping[str, Scalar],
    ) -> int:
        got = collection.get(
            ids=ids, where=render(Everything(), layout), include=["documents", "metadatas", "embeddings"]
        )
        found = [
            layout.candidate(*row, score=0.0)
            for row in zip(got["ids"], got["documents"], got["metadatas"], strict=True)
        ]
        chunks = [
            Chunk(renamed(one.id, target=target), one.file_id, one.index, one.text, vector, stamp, attributes)
            for one, vector in zip(found, got["embeddings"], strict=True)
        ]
        if chunks:
            collection.add(
                ids=[chunk.id for chunk in chunks],
                embeddings=np.asarray(got["embeddings"], dtype=np.float32),
                documents=[chunk.text for chunk in chunks],
                metadatas=[layout.metadata(chunk) for chunk in chunks],
            )
        return len(chunks)

    def _remove(self, store: StoreId, file: FileId, generation: str | None) -> None:
        with self._collection_or_none(store) as collection:
            ids = [] if collection is None else ids_of(collection, self._layout.at(store), file, generation)
        for part in pages(ids, _WRITE_ROWS):
            with self._collection_or_none(store) as collection:
                if collection is not None:
                    collection.delete(ids=part)

    def _generations(self, store: StoreId) -> frozenset[str]:
        ids: list[str] = []
        with self._collection_or_none(store, briefly=True) as collection:
            while collection is not None and (page := listed(collection, offset=len(ids))):
                ids += page
        return frozenset(map(generation_of, ids))

    def _chunks(self, store: StoreId, offset: int) -> tuple[int | None, list[Chunk]]:
        with self._collection(store) as collection:
            return chunks_from(collection, self._layout.at(store), offset=offset)

    def _drop(self, store: StoreId) -> None:
        from chromadb.errors import NotFoundError

        with self._engine.using(store) as client:
            try:
                client.delete_collection(store)
            except NotFoundError:
                return


def _translated(what: str, work: Callable[[], Result]) -> Result:
    """Return the work's result; whatever Chroma raises, panics of its Rust side included, becomes
    `VectorStoreUnavailable`.
    """
    try:
        return work()
    except RegateError:
        raise
    except BaseException as error:  # in a worker thread: neither cancellation nor an interrupt arrives here
        # A failed write may quote what was to be written, and no text of a chunk goes to a log (I11).
        words = "" if what in ("add", "restamp") else f": {str(error)[:200]}"
        raise VectorStoreUnavailable(f"Chroma: {what} failed with {type(error).__name__}{words}") from error
