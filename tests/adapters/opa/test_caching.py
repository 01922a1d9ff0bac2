"""Remembered plans and answers: what they may stand for, when they end, and that nothing else is remembered.
Real OPA; only time is scripted.
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from tests.adapters.opa.policies import CHUNK, write_policies

from regate_adapters.opa.caching import CachingEngine
from regate_adapters.opa.engine import OpaEngine
from regate_adapters.testing.opa import RunningOpa, running_opa
from regate_orchestrator.errors import FilterNotExpressible, PolicyUnavailable
from regate_orchestrator.filters.expression import Everything, Matching, Nothing
from regate_orchestrator.ports import Answer, Planned, PolicyEngine
from regate_orchestrator.values import Json, JsonObject

RULE = "regate/chunk/allow"
LOWERED = 'package regate.plans\n\nlowered if lower(input.row.tenant) == "acme"\n'
NOW = 1_800_000_000  # a multiple of 5: a bucket begins here


def document(**changes: Json) -> JsonObject:
    return {
        "v": 1,
        "now": NOW,
        "request_id": "r1",
        "action": "chunk.read",
        "principal": {"tenant": "acme", "teams": ["hr"]},
    } | changes


class Time:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Counted:
    """Passes everything on to an engine, and counts what is asked of it."""

    def __init__(self, inner: PolicyEngine) -> None:
        self.inner = inner
        self.asks = 0
        self.plans = 0

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        self.asks += 1
        return await self.inner.ask(rule, document)

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        self.plans += 1
        return await self.inner.plan(rule, document, unknown=unknown)

    async def revision(self) -> str:
        return await self.inner.revision()


pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def steady(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[OpaEngine]:
    policies = write_policies(
        tmp_path_factory.mktemp("policies"), {"chunk/chunk.rego": CHUNK, "plans.rego": LOWERED}
    )
    async with running_opa(policies, deadline_s=10) as engine:
        yield engine


@pytest.fixture
def counted(steady: OpaEngine) -> Counted:
    return Counted(steady)


@pytest_asyncio.fixture(loop_scope="module")
async def changing(managed: RunningOpa) -> AsyncIterator[Counted]:
    """An OPA whose policies, in the fixture `policies`, the test changes."""
    async with managed as engine:
        yield Counted(engine)


def caching(
    inner: PolicyEngine,
    *,
    seconds: float = 5,
    entries: int = 100,
    most_bytes: int = 1_000_000,
    clock: Time | None = None,
) -> CachingEngine:
    return CachingEngine(
        inner,
        seconds=seconds,
        entries=entries,
        answers_of=["regate/chunk/on_deny"],
        most_bytes=most_bytes,
        clock=clock or Time(),
    )


async def test_same_question_of_another_request_is_compiled_once(counted: Counted) -> None:
    engine = caching(counted)
    first = await engine.plan(RULE, document(), unknown="chunk")
    again = await engine.plan(RULE, document(request_id="r2"), unknown="chunk")

    assert again == first == await counted.inner.plan(RULE, document(), unknown="chunk")
    assert (counted.plans, engine.hits, engine.misses) == (1, 1, 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"now": NOW + 5},
        {"now": NOW - 1},
        {"action": "chunk.write"},
        {"principal": {"tenant": "globex", "teams": ["hr"]}},
        {"principal": {"tenant": "acme", "teams": []}},
        {"principal": {"tenant": "acme", "teams": ["hr"], "clearance": True}},
        {"store": {"id": "vs_1"}},
        {"v": 1.0},
    ],
)
async def test_anything_else_in_the_input_makes_another_plan(
    counted: Counted, changes: dict[str, Json]
) -> None:
    engine = caching(counted)
    await engine.plan(RULE, document(), unknown="chunk")
    await engine.plan(RULE, document(**changes), unknown="chunk")

    assert (counted.plans, engine.hits) == (2, 0)


async def test_true_and_one_are_two_inputs(counted: Counted) -> None:
    engine = caching(counted)
    for clearance in (1, 1.0, True, "1"):
        await engine.plan(
            RULE,
            document(principal={"tenant": "acme", "teams": ["hr"], "clearance": clearance}),
            unknown="chunk",
        )

    assert counted.plans == 4


async def test_order_of_keys_makes_no_difference(counted: Counted) -> None:
    engine = caching(counted)
    await engine.plan(RULE, document(), unknown="chunk")
    await engine.plan(RULE, dict(reversed(document().items())), unknown="chunk")

    assert counted.plans == 1


async def test_another_rule_or_unknown_is_another_plan(counted: Counted) -> None:
    engine = caching(counted)
    plans = [
        (await engine.plan(rule, document(), unknown=unknown)).plan
        for rule, unknown in ((RULE, "chunk"), ("regate/chunk/shared", "chunk"), (RULE, "store"))
    ]

    assert counted.plans == 3
    assert plans[2] == Nothing()  # the chunk is not there, so the rule cannot hold


async def test_within_a_bucket_a_plan_says_which_time_it_was_made_for(counted: Counted) -> None:
    engine = caching(counted)
    first = await engine.plan(RULE, document(now=NOW + 1), unknown="chunk")
    same = await engine.plan(RULE, document(now=NOW + 1), unknown="chunk")
    later = await engine.plan(RULE, document(now=NOW + 4), unknown="chunk")

    assert [first.made_for, same.made_for, later.made_for] == [None, None, NOW + 1]
    assert counted.plans == 1


async def test_plan_ends_with_its_seconds_even_when_the_wall_clock_stands(counted: Counted) -> None:
    clock = Time()
    engine = caching(counted, clock=clock)
    await engine.plan(RULE, document(), unknown="chunk")
    clock.now += 5
    await engine.plan(RULE, document(), unknown="chunk")

    assert (counted.plans, engine.hits, engine.held) == (2, 0, 1)


async def test_zero_seconds_remember_nothing(counted: Counted) -> None:
    engine = caching(counted, seconds=0)
    for _ in range(2):
        await engine.plan(RULE, document(), unknown="chunk")

    assert (counted.plans, engine.held, engine.hits, engine.misses) == (2, 0, 0, 0)


@pytest.mark.parametrize("now", [None, True, "soon", 1.5])
async def test_input_without_a_plain_time_is_never_remembered(counted: Counted, now: Json) -> None:
    engine = caching(counted)
    for _ in range(2):
        await engine.plan(RULE, document(now=now), unknown="chunk")

    assert (counted.plans, engine.held) == (2, 0)


async def test_input_that_is_not_json_is_left_to_the_engine_to_refuse(counted: Counted) -> None:
    with pytest.raises(PolicyUnavailable):
        await caching(counted).plan(RULE, document(action="\ud800"), unknown="chunk")


async def test_decisions_are_asked_every_time(counted: Counted) -> None:
    engine = caching(counted)
    for _ in range(3):
        await engine.ask(RULE, document(chunk={"tenant": "acme"}))

    assert counted.asks == 3


async def test_least_recently_used_plans_go_first(counted: Counted) -> None:
    engine = caching(counted, entries=2)
    for action in ("a", "b", "a", "c", "a", "b"):
        await engine.plan(RULE, document(action=action), unknown="chunk")

    assert (counted.plans, engine.hits, engine.held) == (4, 2, 2)


async def test_plans_together_stay_within_their_bytes(counted: Counted) -> None:
    engine = caching(counted, most_bytes=20_000)
    held = []
    for number in range(20):
        await engine.plan(RULE, document(action=f"a{number}"), unknown="chunk")
        held.append((engine.held, engine.bytes))

    assert all(0 < count < 20 and 0 < size <= 20_000 for count, size in held)


@pytest.mark.parametrize(("people", "teams"), [(300, 0), (300, 5), (40, 500)])
async def test_bytes_that_are_counted_are_those_that_are_held(
    counted: Counted, people: int, teams: int
) -> None:
    engine = caching(counted, entries=1_000, most_bytes=100_000_000)
    await engine.plan(RULE, document(), unknown="chunk")
    await engine.ask(QUALITY, document())
    gc.collect()
    tracemalloc.start()
    held, before = tracemalloc.get_traced_memory()[0], engine.bytes
    for person in range(people):
        who: Json = {
            "id": f"p{person}",
            "tenant": f"t{person}",
            "teams": [f"team-{person}-{number}" for number in range(teams)],
        }
        await engine.plan(RULE, document(principal=who), unknown="chunk")
        await engine.ask(QUALITY, document(principal=who))
    del who
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - held
    tracemalloc.stop()

    assert engine.held == 2 * people + 2
    assert 2 / 3 < (engine.bytes - before) / held < 3 / 2


async def test_plans_that_are_out_of_date_are_dropped_when_anything_else_is_asked(counted: Counted) -> None:
    clock = Time()
    engine = caching(counted, clock=clock)
    for number in range(5):
        await engine.plan(RULE, document(action=f"a{number}"), unknown="chunk")
    clock.now += 6
    await engine.plan(RULE, document(now=NOW + 6), unknown="chunk")

    assert (engine.held, engine.bytes < 5_000) == (1, True)


async def test_plan_larger_than_all_room_is_not_remembered(counted: Counted) -> None:
    engine = caching(counted, most_bytes=100)
    await engine.plan(RULE, document(), unknown="chunk")

    assert (engine.held, engine.bytes) == (0, 0)


async def test_refusal_to_compile_is_not_remembered(counted: Counted) -> None:
    engine = caching(counted)
    for _ in range(2):
        with pytest.raises(FilterNotExpressible):
            await engine.plan("regate/plans/lowered", document(), unknown="row")

    assert (counted.plans, engine.held) == (2, 0)


# ---------------------------------------------------------------- another policy

OPEN = "package regate.chunk\n\ndefault allow := false\n\nallow if input.action\n"


async def changed(changing: Counted, policies: Path, text: str) -> None:
    """Put another chunk policy in force, unknown to the engine that remembers."""
    before = await changing.inner.revision()
    write_policies(policies, {"chunk/chunk.rego": text})
    until = time.monotonic() + 60
    while await changing.inner.revision() == before:
        assert time.monotonic() < until


@pytest.mark.parametrize("heard_by", ["ask", "plan", "revision"])
async def test_every_answer_that_names_another_revision_ends_all_plans(
    changing: Counted, policies: Path, heard_by: str
) -> None:
    engine = caching(changing)
    wide = await engine.plan(RULE, document(), unknown="chunk")
    await changed(changing, policies, OPEN)
    match heard_by:
        case "ask":
            await engine.ask(RULE, document(chunk={"tenant": "acme"}))
        case "plan":
            await engine.plan(RULE, document(action="other"), unknown="chunk")
        case _:
            await engine.revision()

    assert isinstance(wide.plan, Matching)
    assert (await engine.plan(RULE, document(), unknown="chunk")).plan == Everything()


async def test_stale_wide_plan_is_caught_by_the_decision_that_is_never_remembered(
    changing: Counted, policies: Path
) -> None:
    await changed(changing, policies, OPEN)
    engine = caching(changing)
    assert (await engine.plan(RULE, document(), unknown="chunk")).plan == Everything()
    await changed(changing, policies, CHUNK)

    stale = await engine.plan(RULE, document(), unknown="chunk")
    answer = await engine.ask(RULE, document(chunk={"tenant": "globex", "visibility": "tenant"}))
    assert (stale.plan, answer.value) == (Everything(), False)
    assert isinstance(
        (await engine.plan(RULE, document(), unknown="chunk")).plan, Matching
    )  # the answer told of the new revision


class Answering:
    """An engine whose every word the test says: for orders of events that a real one shows once in a
    thousand runs.
    """

    def __init__(self, revision: str) -> None:
        self.current = revision
        self.meanwhile: CachingEngine | None = None
        self.forgets: CachingEngine | None = None

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        if self.forgets is not None:
            self.forgets.forget()
        return Answer(defined=True, value=True, revision=self.current)

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        made = Planned(Everything(), self.current)
        if self.meanwhile is not None:  # the policy changes, and another request hears of it first
            self.current, engine, self.meanwhile = "new", self.meanwhile, None
            await engine.ask(rule, document)
        return made

    async def revision(self) -> str:
        return self.current


async def test_plan_of_an_old_policy_that_arrives_late_is_not_remembered() -> None:
    scripted = Answering("old")
    engine = caching(scripted)
    await engine.revision()
    scripted.meanwhile = engine

    assert (await engine.plan(RULE, document(), unknown="chunk")).revision == "old"
    assert (engine.held, engine.revision_seen) == (0, "new")


QUALITY = "regate/chunk/on_deny"


async def test_quality_of_another_request_is_asked_once_and_a_decision_each_time(counted: Counted) -> None:
    engine = caching(counted)
    for number in range(3):
        await engine.ask(QUALITY, document(request_id=f"r{number}"))
    asked_once = counted.asks
    for number in range(3):
        await engine.ask(RULE, document(request_id=f"r{number}"))

    assert (asked_once, counted.asks) == (1, 4)
    assert (engine.hits, engine.misses) == (0, 0)  # these tell of filters


@pytest.mark.parametrize(
    "changes", [{"now": NOW + 5}, {"principal": {"tenant": "globex"}}, {"action": "other"}]
)
async def test_quality_for_another_input_is_asked_again(counted: Counted, changes: dict[str, Json]) -> None:
    engine = caching(counted)
    await engine.ask(QUALITY, document())
    await engine.ask(QUALITY, document(**changes))

    assert counted.asks == 2


async def test_quality_is_used_for_less_than_its_seconds_and_not_at_all_with_none(counted: Counted) -> None:
    clock = Time()
    engine = caching(counted, clock=clock)
    await engine.ask(QUALITY, document())
    clock.now += 5
    await engine.ask(QUALITY, document())
    never = caching(counted, seconds=0)
    for _ in range(2):
        await never.ask(QUALITY, document())

    assert counted.asks == 4


async def test_quality_ends_with_the_policy_that_said_it() -> None:
    scripted = Answering("old")
    engine = caching(scripted)
    remembered = [await engine.ask(QUALITY, document()), await engine.ask(QUALITY, document())]
    scripted.current = "new"
    await engine.ask(RULE, document())

    assert [answer.revision for answer in [*remembered, await engine.ask(QUALITY, document())]] == [
        "old",
        "old",
        "new",
    ]


async def test_engine_without_policy_ends_all_plans() -> None:
    scripted = Answering("old")
    engine = caching(scripted)
    await engine.plan(RULE, document(), unknown="chunk")
    scripted.current = ""
    await engine.ask(RULE, document())

    assert (engine.held, engine.bytes, engine.revision_seen) == (0, 0, "")


async def test_recalled_answer_says_for_which_time_it_was_made(counted: Counted) -> None:
    engine = caching(counted)
    asked = await engine.ask(QUALITY, document())
    recall = engine.of(document(now=NOW + 4, request_id="r2"))

    assert recall is not None
    assert (asked.made_for, recall(QUALITY)) == (None, replace(asked, made_for=NOW))
    assert (recall(RULE), engine.recalled) == (None, 1)


async def test_what_is_forgotten_is_asked_again_also_when_it_was_under_way() -> None:
    scripted = Answering("old")
    engine = caching(scripted)
    await engine.ask(QUALITY, document())
    engine.forget()
    forgotten = engine.held
    scripted.forgets = engine

    assert (await engine.ask(QUALITY, document())).revision == "old"
    assert (forgotten, engine.held, engine.revision_seen) == (0, 0, "")
