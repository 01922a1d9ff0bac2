"""Work a few at a time: all of it, in order, never more at once than was said, and ended by the first
failure.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from regate_orchestrator.concurrency import few_at_once


class Desk:
    """Work that notes how much of it was under way at once; piece 3 may fail, and others then wait
    for ever.
    """

    def __init__(self, *, fails: bool = False) -> None:
        self.fails = fails
        self.begun: list[int] = []
        self.ended: list[int] = []
        self.most = 0

    async def piece(self, number: int) -> int:
        self.begun.append(number)
        self.most = max(self.most, len(self.begun) - len(self.ended))
        try:
            if self.fails and number == 3:
                raise ValueError(number)
            for _ in range(number % 3 + 1):
                await asyncio.sleep(0)
            if self.fails and number != 0:
                await asyncio.Event().wait()
        finally:
            self.ended.append(number)
        return number * 10

    def work(self, count: int) -> list[Callable[[], Awaitable[int]]]:
        return [partial(self.piece, number) for number in range(count)]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50])
async def test_results_are_in_the_order_of_the_work(count: int) -> None:
    desk = Desk()

    assert await few_at_once(desk.work(count), most=3) == [number * 10 for number in range(count)]
    assert (desk.begun, desk.most) == (list(range(count)), min(3, count))


async def test_first_failure_ends_what_runs_and_nothing_more_is_begun() -> None:
    desk = Desk(fails=True)
    with pytest.raises(ValueError, match="3"):
        await few_at_once(desk.work(50), most=3)

    assert (desk.begun, sorted(desk.ended)) == ([0, 1, 2, 3], [0, 1, 2, 3])


async def test_whoever_is_cancelled_leaves_nothing_running() -> None:
    desk = Desk(fails=True)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(few_at_once(desk.work(3), most=3))
        while len(desk.begun) < 3:
            await asyncio.sleep(0)
        task.cancel()

    assert (task.cancelled(), sorted(desk.ended)) == (True, [0, 1, 2])
