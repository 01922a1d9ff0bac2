"""A client that leaves before a plain answer: the backend is let go, and what there was is stored as cancelled."""

from __future__ import annotations

import asyncio

from tests.e2e.conftest import World
from tests.e2e.test_background import gated


async def test_client_that_leaves_a_plain_request_ends_the_upstream_call_and_cancels_the_response(world: World) -> None:
    world.upstream.turns = [gated(asyncio.Event(), "Begun", " never")]
    async with world.http() as http, asyncio.TaskGroup() as group:
        asking = group.create_task(http.post("/responses", json={"model": "small", "input": "Hi"}))
        async with asyncio.timeout(20):
            while not (listed := (await http.get("/responses")).json()["data"]):
                await asyncio.sleep(0.01)
            asking.cancel()
            while world.upstream.closed_early == 0:
                await asyncio.sleep(0.01)
            while (found := (await http.get(f"/responses/{listed[0]['id']}")).json())["status"] == "in_progress":
                await asyncio.sleep(0.01)

    assert (found["status"], found["completed_at"]) == ("cancelled", None)
