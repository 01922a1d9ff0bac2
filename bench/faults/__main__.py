"""Makes the fault table: `python -m bench.faults`, or of some parts: `python -m bench.faults opa postgres`."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from bench.faults.catalogue import PARTS, faults
from bench.faults.clients import Person, is_stuck
from bench.faults.table import as_text, problems, row, summary, write
from bench.faults.trial import Found, Load, Trial
from bench.faults.watching import Watch
from bench.faults.world import ENGINES, World, running_world
from bench.machine import describe, watched

RESULTS: Final = Path("bench/results")
_PROBERS: Final = 2
_AT_ONCE: Final = 4
_UNFINISHED_SECONDS: Final = 30.0


async def main(parts: list[str]) -> int:
    """Break what the parts name, or everything; return 1 where a promise was broken."""
    if unknown := set(parts) - set(PARTS):
        print(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    chosen = [fault for fault in faults() if not parts or fault.part in (*parts, "none")]
    began, all_found = time.monotonic(), []
    head = f"Measured on {datetime.now(UTC):%Y-%m-%d}: {describe()}."
    with watched() as noise:
        async with running_world(watch := Watch()) as world:
            load = await _people(world)
            _say(began, f"everything runs, {len(load.all)} people are ready; {len(chosen)} faults follow")
            for number, fault in enumerate(chosen):
                found = await Trial(world, load, number).run(fault)
                all_found.append(found)
                _say(began, f"{number + 1}/{len(chosen)} {' | '.join(row(found))}")
                for line in problems([found]):
                    _say(began, line)
            all_found.append(await _at_the_end(world, load))
    print(as_text(all_found), *summary(all_found), noise, *problems(all_found), sep="\n")
    write(all_found, f"{head} {noise}", RESULTS)
    print(f"written to {RESULTS}/faults.md and faults.json; leaks looked for in {dict(watch.places)}")
    return 0 if all(found.is_kept for found in all_found) else 1


async def until_told(parts: list[str]) -> int:
    """Run, and end what runs when this process is told to end."""
    running = asyncio.get_running_loop().create_task(main(parts))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, running.cancel)
    return await running


async def _people(world: World) -> Load:
    """Return the load: a person of each tenant at each gateway, and some for each engine who try everything."""
    people, probers = [], []
    for gateway in world.gateways.values():
        people += [Person(gateway, tenant, f"{tenant}-{gateway.name}", world.watch) for tenant in ENGINES]
        for tenant in {engine: tenant for tenant, engine in ENGINES.items()}.values():
            probers += [
                Person(gateway, tenant, f"{tenant}-{gateway.name}-{number}", world.watch)
                for number in range(_PROBERS)
            ]
    load = Load(people, probers)
    for person in load.all:
        person.others = [other for other in people if other.tenant != person.tenant]
    few = asyncio.Semaphore(_AT_ONCE)
    async with asyncio.TaskGroup() as group:
        for person in load.all:
            group.create_task(_prepared(person, few))
    return load


async def _prepared(person: Person, few: asyncio.Semaphore) -> None:
    async with few:
        await person.prepare()


async def _at_the_end(world: World, load: Load) -> Found:
    """Return what of everything that was ever acknowledged is lost; what was in flight has had time to end."""
    give_up, probes, leaks = (
        time.monotonic() + _UNFINISHED_SECONDS,
        world.watch.probes,
        len(world.watch.leaks),
    )
    found = Found("end", "everything once more")

    async def lost(person: Person) -> list[str]:
        while (problems := await person.lost(final=True)) and time.monotonic() < give_up:
            await asyncio.sleep(1)
        return problems

    for kept in await asyncio.gather(*map(lost, load.all)):
        found.lost += [one for one in kept if not is_stuck(one)]
        found.stuck += [one for one in kept if is_stuck(one)]
    world.look()
    found.probes, found.leaked = world.watch.probes - probes, world.watch.leaks[leaks:]
    return found


def _say(began: float, words: str) -> None:
    print(f"[{time.monotonic() - began:5.0f} s] {words}", flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(until_told(sys.argv[1:])))
