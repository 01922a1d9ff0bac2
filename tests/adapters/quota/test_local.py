"""The local counter: a sliding minute that never forgets too early, for each person apart, in bounded
memory.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from regate_adapters.quota.local import LocalQuotaCounter
from regate_orchestrator.ports import Allowance, Counted, Exhausted
from regate_orchestrator.principal import Principal

ANN, BOB = Principal("ann", "acme"), Principal("bob", "acme")
OTHER_ANN = Principal("ann", "globex")
PLENTY = 1_000_000


@dataclass
class Time:
    """A clock that the test sets."""

    now: float = 1_000.25

    def __call__(self) -> float:
        return self.now


async def counted(
    counter: LocalQuotaCounter,
    principal: Principal = ANN,
    *,
    rpm: int = PLENTY,
    tpm: int = PLENTY,
    tokens: int = 1,
) -> Counted:
    found = await counter.reserve(principal, rpm=rpm, tpm=tpm, tokens=tokens)
    assert isinstance(found, Counted)
    return found


async def refused(
    counter: LocalQuotaCounter,
    principal: Principal = ANN,
    *,
    rpm: int = PLENTY,
    tpm: int = PLENTY,
    tokens: int = 1,
) -> Exhausted:
    found = await counter.reserve(principal, rpm=rpm, tpm=tpm, tokens=tokens)
    assert isinstance(found, Exhausted)
    return found


async def test_as_many_requests_are_counted_as_the_limit_says_and_the_rest_is_refused() -> None:
    counter = LocalQuotaCounter(clock=Time())
    left = [(await counted(counter, rpm=3)).requests.remaining for _ in range(3)]
    found = await refused(counter, rpm=3)

    assert left == [2, 1, 0]
    assert (found.limit, found.asked, found.requests) == ("requests", 1, Allowance(3, 0, 60.75))


async def test_a_refused_request_is_not_counted() -> None:
    time = Time()
    counter = LocalQuotaCounter(clock=time)
    await counted(counter, rpm=1)
    for second in range(1, 60):
        time.now = 1_000.25 + second
        await refused(counter, rpm=1)
    time.now = 1_061.0

    assert (await counted(counter, rpm=1)).requests.remaining == 0


async def test_room_is_told_exactly() -> None:
    time = Time()
    counter = LocalQuotaCounter(clock=time)
    for at in (1_000.0, 1_010.0, 1_020.0):
        time.now = at
        await counted(counter, tokens=10)
    time.now = 1_030.0
    first = await refused(counter, rpm=3)
    many = await refused(counter, tpm=30, tokens=15)  # needs what the first two hold
    time.now += first.after_s - 0.01
    still = await refused(counter, rpm=3)
    time.now += 0.02

    assert (first.after_s, many.limit, many.after_s, round(still.after_s, 3)) == (31.0, "tokens", 41.0, 0.01)
    assert (await counted(counter, rpm=3)).requests.remaining == 0


async def test_people_do_not_share_a_limit_even_of_one_name() -> None:
    counter = LocalQuotaCounter(clock=Time())
    await counted(counter, ANN, rpm=1)

    assert [(await counted(counter, who, rpm=1)).requests.remaining for who in (BOB, OTHER_ANN)] == [0, 0]


async def test_a_limit_of_nothing_lets_nothing_through() -> None:
    counter = LocalQuotaCounter(clock=Time())

    assert [(await refused(counter, rpm=0)).limit, (await refused(counter, tpm=0)).limit] == [
        "requests",
        "tokens",
    ]


async def test_a_limit_that_was_lowered_holds_at_once() -> None:
    counter = LocalQuotaCounter(clock=Time())
    for _ in range(5):
        await counted(counter, rpm=10)

    assert (await refused(counter, rpm=2)).requests.remaining == 0


async def test_tokens_are_corrected_downwards_where_they_were_counted_and_upwards_from_now_on() -> None:
    time = Time()
    counter = LocalQuotaCounter(clock=time)
    early, late = await counted(counter, tokens=50), await counted(counter, tokens=50)
    await counter.correct(early, by=-40)
    time.now += 30
    await counter.correct(late, by=25)
    after = [(await counted(counter, tokens=1)).tokens.remaining]
    time.now = 1_062
    after.append(
        (await counted(counter, tokens=1)).tokens.remaining
    )  # what came from the first second is past

    assert after == [PLENTY - 86, PLENTY - 27]


async def test_a_correction_of_what_is_past_takes_nothing_from_others_and_adds_what_came_late() -> None:
    time = Time()
    counter = LocalQuotaCounter(clock=time)
    long_ago = await counted(counter, tokens=50)
    time.now += 300
    await counted(counter, tokens=10)
    await counter.correct(long_ago, by=-50)
    before = (await counted(counter, tokens=1)).tokens.remaining
    await counter.correct(long_ago, by=1_000)

    assert (before, (await counted(counter, tokens=1)).tokens.remaining) == (PLENTY - 11, PLENTY - 1_012)


async def test_any_number_at_once_passes_no_limit() -> None:
    counter = LocalQuotaCounter(clock=Time())
    found = await asyncio.gather(*(counter.reserve(ANN, rpm=20, tpm=PLENTY, tokens=1) for _ in range(100)))

    assert sum(isinstance(one, Counted) for one in found) == 20


async def test_people_of_whom_nothing_is_left_are_forgotten() -> None:
    time = Time()
    counter = LocalQuotaCounter(clock=time)
    for number in range(500):
        await counted(counter, Principal(f"p{number}", "acme"))
    held = counter.held
    time.now += 61
    await counted(counter, ANN)

    assert (held, counter.held) == (500, 1)


async def test_past_the_bound_whoever_is_silent_longest_begins_anew_and_nobody_else() -> None:
    time = Time()
    counter = LocalQuotaCounter(clock=time, most_callers=3)
    for name in ("a", "b", "c", "a", "d"):
        await counter.reserve(Principal(name, "acme"), rpm=1, tpm=PLENTY, tokens=1)

    assert counter.held == 3
    assert (await refused(counter, Principal("a", "acme"), rpm=1)).limit == "requests"
    assert (await refused(counter, Principal("c", "acme"), rpm=1)).limit == "requests"
    assert (await counted(counter, Principal("b", "acme"), rpm=1)).requests.remaining == 0


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
    counter = LocalQuotaCounter(clock=time)
    passed: list[tuple[float, int]] = []

    async def run() -> None:
        for wait, tokens in conversation_writer:
            time.now += wait
            found = await counter.reserve(ANN, rpm=rpm, tpm=tpm, tokens=tokens)
            lately = [size for at, size in passed if at > time.now - 60]
            at_most = [size for at, size in passed if at > time.now - 62]
            if isinstance(found, Counted):
                assert len(lately) + 1 <= rpm
                assert sum(lately) + tokens <= tpm
                passed.append((time.now, tokens))
            else:
                assert len(at_most) + 1 > rpm or sum(at_most) + tokens > tpm

    asyncio.run(run())
