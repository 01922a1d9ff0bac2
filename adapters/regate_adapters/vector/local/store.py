"""The `VectorStore` in a SQLite file: durable there, and searched by what it is given (`Searcher`). The local
engine is one of these.

Each tenant's part of a store is a partition of its own. A search looks at the partition of the tenant that
its plan is confined to and at no other, so what others store costs it nothing and moves nothing: neither a
score nor the time it takes. The plan is applied before anything is ranked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from regate_adapters.vector.local import writing
from regate_adapters.vector.local.database import Database
from regate_adapters.vector.local.partitions import MEMORY, Partitions
from regate_adapters.vector.local.reading import candidates_of, chunks_after, texts_of
from regate_adapters.vector.local.schema import PYTHONS, Connection, Library, shown, stored
from regate_adapters.vector.local.writing import Place, Stamped, Written, place_of, place_or_none
from regate_adapters.vector.partition.ranking import Ranked
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.filters.expression import Constant, Expression, FilterPlan, Scalar, expression_of
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.ports import Chunk, Found, Mode, Query
from regate_orchestrator.values import FileId, JsonObject, StoreId

_TRIES: Final = 5


class Searcher(Protocol):
    """What finds the best chunks in the tables."""

    def ranked(self, connection: Connection, place: Place, expression: Expression, query: Query) -> Ranked:
        """Return the best of the store's chunks for which the expression holds, as the file is to this
        connection.
        """
        ...


class TabledVectorStore:
    """Chunks of one row schema in a file below a folder, found by the searcher. Must be entered, which makes
    the file or brings it up to date, and raises `ConfigurationError` when it cannot be used.

    `engine` is its name in what is told when another process holds the folder.
    """

    def __init__(
        self, folder: Path, schema: RowSchema, searcher: Searcher, *, engine: str, library: Library = PYTHONS
    ) -> None:
        self._schema = schema
        self._version = schema.digest
        self._searcher = searcher
        self._database = Database(folder, library, engine=engine)

    async def __aenter__(self) -> Self:
        await self._database.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._database.__aexit__(kind, error, trace)

    async def create(self, store: StoreId, *, dimensions: int) -> None:
        """Make the store's place. Raises `VectorStoreUnavailable` when it is there with other dimensions."""

        def make(connection: Connection) -> None:
            connection.execute(
                "INSERT INTO stores (id, dimensions) VALUES (?, ?) ON CONFLICT DO NOTHING",
                [stored(store), dimensions],
            )
            if place_of(connection, store).dimensions != dimensions:
                raise VectorStoreUnavailable(f"store {store} has vectors of another length than {dimensions}")

        await self._database.write(make)

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        """Store the chunks whole, all or none of them; those with an id that is there are replaced."""
        distinct = list({chunk.id: chunk for chunk in chunks}.values())

        def put(connection: Connection) -> None:
            place = place_of(connection, store)
            if any(len(chunk.vector) != place.dimensions for chunk in distinct):
                raise VectorStoreUnavailable(
                    f"a vector has another length than the store's {place.dimensions}"
                )
            writing.write(connection, place, written)

        written = await self._database.run(
            lambda: [Written.of(self._schema, self._version, one) for one in distinct]
        )
        await self._database.write(put)

    async def modes(self, store: StoreId) -> frozenset[Mode]:  # noqa: ARG002 — of every store the same
        """Return all there are."""
        return frozenset({"vector", "keyword", "hybrid"})

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        """Return the chunks that fit best among those that the plan permits."""
        expression = expression_of(plan)
        if expression == Constant(holds=False):
            return Found((), total=0, permitted=0, exhausted=True)
        return await self._database.run(lambda: self._search(store, query, expression))

    async def texts(self, store: StoreId, ids: Sequence[str], *, tenant: str) -> Mapping[str, str]:
        """Return the texts of those of these chunks of the tenant that are there and of the present schema
        version.
        """

        def read(connection: Connection) -> Mapping[str, str]:
            place = place_of(connection, store)
            return texts_of(connection, place, ids, tenant=tenant, version=self._version)

        return await self._database.read(read)

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
        and these attributes; all or none.
        """
        stamped = Stamped.of(self._schema, self._version, stamp, attributes)

        def copy(connection: Connection) -> int:
            names = {"file": stored(file), "generation": stored(generation), "target": stored(target)}
            return writing.copy_stamped(connection, place_of(connection, store), stamped, **names)

        return await self._database.write(copy)

    async def remove(self, store: StoreId, file: FileId, *, generation: str | None = None) -> None:
        """Remove the chunks of the file, or of one generation of it, of any schema version."""
        condition, values = "file = ?", [stored(file)]
        if generation is not None:
            condition, values = "file = ? AND generation = ?", [stored(file), stored(generation)]

        def delete(connection: Connection) -> None:
            place = place_or_none(connection, store)
            if place is not None:
                writing.remove(connection, place, condition, values)

        await self._database.write(delete)

    async def generations(self, store: StoreId) -> frozenset[str]:
        """Return which generations have chunks in the store, of any schema version."""

        def read(connection: Connection) -> frozenset[str]:
            found = connection.execute(
                "SELECT DISTINCT generation FROM chunks JOIN stores ON stores.number = store "
                "WHERE stores.id = ?",
                [stored(store)],
            )
            return frozenset(shown(generation) for (generation,) in found)

        return await self._database.read(read)

    async def chunks(self, store: StoreId) -> AsyncIterator[Sequence[Chunk]]:
        """Yield the store's chunks of the present schema version, in the order of their numbers."""

        def read(last: int, connection: Connection) -> tuple[int, list[Chunk]]:
            return chunks_after(connection, place_of(connection, store), last, version=self._version)

        last, page = await self._database.read(partial(read, 0))
        while page:
            yield page
            last, page = await self._database.read(partial(read, last))

    async def is_shared(self, store: StoreId) -> bool:  # noqa: ARG002 — of every store the same
        """Return False: the file is this program's alone."""
        return False

    async def drop(self, store: StoreId) -> None:
        """Remove the store and all its chunks."""

        def delete(connection: Connection) -> None:
            place = place_or_none(connection, store)
            if place is not None:
                writing.drop(connection, place)

        await self._database.write(delete)

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the file cannot be read."""

        def read(connection: Connection) -> None:
            connection.execute("SELECT 1 FROM stores LIMIT 1").fetchone()

        await self._database.read(read)

    def _search(self, store: StoreId, query: Query, expression: Expression) -> Found:
        for _ in range(_TRIES):
            with self._database.reading() as connection:
                place = place_of(connection, store)
                if len(query.vector) != place.dimensions:
                    raise VectorStoreUnavailable(
                        f"the query has another length than the store's {place.dimensions}"
                    )
                best = self._searcher.ranked(connection, place, expression, query)
                found = candidates_of(connection, best, query.limit, self._schema)
                if found is not None:
                    return Found(
                        found,
                        total=place.chunks,
                        permitted=best.permitted,
                        exhausted=best.matching <= query.limit,
                    )
        raise VectorStoreUnavailable(f"chunks of store {store} were removed faster than they could be found")


def local_store(folder: Path, schema: RowSchema, *, memory: int = MEMORY) -> TabledVectorStore:
    """Return the local engine: searched in memory with NumPy."""
    return TabledVectorStore(folder, schema, Partitions(schema, memory=memory), engine="The local engine")
