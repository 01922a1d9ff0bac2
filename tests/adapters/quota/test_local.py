"""The local counter: bounded memory, what a budget spent before it counted, and no sixty seconds with more
than the limit. What every counter must do is in `test_counters.py`.
"""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.adapters.quota.counters import Time, person

from regate_adapters.quota.local import LocalQuotaCounter
from regate_orchestrator.ports import Account, Amount, Counted, Exhausted, Window

ONE = Amount(1)


def counter_at(time: Time, **options: int) -> LocalQuotaCounter:
    return LocalQuotaCounter(clock=time, calendar=time, **options)


async def test_people_of_whom_nothing_is_left_are_forgotten() -> None:
    time = Time()
    counter = counter_at(time)
    for number in range(500):
        await counter.reserve([person(f"p{number}")], ONE)
    held = counter.held
    time.now += 61
    await counter.reserve([person()], ONE)

    assert (held, counter.held) == (500, 1)


async def test_past_the_bound_whoever_is_silent_longest_begins_anew_unless_something_of_theirs_runs() -> None:
    counter = counter_at(Time(), most_accounts=3)
    running = await counter.reserve([person("r", concurrent=1)], ONE)
    for name in ("a", "b", "c", "a", "d"):
        await counter.reserve([person(name, rpm=1)], ONE)

    async def kind(name: str) -> type:
        return type(await counter.reserve([person(name, rpm=1)], ONE))

    assert isinstance(running, Counted)
    assert isinstance(await counter.reserve([person("r", concurrent=1)], ONE), Exhausted)
    assert [await kind(name) for name in ("a", "d")] == [Exhausted] * 2
    assert [await kind(name) for name in ("b", "c")] == [Counted] * 2
    assert counter.held <= 5


async def test_what_a_budget_spent_before_is_looked_up_once_and_again_when_it_was_forgotten() -> None:
    asked: list[tuple[str, Window]] = []

    async def spent(account: Account, window: Window, number: int) -> dict[str, int]:
        asked.append((account.name, window))
        return {"tokens": 90}

    counter = LocalQuotaCounter(clock=Time(), calendar=Time(), spent_so_far=spent)
    mine = person(tokens_per_day=100)
    found = [type(await counter.reserve([mine], Amount(10))) for _ in range(2)]
    counter.forget_budgets()
    again = type(await counter.reserve([mine], Amount(10)))

    assert (found, again) == ([Counted, Exhausted], Counted)
    assert asked == [("ann", "day")] * 2


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.floats(0, 40, allow_nan=False), st.integers(1, 30)), max_size=60),
    st.integers(1, 8),
    st.integers(1, 100),
)
def test_no_sixty_seconds_ever_hold_more_than_the_limit_and_no_room_is_wasted(
    conversation_writer: list[tuple[float, int]], rpm: int, tpm: int
) -> None:
    time = Time(0.0)
    counter = counter_at(time)
    passed: list[tuple[float, int]] = []

    async def run() -> None:
        for wait, tokens in conversation_writer:
            time.now += wait
            found = await counter.reserve([person(rpm=rpm, tpm=tpm)], Amount(tokens))
            lately = [size for at, size in passed if at > time.now - 60]
            at_most = [size for at, size in passed if at > time.now - 62]
            if isinstance(found, Counted):
                assert len(lately) + 1 <= rpm
                assert sum(lately) + tokens <= tpm
                passed.append((time.now, tokens))
            else:
                assert len(at_most) + 1 > rpm or sum(at_most) + tokens > tpm

    asyncio.run(run())
