"""Places that tenants share: none waits for another's work."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from regate_orchestrator.places import Places


class Work:
    """Jobs at the places, each of which lasts until it is released, in the order in which they got one."""

    def __init__(self, places: Places, group: asyncio.TaskGroup) -> None:
        self.places = places
        self.began: list[str] = []
        self._group = group
        self._ends: dict[str, asyncio.Event] = {}
        self.jobs: dict[str, asyncio.Task[None]] = {}

    async def ask(self, *names: str) -> None:
        """Start jobs; the first letter of a name is its tenant."""
        for name in names:
            self._ends[name] = asyncio.Event()
            self.jobs[name] = self._group.create_task(self._job(name))
        await self._settle()

    async def end(self, *names: str) -> None:
        for name in names:
            self._ends[name].set()
        await self._settle()

    async def _job(self, name: str) -> None:
        async with self.places.in_turn(name[0]):
            self.began.append(name)
            await self._ends[name].wait()

    async def _settle(self) -> None:
        for _ in range(10):  # everything here is ready to run, or waits for the test
            await asyncio.sleep(0)


@asynccontextmanager
async def working(count: int) -> AsyncIterator[Work]:
    async with asyncio.TaskGroup() as group:
        work = Work(Places(count), group)
        yield work
        for job in work.jobs.values():
            job.cancel()


async def test_a_tenant_alone_gets_half_of_the_places() -> None:
    async with working(4) as work:
        await work.ask("a1", "a2", "a3", "a4")

        assert work.began == ["a1", "a2"]


async def test_another_tenant_never_waits_for_one_that_asks_for_everything() -> None:
    async with working(4) as work:
        await work.ask("a1", "a2", "a3", "a4", "b1", "b2", "c1")

        assert work.began == ["a1", "a2", "b1", "c1"]


async def test_one_place_is_for_whoever_comes() -> None:
    async with working(1) as work:
        await work.ask("a1", "b1")
        await work.end("a1")

        assert work.began == ["a1", "b1"]


async def test_tenants_that_wait_are_served_in_turn() -> None:
    async with working(1) as work:
        await work.ask("a1", "a2", "a3", "a4", "b1", "b2", "c1")
        for name in ("a1", "a2", "b1", "c1", "a3", "b2"):
            await work.end(name)

        assert work.began == ["a1", "a2", "b1", "c1", "a3", "b2", "a4"]


async def test_work_of_a_tenant_is_served_in_order() -> None:
    async with working(2) as work:
        await work.ask("a1", "a2", "a3")
        await work.end("a1")
        await work.end("a2")

        assert work.began == ["a1", "a2", "a3"]


async def test_who_gives_up_waiting_is_passed_over() -> None:
    async with working(1) as work:
        await work.ask("a1", "b1", "c1")
        work.jobs["b1"].cancel()
        await work.end("a1")

        assert work.began == ["a1", "c1"]


async def test_a_place_given_to_who_gives_up_at_that_moment_goes_to_the_next() -> None:
    async with working(1) as work:
        await work.ask("a1", "b1", "c1")
        work._ends["a1"].set()
        await asyncio.sleep(0)
        work.jobs["b1"].cancel()
        await work._settle()

        assert work.began == ["a1", "c1"]


async def test_a_job_that_fails_gives_its_place_back() -> None:
    places = Places(1)
    for _ in range(3):
        with pytest.raises(ValueError, match="failed"):
            async with places.in_turn("a"):
                raise ValueError("failed")
    async with places.in_turn("b"):
        assert places.full() == {"b"}

    assert places.full() == frozenset()


def test_who_may_take_no_further_place_is_said() -> None:
    places = Places(4)
    with places.taken("a"), places.taken("b"):
        assert places.full() == frozenset()
        with places.taken("a"):
            assert places.full() == {"a", "b"}
    assert places.full() == frozenset()
