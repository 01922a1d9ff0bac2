"""Whoever leaves before the end, the client or the gateway: the backend is let go, and what there was
is stored with an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World
from tests.e2e.test_background import gated
from tests.patience import until

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running


async def test_client_that_leaves_a_plain_request_ends_the_upstream_call_and_cancels_the_response(
    world: World,
) -> None:
    world.upstream.turns = [gated(asyncio.Event(), "Begun", " never")]
    async with world.http() as http, asyncio.TaskGroup() as group:
        asking = group.create_task(http.post("/responses", json={"model": "small", "input": "Hi"}))
        async with asyncio.timeout(60):
            while not world.upstream.requests:
                await asyncio.sleep(0.01)
            asking.cancel()
            while world.upstream.closed_early == 0:
                await asyncio.sleep(0.01)
            while not (listed := (await http.get("/responses")).json()["data"]):
                await asyncio.sleep(0.01)

    assert [(found["status"], found["completed_at"]) for found in listed] == [("cancelled", None)]


@pytest.mark.one_process
@only_on("embedded")
@pytest.mark.parametrize("background", [False, True])
async def test_response_whose_client_leaves_while_it_is_first_stored_has_an_end(
    world: World, background: bool
) -> None:
    def tasks(name: str) -> list[asyncio.Task[Any]]:
        coroutines = {task: getattr(task.get_coro(), "__qualname__", "") for task in asyncio.all_tasks()}
        return [task for task, coroutine in coroutines.items() if coroutine.endswith(name)]

    world.upstream.turns = [gated(asyncio.Event(), "Begun", " never")]
    body = {"model": "small", "input": "Hi", "stream": True, "background": background}
    async with world.http() as http, asyncio.TaskGroup() as group:
        async with world.database.maintenance.writing():  # nobody else writes meanwhile
            asking = group.create_task(http.post("/responses", json=body))
            await until(lambda: tasks(".save"))
            asking.cancel()
            if not background:
                await until(lambda: any(task.cancelling() for task in asyncio.all_tasks() - {asking}))
        if background:
            await until(lambda: statuses(http, "in_progress"))
            [queued] = (await http.get("/responses")).json()["data"]
            await http.post(f"/responses/{queued['id']}/cancel")
        await until(lambda: statuses(http, "cancelled"))


async def statuses(http: httpx.AsyncClient, *wanted: str) -> bool:
    """Return whether these are the statuses of what is stored."""
    found = (await http.get("/responses")).json()["data"]
    return [one["status"] for one in found] == list(wanted)


async def test_stream_that_the_gateways_end_cuts_is_stored_with_an_end(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path
) -> None:
    settings = configure(listen={"port": 0, "shutdown_grace_s": 1})
    upstream.turns = [gated(asyncio.Event(), "Begun", " never")]
    app, gateway = gateway_app(settings)
    async with Running(app, settings.listen) as server:
        client = World(server.url, settings, gateway, upstream, policies).client()
        stream = await client.responses.create(model="small", input="Hi", stream=True)
        identifier = (await anext(aiter(stream))).response.id  # type: ignore[union-attr]
    await client.close()
    app, gateway = gateway_app(settings)
    async with Running(app, settings.listen) as server:
        client = World(server.url, settings, gateway, upstream, policies).client()
        found = await client.responses.retrieve(identifier)
        await client.close()

    assert found.status == "cancelled"
    assert upstream.closed_early == 1
