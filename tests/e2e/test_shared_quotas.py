"""Gateways that share a Redis: one limit for all of them, and the configured mode while Redis is away."""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World
from tests.e2e.test_quotas import CHAT
from tests.e2e.test_scoped_quotas import say_scoped
from tests.link import Link
from tests.patience import PATIENT_SECONDS
from tests.redis_server import RedisServer

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

pytestmark = only_on("embedded")

Start = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def start(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, tmp_path: Path
) -> Start:
    """What starts a gateway of this name. All it shares with the others is the Redis."""
    prefix = secrets.token_hex(8)

    @asynccontextmanager
    async def started(name: str, url: str, **quota: Any) -> AsyncIterator[World]:
        redis = {"url": url, "prefix": prefix, "timeout_ms": 10_000}
        settings = configure(data_dir=tmp_path / name, redis=redis, quota=quota)
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            yield World(server.url, settings, gateway, upstream, policies)

    return started


async def ask(http: httpx.AsyncClient) -> tuple[int, str]:
    answer = await http.post("/chat/completions", json=CHAT)
    return answer.status_code, answer.json().get("error", {}).get("code", "")


async def metric(world: World, line: str) -> bool:
    async with httpx.AsyncClient(timeout=PATIENT_SECONDS) as http:
        return line in (await http.get(world.url + "/metrics")).text


async def test_a_limit_is_one_for_all_gateways_and_without_redis_the_configured_mode_holds(
    start: Start, redis_server: RedisServer, policies: Path
) -> None:
    say_scoped(policies, tenants={"acme": {"rpm": 6, "concurrent": 6}})
    async with (
        Link(redis_server.port) as link,
        start("a", redis_server.url(link.port)) as denying,
        start("b", redis_server.url(link.port), on_failure="local") as local,
        denying.http("ann") as ann,
        denying.http("eve", "globex") as eve,
        local.http("bob") as bob,
    ):
        together = await asyncio.gather(*(ask(one) for one in (ann, bob) * 6))
        unlimited_before = await ask(eve)
        link.become("cut")
        began = time.monotonic()
        away = [await ask(ann), await ask(ann), await ask(bob), await ask(eve)]
        took = time.monotonic() - began
        said = [
            await metric(denying, 'regate_quota_unavailable_total{effect="denied"} 2'),
            await metric(local, 'regate_quota_unavailable_total{effect="local"} 1'),
            await metric(denying, "regate_quota_shared 0"),
        ]
        link.become("pass")
        async with asyncio.timeout(PATIENT_SECONDS):
            while (back := await ask(ann)) == (503, "quota_unavailable"):
                await asyncio.sleep(0.05)

    assert sorted(together) == [(200, "")] * 6 + [(429, "rate_limit_exceeded")] * 6
    assert unlimited_before == (200, "")
    assert away == [(503, "quota_unavailable")] * 2 + [(200, ""), (200, "")]
    assert (said, took < 30) == ([True] * 3, True)
    assert back == (429, "rate_limit_exceeded")  # what was counted before is still there


async def test_what_one_gateway_forgets_all_forget(start: Start, redis_server: RedisServer) -> None:
    async with (
        start("a", redis_server.url()) as one,
        start("b", redis_server.url()) as other,
        one.http("ann") as ann,
        other.http("bob") as bob,
        asyncio.timeout(PATIENT_SECONDS),
    ):
        await ask(ann)
        await ask(bob)
        held: Any = other.gateway.services.enforcer._memory  # type: ignore[union-attr]
        assert held.held
        os.kill(one.opa_pid, signal.SIGKILL)  # the other gateway has an OPA of its own, which lives
        while held.held:
            await asyncio.sleep(0.01)
        again = await ask(bob)

    assert again == (200, "")
