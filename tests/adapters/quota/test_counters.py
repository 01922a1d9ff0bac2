"""Every counter: limits of all scopes at once or none, a sliding minute that never forgets too early, budgets
of the calendar, and what runs at the same time.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable

import pytest
from tests.adapters.quota.counters import NOON, PLENTY, Place, Time, account, left, person
from tests.patience import PATIENT_SECONDS
from tests.redis_server import RedisServer

from regate_adapters.quota.local import LocalQuotaCounter
from regate_adapters.quota.shared import RedisQuotaCounter
from regate_adapters.redis import connected
from regate_orchestrator.ports import Counted

DAY = 86_400


class LocalClock:
    def __init__(self) -> None:
        self.time = Time()

    def pass_(self, seconds: float) -> None:
        self.time.now += seconds

    def now(self) -> float:
        return self.time.now


class AheadOfRedis:
    """Redis's clock, and how far the test is ahead of it, from noon of a day on."""

    def __init__(self) -> None:
        self.by = NOON - time.time()

    def pass_(self, seconds: float) -> None:
        self.by += seconds

    def now(self) -> float:
        return time.time() + self.by


@pytest.fixture(params=["local", "redis"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    if request.param == "local":
        local = LocalClock()
        yield Place(LocalQuotaCounter(clock=local.time, calendar=local.time), local)
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    ahead = AheadOfRedis()
    async with connected(server.url(), deadline_s=PATIENT_SECONDS) as redis:
        counter = RedisQuotaCounter(
            redis, prefix=secrets.token_hex(8), deadline_s=PATIENT_SECONDS, ahead=lambda: ahead.by
        )
        yield Place(counter, ahead, counter.flush)


# ---------------------------------------------------------------- a minute


async def test_as_many_requests_are_counted_as_the_limit_says_and_the_rest_is_refused(place: Place) -> None:
    remaining = [left(await place.counted(person(rpm=3))).remaining for _ in range(3)]
    found = await place.refused(person(rpm=3))

    assert remaining == [2, 1, 0]
    assert (found.refused.meter, found.asked, found.refused.limit, found.refused.remaining) == (
        "rpm",
        1,
        3,
        0,
    )
    assert found.after_s == pytest.approx(60.5, abs=0.6)
    assert left(found).reset_s == pytest.approx(60.5, abs=0.6)


async def test_a_refused_request_is_counted_nowhere(place: Place) -> None:
    tenant = account("tenant", rpm=1)
    await place.counted(person("bob", concurrent=9), tenant)
    for _ in range(3):
        found = await place.refused(person(rpm=5, concurrent=2, requests_per_day=5), tenant)
        assert (found.refused.scope, found.refused.meter) == ("tenant", "rpm")
    after = await place.counted(person(rpm=5, concurrent=2, requests_per_day=5))

    assert [left(after, meter).remaining for meter in ("rpm", "concurrent", "requests_per_day")] == [4, 1, 4]


async def test_the_longest_wait_is_told(place: Place) -> None:
    await place.counted(person(rpm=1), account("tenant", tokens_per_day=1))
    found = await place.refused(person(rpm=1), account("tenant", tokens_per_day=1))

    assert (found.refused.scope, found.refused.meter) == ("tenant", "tokens_per_day")


async def test_room_is_told_and_is_there_then_and_not_before(place: Place) -> None:
    await place.counted(person(), tokens=10)
    place.clock.pass_(10)
    await place.counted(person(), tokens=10)
    place.clock.pass_(10)
    await place.counted(person(), tokens=10)
    place.clock.pass_(10)
    first = await place.refused(person(rpm=3))
    many = await place.refused(person(tpm=30), tokens=15)  # needs what the first two hold
    place.clock.pass_(first.after_s - 1.0)
    still = await place.refused(person(rpm=3))
    place.clock.pass_(still.after_s + 0.01)

    assert first.after_s == pytest.approx(31, abs=1)
    assert (many.refused.meter, many.after_s) == ("tpm", pytest.approx(41, abs=1))
    assert left(await place.counted(person(rpm=3))).remaining == 0


async def test_accounts_do_not_share_a_limit_however_they_are_named(place: Place) -> None:
    each = [
        person("ann", rpm=1),
        person("bob", rpm=1),
        person("ann", "globex", rpm=1),
        person("ann", model="small", rpm=1),
        person("ann", model="large", rpm=1),
        account("role", "ann", rpm=1),
        account("tenant", rpm=1),
        account("model", tenant="", model="small", rpm=1),
        person("b:c", "a", rpm=1),
        person("c", "a:b", rpm=1),
        person("c\x00", "a", rpm=1),
        person("", "ac", rpm=1),
    ]

    assert [left(await place.counted(one), scope=one.scope).remaining for one in each] == [0] * len(each)


@pytest.mark.parametrize("meter", ["rpm", "tpm", "concurrent", "requests_per_day", "tokens_per_month"])
async def test_a_limit_of_nothing_lets_nothing_through(place: Place, meter: str) -> None:
    assert (await place.refused(person(**{meter: 0}))).refused.meter == meter


async def test_a_limit_that_was_lowered_holds_at_once_and_nothing_is_left_of_it(place: Place) -> None:
    for _ in range(5):
        await place.counted(person(rpm=10))

    assert left(await place.refused(person(rpm=2))).remaining == 0


async def test_tokens_are_corrected_downwards_where_they_were_counted_and_upwards_from_now_on(
    place: Place,
) -> None:
    early, late = await place.counted(person(), tokens=50), await place.counted(person(), tokens=50)
    await place.correct(early, tokens=-40)
    place.clock.pass_(30)
    await place.correct(late, tokens=25)
    after = [left(await place.counted(person()), "tpm").remaining]
    place.clock.pass_(31.8)  # what came from the first second is past
    after.append(left(await place.counted(person()), "tpm").remaining)

    assert after == [PLENTY - 86, PLENTY - 27]


async def test_a_correction_of_what_is_past_takes_nothing_from_others_and_adds_what_came_late(
    place: Place,
) -> None:
    long_ago = await place.counted(person(), tokens=50)
    place.clock.pass_(300)
    await place.counted(person(), tokens=10)
    await place.correct(long_ago, tokens=-50)
    before = left(await place.counted(person()), "tpm").remaining
    await place.correct(long_ago, tokens=1_000)

    assert (before, left(await place.counted(person()), "tpm").remaining) == (PLENTY - 11, PLENTY - 1_012)


async def test_no_correction_makes_less_than_nothing(place: Place) -> None:
    limits = {"tpm": 100, "tokens_per_day": 100, "cost_per_month": 100}
    counted = await place.counted(person(**limits), tokens=10, cost=10)
    await place.correct(counted, tokens=-1_000, cost=-1_000)
    found = await place.counted(person(**limits), tokens=10, cost=10)

    assert [left(found, meter).remaining for meter in limits] == [90, 90, 90]


async def test_any_number_at_once_passes_no_limit_of_any_scope(place: Place) -> None:
    people = [person(name, rpm=15) for name in ("ann", "bob")]
    tenant = account("tenant", rpm=20, requests_per_day=18)
    found = await asyncio.gather(*(place.reserve(people[turn % 2], tenant) for turn in range(60)))
    by_person = [sum(isinstance(one, Counted) for one in found[turn::2]) for turn in range(2)]

    assert sum(by_person) == 18
    assert max(by_person) <= 15


# ---------------------------------------------------------------- at the same time


async def test_so_many_run_at_the_same_time_and_another_once_one_has_ended(place: Place) -> None:
    first, second = [await place.counted(person(concurrent=2)) for _ in range(2)]
    found = await place.refused(person(concurrent=2))
    await place.release(first)
    await place.release(first)  # twice is once
    third = await place.counted(person(concurrent=2))
    await place.refused(person(concurrent=2))
    for one in (second, third):
        await place.release(one)

    assert (found.refused.meter, found.after_s) == ("concurrent", 1.0)
    assert left(await place.counted(person(concurrent=2)), "concurrent").remaining == 1


# ---------------------------------------------------------------- budgets


@pytest.mark.parametrize(
    ("meter", "next_window"),
    [("tokens_per_day", lambda now: DAY - now % DAY), ("tokens_per_month", lambda now: 31 * DAY)],
)
async def test_a_budget_is_spent_to_the_end_and_renewed_by_the_calendar(
    place: Place, meter: str, next_window: Callable[[float], float]
) -> None:
    mine = person(**{meter: 100})
    await place.counted(mine, tokens=60)
    overdrawn = await place.counted(mine, tokens=60)  # something was left
    found = await place.refused(mine, tokens=60)
    to_come = found.after_s
    place.clock.pass_(to_come - 2)
    still = await place.refused(mine)
    place.clock.pass_(3)
    renewed = await place.counted(mine, tokens=60)

    assert (left(overdrawn, meter).remaining, found.refused.meter, found.refused.remaining) == (0, meter, 0)
    assert 0 < to_come <= next_window(place.clock.now() - to_come - 1) + 1
    assert still.after_s == pytest.approx(2, abs=1)
    assert left(renewed, meter).remaining == 40


async def test_requests_of_a_day_are_never_more_than_the_budget(place: Place) -> None:
    found = [isinstance(await place.reserve(person(requests_per_day=2)), Counted) for _ in range(4)]

    assert found == [True, True, False, False]


async def test_a_budget_is_corrected_in_the_window_that_it_was_counted_in(place: Place) -> None:
    limits = {"tokens_per_day": 100, "cost_per_day": 1_000}
    before = await place.counted(person(**limits), tokens=60, cost=600)
    same = await place.counted(person(**limits), tokens=30, cost=100)
    await place.correct(same, tokens=-20, cost=100)
    now = left(await place.counted(person(**limits), tokens=0, cost=0), "tokens_per_day").remaining
    place.clock.pass_(DAY)
    await place.counted(person(**limits), tokens=10, cost=10)
    await place.correct(before, tokens=-60, cost=-600)  # of yesterday
    await place.correct(before, tokens=5, cost=5)  # came late
    found = await place.counted(person(**limits), tokens=1, cost=1)

    assert now == 30
    assert [left(found, meter).remaining for meter in limits] == [84, 984]


async def test_a_budget_beyond_what_a_machine_word_of_floats_holds_is_counted_exactly(place: Place) -> None:
    most = 10**15
    await place.counted(person(cost_per_month=most), cost=most - 1)
    await place.counted(person(cost_per_month=most), cost=1)

    assert (await place.refused(person(cost_per_month=most))).refused.meter == "cost_per_month"
