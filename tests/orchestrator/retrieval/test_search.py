"""Retrieval: no search before the decision, the guard and the filter inside the search, and every
chunk decided before anything sees it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.orchestrator.scripted import ANN, CONTEXT, NOW, Compass, Policy, Records, counted, direction

from regate_adapters.opa.caching import CachingEngine
from regate_adapters.state.store import SqlStateStore
from regate_adapters.vector.memory.store import MemoryVectorStore
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.documents.embedding import EmbeddingModels
from regate_orchestrator.errors import (
    FilterNotExpressible,
    InvalidRequest,
    NotFound,
    PolicyUnavailable,
    VectorStoreUnavailable,
)
from regate_orchestrator.filters.expression import (
    ALWAYS,
    NEVER,
    Compare,
    Everything,
    Expression,
    FilterPlan,
    In,
    Nothing,
    Scalar,
    all_of,
    expression_of,
    plan_of,
)
from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import Chunk, Embedder, Found, Fusion, Mode, PolicyEngine, Query, Vector
from regate_orchestrator.principal import Principal
from regate_orchestrator.retrieval import search as module
from regate_orchestrator.retrieval.ranking import BY_DEFAULT, Ranking, RankingDefaults
from regate_orchestrator.retrieval.search import Retrieval, Search
from regate_orchestrator.retrieval.stores import OpenStore
from regate_orchestrator.rows import Attachment, FileRow, OrphanedChunks, StoreChanges, StoreRow
from regate_orchestrator.values import FileId, Json, JsonObject, StoreId

EVE = Principal("eve", "globex")
VS = StoreId("vs_1")
STAMP: JsonObject = {"tenant": "acme", "owner": "ann", "visibility": "tenant"}
PUBLIC = Compare("eq", ("visibility",), "tenant")
ACME = Compare("eq", ("tenant",), "acme")
FIELDS = {name: FieldSpec(name, "string", required=True) for name in ("tenant", "owner", "visibility")} | {
    "embargo_until": FieldSpec("embargo_until", "number", required=False)
}
CHUNKS = RowSchema("chunk", FIELDS)
STORES = RowSchema(
    "store", FIELDS | {name: FieldSpec(name, "string", required=True) for name in ("id", "name")}
)


class Engine(MemoryVectorStore):
    """The reference store, which remembers what it was asked and cannot express the fields in `refuses`."""

    def __init__(self) -> None:
        super().__init__(CHUNKS)
        self.searches: list[tuple[FilterPlan, int]] = []
        self.queries: list[Query] = []
        self.refuses: set[str] = set()

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        if any(repr(name) in repr(expression_of(plan)) for name in self.refuses):
            raise FilterNotExpressible(f"no way to say {self.refuses}")
        self.searches.append((plan, query.limit))
        self.queries.append(query)
        return await super().search(store, query, plan=plan)


class Careless(Engine):
    """A store with a defect: it applies no filter at all."""

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        self.searches.append((plan, query.limit))
        self.queries.append(query)
        return await MemoryVectorStore.search(self, store, query, plan=Everything())


class World:
    """A retrieval over one store, in which the test puts documents."""

    def __init__(self, state: SqlStateStore) -> None:
        self.state = state
        self.policy, self.audit, self.metrics = Policy(), Records(), Metrics()
        self.vectors: Engine = Engine()
        self.now = NOW

    defaults = RankingDefaults("vector")

    def retrieval(
        self, *others: Embedder, gate: bool = False, engine: PolicyEngine | None = None
    ) -> Retrieval:
        self.metrics = Metrics()
        enforcer = Enforcer(engine or self.policy, self.audit, {}, lambda: self.now, metrics=self.metrics)
        return Retrieval(
            enforcer=enforcer,
            state=self.state,
            guards=Guards(enforcer),
            vectors=self.vectors,
            models=EmbeddingModels(Compass(), *others),
            store_schema=STORES,
            post_filtered=frozenset({"main"} if gate else {"another"}),
            defaults=self.defaults,
            clock=lambda: self.now,
            metrics=self.metrics,
        )

    async def make(self) -> None:
        stamp = {"tenant": "acme", "owner": "ann", "visibility": "tenant", "shared": True}
        await self.state.vector_stores.add(
            StoreRow(VS, "Handbook", NOW, NOW, {}, stamp, "compass-2", 2, "main")
        )
        await self.vectors.create(VS, dimensions=2)

    async def put(
        self,
        file: str,
        angles: Sequence[float],
        *,
        who: Principal = ANN,
        attributes: Mapping[str, Scalar] | None = None,
        **stamp: Json,
    ) -> None:
        """Attach a file whose chunks lie at these angles from the query, in degrees; their ids end in
        the angle.
        """
        whole: dict[str, Json] = {"tenant": who.tenant, "owner": who.id, "visibility": "tenant"} | stamp
        own = dict(attributes or {})
        await self.state.files.add(FileRow(FileId(file), f"{file}.md", 1, "assistants", NOW, whole))
        values: dict[str, Any] = {
            "requested": {},
            "attributes": own,
            "max_chunk_tokens": 800,
            "overlap_tokens": 0,
            "policy_revision": "r1",
        }
        named = {"chunks": len(angles), "generation": f"{who.tenant}/{file}"}
        row = Attachment(
            VS, FileId(file), NOW, "completed", whole, principal=who.as_input(), **named, **values
        )
        await self.state.attachments.put([row])
        chunks = [
            Chunk(
                f"{who.tenant}/{file}/{angle}", FileId(file), number, str(angle), direction(angle), whole, own
            )
            for number, angle in enumerate(angles)
        ]
        await self.vectors.add(VS, chunks)

    async def found(
        self,
        retrieval: Retrieval | None = None,
        *,
        limit: int = 5,
        narrowing: Expression = ALWAYS,
        **more: Any,
    ) -> list[str]:
        """What ann finds at 0 degrees: texts, which are angles."""
        used = retrieval or self.retrieval()
        stores = await used.open(CONTEXT, [VS], param="vector_store_id")
        hits = await used.search(CONTEXT, stores, Search(("0",), narrowing, limit, **more))
        return [hit.candidate.text for hit in hits]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with SqlStateStore.open(f"sqlite:///{tmp_path / 'state.db'}") as state:
        made = World(state)
        await made.make()
        yield made


# ---------------------------------------------------------------- before the search


async def test_absent_and_denied_stores_are_refused_in_one_wording_and_never_searched(world: World) -> None:
    world.policy.answers["regate/lib/batch/admitted"] = {
        "stores": [],
        "chunks": [],
        "items": [],
        "tool_results": [],
        "models": [],
    }
    said = []
    for store in (VS, StoreId("vs_0")):
        with pytest.raises(NotFound) as refused:
            await world.retrieval().open(CONTEXT, [store], param="vector_store_id")
        said.append(refused.value.message.replace(store, "…"))

    assert said[0] == said[1]
    assert [document["stores"] for _, document in world.policy.asked][1] == {
        "vs_0": {"id": ""}
    }  # asked about all the same
    assert world.vectors.searches == []


async def test_one_store_that_is_not_the_callers_to_search_refuses_all(world: World) -> None:
    with pytest.raises(NotFound, match="vs_0"):
        await world.retrieval().open(CONTEXT, [VS, StoreId("vs_0")], param="tools")


async def test_store_of_a_model_that_is_gone_is_refused_and_its_vectors_are_compared_with_none(
    world: World,
) -> None:
    row = await world.state.vector_stores.get(ANN, VS)
    assert row is not None
    other = await _other_store(world)
    with pytest.raises(InvalidRequest, match="embedding model") as refused:
        await world.retrieval().open(CONTEXT, [other.id], param="tools")
    with pytest.raises(InvalidRequest):
        await world.retrieval().search(
            CONTEXT, [OpenStore(row, {}), OpenStore(other, {})], Search(("0",), ALWAYS, 5)
        )

    assert (refused.value.code, world.vectors.searches) == ("embedding_model_not_configured", [])


async def test_each_text_is_searched_by_its_own_vector(world: World) -> None:
    await world.put("a", [0, 90])
    used = world.retrieval()
    stores = await used.open(CONTEXT, [VS], param="tools")
    await used.search(CONTEXT, stores, Search(("0", "90"), ALWAYS, 2))

    asked = [(query.text, tuple(query.vector), query.mode) for query in world.vectors.queries]
    assert asked == [(text, direction(int(text)), "vector") for text in ("0", "90")]


async def test_mode_and_weights_are_those_of_the_search_or_of_the_deployment(world: World) -> None:
    await world.put("a", [0, 90])
    weights, others = Fusion(0.2, 0.8), Fusion(1, 0, by="rank")
    world.defaults = RankingDefaults(fusion=weights)
    for ranking in (BY_DEFAULT, Ranking(mode="keyword"), Ranking(mode="hybrid", fusion=others)):
        await world.found(ranking=ranking)
    asked = [(query.mode, query.fusion) for query in world.vectors.queries]

    assert asked == [("hybrid", weights), ("keyword", weights), ("hybrid", others)]


@pytest.mark.parametrize("wanted", [None, "keyword", "hybrid"])
def test_default_that_an_engine_does_not_serve_is_a_search_by_vectors(wanted: Mode | None) -> None:
    assert RankingDefaults(wanted).mode_of(BY_DEFAULT, frozenset({"vector"})) == "vector"


def test_mode_that_is_asked_for_and_not_served_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        RankingDefaults().mode_of(Ranking(mode="keyword"), frozenset({"vector"}))
    assert (refused.value.code, refused.value.param) == ("search_mode_not_supported", "search_mode")


async def test_each_store_is_searched_with_its_own_model(world: World) -> None:
    other = await _other_store(world)
    await world.put("a", [0, 90])
    await world.vectors.create(other.id, dimensions=2)
    for angle in (0, 180):
        chunk = Chunk(f"acme/a/{angle}", FileId("a"), angle, f"{angle}", direction(angle), STAMP, {})
        await world.vectors.add(other.id, [chunk])
    row = await world.state.attachments.get(ANN, VS, FileId("a"))
    assert row is not None
    await world.state.attachments.put([replace(row, store_id=other.id)])
    used = world.retrieval(Backwards())
    stores = await used.open(CONTEXT, [VS, other.id], param="tools")
    hits = await used.search(CONTEXT, stores, Search(("0",), ALWAYS, 2))

    assert [(hit.store_id, hit.candidate.text) for hit in hits] == [(VS, "0"), (other.id, "180")]


class Backwards(Compass):
    """Another model with vectors of the same length, in which everything points the other way."""

    name = "other-2"

    async def embed(self, texts: Sequence[str], *, tenant: str) -> list[Vector]:
        return [direction(float(text) + 180) for text in texts]


async def _other_store(world: World) -> StoreRow:
    row = await world.state.vector_stores.get(ANN, VS)
    assert row is not None
    other = replace(row, id=StoreId("vs_2"), embedder="other-2", stamp=dict(row.stamp))
    await world.state.vector_stores.add(other)
    return other


async def test_no_search_without_a_plan(world: World) -> None:
    await world.put("a", [1])
    used = world.retrieval()
    stores = await used.open(CONTEXT, [VS], param="tools")
    world.policy.planned = PolicyUnavailable("gone")

    with pytest.raises(PolicyUnavailable):
        await used.search(CONTEXT, stores, Search(("0",), ALWAYS, 5))
    assert world.vectors.searches == []


async def test_policy_that_permits_nothing_gives_the_store_a_plan_without_io(world: World) -> None:
    await world.put("a", [1])
    world.policy.planned = NEVER

    assert await world.found() == []
    assert [plan for plan, _ in world.vectors.searches] == [Nothing()]


# ---------------------------------------------------------------- in and after the search


async def test_hits_are_the_permitted_chunks_best_first(world: World) -> None:
    await world.put("open", [3, 1, 70])
    await world.put("closed", [2], visibility="private")
    world.policy.chunks = PUBLIC

    assert await world.found() == ["1", "3", "70"]
    assert await world.found(limit=2) == ["1", "3"]
    assert await world.found(ranking=Ranking(0.9)) == ["1", "3"]


async def test_ties_are_broken_by_chunk_id(world: World) -> None:
    await world.put("b", [5])
    await world.put("a", [5])
    used = world.retrieval()
    hits = await used.search(CONTEXT, await used.open(CONTEXT, [VS], param="x"), Search(("0",), ALWAYS, 5))

    assert [hit.candidate.id for hit in hits] == ["acme/a/5", "acme/b/5"]


async def test_several_queries_give_each_chunk_its_best_score(world: World) -> None:
    await world.put("a", [0, 90])
    used = world.retrieval()
    hits = await used.search(
        CONTEXT, await used.open(CONTEXT, [VS], param="x"), Search(("0", "90"), ALWAYS, 5)
    )

    assert [round(hit.candidate.score, 3) for hit in hits] == [1.0, 1.0]


async def test_client_filter_only_narrows(world: World) -> None:
    await world.put("open", [1], attributes={"colour": "blue"})
    await world.put("closed", [2], visibility="private", attributes={"colour": "blue"})
    world.policy.chunks = PUBLIC

    assert await world.found(narrowing=Compare("eq", ("attributes", "colour"), "blue")) == ["1"]
    assert await world.found(narrowing=Compare("eq", ("attributes", "colour"), "red")) == []


@pytest.mark.parametrize("gate", [False, True])
async def test_policy_that_permits_everything_does_not_cross_tenants(world: World, gate: bool) -> None:
    await world.put("ours", [1])
    await world.put("theirs", [0], who=EVE)
    if gate:
        world.policy.planned = FilterNotExpressible("x")

    assert await world.found(world.retrieval(gate=gate)) == ["1"]
    assert all("'acme'" in repr(plan) for plan, _ in world.vectors.searches)


async def test_store_with_a_defect_leaks_nothing_and_raises_the_alarm(world: World) -> None:
    world.vectors = Careless()
    await world.vectors.create(VS, dimensions=2)
    await world.put("ours", [1])
    await world.put("closed", [2], visibility="private")
    await world.put("theirs", [0], who=EVE)
    world.policy.chunks = PUBLIC
    used = world.retrieval()

    assert await world.found(used) == ["1"]
    assert used.mismatches == 1
    assert counted(world.metrics, "regate_retrieval_candidates") == {
        ("admitted",): 1,
        ("denied",): 1,
        ("gone",): 1,
    }  # another tenant's chunk has no attachment here, so it is not even decided


async def test_chunk_that_the_filter_admits_and_the_decision_denies_is_dropped_counted_and_told(
    world: World,
) -> None:
    await world.put("open", [1])
    await world.put("closed", [2, 3], visibility="private")
    world.policy.chunks, world.policy.planned = PUBLIC, ALWAYS  # a filter that is too wide
    used = world.retrieval()

    assert await world.found(used) == ["1"]
    assert used.mismatches == 2
    assert [
        (record["alert"], record["chunks"])
        for record in world.audit.written
        if record.get("kind") == "denied"
    ] == [(True, ["acme/closed/2", "acme/closed/3"])]
    assert counted(world.metrics, "regate_retrieval_candidates") == {("admitted",): 1, ("denied",): 2}


async def test_chunk_of_a_detached_or_restamped_file_is_gone(world: World) -> None:
    await world.put("kept", [1])
    await world.put("detached", [0])
    await world.state.attachments.delete(ANN, VS, FileId("detached"))
    await world.put("restamped", [2])
    stamped = await world.state.attachments.get(ANN, VS, FileId("restamped"))
    assert stamped is not None
    await world.state.attachments.put(
        [replace(stamped, stamp={**stamped.stamp, "visibility": "private"}, status="completed")]
    )
    world.policy.chunks = PUBLIC

    assert await world.found() == ["1"]
    assert counted(world.metrics, "regate_retrieval_candidates") == {("admitted",): 1, ("gone",): 2}


async def test_answer_with_too_few_live_chunks_is_filled_up_from_further_away(world: World) -> None:
    await world.put("detached", range(20))
    await world.state.attachments.delete(ANN, VS, FileId("detached"))
    await world.put("kept", [30, 31, 32])

    assert await world.found(limit=2) == ["30", "31"]


# ---------------------------------------------------------------- what changes in the middle of a search


class Moving(Engine):
    """A store in which something changes right after each of the first searches: what it answers is
    then out of date.
    """

    def __init__(self) -> None:
        super().__init__()
        self.after: list[Callable[[], Awaitable[None]]] = []

    async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
        found = await super().search(store, query, plan=plan)
        if self.after:
            await self.after.pop(0)()
        return found


async def swap(world: World, file: str, generation: str, **stamp: Json) -> None:
    """Stamp a file anew, as `documents/attachments.py` does: its chunks are found under another
    generation from now on.
    """
    row = await world.state.attachments.get(ANN, VS, FileId(file))
    assert row is not None
    anew = replace(row, generation=generation, stamp={**row.stamp, **stamp})
    await world.state.orphaned_chunks.reserve(OrphanedChunks(VS, row.file_id, generation), ttl_s=600)
    await world.vectors.restamp(
        VS, row.file_id, generation=row.generation, target=generation, stamp=anew.stamp, attributes={}
    )
    assert await world.state.attachments.amend(anew, expected=row)
    await world.vectors.remove(VS, row.file_id, generation=row.generation)


async def test_a_file_that_is_stamped_anew_in_mid_search_is_found_once(world: World) -> None:
    world.vectors = moving = Moving()
    await world.vectors.create(VS, dimensions=2)
    await world.put("moving", [1])
    await world.put("still", [2])
    moving.after = [
        lambda: swap(world, "moving", "acme/moving/e2"),
        lambda: swap(world, "moving", "acme/moving/e3"),
    ]

    assert await world.found() == ["1", "2"]
    assert len(moving.searches) == 3


async def test_a_file_that_is_closed_in_mid_search_is_not_found_and_the_search_ends(world: World) -> None:
    world.vectors = moving = Moving()
    await world.vectors.create(VS, dimensions=2)
    await world.put("moving", [1])
    await world.put("still", [2])
    world.policy.chunks = PUBLIC
    moving.after = [lambda: swap(world, "moving", "acme/moving/e2", visibility="private")]

    assert await world.found() == ["2"]


async def test_a_search_does_not_go_on_for_ever_in_a_store_that_never_rests(world: World) -> None:
    world.vectors = moving = Moving()
    await world.vectors.create(VS, dimensions=2)
    await world.put("moving", [1])
    moving.after = [partial(swap, world, "moving", f"acme/moving/e{number}") for number in range(50)]

    assert await world.found() in ([], ["1"])
    assert len(moving.searches) < 10


async def test_a_store_that_is_deleted_in_mid_search_has_nothing(world: World) -> None:
    class Dropped(Engine):
        async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
            await world.state.vector_stores.delete(ANN, VS)
            await self.drop(VS)
            return await super().search(store, query, plan=plan)

    world.vectors = Dropped()
    await world.vectors.create(VS, dimensions=2)
    await world.put("closed", [1])

    assert await world.found() == []


async def test_an_engine_that_fails_is_no_empty_store(world: World) -> None:
    class Failing(Engine):
        async def search(self, store: StoreId, query: Query, *, plan: FilterPlan) -> Found:
            raise VectorStoreUnavailable("down")

    world.vectors = Failing()
    await world.vectors.create(VS, dimensions=2)
    await world.put("kept", [1])
    with pytest.raises(VectorStoreUnavailable):
        await world.found()


async def test_an_expired_store_is_refused_to_whoever_may_search_it_and_absent_to_others(
    world: World,
) -> None:
    await world.state.vector_stores.update(ANN, VS, StoreChanges(expires_after_days=1))
    world.now = NOW + 86_400
    with pytest.raises(InvalidRequest) as refused:
        await world.retrieval().open(CONTEXT, [VS], param="vector_store_id")

    assert (refused.value.code, refused.value.param) == ("vector_store_expired", "vector_store_id")


# ---------------------------------------------------------------- a plan that is out of date


def caching(policy: Policy) -> CachingEngine:
    return CachingEngine(policy, seconds=5, entries=10, clock=lambda: 0.0)


async def test_stale_wide_plan_shows_nothing_and_is_no_mismatch(world: World) -> None:
    await world.put("closed", [1, 2], visibility="private")
    used = world.retrieval(engine=caching(world.policy))
    assert await world.found(used) == ["1", "2"]  # the policy is wide, and so is the plan that is remembered
    stores = await used.open(CONTEXT, [VS], param="x")
    world.policy.chunks, world.policy.rev = (
        PUBLIC,
        "r2",
    )  # tightened, after this request last heard of the revision

    assert await used.search(CONTEXT, stores, Search(("0",), ALWAYS, 5)) == ()
    assert world.policy.compiled == 1
    assert used.mismatches == 0
    assert [record["alert"] for record in world.audit.written if record.get("kind") == "denied"] == [False]
    assert await world.found(used) == []
    assert world.policy.compiled == 2


async def test_chunk_whose_time_has_passed_is_dropped_and_is_no_mismatch(world: World) -> None:
    await world.put("expiring", [1], embargo_until=NOW + 3)
    await world.put("lasting", [2], embargo_until=NOW + 99)
    world.policy.planned = ALWAYS  # at NOW, when the plan is made, both are permitted
    world.policy.decides = lambda row, now: row["embargo_until"] > now
    used = world.retrieval(engine=caching(world.policy))
    assert await world.found(used) == ["1", "2"]
    world.now = NOW + 4

    assert await world.found(used) == ["2"]
    assert (world.policy.compiled, used.mismatches) == (1, 0)


async def test_filter_that_is_wrong_for_its_own_time_is_a_mismatch_though_it_was_remembered(
    world: World,
) -> None:
    await world.put("expired", [1], embargo_until=NOW - 1)
    world.policy.planned = ALWAYS
    world.policy.decides = lambda row, now: row["embargo_until"] > now
    used = world.retrieval(engine=caching(world.policy))
    for world.now in (NOW, NOW + 4):
        assert await world.found(used) == []

    assert (world.policy.compiled, used.mismatches) == (1, 2)


async def test_remembered_plan_is_of_no_use_without_the_engine(world: World) -> None:
    await world.put("open", [1])
    used = world.retrieval(engine=caching(world.policy))
    assert await world.found(used) == ["1"]
    stores = await used.open(CONTEXT, [VS], param="x")
    world.policy.failing = PolicyUnavailable("gone")

    with pytest.raises(PolicyUnavailable):
        await used.search(CONTEXT, stores, Search(("0",), ALWAYS, 5))


# ---------------------------------------------------------------- what the store cannot express


async def rare(world: World) -> None:
    """3000 chunks that ann may not read, nearer than the five that she may."""
    await world.put("common", [number / 100 for number in range(3_000)], visibility="private")
    await world.put("rare", [40, 41, 42, 43, 44])
    world.policy.chunks = PUBLIC
    world.vectors.refuses = {"visibility"}


async def test_inexpressible_policy_is_an_error_by_default(world: World) -> None:
    await rare(world)

    with pytest.raises(FilterNotExpressible):
        await world.found()
    assert world.vectors.searches == []


async def test_gated_store_gives_exactly_the_permitted_chunks_however_rare(world: World) -> None:
    await rare(world)
    used = world.retrieval(gate=True)

    assert await world.found(used, limit=3) == ["40", "41", "42"]
    assert await world.found(used, limit=50) == ["40", "41", "42", "43", "44"]
    assert used.mismatches == 0


async def test_gated_search_decides_each_candidate_once_and_in_bounded_batches(world: World) -> None:
    await rare(world)
    await world.found(world.retrieval(gate=True), limit=3)
    sizes = [
        len(document["chunks"])
        for rule, document in world.policy.asked
        if rule == "regate/lib/batch/admitted"
    ]
    limits = [limit for _, limit in world.vectors.searches]

    assert limits == sorted(set(limits))
    assert sum(sizes) == 3_005
    assert max(sizes) <= 1_000


async def test_policy_that_cannot_be_compiled_is_gated_too(world: World) -> None:
    await rare(world)
    world.vectors.refuses = set()
    world.policy.planned = FilterNotExpressible("regate/chunk/allow: lower()")

    assert await world.found(world.retrieval(gate=True), limit=3) == ["40", "41", "42"]
    with pytest.raises(FilterNotExpressible):
        await world.found(world.retrieval(gate=False), limit=3)


async def test_gated_search_keeps_the_client_filter_inside(world: World) -> None:
    await rare(world)
    narrowing = In(("owner",), ("bob",))

    assert await world.found(world.retrieval(gate=True), narrowing=narrowing) == []
    assert [plan for plan, _ in world.vectors.searches] == [plan_of(all_of((narrowing, ACME)))]


async def test_client_filter_that_the_store_cannot_express_is_an_error_even_when_gated(world: World) -> None:
    await world.put("open", [1], attributes={"colour": "blue"})
    world.vectors.refuses = {"colour"}

    with pytest.raises(FilterNotExpressible):
        await world.found(
            world.retrieval(gate=True), narrowing=Compare("eq", ("attributes", "colour"), "blue")
        )


async def test_search_that_examined_too_many_in_vain_is_an_error_and_not_a_short_answer(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rare(world)
    monkeypatch.setattr(module, "_MAX_EXAMINED", 500)

    with pytest.raises(FilterNotExpressible):
        await world.found(world.retrieval(gate=True), limit=3)


async def test_counts_of_what_was_not_permitted_are_in_the_record_alone(world: World) -> None:
    await world.put("open", [1])
    await world.put("closed", [2], visibility="private")
    world.policy.chunks = PUBLIC
    await world.found()
    (noted,) = [record["retrieval"] for record in world.audit.written if "retrieval" in record]
    assert isinstance(noted, Mapping)

    assert [noted[key] for key in ("total", "permitted", "returned", "gone", "gated")] == [2, 1, 1, 0, False]
