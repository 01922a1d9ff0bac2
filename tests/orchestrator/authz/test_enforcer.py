"""The enforcer fails closed, and writes down what was decided before anybody can act on it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from tests.orchestrator.scripted import ANN, CONTEXT, NOW, Policy, Records, counted

from regate_orchestrator.authz.batches import Admitted, Batch
from regate_orchestrator.authz.decisions import Allow, Deny, Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import AuditUnavailable, NotFound, PolicyUnavailable, Unauthenticated
from regate_orchestrator.filters.expression import Compare, Matching
from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import Answer, Planned
from regate_orchestrator.principal import Authentication
from regate_orchestrator.values import Json, JsonObject, RequestId

FIELDS = {name: FieldSpec(name, "string", required=True) for name in ("tenant", "owner")}
SCHEMAS = {
    kind: RowSchema(kind, FIELDS | {"id": FieldSpec("id", "string", required=False)})
    for kind in ("store", "file", "chunk")
}
ROUTE = Question(Point.ROUTE, "route.call", {"request": {"model": "small"}}, about="small")
STORE = Question(Point.STORE, "store.create", {"name": "x"}, about="vs_1")


class Place:
    """An enforcer with all that it talks to."""

    def __init__(self, **policy: Any) -> None:
        self.policy, self.audit, self.metrics = Policy(**policy), Records(), Metrics()
        self.enforcer = Enforcer(self.policy, self.audit, SCHEMAS, lambda: NOW + 0.9, metrics=self.metrics)


@pytest.mark.parametrize("value", [False, None, 1, 1.0, "true", [True], {"allow": True}, {}])
async def test_only_true_is_an_allow(value: Json) -> None:
    decision = await Place(answers={"regate/route/allow": value}).enforcer.decide(CONTEXT, ROUTE)

    assert decision == Deny("r1")


async def test_true_is_an_allow_under_the_revision_that_said_so() -> None:
    assert await Place(answers={"regate/route/allow": True}).enforcer.decide(CONTEXT, ROUTE) == Allow("r1")


async def test_undefined_rule_is_a_deny() -> None:
    assert await Place().enforcer.decide(CONTEXT, ROUTE) == Deny("r1")


@pytest.mark.parametrize(
    ("point", "rule"),
    [(Point.ROUTE, "regate/route/deny_reasons"), (Point.INGEST, "regate/ingest/reject_reasons")],
)
async def test_deny_says_why_in_the_words_of_the_policy(point: Point, rule: str) -> None:
    decision = await Place(answers={rule: ["too_large", 7, "too_late"]}).enforcer.decide(
        CONTEXT, Question(point, "x", {})
    )

    assert decision == Deny("r1", ("too_large", "too_late"))


async def test_no_answer_is_neither_an_allow_nor_a_deny() -> None:
    place = Place(failing=PolicyUnavailable("gone"))
    with pytest.raises(PolicyUnavailable):
        await place.enforcer.decide(CONTEXT, ROUTE)

    assert place.audit.written == []


async def test_decision_whose_record_cannot_be_written_is_never_returned() -> None:
    place = Place(answers={"regate/route/allow": True})
    place.audit.failing = AuditUnavailable("full")

    with pytest.raises(AuditUnavailable):
        await place.enforcer.decide(CONTEXT, ROUTE)


async def test_deny_ends_in_the_error_that_the_caller_of_require_chose() -> None:
    with pytest.raises(NotFound, match="No such store: x"):
        await Place().enforcer.require(CONTEXT, ROUTE, otherwise=NotFound.of("store", "x"))


async def test_one_record_holds_all_decisions_of_a_phase_with_what_was_asked() -> None:
    place = Place(answers={"regate/route/allow": True})
    await place.enforcer.decide_all(
        CONTEXT, "turn", [ROUTE, STORE], batch=Batch(stores={"vs_1": {"tenant": "acme"}}), notes={"more": 1}
    )
    (record,) = place.audit.written
    decisions: Any = record["decisions"]

    assert [record[key] for key in ("kind", "phase", "request_id", "tenant", "now")] == [
        "decisions",
        "turn",
        "req_1",
        "acme",
        NOW,
    ]
    assert [(entry["rule"], entry["allowed"], entry["resource"]) for entry in decisions] == [
        ("regate/route/allow", True, ROUTE.resource),
        ("regate/store/allow", False, STORE.resource),
    ]
    assert record["asked_as"] == ANN.as_input()
    assert record["more"] == 1


async def test_every_question_carries_the_version_the_time_and_the_principal() -> None:
    place = Place()
    await place.enforcer.decide(CONTEXT, ROUTE)

    assert place.policy.asked[0] == (
        "regate/route/allow",
        {
            "v": 1,
            "now": NOW,
            "request_id": "req_1",
            "action": "route.call",
            "principal": ANN.as_input(),
            "request": {"model": "small"},
        },
    )


# ---------------------------------------------------------------- qualities

QUALIFIED = Question(
    Point.ROUTE,
    "route.call",
    {"request": {"model": "small"}},
    about="small",
    companions=("backend", "obligations"),
)
ALLOWED: dict[str, Json] = {"regate/route/allow": True, "regate/route/backend": "vllm"}


async def test_allow_carries_what_qualifies_it_and_the_record_says_so() -> None:
    place = Place(answers=ALLOWED)
    decision = await place.enforcer.decide(CONTEXT, QUALIFIED)
    (record,) = place.audit.written
    entries: Any = record["decisions"]

    assert decision == Allow("r1", {"backend": "vllm"})  # an undefined rule says nothing
    assert entries[0]["qualities"] == {"backend": "vllm"}


class Together(Policy):
    """An engine that answers nobody before three questions have come; another order of asking would
    wait for ever.
    """

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        if len(self.asked) == 2:
            self.all_came.set()
        answer = await super().ask(rule, document)
        await self.all_came.wait()
        return answer

    all_came: asyncio.Event


async def test_qualities_are_asked_beside_the_decision() -> None:
    policy = Together(answers=ALLOWED)
    policy.all_came = asyncio.Event()
    async with asyncio.timeout(120):
        decision = await Enforcer(policy, Records(), SCHEMAS).decide(CONTEXT, QUALIFIED)

    assert isinstance(decision, Allow)


class Uneven(Policy):
    """An engine that fails for some rules, or answers for them from another policy."""

    fails: frozenset[str] = frozenset()
    revisions: dict[str, list[str]]

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        if rule in self.fails:
            raise PolicyUnavailable(rule)
        answer = await super().ask(rule, document)
        left = self.revisions.get(rule, [])
        return replace(answer, revision=left.pop(0) if left else answer.revision)


def uneven(
    *, fails: str = "", revisions: dict[str, list[str]] | None = None, answers: dict[str, Json] = ALLOWED
) -> tuple[Enforcer, Uneven]:
    policy = Uneven(answers=answers)
    policy.fails, policy.revisions = frozenset({fails}), revisions or {}
    return Enforcer(policy, Records(), SCHEMAS), policy


async def test_allow_without_what_qualifies_it_is_none() -> None:
    enforcer, _ = uneven(fails="regate/route/obligations")
    with pytest.raises(PolicyUnavailable):
        await enforcer.decide(CONTEXT, QUALIFIED)


async def test_deny_does_not_depend_on_what_would_have_qualified_it() -> None:
    enforcer, _ = uneven(fails="regate/route/obligations", answers={})

    assert await enforcer.decide(CONTEXT, QUALIFIED) == Deny("r1")


async def test_quality_of_another_policy_is_asked_once_more() -> None:
    enforcer, policy = uneven(revisions={"regate/route/backend": ["r0"]})
    decision = await enforcer.decide(CONTEXT, QUALIFIED)

    assert decision == Allow("r1", {"backend": "vllm"})
    assert [rule for rule, _ in policy.asked].count("regate/route/backend") == 2


async def test_decision_is_asked_anew_when_the_policy_changes_before_what_qualifies_it() -> None:
    changed = ["r2"] * 5
    enforcer, policy = uneven(
        revisions={
            "regate/route/allow": ["r1", *changed],
            "regate/route/backend": [*changed],
            "regate/route/obligations": [*changed],
        }
    )
    decision = await enforcer.decide(CONTEXT, QUALIFIED)

    assert decision == Allow("r2", {"backend": "vllm"})
    assert [rule for rule, _ in policy.asked].count("regate/route/allow") == 2


async def test_quality_that_stays_of_another_policy_ends_the_operation() -> None:
    enforcer, policy = uneven(revisions={"regate/route/backend": ["r0"] * 6})
    with pytest.raises(PolicyUnavailable):
        await enforcer.decide(CONTEXT, QUALIFIED)

    assert [rule for rule, _ in policy.asked].count("regate/route/allow") == 3


# ---------------------------------------------------------------- batches

WHOLE: JsonObject = {
    "stores": ["vs_1"],
    "chunks": [0, 2],
    "items": [],
    "tool_results": [],
    "models": ["small"],
}
ASKED = Batch(
    stores={"vs_1": {}, "vs_2": {}},
    chunks=[("vs_1", {}), ("vs_1", {}), ("vs_2", {})],
    models=["small", "large"],
)
BATCH = "regate/lib/batch/admitted"


async def test_batch_admits_exactly_what_is_named() -> None:
    admitted = await Place(answers={BATCH: WHOLE}).enforcer.admit(CONTEXT, "turn", ASKED)

    assert admitted == Admitted(
        "r1", frozenset({"vs_1"}), frozenset({0, 2}), frozenset(), frozenset(), frozenset({"small"})
    )


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, [], "all", {}),
        {name: value for name, value in WHOLE.items() if name != "items"},
        *(
            WHOLE | {"chunks": wrong}
            for wrong in (
                None,
                True,
                {"0": True},
                [True],
                [False],
                ["0"],
                [3],
                [-1],
                [0.5],
                [0.0],
                [[0]],
                [{}],
            )
        ),
        *(WHOLE | {"stores": wrong} for wrong in (["vs_3"], [0], {"vs_1": True}, "vs_1")),
        WHOLE | {"models": ["other"]},
    ],
)
async def test_batch_answer_of_any_other_shape_admits_nothing(value: Json) -> None:
    place = Place(answers={BATCH: value})
    with pytest.raises(PolicyUnavailable):
        await place.enforcer.admit(CONTEXT, "turn", ASKED)

    assert place.audit.written == []


LISTED = Batch(listed_stores=[{"id": "vs_1"}, {"id": "vs_2"}], listed_files=[{"id": "file-1"}])
ROWS: JsonObject = {name: [] for name in WHOLE} | {"listed_stores": [1], "listed_files": []}


async def test_rows_of_lists_are_admitted_as_they_are_named() -> None:
    admitted = await Place(answers={BATCH: ROWS}).enforcer.admit(CONTEXT, "list", LISTED)

    assert admitted == Admitted("r1", listed_stores=frozenset({1}))


@pytest.mark.parametrize(
    "value",
    [
        *(
            {name: value for name, value in ROWS.items() if name != missing}
            for missing in ("listed_stores", "listed_files")
        ),
        *(ROWS | {"listed_stores": wrong} for wrong in (None, True, ["vs_1"], [2], [True], {"0": True})),
        ROWS | {"listed_prompts": [0]},
    ],
)
async def test_lists_of_which_the_policy_says_nothing_that_can_be_read_show_nothing(value: Json) -> None:
    with pytest.raises(PolicyUnavailable):
        await Place(answers={BATCH: value}).enforcer.admit(CONTEXT, "list", LISTED)


class Crowded(Policy):
    """An engine that notes how many questions are under way at once."""

    now = most = 0

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0)
        self.now -= 1
        return await super().ask(rule, document)


async def test_many_questions_of_one_phase_take_turns() -> None:
    policy, audit = Crowded(answers={"regate/route/allow": True}), Records()
    questions = [replace(ROUTE, about=str(number)) for number in range(500)]
    decisions, _ = await Enforcer(policy, audit, SCHEMAS, lambda: NOW).decide_all(CONTEXT, "turn", questions)
    (record,) = audit.written
    entries: Any = record["decisions"]

    assert (decisions, policy.most) == ([Allow("r1")] * 500, 32)
    assert [entry["about"] for entry in entries] == [str(number) for number in range(500)]


async def test_undefined_batch_is_unavailable_and_not_an_empty_one() -> None:
    place = Place(answers={BATCH: None})
    with pytest.raises(PolicyUnavailable):
        await place.enforcer.admit(CONTEXT, "turn", ASKED)


async def test_empty_batch_asks_nothing() -> None:
    place = Place()
    admitted = await place.enforcer.admit(CONTEXT, "turn", Batch())

    assert (place.policy.asked, admitted.chunks) == ([], frozenset())


async def test_batch_that_is_asked_at_another_time_leaves_no_record() -> None:
    place = Place(answers={BATCH: WHOLE})
    await place.enforcer.admitted_at(CONTEXT, ASKED, now=NOW - 7)

    decisions = counted(place.metrics, "regate_decisions")
    assert (place.policy.asked[0][1]["now"], place.audit.written, decisions) == (NOW - 7, [], {})


# ---------------------------------------------------------------- stamps and principals


async def test_stamp_is_what_the_policy_says() -> None:
    stamp: JsonObject = {"tenant": "acme", "owner": "ann"}
    place = Place(answers={"regate/store/allow": True, "regate/store/stamp": stamp})

    assert await place.enforcer.stamp(CONTEXT, STORE, described={"id": "vs_1"}) == (Allow("r1"), stamp)


async def test_denied_document_gets_no_stamp() -> None:
    place = Place(answers={"regate/store/stamp": {"tenant": "acme", "owner": "ann"}})

    assert await place.enforcer.stamp(CONTEXT, STORE) == (Deny("r1"), {})
    assert "regate/store/stamp" not in [rule for rule, _ in place.policy.asked]


@pytest.mark.parametrize(
    "stamp",
    [
        *(None, True, [], {}),
        {"tenant": "acme"},
        {"tenant": "globex", "owner": "ann"},
        {"tenant": "acme", "owner": 7},
        {"tenant": "acme", "owner": "ann", "colour": "blue"},
    ],
)
async def test_stamp_that_does_not_conform_or_names_another_tenant_writes_nothing(stamp: Json) -> None:
    place = Place(answers={"regate/store/allow": True, "regate/store/stamp": stamp})

    with pytest.raises(PolicyUnavailable):
        await place.enforcer.stamp(CONTEXT, STORE)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        "ann",
        {"id": "ann"},
        {"id": "ann", "tenant": "*"},
        {"id": "ann", "tenant": "a", "teams": "hr"},
    ],
)
async def test_claims_that_name_no_principal_are_refused_and_recorded(value: Json) -> None:
    place = Place(answers={"regate/authn/principal": value})
    with pytest.raises(Unauthenticated):
        await place.enforcer.principal(
            {"sub": "ann"}, authentication=Authentication("idp", "jwt", "t-1"), request_id=RequestId("req_1")
        )

    by = {"provider": "idp", "kind": "jwt", "credential": "t-1"}
    written = [(one["kind"], one["allowed"], one["authentication"]) for one in place.audit.written]
    assert written == [("identity", False, by)]
    assert counted(place.metrics, "regate_decisions") == {("authn", "false"): 1}


# ---------------------------------------------------------------- plans


class Remembering(Policy):
    """An engine whose plan was made for an earlier request."""

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        return Planned(Matching(Compare("eq", ("owner",), "ann")), "r1", made_for=NOW - 3)


async def test_record_of_a_plan_says_the_time_it_was_made_for() -> None:
    audit = Records()
    enforcer = Enforcer(Remembering(), audit, SCHEMAS, lambda: NOW)
    compiled = await enforcer.plan(CONTEXT, Point.STORE, "store.list", unknown="store", resource={})
    await enforcer.settled(
        CONTEXT,
        "store.list",
        Batch(),
        Admitted("r1"),
        now=compiled.asked_at,
        notes={"compiled": compiled.note},
    )
    (record,) = audit.written
    note: Any = record["compiled"]

    assert (compiled.now, compiled.asked_at, note["now"], record["now"]) == (NOW - 3, NOW, NOW - 3, NOW)


async def test_plan_of_this_request_is_made_for_its_time() -> None:
    compiled = await Place().enforcer.plan(CONTEXT, Point.STORE, "store.list", unknown="store", resource={})

    assert (compiled.now, compiled.asked_at, compiled.revision) == (NOW, NOW, "r1")


async def test_records_tell_a_plans_size_and_none_of_its_values() -> None:
    place = Place(planned=Compare("eq", ("owner",), "secret-name"))
    compiled = await place.enforcer.plan(CONTEXT, Point.STORE, "store.list", unknown="store", resource={})

    assert "secret-name" not in repr(compiled.note)


# ---------------------------------------------------------------- figures


async def test_decisions_are_counted_by_point_and_outcome() -> None:
    place = Place(answers={"regate/route/allow": True, BATCH: WHOLE})
    await place.enforcer.decide_all(CONTEXT, "turn", [ROUTE, STORE], batch=ASKED)

    assert counted(place.metrics, "regate_decisions") == {
        ("route", "true"): 2,
        ("store", "false"): 2,
        ("store", "true"): 1,
        ("chunk", "true"): 2,
        ("chunk", "false"): 1,
        ("route", "false"): 1,
    }


async def test_each_wait_for_the_engine_is_measured_by_its_kind() -> None:
    place = Place(answers={"regate/route/allow": True, BATCH: WHOLE})
    await place.enforcer.decide(CONTEXT, ROUTE)
    await place.enforcer.admit(CONTEXT, "turn", ASKED)
    await place.enforcer.plan(CONTEXT, Point.STORE, "store.list", unknown="store", resource={})

    waits = counted(place.metrics, "regate_decision_seconds")
    assert waits == {("ask",): 1, ("batch",): 1, ("plan",): 1}
    assert counted(place.metrics, "regate_policy_unavailable") == {}


async def test_answers_without_use_are_counted_wherever_that_is_noticed() -> None:
    silent, misshapen = Place(failing=PolicyUnavailable("gone")), Place(answers={BATCH: True})
    for place in (silent, misshapen):
        with pytest.raises(PolicyUnavailable):
            await place.enforcer.admit(CONTEXT, "turn", ASKED)

    found = [counted(place.metrics, "regate_policy_unavailable") for place in (silent, misshapen)]
    assert found == [{("answer",): 1}, {("answer",): 1}]
