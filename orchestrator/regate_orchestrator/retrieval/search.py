"""Retrieval: the store decision, the filter plan, the search with the filter inside, and the admission of
every chunk found (DESIGN §6).

`open` comes first and makes the only values that `search` accepts, so no store is searched before it was
decided (I2). Counts of what was filtered go to the audit record and never into an answer. Used by the search
route and by the driver alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from regate_orchestrator.authz.batches import Batch
from regate_orchestrator.authz.decisions import Context, Point
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.documents.embedding import EmbeddingModels
from regate_orchestrator.errors import FilterNotExpressible, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Compare, Everything, Expression, Nothing, narrow
from regate_orchestrator.filters.schema import RowSchema
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import Embedder, Found, Query, StateStore, Vector, VectorStore
from regate_orchestrator.retrieval.admission import Admission, Hit, SearchPlan
from regate_orchestrator.retrieval.guarding import guarded_hits
from regate_orchestrator.retrieval.ranking import BY_DEFAULT, Ranking, RankingDefaults
from regate_orchestrator.retrieval.reranking import best_first, reranked
from regate_orchestrator.retrieval.spans import store_span, tell_embedding
from regate_orchestrator.retrieval.stores import OpenStore, opened
from regate_orchestrator.rows import StoreRow
from regate_orchestrator.tracing.spans import span_clock
from regate_orchestrator.values import Clock, FileId, JsonObject, StoreId, wall_clock

T = TypeVar("T")
LONGEST_QUERY: Final = 100_000
"""Characters of all queries of a search. A vector of much more takes a thread many seconds, and all callers
share a few.
"""
_MAX_CONCURRENT: Final = 1_000
_MAX_EXAMINED: Final = 100_000
_MAX_MOVES: Final = 3
_ABSENT_STORE: Final = StoreId("")


@dataclass(frozen=True, slots=True)
class Search:
    """What to look for. `limit` is the number of hits wanted."""

    queries: tuple[str, ...]
    narrowing: Expression
    limit: int
    ranking: Ranking = BY_DEFAULT


class Retrieval:
    """Searches vector stores on behalf of a principal.

    `post_filtered` names the engines in which a policy filter that they cannot express is left to the
    post-check, rather than refused.
    """

    def __init__(
        self,
        *,
        enforcer: Enforcer,
        state: StateStore,
        guards: Guards,
        vectors: VectorStore,
        models: EmbeddingModels,
        store_schema: RowSchema,
        post_filtered: frozenset[str],
        defaults: RankingDefaults | None = None,
        clock: Clock = wall_clock,
        metrics: Metrics | None = None,
    ) -> None:
        self._enforcer = enforcer
        self._state = state
        self._guards = guards
        self._vectors = vectors
        self._models = models
        self._store_schema = store_schema
        self._gated = post_filtered
        self._defaults = defaults or RankingDefaults()
        self._clock = clock
        self._admission = Admission(enforcer, state, metrics or Metrics())

    @property
    def mismatches(self) -> int:
        """Return how many chunks the filter admitted and the post-check denied, by one policy at one time
        (I4): must stay 0.
        """
        return self._admission.mismatches

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
        """Return the admitted hits of all stores, best first, as far as guards let their texts through; ties
        are broken by store and chunk id.

        Raises `FilterNotExpressible` where the policy cannot be pushed down exactly and the operator chose
        `deny`, `InvalidRequest` for a store of an embedding model that is no longer configured and for a mode
        that a store's engine does not serve, and the
        `Unavailable` of whichever dependency fails; a failure is never an empty result.
        """
        ranker = self._defaults.ranker_of(search.ranking)
        wanted = search if ranker is None else replace(search, limit=max(search.limit, ranker.passages))
        embedders = {embedder.name: embedder for embedder in (self._models.of(store.row) for store in stores)}
        vectors = {
            name: await self._embedded(context, one, search.queries) for name, one in embedders.items()
        }
        best: dict[tuple[StoreId, FileId, int], Hit] = {}
        for store in stores:
            of_store = vectors[store.row.embedder]
            if context.span is None:
                hits = await self._search_store(context, store, wanted, of_store)
            else:
                with store_span(context, context.span, store) as within:
                    hits = await self._search_store(within, store, wanted, of_store)
            for hit in hits:
                place = (hit.store_id, hit.candidate.file_id, hit.candidate.index)
                if place not in best or hit.candidate.score > best[place].candidate.score:
                    best[place] = hit
            await self._state.vector_stores.touch(context.principal, store.row.id, at=int(self._clock()))
        if ranker is None:
            return await guarded_hits(
                self._guards, context, best_first(best.values(), search.ranking)[: search.limit]
            )
        shown = best_first(best.values(), BY_DEFAULT)[: wanted.limit]
        readable = await guarded_hits(self._guards, context, shown)
        return await reranked(ranker.reranker, readable, search.queries, search.ranking, search.limit)

    async def _embedded(
        self, context: Context, embedder: Embedder, queries: Sequence[str]
    ) -> Sequence[Vector]:
        began = span_clock()
        vectors = await embedder.embed(queries, tenant=context.principal.tenant)
        if context.span is not None:
            tell_embedding(context, context.span, embedder.name, began=began)
        return vectors

    async def _search_store(
        self, context: Context, store: OpenStore, search: Search, vectors: Sequence[Vector]
    ) -> list[Hit]:
        """Return the best admitted hits of one store for each query."""
        search_plan = await self._plan(context, store)
        served = await self._unless_deleted(context, store, self._vectors.modes(store.row.id))
        if served is None:
            return []
        mode = self._defaults.mode_of(search.ranking, served)
        fusion = self._defaults.fusion_of(search.ranking)
        hits: list[Hit] = []
        for text, vector in zip(search.queries, vectors, strict=True):
            query = Query(vector, search.limit, text, mode, fusion)
            hits += await self._search_one(context, store, query, search, search_plan)
        return hits

    async def _plan(self, context: Context, store: OpenStore) -> SearchPlan:
        """Return how to search: the plan with the guard conjoined, or the guard alone where the policy
        is left to the post-check.
        """
        try:
            compiled = await self._enforcer.plan(
                context, Point.CHUNK, "chunk.read", unknown="chunk", resource={"store": store.view}
            )
        except FilterNotExpressible as error:
            return self._post_filtered(context, store, error)
        plan = narrow(compiled.plan, _guard(context))
        return SearchPlan(plan, False, compiled.note, compiled.revision, compiled.now)

    def _post_filtered(self, context: Context, store: OpenStore, error: FilterNotExpressible) -> SearchPlan:
        """Return the plan that leaves the policy to the post-check; raises the error where that is not
        wanted.
        """
        if store.row.engine not in self._gated:
            raise error
        plan = narrow(Everything(), _guard(context))
        return SearchPlan(plan, post_filtered=True, note={"refused": error.detail})

    async def _search_one(
        self, context: Context, store: OpenStore, query: Query, search: Search, search_plan: SearchPlan
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
                found = await self._find(context, store, replace(query, limit=want), search, search_plan)
            except FilterNotExpressible as error:
                if search_plan.post_filtered:
                    raise
                search_plan = self._post_filtered(context, store, error)
                continue
            if found is None:
                return []
            superseded = await self._admit(context, store, found, search_plan, examined=examined, hits=hits)
            if superseded and moves < _MAX_MOVES:
                moves += 1
                continue
            if len(hits) >= search.limit or found.exhausted or isinstance(search_plan.plan, Nothing):
                best = sorted(hits.values(), key=lambda hit: (-hit.candidate.score, hit.candidate.id))
                return best[: search.limit]
            if want >= _MAX_EXAMINED:
                raise FilterNotExpressible(
                    f"{len(examined)} chunks of store {store.row.id} were examined for {search.limit} "
                    "admitted ones"
                )
            want = min(want * 4, _MAX_EXAMINED)

    async def _find(
        self, context: Context, store: OpenStore, query: Query, search: Search, search_plan: SearchPlan
    ) -> Found | None:
        """Return what the store has; None for one that was deleted in the middle of the search."""
        plan = narrow(search_plan.plan, search.narrowing)
        searching = self._vectors.search(store.row.id, query, plan=plan)
        return await self._unless_deleted(context, store, searching)

    async def _unless_deleted(self, context: Context, store: OpenStore, asked: Awaitable[T]) -> T | None:
        """Return the answer; None for a store that was deleted meanwhile: nothing of it can be found any
        more.
        """
        try:
            return await asked
        except VectorStoreUnavailable:
            if await self._state.vector_stores.get(context.principal, store.row.id) is None:
                return None
            raise

    async def _admit(
        self,
        context: Context,
        store: OpenStore,
        found: Found,
        search_plan: SearchPlan,
        *,
        examined: set[str],
        hits: dict[tuple[FileId, int], Hit],
    ) -> bool:
        """Add the admitted hits among what was not examined before. Return whether the search is out
        of date.
        """
        unseen = [candidate for candidate in found.candidates if candidate.id not in examined]
        superseded = False
        for start in range(0, len(unseen) or 1, _MAX_CONCURRENT):
            part = replace(found, candidates=tuple(unseen[start : start + _MAX_CONCURRENT]))
            admitted = await self._admission.admit(context, store, part, search_plan)
            hits |= {(hit.candidate.file_id, hit.candidate.index): hit for hit in admitted.hits}
            superseded = superseded or admitted.superseded
        examined.update(candidate.id for candidate in unseen)
        return superseded


def _guard(context: Context) -> Expression:
    # INVARIANT I3: outside the policy's reach.
    return Compare("eq", ("tenant",), context.principal.tenant)
