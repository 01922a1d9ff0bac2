"""A million persons of ten thousand tenants, each of whom asks once: what a gateway keeps of them in memory, and
Redis of what they spent. `make scale PARTS=principals`.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Final

from tests.redis_server import running_redis

from bench.processes import resident_mib
from bench.scale.worlds import PERSONS, tenant_name
from regate_adapters.opa.caching import CachingEngine
from regate_adapters.quota.local import LocalQuotaCounter
from regate_adapters.quota.shared import RedisQuotaCounter
from regate_adapters.redis import connected
from regate_adapters.testing.opa import running_opa
from regate_gateway.workbench.directory import shipped_policies
from regate_orchestrator.authz.points import ROWS
from regate_orchestrator.authz.remembered import remembered_rules
from regate_orchestrator.filters.schema import load_schema
from regate_orchestrator.ports import Account, Amount, Counted, Meter, QuotaCounter

_OF_A_PERSON: Final[Mapping[Meter, int]] = {"rpm": 60, "tpm": 100_000, "tokens_per_day": 1_000_000}
_OF_A_TENANT: Final[Mapping[Meter, int]] = {"rpm": 6_000, "tpm": 10_000_000}
_IN_REDIS: Final = 10
"""Of so many persons one is counted in Redis, whose memory grows evenly."""
_AT_ONCE: Final = 64
_PARTS: Final = 4
_ASKED_OF_OPA: Final = 40_000
_RULE: Final = "regate/route/allow"


async def principals(count: int) -> None:
    """Measure counters, and what is remembered of decisions."""
    local = LocalQuotaCounter()
    print(f"{count:,} persons of {count // PERSONS:,} tenants, each once; memory of this process")
    await _in_parts(
        "counted here", count, lambda number: _reserve(local, number), lambda: f"{local.held:,} accounts"
    )
    with running_redis() as server:
        async with connected(server.url(), deadline_s=60) as redis:
            shared = RedisQuotaCounter(redis, prefix="bench", deadline_s=60)
            some, before = count // _IN_REDIS, (await redis.info("memory"))["used_memory"]
            await _in_parts("counted in Redis", some, lambda number: _reserve(shared, number), lambda: "")
            used, keyspace = (
                (await redis.info("memory"))["used_memory"] - before,
                await redis.info("keyspace"),
            )
            print(
                f"  Redis: {used / 2**20:.0f} MiB in {keyspace['db0']['keys']:,} keys, {used / some:.0f} bytes a person "
                f"with a budget of a day; {keyspace['db0']['keys'] - keyspace['db0']['expires']:,} keys never expire"
            )
    await _remembered(min(count, _ASKED_OF_OPA))


async def _remembered(count: int) -> None:
    policies = shipped_policies()
    schemas = {kind: load_schema(policies / "schemas" / f"{kind}.json") for kind in ROWS}
    async with running_opa(policies, schemas=schemas, deadline_s=60) as opa:
        engine = CachingEngine(opa, seconds=3_600, entries=16_384, answers_of=remembered_rules())

        async def ask(number: int) -> None:
            tenant, person = _who(number)
            who = {"id": person, "tenant": tenant, "roles": [], "scopes": []}
            request = {"method": "GET", "path": "/v1/models"}
            await engine.ask(_RULE, {"action": "route", "principal": who, "request": request, "now": 0})

        await _in_parts(
            "decisions remembered",
            count,
            ask,
            lambda: f"{engine.held:,} held, {engine.bytes / 2**20:.1f} MiB by its own count",
        )


def _who(number: int) -> tuple[str, str]:
    return tenant_name(number // PERSONS), f"p{number % PERSONS}"


async def _reserve(counter: QuotaCounter, number: int) -> None:
    tenant, person = _who(number)
    accounts = [
        Account("person", tenant, person, "", _OF_A_PERSON),
        Account("tenant", tenant, "", "", _OF_A_TENANT),
    ]
    counted = await counter.reserve(accounts, Amount(100))
    assert isinstance(counted, Counted)


async def _in_parts(
    what: str, count: int, work: Callable[[int], Awaitable[None]], held: Callable[[], str]
) -> None:
    """Do the work for each, and print what it came to after each part."""
    before = resident_mib(os.getpid())
    for part in range(_PARTS):
        left, began = iter(range(count * part // _PARTS, count * (part + 1) // _PARTS)), time.perf_counter()

        async def worker(left: Iterator[int] = left) -> None:
            for number in left:
                await work(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(worker())
        each_us = (time.perf_counter() - began) / (count / _PARTS) * 1e6
        print(
            f"  {what:<22}{count * (part + 1) // _PARTS:>10,}{resident_mib(os.getpid()) - before:>+8.1f} MiB"
            f"{each_us:>8.0f} µs each  {held()}",
            flush=True,
        )
