from __future__ import annotations

import pytest

from regate_adapters.backend.health import FAILURES, FRESH_SECONDS, OPEN_SECONDS, Health


class Hand:
    """A clock moved by hand."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Hand:
    return Hand()


def test_circuit_opens_with_the_third_failure_in_a_row(clock: Hand) -> None:
    health = Health(clock)
    told = [(health.not_reached(), health.is_open) for _ in range(FAILURES + 1)]
    assert told == [(False, False), (False, False), (True, True), (False, True)]


def test_answer_between_failures_starts_the_count_anew(clock: Hand) -> None:
    health = Health(clock)
    for _ in range(FAILURES - 1):
        health.not_reached()
    health.reached()
    health.not_reached()
    assert (health.is_open, health.in_trouble, health.reach) == (False, False, "unreachable")


def test_answer_closes_it_and_says_so_once(clock: Hand) -> None:
    health = Health(clock)
    for _ in range(FAILURES):
        health.not_reached()
    assert [health.reached(), health.reached(), health.is_open, health.reach] == [True, False, False, "ok"]


def test_circuit_closes_by_itself_and_opens_again_with_the_next_failure(clock: Hand) -> None:
    health = Health(clock)
    for _ in range(FAILURES):
        health.not_reached()
    clock.now += OPEN_SECONDS - 0.5
    before = health.is_open, health.retry_after
    clock.now += 0.5
    after = health.is_open, health.in_trouble
    health.not_reached()
    assert (before, after, health.is_open) == ((True, "1"), (False, True), True)


def test_what_was_heard_grows_old(clock: Hand) -> None:
    health = Health(clock)
    never = health.is_stale, health.reach
    health.reached()
    fresh = health.is_stale
    clock.now += FRESH_SECONDS
    assert (never, fresh, health.is_stale) == ((True, "unknown"), False, True)
