"""The vector engines as one `ports.VectorStore`: each store is in the engine that its row names, and in no
other.

Nothing is looked for elsewhere when an engine is not configured any more: what cannot be found must never
pass for what is not there. Which engine a new store gets is decided by `regate.store.placement`, and by the
configuration where that says nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from regate_orchestrator.authz.decisions import Allow
from regate_orchestrator.errors import PolicyUnavailable, VectorStoreUnavailable
from regate_orchestrator.filters.expression import FilterPlan, Nothing, Scalar
from regate_orchestrator.ports import Chunk, Found, Mode, Query, VectorStore
from regate_orchestrator.values import FileId, JsonObject, StoreId

PLACEMENT: Final = "placement"
"""The rule of `regate.store` that qualifies an allow of `store.create`."""
_MAX_REMEMBERED: Final = 10_000

Placed = Callable[[StoreId], Awaitable[str | None]]
"""Returns the engine that the store's row names, of whatever tenant; None when there is no such row."""


class VectorEngines:
    """The configured engines by name. `default` is that of new stores of which the policy says nothing."""

    def __init__(self, engines: Mapping[str, VectorStore], *, default: str, placed: Placed) -> None:
        self._engines = dict(engines)
        self._placed = placed
        self._known: OrderedDict[StoreId, str] = OrderedDict()
        self.default = default

    @property
    def names(self) -> list[str]:
        """Return the names of the engines."""
        return list(self._engines)

    def for_new(self, decision: Allow) -> str:
        """Return the engine of a store that may be created. Raises `PolicyUnavailable` when the policy
        names one that is not configured.
        """
        if PLACEMENT not in decision.decision_attributes:
            return self.default
        engine = decision.decision_attributes[PLACEMENT]
        if not isinstance(engine, str) or engine not in self._engines:
            raise PolicyUnavailable(
                f"regate/store/{PLACEMENT} names {engine!r}, which is not among vector.stores"
            )
        return engine

    async def create(self, store: StoreId, *, dimensions: int, engine: str | None = None) -> None:
        """Make the store's place in the engine, which its row must name from then on; without it,
        where the row says already.
        """
        place = await self._of(store) if engine is None else self._named(engine, store)
        await place.create(store, dimensions=dimensions)
        if engine is not None:
            self._remember(store, engine)

    async def add(self, store: StoreId, chunks: Sequence[Chunk]) -> None:
        """Store the chunks in the store's engine."""
        async with self._at(store) as place:
            await place.add(store, chunks)

    async def modes(self, store: StoreId) -> frozenset[Mode]:
        """Return the modes in which the store's engine searches."""
        return await (await self._of(store)).modes(store)

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        """Return what the store's engine finds."""
        if isinstance(plan, Nothing):  # must do no IO, so it is not asked where the store is either
            return Found((), total=0, permitted=0, exhausted=True)
        async with self._at(store) as place:
            return await place.search(store, query, plan=plan)

    async def texts(self, store: StoreId, ids: Sequence[str], *, tenant: str) -> Mapping[str, str]:
        """Return the texts of those of these chunks of the tenant that are there."""
        async with self._at(store) as place:
            return await place.texts(store, ids, tenant=tenant)

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
        """Store the chunks of the generation once more in the store's engine."""
        async with self._at(store) as place:
            return await place.restamp(
                store, file, generation=generation, target=target, stamp=stamp, attributes=attributes
            )

    async def remove(self, store: StoreId, file: FileId, *, generation: str | None = None) -> None:
        """Remove the chunks of the file, or of one generation of it."""
        for place in await self._wherever(store):
            await place.remove(store, file, generation=generation)

    async def generations(self, store: StoreId) -> frozenset[str]:
        """Return which generations the store's engine has of it."""
        return frozenset().union(*[await place.generations(store) for place in await self._wherever(store)])

    async def chunks(self, store: StoreId) -> AsyncIterator[Sequence[Chunk]]:
        """Yield all chunks of the store out of its engine."""
        async with self._at(store) as place:
            async for page in place.chunks(store):
                yield page

    async def is_shared(self, store: StoreId) -> bool:
        """Return whether other programs may write to the store's engine."""
        return any([await place.is_shared(store) for place in await self._wherever(store)])

    async def drop(self, store: StoreId) -> None:
        """Remove the store and all its chunks; from every engine once its row is gone, since a move that was
        broken off may have left some in another.
        """
        self._known.pop(store, None)
        for place in await self._wherever(store):
            await place.drop(store)

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the engine of new stores would not answer."""
        await self.check_engine(self.default)

    async def check_engine(self, engine: str) -> None:
        """Raise `VectorStoreUnavailable` when this engine would not answer."""
        await self._engines[engine].check()

    @asynccontextmanager
    async def _at(self, store: StoreId) -> AsyncIterator[VectorStore]:
        """Yield the store's engine. Once that fails, its row is asked again where the store is: it is moved
        while no gateway runs (`moving.py`), and one that ran all the same must not go on at the old place.
        """
        place = await self._of(store)
        try:
            yield place
        except VectorStoreUnavailable:
            self._known.pop(store, None)
            raise

    async def _of(self, store: StoreId) -> VectorStore:
        engine = await self._engine_of(store)
        if engine is None:
            raise VectorStoreUnavailable(f"there is no row that says where store {store} is")
        return self._named(engine, store)

    async def _wherever(self, store: StoreId) -> list[VectorStore]:
        """Return the store's engine; all of them once its row is gone, since an id is only ever one
        store's.
        """
        engine = await self._engine_of(store)
        return list(self._engines.values()) if engine is None else [self._named(engine, store)]

    async def _engine_of(self, store: StoreId) -> str | None:
        if store in self._known:
            self._known.move_to_end(store)
            return self._known[store]
        engine = await self._placed(store)
        if engine is not None:
            self._remember(store, engine)
        return engine

    def _named(self, engine: str, store: StoreId) -> VectorStore:
        if engine not in self._engines:
            raise VectorStoreUnavailable(
                f"store {store} is in the engine {engine!r}, which is not among vector.stores any more"
            )
        return self._engines[engine]

    def _remember(self, store: StoreId, engine: str) -> None:
        self._known[store] = engine
        while len(self._known) > _MAX_REMEMBERED:
            self._known.popitem(last=False)
