"""Limits of scopes over sockets: what a tenant, a role and a model may spend together, what runs at the same
time, and budgets, in OpenAI's words.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, started
from tests.e2e.test_quotas import CHAT, answering

from regate_gateway.config.settings import Settings

pytestmark = only_on("embedded")

Scoped = Callable[..., AbstractAsyncContextManager[World]]
HEADERS = ("x-ratelimit-limit-requests", "x-ratelimit-remaining-requests")


def say_scoped(policies: Path, *, prices: dict[str, Any] | None = None, **said: Any) -> None:
    """Make these the operators' limits of scopes."""
    nobody: dict[str, Any] = {"default": {}, "tenants": {}, "roles": {}}
    persons = nobody | said.pop("persons", {})
    data = json.loads((policies / "data.json").read_text())
    data["regate"]["scoped_quotas"] = {"persons": persons, "roles": {}, "tenants": {}, "models": {}} | said
    data["regate"]["model_prices"] = prices or {}
    (policies / "data.json").write_text(json.dumps(data))


@pytest.fixture
def scoped(configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path) -> Scoped:
    """A gateway in which these limits of scopes hold."""

    @asynccontextmanager
    async def running(**said: Any) -> AsyncIterator[World]:
        say_scoped(policies, **said)
        async with started(configure(), upstream, policies) as world:
            yield world

    return running


async def test_a_tenant_a_role_and_a_model_are_each_limited_together(scoped: Scoped) -> None:
    found = []
    async with scoped(
        tenants={"acme": {"rpm": 2}}, roles={"batch": {"rpm": 1}}, models={"large": {"rpm": 1}}
    ) as world:
        asked: list[tuple[str, str, list[str], str]] = [
            ("ann", "acme", [], "small"),
            ("bob", "acme", [], "small"),
            ("cid", "acme", [], "small"),  # of the tenant
            ("dan", "globex", ["batch"], "small"),
            ("eve", "globex", ["batch"], "small"),  # of the role
            ("fay", "hooli", ["batch"], "small"),  # a role of that name in another tenant
            ("gus", "hooli", [], "large"),
            ("hal", "globex", [], "large"),  # of the model, of all tenants
        ]
        for subject, tenant, roles, model in asked:
            async with world.http(subject, tenant, roles=roles) as http:
                answer = await http.post("/chat/completions", json=CHAT | {"model": model})
            found.append((answer.status_code, *(answer.headers[name] for name in HEADERS)))
            message = answer.json().get("error", {}).get("message", "")

    assert found == [
        (200, "2", "1"),
        (200, "2", "0"),
        (429, "2", "0"),
        (200, "1", "0"),
        (429, "1", "0"),
        (200, "1", "0"),
        (200, "1000000", "999999"),
        (429, "1000000", "1000000"),
    ]
    assert message.startswith(
        "Rate limit reached on requests per minute (RPM) by all who use this model. Try"
    )


async def test_what_runs_at_the_same_time_is_limited_and_makes_room_however_it_ends(scoped: Scoped) -> None:
    taken, go_on = asyncio.Semaphore(0), asyncio.Event()

    async def slow(upstream: ScriptedUpstream, request: web.Request) -> web.Response:
        taken.release()
        await go_on.wait()
        return await answering({"total_tokens": 10})(upstream, request)  # type: ignore[no-any-return]

    async with scoped(tenants={"acme": {"concurrent": 2}}) as world, world.http() as http:
        world.upstream.turns = [slow, slow]
        async with asyncio.TaskGroup() as group:
            first = group.create_task(http.post("/chat/completions", json=CHAT))
            leaving = group.create_task(http.post("/responses", json={"model": "small", "input": "Hi"}))
            for _ in range(2):
                await taken.acquire()
            full = await http.post("/chat/completions", json=CHAT)
            leaving.cancel()
            go_on.set()
        async with asyncio.timeout(60):
            while (await http.post("/embeddings", json={"model": "small", "input": "x"})).status_code != 200:
                await asyncio.sleep(0.02)
        broken = await http.post(
            "/completions", json={"model": "small", "prompt": "x"}
        )  # the backend refuses
        after = [(await http.post("/chat/completions", json=CHAT)).status_code for _ in range(3)]

    assert (first.result().status_code, full.status_code, full.headers["retry-after"]) == (200, 429, "1")
    assert "requests at the same time by your tenant: limit 2, used 2" in full.json()["error"]["message"]
    assert (broken.status_code >= 400, after) == (True, [200] * 3)


async def test_a_spent_budget_is_told_as_openai_does_and_clients_do_not_try_again(scoped: Scoped) -> None:
    persons = {"roles": {"frugal": {"cost_per_month": 1}, "brief": {"tokens_per_day": 1_500}}}
    told = []
    async with scoped(persons=persons, prices={"small": {"input": 1_000, "output": 2_000}}) as world:
        for role in ("frugal", "brief"):
            client = world.client(role, roles=[role]).with_options(max_retries=3)
            world.upstream.turns = [answering({"prompt_tokens": 1_000, "completion_tokens": 600})]
            await client.chat.completions.create(**CHAT)
            before = len(world.upstream.requests)
            with pytest.raises(openai.RateLimitError) as refused:
                await client.chat.completions.create(**CHAT)
            told.append(refused.value)
            assert len(world.upstream.requests) == before

    assert [(one.type, one.code) for one in told] == [("insufficient_quota", "insufficient_quota")] * 2
    assert [one.response.headers["x-should-retry"] for one in told] == ["false"] * 2
    waits = [int(one.response.headers["retry-after"]) for one in told]
    assert (0 < waits[1] <= 86_400, waits[1] <= waits[0] <= 31 * 86_400) == (True, True)
    assert told[0].message.find("The budget of money for this month is spent. It is renewed in") > 0
    assert "The budget of tokens for this day is spent: limit 1500, used 1500" in told[1].message
