"""Retrieval: the store decision, the filter plan, the search with the filter inside, and the admission of
every chunk found (DESIGN §6).

`open` comes first and makes the only values that `search` accepts, so no store is searched before it was
decided (I2). Counts of what was filtered go to the audit record and never into an answer. Used by the search
route and by the driver alike.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from regate_orchestrator.authz.batches import Batch
from regate_orchestrator.authz.decisions import Context, Point
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.plan_records import describe
from regate_orchestrator.documents.generations import generation_of
from regate_orchestrator.errors import FilterNotExpressible, InvalidRequest, NotFound, VectorStoreUnavailable
from regate_orchestrator.filters.expression import (
    Compare,
    Everything,
    Expression,
    FilterPlan,
    Nothing,
    Scalar,
    narrow,
)
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.lineage import ChunkSource
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import Candidate, Found, Query, StateStore, VectorStore
from regate_orchestrator.retrieval.embedding import EmbeddingModels
from regate_orchestrator.rows import LiveFile, StoreRow
from regate_orchestrator.values import Clock, FileId, JsonObject, StoreId, wall_clock

_MAX_CONCURRENT: Final = 1_000
_MAX_EXAMINED: Final = 100_000
_MAX_MOVES: Final = 3
_ABSENT_STORE: Final = StoreId("")


@dataclass(frozen=True, slots=True)
class OpenStore:
    """A vector store that this principal may search in this request. Made by `Retrieval.open` alone."""

    row: StoreRow
    view: JsonObject
    has_expired: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """An admitted chunk, with the name its file is cited by and the store it came from."""

    store_id: StoreId
    filename: str
    candidate: Candidate

    @property
    def source(self) -> ChunkSource:
        """Return the source of whatever is made from this chunk."""
        return ChunkSource(self.store_id, self.candidate.file_id, self.candidate.id, self.candidate.stamp)


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for. `limit` is the number of hits wanted; hits below `threshold` are left out."""

    queries: tuple[str, ...]
    narrowing: Expression
    limit: int
    threshold: float = 0.0


@dataclass(frozen=True, slots=True)
class _SearchPlan:
    """How one store is searched: the plan with the guard inside, and whether the policy's part of it
    is left to the post-check alone.
    """

    plan: FilterPlan
    post_filtered: bool
    note: JsonObject
    revision: str = ""
    """Of the policy that the plan was made by; unknown where it is gated."""
    now: int = 0
    """The time that the plan was made for."""


@dataclass(frozen=True, slots=True)
class _Passed:
    """What was admitted of some candidates. `moved` says that a file was found under another generation than
    the one that counts, and under no other.

    So it is when it was stamped anew, or attached again, between the search and the look at what is live:
    then the search is out of date.
    """

    hits: tuple[Hit, ...]
    superseded: bool


class Retrieval:
    """Searches vector stores on behalf of a principal.

    `gated` names the engines in which a policy filter that they cannot express is left to the post-check,
    rather than refused.
    """

    def __init__(
        self,
        *,
        enforcer: Enforcer,
        state: StateStore,
        vectors: VectorStore,
        models: EmbeddingModels,
        store_schema: RowSchema,
        post_filtered: frozenset[str],
        clock: Clock = wall_clock,
        metrics: Metrics | None = None,
    ) -> None:
        self._enforcer = enforcer
        self._state = state
        self._vectors = vectors
        self._models = models
        self._store_schema = store_schema
        self._gated = post_filtered
        self._clock = clock
        self._candidates = (metrics or Metrics()).counter(
            "regate_retrieval_candidates",
            "Chunks that vector stores returned.",
            ("outcome",),
            rows=[("admitted",), ("denied",), ("gone",)],
        )
        self.mismatches = 0
        """Chunks that the filter admitted and the post-check denied, by one policy at one time (I4):
        must stay 0.
        """

    def view(self, row: StoreRow) -> JsonObject:
        """Return the store as policies see it (`rego/schemas/store.json`)."""
        return self._store_schema.canonical({**row.stamp, "id": row.id, "name": row.name})

    async def candidates_to_open(self, context: Context, ids: Sequence[StoreId]) -> dict[StoreId, OpenStore]:
        """Return the stores among these that exist for the principal's tenant. None of them is decided
        yet: only `opened` may use them.
        """
        found: dict[StoreId, OpenStore] = {}
        for store in ids:
            row = await self._state.vector_stores.get(context.principal, store)
            if row is not None:
                found[store] = OpenStore(row, self.view(row), row.has_expired(self._clock()))
        return found

    async def open(self, context: Context, ids: Sequence[StoreId], *, param: str) -> tuple[OpenStore, ...]:
        """Return the stores, decided for `store.search`; raises `NotFound` for the first that is absent or
        denied, as if it did not exist.

        Raises `InvalidRequest` for the first that has expired, or whose embedding model is no longer
        configured.
        """
        present = await self.candidates_to_open(context, ids)
        # An absent store is asked about as well, so that it takes the same work as one that is denied (I7).
        asked: dict[str, JsonObject] = {
            store: present[store].view if store in present else {"id": _ABSENT_STORE} for store in ids
        }
        admitted = await self._enforcer.admit(context, "store.search", Batch(stores=asked))
        stores = opened(ids, present, admitted.stores, param=param)
        self.require_models(stores)
        return stores

    def require_models(self, stores: Sequence[OpenStore]) -> None:
        """Raise `InvalidRequest` for the first store whose embedding model is no longer configured, as
        `search` would.
        """
        self._models.require([store.row for store in stores])

    async def search(self, context: Context, stores: Sequence[OpenStore], search: Search) -> tuple[Hit, ...]:
        """Return the admitted hits of all stores, best first; ties are broken by store and chunk id.

        Raises `FilterNotExpressible` where the policy cannot be pushed down exactly and the operator chose
        `deny`, `InvalidRequest` for a store of an embedding model that is no longer configured, and the
        `Unavailable` of whichever dependency fails; a failure is never an empty result.
        """
        embedders = {embedder.name: embedder for embedder in (self._models.of(store.row) for store in stores)}
        vectors = {
            name: await one.embed(search.queries, tenant=context.principal.tenant)
            for name, one in embedders.items()
        }
        best: dict[tuple[StoreId, FileId, int], Hit] = {}
        for store in stores:
            search_plan = await self._way(context, store)
            for text, vector in zip(search.queries, vectors[store.row.embedder], strict=True):
                query = Query(vector, search.limit, text)
                for hit in await self._search_one(context, store, query, search, search_plan):
                    place = (hit.store_id, hit.candidate.file_id, hit.candidate.index)
                    if place not in best or hit.candidate.score > best[place].candidate.score:
                        best[place] = hit
            await self._state.vector_stores.touch(context.principal, store.row.id, at=int(self._clock()))
        kept = (hit for hit in best.values() if hit.candidate.score >= search.threshold)
        ranked = sorted(kept, key=lambda hit: (-hit.candidate.score, hit.store_id, hit.candidate.id))
        return tuple(ranked[: search.limit])

    async def _way(self, context: Context, store: OpenStore) -> _SearchPlan:
        """Return how to search: the plan with the guard conjoined, or the guard alone where the policy
        is left to the post-check.
        """
        guard = Compare(
            "eq", ("tenant",), context.principal.tenant
        )  # INVARIANT I3: outside the policy's reach
        try:
            compiled = await self._enforcer.plan(
                context, Point.CHUNK, "chunk.read", unknown="chunk", resource={"store": store.view}
            )
        except FilterNotExpressible as error:
            if store.row.engine not in self._gated:
                raise
            return _SearchPlan(
                narrow(Everything(), guard), post_filtered=True, note={"refused": error.detail}
            )
        return _SearchPlan(
            narrow(compiled.plan, guard), False, compiled.note, compiled.revision, compiled.now
        )

    async def _search_one(
        self, context: Context, store: OpenStore, query: Query, search: Search, search_plan: _SearchPlan
    ) -> list[Hit]:
        """Return the best admitted hits, looking further until there are enough or no candidate is left. Each
        candidate is decided once.

        Raises `FilterNotExpressible` when too many were examined in vain: an answer that may lack hits must
        not pass for a whole one.
        """
        want, moves = search.limit, 0
        hits: dict[tuple[FileId, int], Hit] = {}
        examined: set[str] = set()
        while True:
            try:
                found = await self._vectors.search(
                    store.row.id,
                    replace(query, limit=want),
                    plan=narrow(search_plan.plan, search.narrowing),
                )
            except VectorStoreUnavailable:
                if await self._state.vector_stores.get(context.principal, store.row.id) is None:
                    return []  # deleted in the middle of the search: nothing of it can be found any more
                raise
            except FilterNotExpressible as error:
                if search_plan.post_filtered or store.row.engine not in self._gated:
                    raise
                guard = Compare("eq", ("tenant",), context.principal.tenant)
                search_plan = _SearchPlan(
                    narrow(Everything(), guard), post_filtered=True, note={"refused": error.detail}
                )
                continue
            unseen = [candidate for candidate in found.candidates if candidate.id not in examined]
            superseded = False
            for start in range(0, len(unseen) or 1, _MAX_CONCURRENT):
                part = replace(found, candidates=tuple(unseen[start : start + _MAX_CONCURRENT]))
                admitted = await self._admit(context, store, part, search_plan)
                hits |= {(hit.candidate.file_id, hit.candidate.index): hit for hit in admitted.hits}
                superseded = superseded or admitted.superseded
            examined.update(candidate.id for candidate in unseen)
            if superseded and moves < _MAX_MOVES:
                moves += 1
                continue
            if len(hits) >= search.limit or found.exhausted or isinstance(search_plan.plan, Nothing):
                return sorted(hits.values(), key=lambda hit: (-hit.candidate.score, hit.candidate.id))[
                    : search.limit
                ]
            if want >= _MAX_EXAMINED:
                raise FilterNotExpressible(
                    f"{len(examined)} chunks of store {store.row.id} were examined for {search.limit} "
                    "admitted ones"
                )
            want = min(want * 4, _MAX_EXAMINED)

    async def _admit(
        self, context: Context, store: OpenStore, found: Found, search_plan: _SearchPlan
    ) -> _Passed:
        """Return the candidates that are live and admitted. One batch decides them; nothing looks at a
        candidate before (I9).

        A chunk is live while its file is attached, and it is of the generation that counts and carries the
        very stamp of record: a chunk of a detached file, of an old backup, of an unfinished ingest or of a
        stamp since replaced is gone.
        """
        live = await self._state.attachments.live(
            context.principal, [(store.row.id, candidate.file_id) for candidate in found.candidates]
        )
        present = [
            candidate
            for candidate in found.candidates
            if _is_live(candidate, live.get((store.row.id, candidate.file_id)))
        ]
        batch = Batch(
            stores={store.row.id: store.view},
            chunks=[(store.row.id, candidate.stamp) for candidate in present],
        )
        notes: JsonObject = {
            "retrieval": {
                "store": store.row.id,
                "plan": describe(search_plan.plan),
                "compiled": search_plan.note,
                "gated": search_plan.post_filtered,
                "total": found.total,
                "permitted": found.permitted,
                "returned": len(found.candidates),
                "gone": len(found.candidates) - len(present),
                "chunks": [candidate.id for candidate in present],
            }
        }
        admitted = await self._enforcer.admit(context, "chunk.read", batch, notes=notes)
        passed = [
            candidate
            for position, candidate in enumerate(present)
            if position in admitted.chunks and candidate.stamp.get("tenant") == context.principal.tenant
        ]
        kept = {candidate.id for candidate in passed}
        denied = [candidate for candidate in present if candidate.id not in kept]
        self._candidates.add("admitted", count=len(passed))
        self._candidates.add("denied", count=len(denied))
        self._candidates.add("gone", count=len(found.candidates) - len(present))
        if denied:
            mismatched = await self._mismatched(context, store, denied, search_plan, admitted.revision)
            self.mismatches += mismatched
            chunks = [candidate.id for candidate in denied]
            await self._enforcer.record(
                context, "chunk.denied", {"kind": "denied", "alert": mismatched > 0, "chunks": chunks}
            )
        hits = tuple(
            Hit(store.row.id, live[store.row.id, candidate.file_id].filename, candidate)
            for candidate in passed
        )
        return _Passed(
            hits,
            superseded=_is_superseded(
                found.candidates, present, {file: row.generation for (_, file), row in live.items()}
            ),
        )

    async def _mismatched(
        self,
        context: Context,
        store: OpenStore,
        denied: Sequence[Candidate],
        search_plan: _SearchPlan,
        revision: str,
    ) -> int:
        """Return how many of these the filter should have left out (I4).

        Those are another tenant's, and what the policy that made the plan denies at the very time the plan
        was made for. The others are no fault: the policy changed in mid-search, or a time that a rule
        compares with has come since.
        """
        own = [candidate for candidate in denied if candidate.stamp.get("tenant") == context.principal.tenant]
        foreign = len(denied) - len(own)
        if search_plan.post_filtered or search_plan.revision != revision or not own:
            return foreign
        batch = Batch(
            stores={store.row.id: store.view}, chunks=[(store.row.id, candidate.stamp) for candidate in own]
        )
        then = await self._enforcer.admitted_at(context, batch, now=search_plan.now)
        return foreign if then.revision != revision else foreign + len(own) - len(then.chunks)


def opened(
    ids: Sequence[StoreId], present: Mapping[StoreId, OpenStore], admitted: frozenset[str], *, param: str
) -> tuple[OpenStore, ...]:
    """Return the stores in order; raises `NotFound` for the first that is absent or was not admitted, with
    one wording for both.

    Raises `InvalidRequest` for one that has expired, which whoever may search it may know.
    """
    for store in ids:
        if store not in present or store not in admitted:
            raise NotFound.of("vector store", store, param=param)
    for store in ids:
        if present[store].has_expired:
            raise expired(store, param=param)
    return tuple(present[store] for store in dict.fromkeys(ids))


def expired(store: StoreId, *, param: str | None = None) -> InvalidRequest:
    """Return the refusal of everything but reading and deleting a store that has expired."""
    message = (
        f"The vector store {store} has expired, so it can neither be searched nor changed. Create a new "
        "one with its files."
    )
    return InvalidRequest(message, param=param, code="vector_store_expired")


def _is_superseded(
    candidates: Sequence[Candidate], present: Sequence[Candidate], generations: Mapping[FileId, str]
) -> bool:
    """Return whether a live file was found under other generations than the one that counts, and under
    no other.
    """
    current = {candidate.file_id for candidate in present}
    others = (one for one in candidates if one.file_id not in current)
    return any(generations.get(one.file_id, generation_of(one.id)) != generation_of(one.id) for one in others)


def _is_live(candidate: Candidate, file: LiveFile | None) -> bool:
    return (
        file is not None
        and generation_of(candidate.id) == file.generation
        and dict(candidate.stamp) == dict(file.stamp)
    )


def hit_attributes(hit: Hit) -> dict[str, Scalar]:
    """Return the attributes to show with a hit: the client's own, never the stamp."""
    return dict(hit.candidate.attributes)
