"""Several upstreams behind one gateway: aliases, the policy's choice, its obligations, and an upstream
that is down. Over sockets, with real OPA.
"""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from aiohttp import web
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, text

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

pytestmark = only_on("embedded")

CHAT: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}

Open = Callable[..., Any]


@asynccontextmanager
async def serving(scripted: ScriptedUpstream) -> AsyncIterator[ScriptedUpstream]:
    app = web.Application()
    app.router.add_get("/v1/models", scripted.models)
    app.router.add_post("/v1/chat/completions", scripted.chat)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    scripted.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield scripted
    await runner.cleanup()


@pytest.fixture
async def second() -> AsyncIterator[ScriptedUpstream]:
    async with serving(ScriptedUpstream()) as scripted:
        yield scripted


@pytest.fixture
async def nowhere() -> AsyncIterator[str]:
    with socket.socket() as sock:  # bound and not listening: connections are refused
        sock.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1"


@pytest.fixture
async def opened(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path
) -> AsyncIterator[Open]:
    """Open a gateway before these upstreams, under a policy with this in `data.regate.backends`."""
    async with AsyncExitStack() as stack:

        async def open_world(*upstreams: dict[str, Any], backends: dict[str, Any] | None = None) -> World:
            data = json.loads((policies / "data.json").read_text())
            data["regate"]["backends"] = {
                model: {"backend": "main", "tenants": {}, "obligations": {}} | said
                for model, said in (backends or {}).items()
            }
            (policies / "data.json").write_text(json.dumps(data))
            settings = configure(upstreams=list(upstreams))
            app, gateway = gateway_app(settings)
            server = await stack.enter_async_context(Running(app, settings.listen))
            world = World(server.url, settings, gateway, upstream, policies)
            stack.push_async_callback(_close, world)
            return world

        yield open_world


async def _close(world: World) -> None:
    for client in world.clients:
        await client.close()


async def ask(world: World, tenant: str = "acme", **changes: Any) -> httpx.Response:
    async with world.http("ann", tenant) as http:
        return await http.post("/chat/completions", json=CHAT | changes)


async def listed(world: World, tenant: str) -> list[str]:
    return [model.id async for model in world.client("ann", tenant).models.list()]


async def test_clients_see_the_alias_and_the_upstream_its_own_name(
    opened: Open, upstream: ScriptedUpstream
) -> None:
    world = await opened({"name": "main", "base_url": upstream.url, "aliases": {"house": "small"}})
    await ask(world, model="house")
    hidden = await ask(world, model="small")
    upstream.turns = [text("Hello.")]
    response = await world.client().responses.create(model="house", input="Hi")

    assert await listed(world, "acme") == ["house", "large"]
    assert [request["model"] for request in upstream.requests] == ["small", "small"]
    assert (response.model, response.output_text) == ("house", "Hello.")
    assert (hidden.status_code, hidden.json()["error"]["code"]) == (404, "model_not_found")


async def test_policy_sends_a_tenant_to_its_own_upstream(
    opened: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    world = await opened(
        {"name": "main", "base_url": upstream.url, "models": ["small"]},
        {"name": "globex-own", "base_url": second.url, "models": ["small", "secret"], "by_policy": True},
        backends={
            "small": {"tenants": {"globex": "globex-own"}},
            "secret": {"backend": "main", "tenants": {"globex": "globex-own"}},
        },
    )
    for tenant in ("acme", "globex", "globex"):
        assert (await ask(world, tenant)).status_code == 200
    assert (await ask(world, "globex", model="secret")).status_code == 200
    (record, *_) = world.audit(phase="route.call", tenant="globex")

    assert (len(upstream.requests), len(second.requests)) == (1, 3)
    assert record["decisions"][0]["qualities"] == {"backend": "globex-own", "obligations": {}}
    assert [await listed(world, tenant) for tenant in ("acme", "globex")] == [["small"], ["small", "secret"]]
    async with world.http("ann", "globex") as http:
        assert (await http.get("/models/secret")).json()["id"] == "secret"


@pytest.mark.parametrize("backend", ["elsewhere", "spare"])
async def test_upstream_that_policy_names_and_that_cannot_serve_is_a_refusal(
    opened: Open, upstream: ScriptedUpstream, second: ScriptedUpstream, backend: str
) -> None:
    world = await opened(
        {"name": "main", "base_url": upstream.url, "models": ["small"]},
        {"name": "spare", "base_url": second.url, "models": ["other"]},
        backends={"small": {"backend": backend}},
    )
    answer = await ask(world)

    assert (answer.status_code, answer.json()["error"]["code"], backend in answer.text) == (
        503,
        "policy_unavailable",
        False,
    )
    assert upstream.requests == second.requests == []


async def test_upstream_that_policy_names_has_no_fallback(
    opened: Open, nowhere: str, second: ScriptedUpstream
) -> None:
    upstreams = [
        {"name": "main", "base_url": nowhere, "models": ["small", "free"]},
        {"name": "spare", "base_url": second.url, "models": ["small", "free"], "fallback_for": ["main"]},
    ]
    world = await opened(*upstreams, backends={"small": {"backend": "main"}})
    pinned, free = await ask(world), await ask(world, model="free")

    assert (pinned.status_code, pinned.json()["error"]["code"], free.status_code) == (
        502,
        "upstream_error",
        200,
    )
    assert [request["model"] for request in second.requests] == ["free"]


async def test_obligation_lowers_what_a_client_may_ask_for(opened: Open, upstream: ScriptedUpstream) -> None:
    world = await opened(
        {"name": "main", "base_url": upstream.url},
        backends={"small": {"obligations": {"no_store": True, "max_output_tokens": 50}}},
    )
    await ask(world)
    await ask(world, max_tokens=20)
    await ask(world, max_completion_tokens=900)
    await ask(world, model="large", max_tokens=900)

    limits = [
        {name: sent[name] for name in ("max_tokens", "max_completion_tokens") if name in sent}
        for sent in upstream.requests
    ]
    assert limits == [{"max_tokens": 50}, {"max_tokens": 20}, {"max_tokens": 50}, {"max_tokens": 900}]


async def test_obligation_that_is_not_known_is_a_refusal(
    opened: Open, upstream: ScriptedUpstream, policies: Path
) -> None:
    schema = policies / "schemas/operators/backends.json"
    document = json.loads(schema.read_text())
    document["additionalProperties"]["properties"]["obligations"]["properties"]["watermark"] = {
        "type": "boolean"
    }
    schema.write_text(json.dumps(document))
    world = await opened(
        {"name": "main", "base_url": upstream.url}, backends={"small": {"obligations": {"watermark": True}}}
    )
    answer = await ask(world)

    assert (answer.status_code, answer.json()["error"]["code"], upstream.requests) == (
        503,
        "policy_unavailable",
        [],
    )


async def test_upstream_that_is_down_is_stood_in_for_and_readiness_tells_which(
    opened: Open, nowhere: str, second: ScriptedUpstream
) -> None:
    world = await opened(
        {"name": "main", "base_url": nowhere, "models": ["small"]},
        {"name": "spare", "base_url": second.url, "models": ["small"], "fallback_for": ["main"]},
    )
    second.turns = [text("Here."), text("Streamed.")]
    answer = await ask(world)
    async with httpx.AsyncClient(base_url=world.url, timeout=120) as http:
        ready = await http.get("/readyz")

    assert answer.json()["choices"][0]["message"]["content"] == "Here."
    assert (ready.status_code, ready.json()["upstreams"]) == (200, {"main": "unreachable", "spare": "ok"})


async def test_gateway_before_nothing_that_answers_is_not_ready_and_fails_fast(
    opened: Open, nowhere: str
) -> None:
    world = await opened({"name": "main", "base_url": nowhere, "models": ["small"]})
    answers = [await ask(world) for _ in range(5)]
    async with httpx.AsyncClient(base_url=world.url, timeout=120) as http:
        ready = await http.get("/readyz")
    with pytest.raises(openai.APIStatusError) as streamed:
        await world.client().chat.completions.create(**CHAT, stream=True)

    assert {(answer.status_code, answer.json()["error"]["code"]) for answer in answers} == {
        (502, "upstream_error")
    }
    assert "retry-after" in answers[-1].headers
    assert (ready.status_code, ready.json()["checks"]["upstreams"], ready.json()["upstreams"]) == (
        503,
        "upstream_error",
        {"main": "unreachable"},
    )
    assert streamed.value.status_code == 502


# ---------------------------------------------------------------- the Responses loop


async def respond(world: World, tenant: str = "acme", **changes: Any) -> httpx.Response:
    async with world.http("ann", tenant) as http:
        return await http.post("/responses", json={"model": "small", "input": "Hi"} | changes)


async def test_responses_run_where_policy_sends_the_tenant(
    opened: Open, upstream: ScriptedUpstream, second: ScriptedUpstream
) -> None:
    world = await opened(
        {"name": "main", "base_url": upstream.url, "models": ["small"]},
        {"name": "globex-own", "base_url": second.url, "models": ["small"], "by_policy": True},
        backends={"small": {"tenants": {"globex": "globex-own"}}},
    )
    statuses = [(await respond(world, tenant)).status_code for tenant in ("acme", "globex")]

    assert (statuses, len(upstream.requests), len(second.requests)) == ([200, 200], 1, 1)


async def test_response_is_stood_in_for_unless_policy_named_the_upstream(
    opened: Open, nowhere: str, second: ScriptedUpstream
) -> None:
    upstreams = [
        {"name": "main", "base_url": nowhere, "models": ["small"], "aliases": {"free": "one"}},
        {
            "name": "spare",
            "base_url": second.url,
            "models": ["small"],
            "aliases": {"free": "another"},
            "fallback_for": ["main"],
        },
    ]
    world = await opened(*upstreams, backends={"small": {"backend": "main"}})
    second.turns = [text("Here.")]
    pinned, free = await respond(world), await respond(world, model="free")

    assert (pinned.status_code, pinned.json()["error"]["code"]) == (502, "upstream_error")
    assert (free.json()["model"], free.json()["output"][0]["content"][0]["text"]) == ("free", "Here.")
    assert [request["model"] for request in second.requests] == ["another"]


async def test_response_to_be_kept_nowhere_is_refused_unless_it_asks_for_that(
    opened: Open, upstream: ScriptedUpstream
) -> None:
    obligations = {"no_store": True, "max_output_tokens": 50}
    world = await opened(
        {"name": "main", "base_url": upstream.url}, backends={"small": {"obligations": obligations}}
    )
    stored, unstored = await respond(world), await respond(world, store=False, max_output_tokens=900)
    async with world.http("ann", "acme") as http:
        known = await http.get(f"/responses/{unstored.json()['id']}")

    assert (stored.status_code, stored.json()["error"]["code"]) == (403, "policy_denied")
    assert (unstored.status_code, known.status_code) == (200, 404)
    assert [request["max_tokens"] for request in upstream.requests] == [50]


async def test_response_whose_request_is_too_long_fails_in_words_of_ours(
    opened: Open, upstream: ScriptedUpstream
) -> None:
    async def too_long(_: ScriptedUpstream, request: web.Request) -> web.Response:
        return web.json_response(
            {"error": {"message": "too long", "code": "context_length_exceeded"}}, status=400
        )

    world = await opened({"name": "main", "base_url": upstream.url})
    upstream.turns = [too_long, too_long]
    answers = [await respond(world), await ask(world)]

    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [
        (400, "context_length_exceeded")
    ] * 2
