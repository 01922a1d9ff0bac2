"""What is remembered: within its number and its bytes, the latter counted as memory counts them, and
gone when it is out of date.
"""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import orjson
import pytest

from regate_adapters.embeddings.cached import CachedEmbedder
from regate_adapters.remembering import Remembered, size_of
from regate_orchestrator.ports import Vector


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def remembered(
    clock: Clock | None = None, *, entries: int = 10, most_bytes: int = 1_000_000
) -> Remembered[str, Any]:
    return Remembered(entries=entries, most_bytes=most_bytes, clock=clock or Clock())


def traced(make: Callable[[int], Any], *, many: int = 200) -> tuple[int, list[Any]]:
    """Return how many bytes so many values take, and the values."""
    make(0)
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        made = [make(number) for number in range(1, many + 1)]
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - before, made
    finally:
        tracemalloc.stop()


def claims(number: int) -> Any:
    names = [f"team-{number}-{team}" for team in range(100)]
    return MappingProxyType(
        orjson.loads(
            orjson.dumps({"sub": f"p{number}", "teams": names, "scope": "read", "exp": 10**9 + number})
        )
    )


SHAPES: dict[str, Callable[[int], Any]] = {
    "claims": claims,
    "text": lambda number: f"{number}" * 200,
    "numbers": lambda number: [float(number + one) for one in range(500)],
    "tree": lambda number: {
        f"{number}/{one}": {"a": [f"{number}-{one}"], "b": (number + one) * 10**6} for one in range(50)
    },
}


@pytest.mark.parametrize("shape", SHAPES)
def test_size_of_a_value_is_what_it_takes(shape: str) -> None:
    taken, made = traced(SHAPES[shape])

    assert 2 / 3 < sum(map(size_of, made)) / taken < 3 / 2


def test_size_counts_what_occurs_twice_once_and_ends_where_a_value_holds_itself() -> None:
    one = "x" * 10_000
    ring: list[Any] = [one, one, {"again": one}]
    ring.append(ring)

    assert 10_000 < size_of(ring) < 11_000


def test_the_least_recently_used_go_first_by_number_and_by_bytes() -> None:
    for held in (remembered(entries=2), remembered(most_bytes=2 * (size_of(("a", "x" * 1_000)) + 250))):
        for key in ("a", "b"):
            held.remember(key, "x" * 1_000, until=1)
        held.recall("a")
        held.remember("c", "x" * 1_000, until=1)

        assert [held.recall(key) is not None for key in "abc"] == [True, False, True]


def test_what_is_larger_than_all_may_be_takes_no_place_and_leaves_what_it_should_replace_out() -> None:
    held = remembered(most_bytes=5_000)
    held.remember("a", "small", until=1)
    held.remember("b", "small", until=1)
    held.remember("a", "x" * 10_000, until=1)

    assert (held.recall("a"), held.recall("b"), len(held)) == (None, "small", 1)


def test_what_is_out_of_date_is_never_returned_and_gone_a_second_later() -> None:
    clock = Clock()
    held = remembered(clock)
    for number in range(5):
        held.remember(f"{number}", number, until=10 + number)
    clock.now = 12
    first = [held.recall(f"{number}") for number in range(5)]
    clock.now = 14
    held.recall("other")

    assert first == [None, None, None, 3, 4]
    assert (len(held), held.bytes) == (0, 0)


class Lengths:
    """An embedder of 256 dimensions that knows nothing."""

    name = "lengths-256"

    async def dimensions(self) -> int:
        return 256

    async def embed(self, texts: list[str], *, tenant: str) -> list[Vector]:
        return [[float(len(text))] * 256 for text in texts]


async def test_bytes_of_remembered_vectors_are_what_they_take() -> None:
    cached = CachedEmbedder(Lengths())  # type: ignore[arg-type] — a list is a sequence
    await cached.embed(["warm"], tenant="acme")
    gc.collect()
    tracemalloc.start()
    held, before = tracemalloc.get_traced_memory()[0], cached._bytes
    for number in range(200):
        await cached.embed([f"text {number}"], tenant=f"tenant {number}")
    gc.collect()
    held = tracemalloc.get_traced_memory()[0] - held
    tracemalloc.stop()

    assert 2 / 3 < (cached._bytes - before) / held < 3 / 2
