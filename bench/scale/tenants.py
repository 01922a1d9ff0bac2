"""Ten tenants, and ten thousand, of 100 persons each, under one policy and the same settings: what one decision, a
filtered search and a list cost at each.

Both gateways run at the same time, and are asked in turn on one connection, so that whatever else the machine
does meets both. Each request of a kind is another person's, so that nothing of who they are and what they may
is remembered. `make scale PARTS=tenants`.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import aiohttp
from psycopg import sql
from tests.deployments import EMBEDDED, NAMES, Deployment, on_postgres
from tests.postgres import VERSIONS, Postgres, running_postgres

from bench.gateway import RunningGateway, percentile, running_backend
from bench.scale.clients import Client
from bench.scale.worlds import FILES, FOUND, PERSONS, Person, World

_FEW: Final = 10
_REQUESTS: Final = 200
_WARM: Final = 30
_MOST: Final = 1.2
_MEMORY: Final = {"shared_buffers": "1GB", "maintenance_work_mem": "256MB", "effective_cache_size": "2GB"}
_MODEL: Final = "bench"


@dataclass(frozen=True, slots=True)
class Asked:
    """One kind of request, as a person makes it."""

    name: str
    request: Callable[[Person], tuple[str, str, Any]]


def _search(store: str) -> tuple[str, str, Any]:
    return "POST", f"/vector_stores/{store}/search", {"query": "annual leave"}


def _response(store: str | None) -> tuple[str, str, Any]:
    tools = [{"type": "file_search", "vector_store_ids": [store]}] if store else []
    return "POST", "/responses", {"model": _MODEL, "input": "May I have leave?", "tools": tools}


def _chat() -> tuple[str, str, Any]:
    messages = [{"role": "user", "content": "May I have leave?"}]
    return "POST", "/chat/completions", {"model": _MODEL, "messages": messages}


_ASKED: Final = (
    Asked("decision: a chat", lambda _: _chat()),
    Asked("decision: a file", lambda who: ("GET", f"/files/{who.file}", None)),
    Asked("search, own store", lambda who: _search(who.own_store)),
    Asked("search, shared store", lambda who: _search(who.shared_store)),
    Asked("response", lambda _: _response(None)),
    Asked("file_search, own store", lambda who: _response(who.own_store)),
    Asked("file_search, shared store", lambda who: _response(who.shared_store)),
    Asked("list of files", lambda _: ("GET", "/files?limit=20", None)),
    Asked("list of responses", lambda _: ("GET", "/responses?limit=20", None)),
    Asked("list of vector stores", lambda _: ("GET", "/vector_stores?limit=20", None)),
)


@dataclass
class Side:
    """One of the two gateways, and the milliseconds of each request of a kind."""

    world: World
    gateway: RunningGateway
    session: aiohttp.ClientSession
    taken: dict[str, list[float]] = field(default_factory=dict)

    async def ask(self, asked: Asked, person: Person, *, count: bool) -> None:
        """Make the request, and note what it took. Raises where it is not answered."""
        client = Client(self.session, self.gateway, subject=person.subject, tenant=person.tenant)
        method, path, body = asked.request(person)
        began = time.perf_counter()
        status, answer = await client.call(method, path, body)
        milliseconds = (time.perf_counter() - began) * 1_000
        if status != 200 or ("data" in answer and not answer["data"]):
            raise RuntimeError(f"{asked.name}: {status} {answer}")
        if count:
            self.taken.setdefault(asked.name, []).append(milliseconds)


async def tenants(count: int) -> None:
    """Measure on each deployment."""
    for name in NAMES:
        with ExitStack() as stack:
            if name == EMBEDDED.name:
                await _compare(count, EMBEDDED, EMBEDDED, None)
                continue
            server = stack.enter_context(running_postgres(VERSIONS[0], **_MEMORY))
            few, many = (stack.enter_context(on_postgres(server)) for _ in range(2))
            await _compare(count, few, many, server)


async def _compare(count: int, few: Deployment, many: Deployment, server: Postgres | None) -> None:
    async with AsyncExitStack() as stack:
        backend = await stack.enter_async_context(running_backend("bench.backend"))
        sides = []
        for number, deployment in ((_FEW, few), (count, many)):
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="regate-bench-"))
            world = World(number, deployment, Path(folder))
            words = await world.fill(backend)
            print(
                f"{deployment.name}: {number:,} tenants of {PERSONS} persons, {FILES} files, {FOUND} of them in a "
                f"store of its own and in a shared one, {PERSONS} responses: {words}",
                flush=True,
            )
            if server is not None:
                # What its own workers would do in time
                server.execute(sql.SQL("VACUUM ANALYZE"), database=deployment.url.rpartition("/")[2])
            gateway = await stack.enter_async_context(world.gateway(backend))
            sides.append(Side(world, gateway, await stack.enter_async_context(aiohttp.ClientSession())))
        await _measure(*sides)


async def _measure(few: Side, many: Side) -> None:
    first = 0
    print(f"{'':<28}{few.world.tenants:>9,} p50{'p99':>9}{many.world.tenants:>11,} p50{'p99':>9}{'ratio':>9}")
    for asked in _ASKED:
        persons = [side.world.persons(_WARM + _REQUESTS, first=first) for side in (few, many)]
        first += _WARM + _REQUESTS
        for number, pair in enumerate(zip(*persons, strict=True)):
            in_turn = [(few, pair[0]), (many, pair[1])]
            for side, person in in_turn if number % 2 else reversed(in_turn):
                await side.ask(asked, person, count=number >= _WARM)
        _show(asked.name, few.taken[asked.name], many.taken[asked.name])
    print(f"  memory: {few.gateway.resident_mib():.0f} and {many.gateway.resident_mib():.0f} MiB", flush=True)


def _show(name: str, few: list[float], many: list[float]) -> None:
    ratio = percentile(many, 0.5) / percentile(few, 0.5)
    figures = "".join(
        f"{percentile(taken, 0.5):>{width}.1f}{percentile(taken, 0.99):>9.1f}"
        for taken, width in ((few, 13), (many, 15))
    )
    verdict = "met" if ratio <= _MOST else "missed"
    print(f"  {name:<26}{figures}{ratio:>9.2f}  at most {_MOST}: {verdict}", flush=True)
