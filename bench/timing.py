"""Many calls measured: one after the other or several at once, beside what they are meant to take. Not
a benchmark of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from bench.gateway import percentile

Call: TypeAlias = Callable[[], Awaitable[object]]
CONNECTIONS: Final = (1, 16)


@dataclass(frozen=True, slots=True)
class Row:
    """A call to measure. The aims are the most milliseconds of the median at one connection, and the
    least calls a second at sixteen.
    """

    name: str
    call: Call
    calls: int
    most_ms: float | None = None
    least_rate: float | None = None


async def measure(call: Call, *, calls: int, connections: int = 1) -> tuple[list[float], float]:
    """Return each call's milliseconds, and calls per second."""
    left = iter(range(calls))
    taken: list[float] = []

    async def worker() -> None:
        for _ in left:
            began = time.perf_counter()
            await call()
            taken.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(connections):
            group.create_task(worker())
    return taken, calls / (time.perf_counter() - began)


async def table(rows: list[Row]) -> None:
    """Measure each row at one connection and at sixteen, and print it."""
    print(
        f"{'':<36}{'1: p50 ms':>11}{'p99 ms':>9}{'per s':>8}{'16: p50 ms':>13}{'p99 ms':>9}{'per s':>8}  aim"
    )
    for row in rows:
        line, median, rate = f"{row.name:<36}", 0.0, 0.0
        for connections, width in zip(CONNECTIONS, (11, 13), strict=True):
            await measure(row.call, calls=max(5, row.calls // 10), connections=connections)
            taken, rate = await measure(row.call, calls=row.calls, connections=connections)
            median = median or percentile(taken, 0.5)
            line += f"{percentile(taken, 0.5):>{width}.2f}{percentile(taken, 0.99):>9.2f}{rate:>8.0f}"
        print(f"{line}  {'; '.join(_aims(row, median, rate))}", flush=True)


def _aims(row: Row, median: float, rate: float) -> list[str]:
    aims = []
    if row.most_ms is not None:
        aims.append(aim(median, row.most_ms, "ms"))
    if row.least_rate is not None:
        aims.append(f"at least {row.least_rate:.0f}/s: {'met' if rate >= row.least_rate else 'not met'}")
    return aims


def aim(measured: float, most: float, unit: str) -> str:
    """Return the aim in words, and whether it is met."""
    return f"at most {most:g} {unit}: {'met' if measured <= most else 'not met'}"
