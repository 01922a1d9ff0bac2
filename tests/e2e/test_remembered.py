"""What is remembered of decisions, through the whole gateway: it saves questions, is told in the audit log,
and is forgotten at once when the policy changes or OPA is gone.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from typing import Any

import pytest
from aiohttp import web
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, text, tool_call
from tests.e2e.test_edge import CHAT

pytestmark = only_on("embedded")


@pytest.mark.one_process
async def test_second_request_asks_nothing_and_its_record_says_from_when_it_was_decided(world: World) -> None:
    began = int(time.time())
    async with world.http() as http:
        answers = [await http.post("/chat/completions", json=CHAT) for _ in range(2)]
        counted = (await http.get(f"{world.url}/metrics")).text
    first, second = [record for record in world.audit(kind="decisions") if record["phase"] == "route.call"]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert "identified" not in first
    assert not any("remembered_from" in decision for decision in first["decisions"])
    if second["now"] // 5 == began // 5:  # else the bucket of time ended meanwhile
        assert began <= second["identified"] <= first["now"]  # who it is was asked before
        assert [decision["remembered_from"] for decision in second["decisions"]] == [first["now"]] * 2
        assert "regate_answers_remembered_total 5.0" in counted


async def test_suspended_tenant_is_refused_as_soon_as_the_policy_is_in_force(world: World) -> None:
    data = json.loads((world.policies / "data.json").read_text())
    data["regate"]["tenants"]["acme"] = {"suspended": True, "admins": []}
    async with world.http() as http, asyncio.timeout(120):
        before = await http.post("/chat/completions", json=CHAT)
        (world.policies / "data.json").write_text(json.dumps(data))
        while (after := await http.post("/chat/completions", json=CHAT)).status_code == 200:
            await asyncio.sleep(0.02)

    assert (before.status_code, after.status_code) == (200, 401)
    assert world.audit(kind="identity")[0]["allowed"] is False


async def test_response_that_runs_on_when_its_tenant_is_suspended_finds_nothing_more(world: World) -> None:
    client = world.client()
    store = await client.vector_stores.create(name="handbook")
    await client.vector_stores.files.upload_and_poll(
        vector_store_id=store.id, file=("leave.md", b"Everyone has 28 days of leave.")
    )

    async def suspended(upstream: ScriptedUpstream, request: web.Request) -> web.StreamResponse:
        data = json.loads((world.policies / "data.json").read_text())
        data["regate"]["tenants"]["acme"] = {"suspended": True, "admins": []}
        (world.policies / "data.json").write_text(json.dumps(data))
        async with world.http() as http, asyncio.timeout(120):
            while (await http.get("/models")).status_code == 200:
                await asyncio.sleep(0.02)
        upstream.turns.insert(0, tool_call("file_search", {"query": "leave"}))
        return await upstream.chat(request)

    world.upstream.turns = [tool_call("file_search", {"query": "leave"}), suspended, text("I do not know.")]
    tools: Any = [{"type": "file_search", "vector_store_ids": [store.id]}]
    response = await client.responses.create(model="small", input="How many days?", tools=tools)

    assert response.output_text == "I do not know."
    prompts = [json.dumps(request["messages"]) for request in world.upstream.requests]
    assert ["28 days" in prompt for prompt in prompts] == [False, True, True, False]
    assert "withheld" in prompts[3]


async def test_dead_opa_is_not_stood_in_for(world: World) -> None:
    async with world.http() as http:
        assert (await http.post("/chat/completions", json=CHAT)).status_code == 200
        os.kill(world.opa_pid, signal.SIGKILL)
        async with asyncio.timeout(60):  # until its death is noticed, and then until it is back
            while (answer := await http.post("/chat/completions", json=CHAT)).status_code == 200:
                pass
            refused = answer
            while (await http.post("/chat/completions", json=CHAT)).status_code != 200:
                await asyncio.sleep(0.05)

    assert refused.status_code == 503
    assert refused.json()["error"]["code"] == "policy_unavailable"


@pytest.mark.parametrize("deny", ["acme", "globex"])
async def test_what_one_caller_may_do_says_nothing_of_another(world: World, deny: str) -> None:
    data = json.loads((world.policies / "data.json").read_text())
    data["regate"]["models"]["large"] = [deny]
    (world.policies / "data.json").write_text(json.dumps(data))
    wanted = {"acme": 404, "globex": 404, deny: 200}

    async def statuses() -> dict[str, int]:
        found = {}
        for subject, tenant in (("alice", "acme"), ("gita", "globex")):
            async with world.http(subject, tenant) as http:
                answer = await http.post("/chat/completions", json={**CHAT, "model": "large"})
            found[tenant] = answer.status_code
        return found

    async with asyncio.timeout(120):
        while await statuses() != wanted:
            await asyncio.sleep(0.05)
    assert await statuses() == wanted
