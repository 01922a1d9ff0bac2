"""Limits are read strictly, asked for once and recorded; and what a call spends is corrected whatever
becomes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from tests.orchestrator.scripted import ANN, CONTEXT, NOW, Policy, Records, counted

from regate_orchestrator.authz.answers import permits
from regate_orchestrator.authz.decisions import Allow, Point
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.limits import Price, QuotaLimits, ScopeLimits, read_limits
from regate_orchestrator.errors import NotPermitted, PolicyUnavailable, UpstreamError
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.model_events import ModelEnded, ModelEvent, TextWritten, Usage
from regate_orchestrator.ports import Account, Allowance, Amount, Counted, Exhausted
from regate_orchestrator.principal import Principal
from regate_orchestrator.quota.accounts import accounts_of
from regate_orchestrator.quota.limits import granted, quota_question
from regate_orchestrator.quota.metering import MeteredBackend, Quotas, Spending, Used
from regate_orchestrator.responses.granting import NullQuota
from regate_orchestrator.tokens import estimated_tokens
from regate_orchestrator.values import Json, JsonObject

LIMITS = QuotaLimits(rpm=10, tpm=1_000, max_turns=4, max_tool_calls=8, max_chunks=20, max_output_tokens=100)
SAID: dict[str, Json] = {
    name: getattr(LIMITS, name)
    for name in ("rpm", "tpm", "max_turns", "max_tool_calls", "max_chunks", "max_output_tokens")
}
REQUEST: JsonObject = {
    "method": "POST",
    "path": "/v1/responses",
    "model": "small",
    "stream": False,
    "tool_types": [],
}
RULE = "regate/quota/limits"

MALFORMED: list[Json] = [
    *(None, True, False, 1, "limits", [], {}, [SAID], {"rpm": 10}),
    *({**SAID, "more": 1}, {name: value for name, value in SAID.items() if name != "tpm"}),
    *({**SAID, "rpm": wrong} for wrong in (-1, 1.0, 0.5, "10", None, True, [10], {"a": 1})),
    *({**SAID, "scopes": wrong} for wrong in (None, {}, "tenant", [None], [{}], [{"scope": "tenant"}])),
    {**SAID, "scopes": [{"scope": "tenant", "limits": {"rpm": 1}}] * 33},
    *(
        {**SAID, "scopes": [{"scope": "tenant", "limits": {"rpm": 1}} | wrong]}
        for wrong in (
            *({"scope": scope} for scope in ("team", "", None, 1, "role", "Tenant")),
            *(
                {"limits": limits}
                for limits in (None, [], {"rps": 1}, {"rpm": -1}, {"rpm": 1.0}, {"rpm": True})
            ),
            {"limits": {"cost_per_day": 10**10}},
            *({"per_model": wrong} for wrong in (1, "true", None)),
            *({"name": name} for name in ("x", None, 1)),
            {"scope": "role", "name": "x" * 513},
            {"scope": "model", "per_model": True},
            {"more": 1},
        )
    ),
    *({**SAID, "price": wrong} for wrong in (None, 1, [], {"input": -1}, {"input": "1"}, {"more": 1})),
    *({**SAID, "price": {"output": wrong}} for wrong in (True, float("inf"), 10**7)),
]


def test_limits_of_scopes_and_a_price_are_read_and_money_is_in_millionths() -> None:
    scopes: list[Json] = [
        {"scope": "tenant", "limits": {"rpm": 5, "cost_per_day": 2}, "per_model": True},
        {"scope": "role", "name": "batch", "limits": {"concurrent": 3}},
        {"scope": "model", "limits": {}},
    ]
    found = read_limits({**SAID, "scopes": scopes, "price": {"input": 0.5, "output": 2}})

    assert found is not None
    assert found.scopes == (
        ScopeLimits("tenant", {"rpm": 5, "cost_per_day": 2_000_000}, per_model=True),
        ScopeLimits("role", {"concurrent": 3}, "batch"),
        ScopeLimits("model", {}),
    )
    assert found.price.of(3, 10) == 22  # 1.5 and 20 millionths, rounded up


def test_a_request_is_counted_once_in_each_account_under_the_lower_of_two_limits() -> None:
    scopes = (
        ScopeLimits("person", {"rpm": 3, "tpm": 9_000, "concurrent": 1}),
        ScopeLimits("person", {"rpm": 2}, per_model=True),
        ScopeLimits("tenant", {"rpm": 8}),
        ScopeLimits("role", {"tpm": 7}, "batch"),
        ScopeLimits("model", {"concurrent": 6}),
    )
    found = accounts_of(Principal("ann", "acme"), replace(LIMITS, scopes=scopes), "small")

    assert found == (
        Account("person", "acme", "ann", "", {"rpm": 3, "tpm": 1_000, "concurrent": 1}),
        Account("person", "acme", "ann", "small", {"rpm": 2}),
        Account("tenant", "acme", "", "", {"rpm": 8}),
        Account("role", "acme", "batch", "", {"tpm": 7}),
        Account("model", "", "", "small", {"concurrent": 6}),
    )


def test_six_whole_numbers_are_limits_and_nought_is_one() -> None:
    assert [read_limits(SAID), read_limits({**SAID, "rpm": 0})] == [
        LIMITS,
        replace(LIMITS, rpm=0),
    ]


@pytest.mark.parametrize("value", MALFORMED)
def test_anything_else_is_none(value: Json) -> None:
    assert (read_limits(value), permits(Point.QUOTA, value)) == (None, False)


def test_limits_permit_where_limits_are_asked_for_and_nowhere_else() -> None:
    assert [
        permits(Point.QUOTA, SAID),
        permits(Point.QUOTA, True),
        permits(Point.ROUTE, SAID),
        permits(Point.ROUTE, True),
    ] == [
        True,
        False,
        False,
        True,
    ]


# ---------------------------------------------------------------- asking


class Place:
    def __init__(self, **policy: Any) -> None:
        self.policy, self.audit, self.metrics = Policy(**policy), Records(), Metrics()
        self.enforcer = Enforcer(self.policy, self.audit, {}, lambda: NOW + 0.5, metrics=self.metrics)


async def test_limits_are_asked_for_once_and_recorded_with_what_was_said() -> None:
    place = Place(answers={RULE: SAID})
    decision = await place.enforcer.decide(CONTEXT, quota_question(REQUEST))
    (record,) = place.audit.written
    (entry,) = record["decisions"]  # type: ignore[misc]  # JSON

    asked = {
        "v": 1,
        "now": NOW,
        "request_id": "req_1",
        "action": "quota.limits",
        "principal": ANN.as_input(),
        "request": REQUEST,
    }
    assert (granted(decision), place.policy.asked) == (LIMITS, [(RULE, asked)])
    assert (record["phase"], record["revision"], record["subject"]) == ("quota.limits", "r1", "ann")
    assert {name: entry[name] for name in ("point", "rule", "about", "allowed", "qualities", "resource")} == {  # type: ignore[call-overload, index]
        "point": "quota",
        "rule": RULE,
        "about": "small",
        "allowed": True,
        "qualities": {"limits": SAID},
        "resource": {"request": REQUEST},
    }
    assert counted(place.metrics, "regate_decisions") == {("quota", "true"): 1}


async def test_a_policy_that_says_nothing_grants_nothing_and_the_reasons_are_recorded() -> None:
    place = Place(answers={"regate/quota/deny_reasons": ["no_limit: tpm"]})
    decision = await place.enforcer.decide(CONTEXT, quota_question(REQUEST))
    with pytest.raises(NotPermitted) as refused:
        granted(decision)

    (entry,) = place.audit.written[0]["decisions"]  # type: ignore[misc]
    assert (refused.value.code, entry["allowed"], entry["reasons"]) == (
        "policy_denied",
        False,
        ["no_limit: tpm"],
    )  # type: ignore[call-overload, index]
    assert counted(place.metrics, "regate_decisions") == {("quota", "false"): 1}


@pytest.mark.parametrize("value", MALFORMED)
async def test_limits_that_are_none_are_a_fault_of_the_policy(value: Json) -> None:
    with pytest.raises(PolicyUnavailable):
        await Place(answers={RULE: value}).enforcer.decide(CONTEXT, quota_question(REQUEST))


def test_an_allow_of_something_else_grants_no_limits() -> None:
    with pytest.raises(PolicyUnavailable):
        granted(Allow("r1"))


# ---------------------------------------------------------------- spending

_SOME = (Allowance(1, 1, 1.0), Allowance(1, 1, 1.0, "person", "tpm"))


@dataclass
class Till:
    """A counter that keeps what it is told."""

    reserved: list[int] = field(default_factory=list)
    corrections: list[int] = field(default_factory=list)
    costs: list[int] = field(default_factory=list)
    released: int = 0
    full: bool = False

    async def reserve(self, accounts: Sequence[Account], amount: Amount) -> Counted | Exhausted:
        self.reserved.append(amount.tokens)
        return (
            Exhausted(_SOME[1], amount.tokens, 1.0, _SOME)
            if self.full
            else Counted(tuple(accounts), 0, _SOME)
        )

    async def correct(self, counted: Counted, *, by: Amount) -> None:
        self.corrections.append(by.tokens)
        self.costs.append(by.cost)

    async def release(self, counted: Counted) -> None:
        self.released += 1


async def spending_of(till: Till, *, tokens: int = 100) -> Spending:
    found = await Quotas(till).count(CONTEXT, LIMITS, model="small", needs=Used(tokens))
    assert isinstance(found, Spending)
    return found


async def test_an_estimate_is_counted_as_the_whole_limit_at_most_and_as_one_token_at_least() -> None:
    till = Till()
    for tokens in (0, 100, 1_000, 1_000_000):
        await spending_of(till, tokens=tokens)

    assert till.reserved == [1, 100, 1_000, 1_000]


async def test_what_ended_is_released_and_noted_once_with_what_it_used() -> None:
    till, noted = Till(), list[tuple[str, Used, int]]()
    limits = replace(LIMITS, price=Price(input=2, output=3))
    quotas = Quotas(till, note=lambda context, model, used, cost: noted.append((model, used, cost)))
    found = await quotas.count(CONTEXT, limits, model="small", needs=Used(10, 10))
    assert isinstance(found, Spending)
    await found.used(Used(7, 3))
    await found.end()
    await found.end()

    assert (till.released, noted, till.costs) == (1, [("small", Used(7, 3), 23)], [23 - 50])


async def test_a_request_that_passes_a_limit_is_counted_as_refused() -> None:
    metrics, till = Metrics(), Till(full=True)
    await Quotas(till, metrics).count(CONTEXT, LIMITS, model="small", needs=Used(100))

    assert counted(metrics, "regate_quota_refused") == {("tokens",): 1}


async def test_what_is_known_takes_the_place_of_what_was_known_before() -> None:
    till = Till()
    spending = await spending_of(till)
    for tokens in (40, 40, 250, 0):
        await spending.used(Used(tokens))

    assert till.corrections == [-60, 210, -250]


@dataclass
class Model:
    """A backend that says this, one list of events for each call; an error is raised where it stands."""

    calls: list[Sequence[ModelEvent | Exception]]

    @asynccontextmanager
    async def chat(
        self, upstream: str, payload: JsonObject, *, alternates: Sequence[str] = ()
    ) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        script = self.calls.pop(0)
        if script and isinstance(script[0], Exception):
            raise script[0]

        async def events() -> AsyncIterator[ModelEvent]:
            for event in script:
                if isinstance(event, Exception):
                    raise event
                yield event

        stream = events()
        try:
            yield stream
        finally:
            await stream.aclose()  # type: ignore[attr-defined]  # a generator


PAYLOAD: JsonObject = {"model": "m", "messages": [{"role": "user", "content": "x" * 400}]}
ESTIMATE = estimated_tokens([PAYLOAD["messages"], None])


async def call(backend: MeteredBackend, *, stop_after: int = 99) -> list[ModelEvent]:
    heard: list[ModelEvent] = []
    async with backend.chat("up", PAYLOAD) as events:
        async for event in events:
            heard.append(event)
            if len(heard) == stop_after:
                break
    return heard


async def test_what_the_backend_reports_is_what_the_request_stands_for_over_all_its_calls() -> None:
    till = Till()
    events = [TextWritten("Hello"), ModelEnded("stop", Usage(input_tokens=7, output_tokens=3))]
    backend = MeteredBackend(Model([events, events]), await spending_of(till))
    heard = [await call(backend), await call(backend)]

    assert heard == [events, events]
    assert (backend.calls, till.corrections) == (2, [-90, 10])


async def test_a_backend_that_reports_nothing_is_estimated_by_what_went_in_and_came_out() -> None:
    till = Till()
    backend = MeteredBackend(
        Model([[TextWritten("y" * 40), ModelEnded("stop", Usage())]]), await spending_of(till, tokens=1)
    )
    await call(backend)

    assert (100 < ESTIMATE < 120, backend.spent) == (True, Used(ESTIMATE, 10))


async def test_a_call_that_is_left_or_breaks_off_is_spent_as_far_as_it_went() -> None:
    till = Till()
    pieces: list[ModelEvent | Exception] = [TextWritten("y" * 40)] * 3
    backend = MeteredBackend(Model([pieces, [*pieces, UpstreamError("broke")]]), await spending_of(till))
    await call(backend, stop_after=1)
    left = backend.spent
    with pytest.raises(UpstreamError):
        await call(backend)

    assert (left, backend.spent) == (Used(ESTIMATE, 10), Used(2 * ESTIMATE, 40))


async def test_a_call_that_is_cancelled_is_spent_as_far_as_it_went() -> None:
    till, heard = Till(), asyncio.Event()
    backend = MeteredBackend(Model([[TextWritten("y" * 40), TextWritten("z")]]), await spending_of(till))

    async def listen() -> None:
        async with backend.chat("up", PAYLOAD) as events:
            await anext(events)
            heard.set()
            await asyncio.Event().wait()

    async with asyncio.TaskGroup() as group:
        listening = group.create_task(listen())
        await heard.wait()
        listening.cancel()

    assert (listening.cancelled(), backend.spent) == (True, Used(ESTIMATE, 10))


async def test_a_call_that_the_upstream_does_not_take_up_costs_nothing() -> None:
    till = Till()
    backend = MeteredBackend(Model([[UpstreamError("refused")]]), await spending_of(till))
    with pytest.raises(UpstreamError):
        await call(backend)

    assert (backend.calls, backend.spent, till.corrections) == (0, Used(), [-100])


async def test_without_a_quota_no_model_is_called() -> None:
    with pytest.raises(PolicyUnavailable):
        NullQuota().chat("up", PAYLOAD, alternates=())


def test_texts_count_by_their_bytes_and_enclosed_files_do_not() -> None:
    text, image = (
        estimated_tokens({"content": "é" * 200}),
        estimated_tokens({"url": "data:image/png;base64," + "A" * 1_000_000}),
    )

    assert (100 <= text <= 104, 1_000 <= image <= 1_004, estimated_tokens(None)) == (True, True, 1)
