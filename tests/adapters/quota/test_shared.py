"""The shared counter when Redis or a gateway fails: leases that expire, a server that restarts empty or whose
clock is set back, answers that do not come; and what is granted without it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
import uvloop
from tests.adapters.quota.counters import NOON, Time, left, person
from tests.link import Link, State
from tests.orchestrator.scripted import counted as counted_in
from tests.patience import PATIENT_SECONDS
from tests.redis_server import RedisServer, running_redis

from regate_adapters.quota.calendar import end_of, number_of
from regate_adapters.quota.guarded import GuardedCounter, OnFailure
from regate_adapters.quota.local import LocalQuotaCounter
from regate_adapters.quota.shared import RedisQuotaCounter
from regate_adapters.redis import connected
from regate_orchestrator.errors import QuotaUnavailable
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import Account, Amount, Counted, Exhausted, QuotaCounter, Window

ONE = Amount(1)

Gateway = Callable[..., AbstractAsyncContextManager[RedisQuotaCounter]]


@pytest.fixture
def gateway(redis_server: RedisServer) -> Gateway:
    """Counters of several gateways that share what they count, unless another server is named."""
    prefix = secrets.token_hex(8)

    @asynccontextmanager
    async def opened(
        url: str = redis_server.url(), deadline_s: float = PATIENT_SECONDS, **options: Any
    ) -> AsyncIterator[RedisQuotaCounter]:
        async with connected(url, deadline_s=deadline_s) as redis:
            yield RedisQuotaCounter(redis, prefix=prefix, deadline_s=deadline_s, **options)

    return opened


async def kinds(counter: QuotaCounter, account: Account, times: int) -> list[type]:
    return [type(await counter.reserve([account], ONE)) for _ in range(times)]


async def test_days_and_months_end_when_the_calendar_says(gateway: Gateway) -> None:
    days = [datetime(year, month, day, 23, 59, tzinfo=UTC) for year in (2026, 2028, 2099, 2100)
            for month, day in ((1, 1), (1, 31), (2, 28), (3, 1), (6, 30), (12, 31))]  # fmt: skip
    moments = [day.timestamp() for day in days] + [datetime(2028, 2, 29, 1, tzinfo=UTC).timestamp()]
    ahead = [0.0]
    found, expected = [], []
    async with gateway(ahead=lambda: ahead[0]) as counter:
        for number, moment in enumerate(moments):
            ahead[0] = moment - time.time()
            mine = person(f"p{number}", requests_per_day=9, requests_per_month=9)
            counted = await counter.reserve([mine], ONE)
            for window, meter in (("day", "requests_per_day"), ("month", "requests_per_month")):
                found.append(left(counted, meter).reset_s)
                of: Window = window  # type: ignore[assignment]
                expected.append(end_of(of, number_of(of, moment)) - moment)

    assert found == pytest.approx(expected, abs=30)


async def test_what_a_killed_gateway_ran_is_believed_to_run_for_half_a_minute_and_no_longer(
    gateway: Gateway,
) -> None:
    ahead, mine = [0.0], person(concurrent=1)
    async with gateway(ahead=lambda: ahead[0]) as alive, gateway(ahead=lambda: ahead[0]) as killed:
        await killed.reserve([mine], ONE)
        ahead[0] = 20
        before = await kinds(alive, mine, 1)
        ahead[0] = 31
        after = await kinds(alive, mine, 1)  # which runs from now on
        for ahead[0] in (50, 75, 100):
            await alive._renew()
        renewed = await kinds(killed, mine, 1)

    assert (before, after, renewed) == ([Exhausted], [Counted], [Exhausted])


async def test_a_server_that_restarts_empty_grants_one_more_window_and_learns_what_runs(
    gateway: Gateway,
) -> None:
    mine = person(rpm=3, concurrent=9, tokens_per_day=50)
    with running_redis() as server:
        async with gateway(server.url()) as counter:
            before = [await counter.reserve([mine], Amount(10)) for _ in range(4)]
            server.stop()
            with pytest.raises(QuotaUnavailable):
                await counter.reserve([mine], ONE)
            server.start()
            await counter._renew()
            first = before[0]
            assert isinstance(first, Counted)
            await counter.correct(first, by=Amount(-10))  # of what the server has never heard
            await counter.flush()
            after = [await counter.reserve([mine], Amount(10)) for _ in range(4)]

    for found in (before, after):
        assert [type(one) for one in found] == [Counted] * 3 + [Exhausted]
    # Never more than there are, and what ran before runs on.
    assert [left(one, "tokens_per_day").remaining for one in after] == [40, 30, 20, 20]
    assert [left(one, "concurrent").remaining for one in after] == [5, 4, 3, 3]


async def test_a_clock_that_is_set_back_grants_one_more_window_and_never_less_than_nothing(
    gateway: Gateway,
) -> None:
    ahead, mine = [40 * 86_400.0], person(rpm=2, tpm=100, concurrent=2, requests_per_day=2)
    async with gateway(ahead=lambda: ahead[0]) as counter:
        before = await kinds(counter, mine, 3)
        ahead[0] = 0.0
        after = [await counter.reserve([mine], Amount(10)) for _ in range(3)]

    assert before == [type(one) for one in after] == [Counted, Counted, Exhausted]
    assert [left(one, "rpm").remaining for one in after] == [1, 0, 0]
    assert [left(one, "requests_per_day").remaining for one in after] == [1, 0, 0]


async def test_what_a_budget_spent_before_is_looked_up_once_for_each_window(gateway: Gateway) -> None:
    asked: list[tuple[str, str, int]] = []

    async def spent(account: Account, window: Window, number: int) -> dict[str, int]:
        asked.append((account.name, window, number))
        return {"requests": 3, "tokens": 90, "cost": 7}

    ahead = [NOON - time.time()]
    mine = person(tokens_per_day=100, cost_per_month=100)
    async with gateway(spent_so_far=spent, ahead=lambda: ahead[0]) as counter:
        first = await counter.reserve([mine], Amount(5, 1))
        second = await counter.reserve([mine], Amount(1, 1))
        ahead[0] += 86_400
        tomorrow = await counter.reserve([mine], Amount(1, 1))

    remaining = [left(one, meter).remaining for one in (first, second, tomorrow)
                 for meter in ("tokens_per_day", "cost_per_month")]  # fmt: skip
    today = number_of("day", NOON)
    assert remaining == [5, 92, 4, 91, 9, 90]
    assert asked == [
        ("ann", "day", today), ("ann", "month", 2026 * 12 + 10), ("ann", "day", today + 1)
    ]  # fmt: skip


@pytest.mark.parametrize("state", ["reset", "cut", "half_close"])
def test_one_call_at_most_pays_for_connections_that_were_lost_while_idle(
    gateway: Gateway, redis_server: RedisServer, state: State
) -> None:
    people = [person(f"p{number}") for number in range(8)]

    async def answers() -> list[type]:
        async with (
            Link(redis_server.port) as link,
            gateway(redis_server.url(link.port)) as counter,
        ):
            await asyncio.gather(*[counter.reserve([one], ONE) for one in people])
            link.become(state)
            for connection in counter._redis.connection_pool._available_connections:  # type: ignore[attr-defined]
                async with asyncio.timeout(PATIENT_SECONDS):
                    while not (connection._reader.at_eof() or connection._reader.exception()):
                        await asyncio.sleep(0.01)
            link.become("pass")
            with suppress(QuotaUnavailable):
                await counter.reserve([people[0]], ONE)
            found = await asyncio.gather(
                *[counter.reserve([one], ONE) for one in people], return_exceptions=True
            )
            return [type(one) for one in found]

    # The loop that the gateway runs on
    assert uvloop.run(answers()) == [Counted] * 8


@pytest.mark.parametrize("state", ["swallow", "cut"])
async def test_an_answer_that_does_not_come_is_bounded_and_holds_nothing(
    gateway: Gateway, redis_server: RedisServer, state: Any
) -> None:
    mine = person(concurrent=1)
    async with (
        Link(redis_server.port) as link,
        gateway(redis_server.url(link.port), deadline_s=0.3) as counter,
    ):
        patient = counter._deadline_s
        counter._deadline_s = PATIENT_SECONDS
        held = await counter.reserve([mine], ONE)
        assert isinstance(held, Counted)
        link.become(state)
        counter._deadline_s = patient
        began = time.monotonic()
        with pytest.raises(QuotaUnavailable):
            await counter.reserve([person("bob", concurrent=1)], ONE)
        took = time.monotonic() - began
        await counter.release(held)
        await counter.flush()
    async with gateway() as other:
        assert await kinds(other, person("bob", concurrent=1), 1) == [Counted]

    assert took < PATIENT_SECONDS / 10


# ---------------------------------------------------------------- without it


class Away:
    """A shared counter that does not answer until it is back."""

    def __init__(self, inner: QuotaCounter) -> None:
        self.inner, self.is_back, self.tried = inner, False, 0

    async def reserve(self, accounts: Any, amount: Amount) -> Counted | Exhausted:
        self.tried += 1
        if not self.is_back:
            raise QuotaUnavailable("away")
        return await self.inner.reserve(accounts, amount)

    async def correct(self, counted: Counted, *, by: Amount) -> None: ...

    async def release(self, counted: Counted) -> None: ...


@pytest.mark.parametrize("on_failure", ["deny", "local"])
async def test_without_it_the_configured_mode_holds_and_no_other_and_is_said_once(
    on_failure: OnFailure, caplog: pytest.LogCaptureFixture
) -> None:
    metrics, clock = Metrics(), Time()
    shared = Away(LocalQuotaCounter())
    counter = GuardedCounter(
        shared, LocalQuotaCounter(), on_failure=on_failure, metrics=metrics, gateways=lambda: 3, clock=clock
    )

    async def ask() -> str:
        try:
            return type(await counter.reserve([person(rpm=9, concurrent=2)], ONE)).__name__
        except QuotaUnavailable:
            return "denied"

    with caplog.at_level(logging.WARNING, "regate.quota"):
        found = [await ask() for _ in range(5)]
        tried = shared.tried
        clock.now += 1.1
        shared.is_back = True
        back = [await ask() for _ in range(2)]

    # A third of nine, of which each runs: one of two at the same time.
    assert found == (["denied"] * 5 if on_failure == "deny" else ["Counted"] + ["Exhausted"] * 4)
    assert (tried, back) == (1, ["Counted"] * 2)
    assert [one.message for one in caplog.records] == ["quota_shared_lost", "quota_shared_again"]
    effect = "denied" if on_failure == "deny" else "local"
    assert counted_in(metrics, "regate_quota_unavailable") == {(effect,): 5}


async def test_where_nothing_is_limited_the_shared_counter_is_not_asked() -> None:
    shared = Away(LocalQuotaCounter())
    counter = GuardedCounter(shared, LocalQuotaCounter(), on_failure="deny", metrics=Metrics())
    found = await counter.reserve([person(rpm=1_000_000, tpm=1_000_000_000)], ONE)

    assert (type(found), left(found).remaining, shared.tried) == (Counted, 999_999, 0)
