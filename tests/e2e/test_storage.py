"""How much a caller may have stored beside files, over sockets: the policy says it, and every way to
store something counts.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.e2e.conftest import ScriptedUpstream, World, text

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

Limited = Callable[..., AbstractAsyncContextManager[World]]
LONG = "word " * 400


@pytest.fixture
def limited(configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path) -> Limited:
    """A gateway in which everybody may have so many bytes stored, holders of the role `archive` more."""

    @asynccontextmanager
    async def running(most: int) -> AsyncIterator[World]:
        data = json.loads((policies / "data.json").read_text())
        data["regate"]["storage_limits"] = {
            "default": {"max_bytes": most},
            "tenants": {},
            "roles": {"archive": {"max_bytes": 10_000_000}},
        }
        (policies / "data.json").write_text(json.dumps(data))
        settings = configure()
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            yield World(server.url, settings, gateway, upstream, policies)

    return running


def message(said: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": said}


def code_of(answer: httpx.Response) -> str:
    return "" if answer.status_code == 200 else f"{answer.status_code} {answer.json()['error']['code']}"


REFUSED = "403 storage_limit_exceeded"
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "response": ("/responses", {"model": "small", "input": LONG}),
    "streamed response": ("/responses", {"model": "small", "input": LONG, "stream": True}),
    "background response": ("/responses", {"model": "small", "input": LONG, "background": True}),
    "conversation": ("/conversations", {"items": [message(LONG)]}),
    "prompt": ("/prompts", {"name": "p", "template": {"input": [message(LONG)]}}),
}


@pytest.mark.parametrize("way", WAYS)
async def test_what_there_is_no_room_for_is_refused_before_anything_is_stored_or_sent(
    limited: Limited, way: str
) -> None:
    path, body = WAYS[way]
    async with limited(1_000) as world, world.http() as http:
        answer = await http.post(path, json=body)
        sent = len(world.upstream.requests)

    assert (code_of(answer), sent) == (REFUSED, 0)
    assert "1000 bytes" in answer.json()["error"]["message"]


async def test_a_response_that_is_not_stored_needs_no_room(limited: Limited) -> None:
    async with limited(0) as world, world.http() as http:
        world.upstream.turns = [text("Yes.")]
        answer = await http.post("/responses", json={"model": "small", "input": LONG, "store": False})

    assert answer.status_code == 200


async def test_everything_that_is_stored_counts_and_what_is_deleted_makes_room(limited: Limited) -> None:
    async with (
        limited(9_000) as world,
        world.http() as http,
        world.http("bob") as other,
        world.http(roles=["archive"]) as archivist,
    ):
        world.upstream.turns = [text("Yes.")]
        response = await http.post("/responses", json={"model": "small", "input": LONG})
        conversation = (await http.post("/conversations", json={"items": [message(LONG)]})).json()["id"]
        prompt = (
            await http.post("/prompts", json={"name": "p", "template": {"input": [message(LONG)]}})
        ).json()["id"]
        items = {"items": [message(LONG * 2)]}
        full = await http.post(f"/conversations/{conversation}/items", json=items)
        version = await http.post(
            f"/prompts/{prompt}/versions", json={"template": {"input": [message(LONG * 2)]}}
        )
        theirs = await other.post("/conversations", json=items)
        more = await archivist.post("/conversations", json=items)
        await http.delete(f"/conversations/{more.json()['id']}")
        await http.delete(f"/responses/{response.json()['id']}")
        room = await http.post(f"/conversations/{conversation}/items", json=items)

    assert [code_of(one) for one in (full, version, theirs, more, room)] == [REFUSED, REFUSED, "", "", ""]


async def test_an_item_that_is_deleted_makes_room(limited: Limited) -> None:
    async with limited(3_000) as world, world.http() as http:
        conversation = (await http.post("/conversations", json={"items": [message(LONG)]})).json()["id"]
        path = f"/conversations/{conversation}/items"
        refused = await http.post(path, json={"items": [message(LONG)]})
        (item,) = (await http.get(path)).json()["data"]
        await http.delete(f"{path}/{item['id']}")
        again = await http.post(path, json={"items": [message(LONG)]})

    assert (code_of(refused), code_of(again)) == (REFUSED, "")


async def test_requests_at_the_same_time_are_never_too_much_together(limited: Limited) -> None:
    async with limited(10_000) as world, world.http() as http:
        answers = await asyncio.gather(
            *(http.post("/conversations", json={"items": [message(LONG)]}) for _ in range(12))
        )
        said = Counter(code_of(one) for one in answers)

    assert said[REFUSED] >= 8
    assert said[""] + said[REFUSED] == 12


async def test_without_a_limit_nothing_is_stored(limited: Limited, policies: Path) -> None:
    async with limited(1_000_000) as world, world.http() as http:
        rule = policies / "quota" / "quota.rego"
        rule.write_text(
            rule.read_text().replace('input.action == "quota.storage"', 'input.action == "never"')
        )
        async with asyncio.timeout(60):
            while (answer := await http.post("/conversations", json={})).status_code == 200:
                await asyncio.sleep(0.1)

    assert code_of(answer) == "403 policy_denied"
