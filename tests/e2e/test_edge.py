"""The edge over sockets: identity, the proxied routes, bad input, and a policy engine that is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import Any

import httpx
import openai
import pytest
from tests.deployments import only_on
from tests.e2e.conftest import World, text

from regate_adapters.identity.jwt import mint_development_token
from regate_gateway.auth.authentication import DEVELOPMENT_AUDIENCE, DEVELOPMENT_ISSUER

pytestmark = only_on("embedded")

CHAT = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}


async def test_models_are_those_the_caller_may_use(world: World) -> None:
    assert [model.id async for model in world.client().models.list()] == ["small", "large"]


async def test_chat_completion_passes_through(world: World) -> None:
    world.upstream.turns = [text("Hello.")]
    completion = await world.client().chat.completions.create(
        model="small", messages=[{"role": "user", "content": "Hi"}]
    )

    assert completion.choices[0].message.content == "Hello."


async def test_chat_completion_streams_through(world: World) -> None:
    world.upstream.turns = [text("Hel", "lo.")]
    stream = await world.client().chat.completions.create(
        model="small", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    pieces = [chunk.choices[0].delta.content async for chunk in stream if chunk.choices]

    assert "".join(piece or "" for piece in pieces) == "Hello."


async def test_embeddings_pass_through(world: World) -> None:
    answer = await world.client().embeddings.create(model="small", input="x", encoding_format="float")

    assert answer.data[0].embedding == [0.5, 0.5]


async def test_no_header_of_the_caller_reaches_the_upstream(world: World) -> None:
    async with world.http() as http:
        await http.post(
            "/chat/completions",
            json=CHAT,
            headers={"Cookie": "a=b", "X-Tenant": "globex", "X-Forwarded-For": "1.2.3.4"},
        )

    sent = {name.lower() for name in world.upstream.headers[-1]}
    assert not sent & {"authorization", "cookie", "x-tenant", "x-forwarded-for"}


async def test_unknown_fields_do_not_reach_the_upstream(world: World) -> None:
    async with world.http() as http:
        answer = await http.post("/chat/completions", json=CHAT | {"chat_template": "{{ evil }}"})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "chat_template")
    assert world.upstream.requests == []


@pytest.mark.parametrize("change", [{"store": True}, {"modalities": ["audio"]}])
async def test_what_a_passed_on_request_cannot_have_is_refused_by_name(
    world: World, change: dict[str, Any]
) -> None:
    async with world.http() as http:
        refused = await http.post("/chat/completions", json=CHAT | change)
        taken = await http.post(
            "/chat/completions", json=CHAT | {"store": False, "service_tier": "auto", "metadata": {"a": "b"}}
        )

    assert (refused.status_code, refused.json()["error"]["param"], taken.status_code) == (
        400,
        next(iter(change)),
        200,
    )
    assert not {"store", "service_tier", "metadata"} & set(world.upstream.requests[-1])


async def test_duplicate_keys_are_forwarded_as_they_were_checked(world: World) -> None:
    async with world.http() as http:
        body = b'{"model": "large", "model": "small", "messages": [{"role": "user", "content": "Hi"}]}'
        await http.post("/chat/completions", content=body, headers={"Content-Type": "application/json"})

    assert world.upstream.requests[-1]["model"] == "small"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/files/%2e%2e/models"),
        ("POST", "/v1/audio/speech"),
        ("GET", "/v1"),
        ("POST", "/other"),
        ("GET", "/v1//models"),
        ("POST", "/v2/responses"),
    ],
)
async def test_what_is_not_listed_is_not_served(world: World, method: str, path: str) -> None:
    async with httpx.AsyncClient(base_url=world.url, timeout=120) as http:
        answer = await http.request(
            method, path, headers={"Authorization": f"Bearer {world.token('alice', 'acme')}"}
        )

    assert answer.status_code == 404
    assert "error" in answer.json()
    assert world.upstream.requests == []


def forged(**changes: Any) -> str:
    values: dict[str, Any] = {
        "issuer": DEVELOPMENT_ISSUER,
        "audience": DEVELOPMENT_AUDIENCE,
        "subject": "alice",
        "tenant": "acme",
        "ttl_s": 60,
    }
    return mint_development_token(b"another secret, of more than 32 bytes!!", **(values | changes))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": ""},
        {"Authorization": "Basic YTpi"},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": f"Bearer {forged()}"},
        {"X-Tenant": "acme", "X-User": "alice"},
        {"Cookie": "token=abc"},
    ],
)
async def test_wrong_or_missing_token_is_401(world: World, headers: dict[str, str]) -> None:
    async with httpx.AsyncClient(base_url=f"{world.url}/v1", timeout=120) as http:
        answer = await http.get("/models", headers=headers)

    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


async def test_two_authorization_headers_are_refused(world: World) -> None:
    token = world.token("alice", "acme")
    async with httpx.AsyncClient(base_url=f"{world.url}/v1", timeout=120) as http:
        answer = await http.get(
            "/models", headers=[("Authorization", f"Bearer {token}"), ("Authorization", f"Bearer {token}")]
        )

    assert answer.status_code in (400, 401)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "application/json"),
        (b"{", "application/json"),
        (b"[]", "application/json"),
        (b'{"model": NaN}', "application/json"),
        (b'{"a":' * 200 + b"1" + b"}" * 200, "application/json"),
        (b'{"model": "small", "input": "\\ud800"}', "application/json"),
        (b"model=small", "application/x-www-form-urlencoded"),
    ],
)
async def test_malformed_bodies_are_400_and_the_server_goes_on(
    world: World, content: bytes, kind: str
) -> None:
    async with world.http() as http:
        refused = await http.post("/responses", content=content, headers={"Content-Type": kind})
        after = await http.get("/models")

    assert (refused.status_code, after.status_code) == (400, 200)


async def test_body_of_100_megabytes_is_413_and_the_server_goes_on(world: World) -> None:
    async def pieces() -> Any:
        for _ in range(100):
            yield b"x" * 1_000_000

    async with world.http() as http:
        declared = await http.post(
            "/responses", content=b"x" * 100_000_000, headers={"Content-Type": "application/json"}
        )
        try:
            counted = (
                await http.post("/responses", content=pieces(), headers={"Content-Type": "application/json"})
            ).status_code
        except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
            counted = 413  # the server answered and closed while the client was still sending
        after = await http.get("/models")

    assert (declared.status_code, counted, after.status_code) == (413, 413, 200)


async def test_without_opa_nothing_is_decided_sent_or_shown_and_all_is_well_when_it_returns(
    world: World,
) -> None:
    client = world.client()
    store = (await client.vector_stores.create(name="acme")).id
    file = await client.files.create(file=("a.md", b"text"), purpose="assistants")
    pid = world.opa_pid
    os.kill(pid, signal.SIGSTOP)
    answers = {}
    try:
        with world.impatient(0.5):
            async with world.http() as http:
                calls = {
                    "models": http.get("/models"),
                    "chat": http.post("/chat/completions", json=CHAT),
                    "responses": http.post("/responses", json={"model": "small", "input": "Hi"}),
                    "stream": http.post("/responses", json={"model": "small", "input": "Hi", "stream": True}),
                    "search": http.post(f"/vector_stores/{store}/search", json={"query": "x"}),
                    "list": http.get("/vector_stores"),
                    "file": http.get(f"/files/{file.id}"),
                    "content": http.get(f"/files/{file.id}/content"),
                    "upload": http.post(
                        "/files", files={"file": ("b.md", b"text")}, data={"purpose": "assistants"}
                    ),
                    "delete": http.delete(f"/vector_stores/{store}"),
                }
                results = await asyncio.gather(*calls.values())
                answers = {
                    name: (answer.status_code, answer.json()["error"]["code"])
                    for name, answer in zip(calls, results, strict=True)
                }
            async with httpx.AsyncClient(timeout=120) as http:
                ready = await http.get(f"{world.url}/readyz")
    finally:
        os.kill(pid, signal.SIGCONT)

    assert answers == dict.fromkeys(answers, (503, "policy_unavailable"))
    assert ready.status_code == 503
    assert world.upstream.requests == []
    assert (await client.vector_stores.retrieve(vector_store_id=store)).id == store
    assert (await client.responses.create(model="small", input="Hi")).status == "completed"


async def test_killed_opa_is_restarted(world: World) -> None:
    os.kill(world.opa_pid, signal.SIGKILL)
    async with world.http() as http:
        async with asyncio.timeout(60):
            while (answer := await http.get("/models")).status_code != 200:
                assert answer.json()["error"]["code"] == "policy_unavailable"
                await asyncio.sleep(0.05)


async def test_health_and_readiness_tell_of_the_process_only(world: World) -> None:
    async with httpx.AsyncClient(base_url=world.url, timeout=120) as http:
        alive, ready, metrics = [await http.get(path) for path in ("/healthz", "/readyz", "/metrics")]

    assert (alive.status_code, ready.status_code, metrics.status_code) == (200, 200, 200)
    assert set(ready.json()["checks"].values()) == {"ok"}


async def test_every_answer_carries_a_request_id_of_ours(world: World) -> None:
    async with world.http() as http:
        answer = await http.get("/models", headers={"X-Request-Id": "mine"})

    assert answer.headers["x-request-id"].startswith("req_")


async def test_model_restricted_by_operators_data_is_neither_listed_nor_usable(world: World) -> None:
    import json

    data = json.loads((world.policies / "data.json").read_text())
    data["regate"]["models"]["large"] = ["globex"]
    revision = await world.gateway.services.enforcer.revision()  # type: ignore[union-attr]
    (world.policies / "data.json").write_text(json.dumps(data))
    async with asyncio.timeout(120):
        while await world.gateway.services.enforcer.revision() == revision:  # type: ignore[union-attr]
            await asyncio.sleep(0.05)

    assert [model.id async for model in world.client().models.list()] == ["small"]
    with pytest.raises(openai.NotFoundError):
        await world.client().chat.completions.create(
            model="large", messages=[{"role": "user", "content": "Hi"}]
        )
    assert [model.id async for model in world.client("gita", "globex").models.list()] == ["small", "large"]
