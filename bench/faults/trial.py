"""One fault under load: what was asked meanwhile, what came of it, and how soon everything works again."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import httpx

from bench.faults.catalogue import Fault
from bench.faults.clients import SURFACES, Failed, Person, is_stuck
from bench.faults.watching import BUDGET_SECONDS, said
from bench.faults.world import World

STEADY_SECONDS: Final = 0.7
LONGEST_SECONDS: Final = 30.0
RECOVERY_SECONDS: Final = 5.0
_LAST_WAIT_SECONDS: Final = 12.0
_BETWEEN_SECONDS: Final = 0.05
_READY_SECONDS: Final = 0.25
_WEIGHTS: Final = dict.fromkeys(SURFACES, 2) | {
    "stream": 4,
    "respond": 4,
    "ingest": 1,
    "peek": 1,
    "background": 1,
}

_NOT_DONE: Final = (Failed, AssertionError, httpx.TransportError, TimeoutError)


@dataclass
class Found:
    """What came of one fault."""

    part: str
    name: str
    requests: int = 0
    failed: dict[str, int] = field(default_factory=dict)
    retried: int = 0
    slowest_s: float = 0.0
    slowest: str = ""
    over_budget: int = 0
    lost: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)
    """What is there and cannot be gone on with, since what had it never let go."""
    doubled: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    probes: int = 0
    recovery_s: float = 0.0
    last: str = ""
    """What worked again last."""
    late: dict[str, int] = field(default_factory=dict)
    """What failed though it was sent after everything had worked again."""
    unready: list[str] = field(default_factory=list)
    down_s: float = 0.0
    start_s: float = 0.0
    """How long the repair took: what was killed has to start."""

    @property
    def is_kept(self) -> bool:
        """Return whether every promise was kept."""
        return not (self.lost or self.doubled or self.leaked) and self.recovery_s <= RECOVERY_SECONDS


@dataclass
class Load:
    """Those who ask all the time, and those who try everything once after a repair."""

    people: Sequence[Person]
    probers: Sequence[Person]

    @property
    def all(self) -> list[Person]:
        """Return everybody."""
        return [*self.people, *self.probers]


class Trial:
    """Breaks one thing, mends it, and measures."""

    def __init__(self, world: World, load: Load, number: int) -> None:
        self._world = world
        self._load = load
        self._number = number
        self._asking = asyncio.Event()
        self._unready: dict[str, list[float]] = {name: [] for name in world.gateways}
        self._ready: dict[str, list[float]] = {name: [] for name in world.gateways}

    async def run(self, fault: Fault) -> Found:
        """Return what came of the fault."""
        watch = self._world.watch
        found = Found(fault.part, fault.name)
        first, leaks, wrong, probes = (
            len(watch.exchanges),
            len(watch.leaks),
            len(watch.malformed),
            watch.probes,
        )
        retried = sum(person.caller.retried for person in self._load.all)
        for person in self._load.all:
            person.trial = self._number
        looking = [
            asyncio.get_running_loop().create_task(self._look_ready(name)) for name in self._world.gateways
        ]
        self._asking.set()
        asking = [asyncio.get_running_loop().create_task(self._ask(person)) for person in self._load.people]
        try:
            await asyncio.sleep(STEADY_SECONDS)
            broken = time.monotonic()
            await fault.strike(self._world)
            await asyncio.sleep(fault.hold_s)
            found.down_s = time.monotonic() - broken
            mended = broken if fault.mends_itself else time.monotonic()
            if not fault.mends_itself:
                await fault.mend(self._world)
                found.start_s, mended = time.monotonic() - mended, time.monotonic()
            self._asking.clear()
            await self._recover(found, mended)
            again = time.monotonic()
            self._asking.set()
            await asyncio.sleep(STEADY_SECONDS)
        finally:
            self._asking.clear()
            hung = await _ended(asking)
            for task in looking:
                task.cancel()
            await asyncio.gather(*looking, return_exceptions=True)
        self._sum_up(found, watch.exchanges[first:], again)
        found.over_budget += hung
        found.retried = sum(person.caller.retried for person in self._load.all) - retried
        found.unready = [name for name, times in self._unready.items() if any(one > broken for one in times)]
        await self._verify(found)
        self._world.look()
        found.leaked, found.malformed = watch.leaks[leaks:], sorted(set(watch.malformed[wrong:]))
        found.probes = watch.probes - probes
        return found

    async def _ask(self, person: Person) -> None:
        """Do one thing after the other, as long as it is wanted."""
        surfaces, weights = zip(*_WEIGHTS.items(), strict=True)
        while self._asking.is_set():
            with suppress(*_NOT_DONE):
                await person.do(random.choices(surfaces, weights)[0])
            await asyncio.sleep(_BETWEEN_SECONDS)

    async def _recover(self, found: Found, mended: float) -> None:
        """Try everything again and again until it works, at each gateway and on each engine.

        What fails after the repair counts until it works, and is tried until it does. Where nothing fails, the
        first success counts: how long others had to wait for their turn is ours.
        """
        done: dict[str, float] = {}
        first: list[tuple[str, float]] = []
        failed: set[tuple[tuple[str, str], str]] = set()
        waiting: dict[tuple[str, str], deque[str]] = {}
        for person in self._load.probers:
            waiting.setdefault((person.gateway.name, person.engine), deque(SURFACES))

        async def work(person: Person) -> None:
            place = person.gateway.name, person.engine
            while waiting[place]:
                surface = waiting[place].popleft()
                retried = person.caller.retried
                try:
                    await person.do(surface)
                except _NOT_DONE:
                    failed.add((place, surface))
                    waiting[place].appendleft(surface)
                    await asyncio.sleep(_BETWEEN_SECONDS)
                else:
                    took = time.monotonic() - mended
                    first.append((f"{surface} at {place[0]} on {place[1]}", took))
                    if (place, surface) in failed or person.caller.retried > retried:
                        done[first[-1][0]] = took

        async def ready(name: str) -> None:
            while not any(one > mended for one in self._ready[name]):
                await asyncio.sleep(_BETWEEN_SECONDS)
            if any(one > mended for one in self._unready[name]):
                done[f"readiness of {name}"] = next(one for one in self._ready[name] if one > mended) - mended

        tasks = [asyncio.get_running_loop().create_task(work(person)) for person in self._load.probers]
        tasks += [asyncio.get_running_loop().create_task(ready(name)) for name in self._world.gateways]
        _, late = await asyncio.wait(tasks, timeout=LONGEST_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        found.last, found.recovery_s = max(
            done.items(), key=lambda one: one[1], default=("nothing failed", 0.0)
        )
        if first and not done:
            found.recovery_s = first[0][1]
        if late:
            found.recovery_s = float("inf")
            found.last = ", ".join(
                f"{' '.join(where)}: {' '.join(what)}" for where, what in waiting.items() if what
            )

    async def _look_ready(self, name: str) -> None:
        """Look every quarter of a second whether the gateway says that it is ready."""
        async with httpx.AsyncClient(
            base_url=self._world.gateways[name].url, timeout=LONGEST_SECONDS
        ) as http:
            while True:
                try:
                    is_ready = (await http.get("/readyz")).status_code == httpx.codes.OK
                except httpx.TransportError:
                    is_ready = False
                (self._ready if is_ready else self._unready)[name].append(time.monotonic())
                await asyncio.sleep(_READY_SECONDS)

    def _sum_up(self, found: Found, exchanges: Sequence[Any], again: float) -> None:
        found.requests = len(exchanges)
        found.failed = dict(Counter(one.outcome for one in exchanges if one.is_failed))
        found.late = dict(
            Counter(
                f"{one.surface} {one.outcome}" for one in exchanges if one.is_failed and one.begun > again
            )
        )
        slowest = max(exchanges, key=lambda one: one.seconds)
        found.slowest_s, found.slowest = slowest.seconds, slowest.surface
        found.over_budget = sum(one.seconds > BUDGET_SECONDS for one in exchanges)

    async def _verify(self, found: Found) -> None:
        for lost, doubled in await asyncio.gather(*map(_verified, self._load.all)):
            found.lost += [one for one in lost if not is_stuck(one)]
            found.stuck += [one for one in lost if is_stuck(one)]
            found.doubled += doubled


async def _verified(person: Person) -> tuple[list[str], list[str]]:
    try:
        return await person.lost(), await person.doubled()
    except _NOT_DONE as error:
        return [f"could not be verified: {said(repr(error))}"], []


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> int:
    """Wait for the last requests; return how many of them had to be given up."""
    _, hung = await asyncio.wait(tasks, timeout=_LAST_WAIT_SECONDS)
    for task in hung:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return len(hung)
