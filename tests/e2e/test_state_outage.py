"""The database goes away in the middle of a response and comes back: what the gateway has in its hands then
is let go of without a restart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from tests.deployments import VARIABLE, Deployment, only_on
from tests.e2e.conftest import ScriptedUpstream, started, text
from tests.e2e.test_background import gated, until
from tests.e2e.test_several_gateways import KEY, ask, events_from, first
from tests.link import Link
from tests.patience import PATIENT_SECONDS

from regate_gateway.config.settings import Settings

pytestmark = only_on("postgres")


@pytest.mark.parametrize("background", [False, True])
async def test_response_that_could_not_be_stored_is_failed_and_lets_go_once_the_database_is_back(
    configure: Callable[..., Settings],
    upstream: ScriptedUpstream,
    policies: Path,
    deployment: Deployment,
    monkeypatch: pytest.MonkeyPatch,
    background: bool,
) -> None:
    port, gate = urlsplit(deployment.url).port, asyncio.Event()
    assert port is not None
    upstream.turns = [gated(gate, "Half", " an answer."), text("Again.")]
    async with Link(port) as link:
        monkeypatch.setenv(VARIABLE, deployment.url.replace(f":{port}/", f":{link.port}/"))
        async with started(configure(), upstream, policies) as world, world.http() as http:
            conversation = (await http.post("/conversations", json={})).json()["id"]
            turn = ask(stream=True, conversation=conversation, background=background)
            async with http.stream("POST", "/responses", json=turn, headers=KEY) as answer:
                events = events_from(answer)
                identifier = (await first(events, "response.in_progress"))["response"]["id"]
                await first(events, "response.output_text.delta")
                await link.refuse()
                gate.set()
                told = [event["type"] async for event in events][-1:]
            await link.listen()
            free = turn | {"stream": False, "background": False}
            stored = await until(world.client(), identifier, "failed", "completed")
            async with asyncio.timeout(PATIENT_SECONDS):
                while (again := await http.post("/responses", json=free)).status_code != 200:
                    await asyncio.sleep(0.05)
            found: dict[str, Any] = again.json()

    assert (told, stored.status, found["id"] != identifier) == (["response.failed"], "failed", True)
