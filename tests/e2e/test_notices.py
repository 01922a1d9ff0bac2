"""Background responses at another gateway, with a Redis between the two: they are followed and cancelled by
notices alone.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from typing import Any

import pytest
from tests.deployments import only_on
from tests.e2e.test_background import gated
from tests.e2e.test_several_gateways import Start, ask, events_from, first, start
from tests.patience import PATIENT_SECONDS
from tests.redis_server import RedisServer

from regate_gateway.config.settings import Settings

pytestmark = only_on("postgres")

__all__ = ["start"]

NEVER_SECONDS = 100_000.0


@pytest.fixture
def configure(configure: Callable[..., Settings], redis_server: RedisServer) -> Callable[..., Settings]:
    """Settings of gateways that share a Redis too."""
    redis = {"url": redis_server.url(), "prefix": secrets.token_hex(8), "timeout_ms": 10_000}
    return lambda **changes: configure(**changes, redis=redis)


@pytest.fixture(autouse=True)
def _no_polling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have nobody look without a notice."""
    monkeypatch.setattr("regate_orchestrator.responses.output.watching.SAFETY_SECONDS", NEVER_SECONDS)
    monkeypatch.setattr("regate_orchestrator.responses.background._SAFETY_LOOKS", NEVER_SECONDS)
    monkeypatch.setattr("regate_orchestrator.responses.background._PATIENCE_SECONDS", NEVER_SECONDS)


async def test_a_background_response_is_followed_and_cancelled_through_another_gateway_without_polling(
    start: Start,
) -> None:
    async with start("a") as one, start("b") as two, one.http() as here, two.http() as there:
        async with asyncio.timeout(PATIENT_SECONDS):
            for world in (one, two):
                await _until_shared(world)
            one.upstream.turns = [gated(asyncio.Event(), "One ", "two.")]
            begun = (await here.post("/responses", json=ask(background=True, stream=False))).json()
            cancelled = (await there.post(f"/responses/{begun['id']}/cancel")).json()

            go_on = asyncio.Event()
            one.upstream.turns = [gated(go_on, "One ", "two.")]
            async with here.stream("POST", "/responses", json=ask(background=True, stream=True)) as answer:
                created = await first(events_from(answer), "response.created")
            name = created["response"]["id"]
            async with there.stream("GET", f"/responses/{name}?stream=true") as followed:
                events = events_from(followed)
                await first(events, "response.output_text.delta")
                go_on.set()
                last = await first(events, "response.completed")

    assert cancelled["status"] == "cancelled"
    assert last["response"]["output"][0]["content"][0]["text"] == "One two."


async def _until_shared(world: Any) -> None:
    services = world.gateway.services
    while not services.background._notices.is_shared:
        await asyncio.sleep(0.01)
