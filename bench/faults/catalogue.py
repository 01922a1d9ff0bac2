"""What is broken, how, and how it is mended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast

from tests.link import State

from bench.faults.world import MANAGED, World

Deed = Callable[[World], Awaitable[object]]

LATENCY_SECONDS: Final = 0.25
"""Of each piece, in both directions: half a second for an answer."""

_FLAPPING_SECONDS: Final = 0.2
_STATES: Final = {
    "latency": "slow",
    "black hole": "swallow",
    "reset": "reset",
    "cut": "cut",
    "half close": "half_close",
}


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong: `part` chooses it on the command line."""

    part: str
    name: str
    strike: Deed
    mend: Deed
    hold_s: float = 3.0
    mends_itself: bool = False
    """Whether nobody else mends it: recovery counts from the fault then."""


def faults() -> Iterator[Fault]:
    """Yield all faults. What is killed comes first, so that what it had in flight has the time of the others to end."""
    yield Fault("none", "nothing is broken", _nothing, _nothing)
    yield from _killed()
    for part in ("opa", "postgres", "redis", "chroma", "upstream"):
        for name, state in _STATES.items():
            yield Fault(part, name, _become(part, cast("State", state)), _become(part, "pass"))
        yield Fault(part, "refuse", lambda world, part=part: world.links[part].refuse(), _listen(part))
        yield _flapping(part)


PARTS: Final = ("none", "gateway", "opa", "postgres", "redis", "chroma", "upstream")


def _killed() -> Iterator[Fault]:
    """Yield what is killed with SIGKILL, or started again."""
    yield Fault("gateway", "kill -9", lambda world: world.gateways[MANAGED].kill(), _start_gateway, 1.0)
    yield Fault("gateway", "restart", lambda world: world.gateways[MANAGED].end(), _start_gateway, 0.0)
    yield Fault("gateway", "kill -9 of a worker", _kill_worker, _nothing, mends_itself=True, hold_s=0.0)
    yield Fault(
        "opa", "kill -9 of the gateway's own", _kill_managed_opa, _nothing, mends_itself=True, hold_s=0.0
    )
    yield Fault(
        "opa", "kill -9 of one beside", _blocking(lambda w: w.opa.stop()), _blocking(lambda w: w.opa.start())
    )
    yield Fault(
        "postgres", "kill -9", _blocking(lambda w: w.postgres.kill()), _blocking(lambda w: w.postgres.start())
    )
    yield Fault(
        "postgres",
        "restart",
        _blocking(lambda w: w.postgres.stop()),
        _blocking(lambda w: w.postgres.start()),
        0.0,
    )
    yield Fault("redis", "kill -9", _blocking(lambda w: w.redis.stop()), _blocking(lambda w: w.redis.start()))
    yield Fault(
        "chroma", "kill -9", _blocking(lambda w: w.chroma.stop()), _blocking(lambda w: w.chroma.start())
    )


async def _nothing(world: World) -> None:
    """Break or mend nothing."""


async def _kill_managed_opa(world: World) -> None:
    world.gateways[MANAGED].kill_opa()


async def _kill_worker(world: World) -> None:
    world.gateways[MANAGED].kill_worker()


async def _start_gateway(world: World) -> None:
    await world.gateways[MANAGED].start()


def _blocking(deed: Callable[[World], None]) -> Deed:
    return lambda world: asyncio.to_thread(deed, world)


def _become(part: str, state: State) -> Deed:
    async def become(world: World) -> None:
        world.links[part].delay_s = LATENCY_SECONDS
        world.links[part].become(state)

    return become


def _listen(part: str) -> Deed:
    return lambda world: world.links[part].listen()


def _flapping(part: str) -> Fault:
    """A network that resets all connections five times a second."""
    running: list[asyncio.Task[None]] = []

    async def flap(world: World) -> None:
        while True:
            world.links[part].become("reset")
            world.links[part].become("pass")
            await asyncio.sleep(_FLAPPING_SECONDS)

    async def strike(world: World) -> None:
        running.append(asyncio.get_running_loop().create_task(flap(world)))

    async def mend(world: World) -> None:
        task = running.pop()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await _become(part, "pass")(world)

    return Fault(part, "reset every 0.2 s", strike, mend)
