"""Quotas over sockets: the policy's numbers bound requests, tokens, turns, searches and answers;
clients are told in OpenAI's words.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from aiohttp import web
from tests.e2e.conftest import ScriptedUpstream, World, started, text, tool_call
from websockets.asyncio.client import connect

from regate_gateway.config.settings import Settings
from regate_orchestrator.tokens import estimated_tokens

CHAT: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
PLENTY = {
    "rpm": 1_000,
    "tpm": 1_000_000,
    "max_turns": 10,
    "max_tool_calls": 10,
    "max_chunks": 50,
    "max_output_tokens": 10_000_000,
}

Limited = Callable[..., AbstractAsyncContextManager[World]]


def say(policies: Path, **said: Any) -> None:
    """Make these the operators' quotas."""
    data = json.loads((policies / "data.json").read_text())
    data["regate"]["quotas"] = {"default": PLENTY, "tenants": {}, "roles": {}} | said
    (policies / "data.json").write_text(json.dumps(data))


@pytest.fixture
def limited(configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path) -> Limited:
    """A gateway in which everybody has plenty but for these."""

    @asynccontextmanager
    async def running(roles: dict[str, dict[str, int]] | None = None, **limits: int) -> AsyncIterator[World]:
        say(policies, default=PLENTY | limits, roles=roles or {})
        async with started(configure(), upstream, policies) as world:
            yield world

    return running


def answering(usage: dict[str, Any] | None) -> Callable[[ScriptedUpstream, web.Request], Any]:
    """A turn that is a plain answer with this usage."""

    async def answer(upstream: ScriptedUpstream, request: web.Request) -> web.Response:
        choice = {"index": 0, "message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
        return web.json_response(
            {"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}
        )

    return answer


class Purse:
    """Tells how many tokens the caller has used, by asking for something small whose answer says no usage."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._own = 0

    async def used(self) -> int:
        answer = await self._http.post("/embeddings", json={"model": "small", "input": "x"})
        assert answer.status_code == 200
        self._own += estimated_tokens({"input": "x"})
        return PLENTY["tpm"] - int(answer.headers["x-ratelimit-remaining-tokens"]) - self._own


# ---------------------------------------------------------------- requests


async def test_requests_past_the_limit_are_refused_as_openai_does_and_the_backend_hears_of_none(
    limited: Limited,
) -> None:
    async with limited(rpm=2) as world:
        client = world.client()
        raw = [await client.chat.completions.with_raw_response.create(**CHAT) for _ in range(2)]
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(**CHAT)
        sent = len(world.upstream.requests)

    answer = refused.value.response
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("rate_limit_error", "rate_limit_exceeded", None)
    assert "requests per minute (RPM): limit 2, used 2, requested 1" in error["message"]
    assert 1 <= int(answer.headers["retry-after"]) <= 61
    assert [one.headers["x-ratelimit-remaining-requests"] for one in raw] == ["1", "0"]
    assert (
        answer.headers["x-ratelimit-limit-requests"],
        answer.headers["x-ratelimit-remaining-requests"],
    ) == ("2", "0")
    assert sent == 2


WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("/chat/completions", CHAT),
    "streamed-chat": ("/chat/completions", CHAT | {"stream": True}),
    "completion": ("/completions", {"model": "small", "prompt": "Hi"}),
    "embedding": ("/embeddings", {"model": "small", "input": "Hi"}),
    "response": ("/responses", {"model": "small", "input": "Hi"}),
    "streamed-response": ("/responses", {"model": "small", "input": "Hi", "stream": True}),
    "background-response": ("/responses", {"model": "small", "input": "Hi", "background": True}),
    "compaction": ("/responses/compact", {"model": "small", "input": "Hi"}),
}


async def test_every_way_to_a_model_is_counted(limited: Limited) -> None:
    found = {}
    async with limited(rpm=1) as world:
        for name, (path, body) in WAYS.items():
            async with world.http(name) as http:  # a person for each, so that each has a minute of its own
                first, second = await http.post(path, json=body), await http.post(path, json=body)
            found[name] = (
                first.status_code,
                first.headers["x-ratelimit-remaining-requests"],
                second.json()["error"]["code"],
            )

    # The scripted backend knows no /completions; what it refuses was counted all the same.
    refused = found.pop("completion")
    assert (refused[0] >= 400, refused[1:]) == (True, ("0", "rate_limit_exceeded"))
    assert found == dict.fromkeys(found, (200, "0", "rate_limit_exceeded"))


async def test_each_response_over_a_socket_is_counted_and_narrowed_and_one_that_is_refused_leaves_it_open(
    limited: Limited,
) -> None:
    async with limited(rpm=2, max_output_tokens=50) as world, world.http() as http:
        world.upstream.turns = [text("One."), text("Two.")]
        headers = {"Authorization": http.headers["authorization"]}
        async with connect(
            world.url.replace("http", "ws") + "/v1/responses", additional_headers=headers
        ) as connection:
            ended = []
            for more in ({}, {"generate": False}, {}, {}, {}):
                await connection.send(
                    json.dumps({"type": "response.create", "model": "small", "input": "Hi"} | more)
                )
                while (frame := json.loads(await connection.recv()))["type"] not in (
                    "response.completed",
                    "error",
                ):
                    pass
                ended.append(frame)
        sent = [request["max_tokens"] for request in world.upstream.requests]

    assert [frame["type"] for frame in ended] == ["response.completed"] * 3 + ["error"] * 2
    assert (ended[-1]["status"], ended[-1]["error"]["code"]) == (429, "rate_limit_exceeded")
    assert sent == [50, 50]


async def test_what_calls_no_model_is_not_counted(limited: Limited) -> None:
    async with limited(rpm=0) as world, world.http() as http:
        answers = [await http.get(path) for path in ("/models", "/responses", "/files", "/vector_stores")]

    assert [(answer.status_code, "x-ratelimit-limit-requests" in answer.headers) for answer in answers] == [
        (200, False)
    ] * 4


async def test_requests_at_once_pass_no_limit(limited: Limited) -> None:
    async with limited(rpm=5) as world, world.http() as http:
        answers = await asyncio.gather(*(http.post("/chat/completions", json=CHAT) for _ in range(30)))

    assert sorted(answer.status_code for answer in answers) == [200] * 5 + [429] * 25


async def test_each_person_has_a_quota_of_their_own_and_names_are_nothing_without_the_tenant(
    limited: Limited,
) -> None:
    async with limited(rpm=1) as world:
        statuses = []
        for subject, tenant in (("alice", "acme"), ("bob", "acme"), ("alice", "globex"), ("alice", "acme")):
            async with world.http(subject, tenant) as http:
                statuses.append((await http.post("/chat/completions", json=CHAT)).status_code)

    assert statuses == [200, 200, 200, 429]


async def test_limits_of_a_role_come_before_the_tenants_and_a_change_is_in_force_without_a_restart(
    limited: Limited,
) -> None:
    async with limited(rpm=0) as world, world.http(roles=["batch"]) as http:
        before = (await http.post("/chat/completions", json=CHAT)).status_code
        say(
            world.policies,
            default=PLENTY | {"rpm": 0},
            tenants={"acme": {"rpm": 0}},
            roles={"batch": {"rpm": 7}},
        )
        async with asyncio.timeout(120):
            while (answer := await http.post("/chat/completions", json=CHAT)).status_code == 429:
                pass

    assert (before, answer.status_code, answer.headers["x-ratelimit-limit-requests"]) == (429, 200, "7")


async def test_a_model_that_is_not_granted_is_not_found_and_counts_as_a_request_without_tokens(
    limited: Limited,
) -> None:
    async with limited(rpm=3) as world, world.http() as http:
        answers = [
            await http.post("/chat/completions", json=CHAT | {"model": "none"}),
            await http.post("/responses", json={"model": "none", "input": "Hi"}),
        ]
        used = await Purse(http).used()

    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in answers] == [
        (404, "model_not_found")
    ] * 2
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1"]
    assert used == 0


# ---------------------------------------------------------------- tokens


async def test_what_the_backend_says_it_used_is_what_counts(limited: Limited) -> None:
    some, much = (
        {"prompt_tokens": 90, "completion_tokens": 10},
        {"prompt_tokens": 90_000, "completion_tokens": 9_000, "total_tokens": 99_000},
    )
    cases: dict[str, tuple[Any, dict[str, Any], int]] = {
        "some": (answering(some), CHAT, 100),
        "much": (answering(much), CHAT, 99_000),
        "streamed": (text("Hello."), CHAT | {"stream": True}, 10),
    }
    found = {}
    async with limited() as world:
        for name, (turn, body, _) in cases.items():
            async with world.http(name) as http:
                world.upstream.turns = [turn]
                await http.post("/chat/completions", json=body)
                found[name] = await Purse(http).used()

    assert found == {name: used for name, (_, _, used) in cases.items()}


async def test_what_a_backend_does_not_say_is_estimated(limited: Limited) -> None:
    async with limited() as world, world.http() as http:
        world.upstream.turns = [answering(None)]
        await http.post(
            "/chat/completions", json=CHAT | {"messages": [{"role": "user", "content": "x" * 4_000}]}
        )
        used = await Purse(http).used()

    assert 1_000 < used < 1_100


async def test_a_response_counts_all_that_its_calls_of_the_model_used(limited: Limited) -> None:
    async with limited() as world:
        for name, more in {
            "plain": {},
            "streamed": {"stream": True},
            "background": {"background": True},
        }.items():
            async with world.http(name) as http:
                assert (await searching(world, http, turns=1, **more)).status_code == 200
                purse = Purse(http)
                async with asyncio.timeout(120):
                    while await purse.used() != 20:  # two calls; in the background the run goes on
                        await asyncio.sleep(0.02)
        calls = [request for request in world.upstream.requests if "messages" in request]

    assert len(calls) == 6


async def test_tokens_that_are_used_up_refuse_the_next_request_and_say_when(limited: Limited) -> None:
    async with limited(tpm=2_000) as world:
        client = world.client()
        world.upstream.turns = [answering({"total_tokens": 2_500})]
        await client.chat.completions.create(**CHAT)
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(**CHAT)

    headers = refused.value.response.headers
    assert "tokens per minute (TPM): limit 2000, used 2000" in refused.value.message
    assert (headers["x-ratelimit-limit-tokens"], headers["x-ratelimit-remaining-tokens"]) == ("2000", "0")
    assert 1 <= int(headers["retry-after"]) <= 61
    assert headers["x-ratelimit-reset-tokens"].endswith("s")


async def test_a_request_in_flight_holds_what_it_may_need(limited: Limited) -> None:
    async with limited(tpm=1_000) as world, world.http() as http:
        taken, go_on = asyncio.Event(), asyncio.Event()

        async def slow(upstream: ScriptedUpstream, request: web.Request) -> web.Response:
            taken.set()
            await go_on.wait()
            return await answering({"total_tokens": 10})(upstream, request)  # type: ignore[no-any-return]

        world.upstream.turns = [slow]
        async with asyncio.TaskGroup() as group:
            first = group.create_task(http.post("/chat/completions", json=CHAT | {"max_tokens": 900}))
            await taken.wait()
            meanwhile = await http.post("/chat/completions", json=CHAT | {"max_tokens": 900})
            go_on.set()
        afterwards = await http.post("/chat/completions", json=CHAT | {"max_tokens": 900})

    assert [first.result().status_code, meanwhile.status_code, afterwards.status_code] == [200, 429, 200]


async def test_a_client_that_leaves_has_spent_what_was_written_and_no_more(limited: Limited) -> None:
    async with limited() as world, world.http() as http:

        async def endless(upstream: ScriptedUpstream, request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"content-type": "text/event-stream"})
            await response.prepare(request)
            while True:
                await response.write(b'data: {"choices": [{"index": 0, "delta": {"content": "y"}}]}\n\n')
                await asyncio.sleep(0.001)

        world.upstream.turns = [endless]
        async with http.stream(
            "POST", "/chat/completions", json=CHAT | {"stream": True, "max_tokens": 100_000}
        ) as answer:
            await anext(answer.aiter_bytes())
        purse = Purse(http)
        async with asyncio.timeout(120):
            while await purse.used() > 50_000:
                await asyncio.sleep(0.02)


# ---------------------------------------------------------------- turns, searches, answers


async def test_output_tokens_are_lowered_before_the_backend_is_asked(limited: Limited) -> None:
    async with limited(max_output_tokens=50) as world, world.http() as http:
        for body in (CHAT, CHAT | {"max_tokens": 20}, CHAT | {"max_completion_tokens": 90}):
            await http.post("/chat/completions", json=body)
        made = (await http.post("/responses", json={"model": "small", "input": "Hi"})).json()
        sent = [
            {name: request.get(name) for name in ("max_tokens", "max_completion_tokens")}
            for request in world.upstream.requests
        ]

    assert sent[:3] == [
        {"max_tokens": 50, "max_completion_tokens": None},
        {"max_tokens": 20, "max_completion_tokens": None},
        {"max_tokens": 50, "max_completion_tokens": None},
    ]
    assert (sent[3]["max_tokens"], made["max_output_tokens"]) == (50, 50)


async def test_without_a_limit_of_the_policy_none_is_made_up(limited: Limited) -> None:
    async with limited() as world, world.http() as http:
        await http.post("/chat/completions", json=CHAT)
        made = (await http.post("/responses", json={"model": "small", "input": "Hi"})).json()
        sent = [request.get("max_tokens") for request in world.upstream.requests]

    assert (sent, made["max_output_tokens"]) == ([None, None], None)


async def searching(world: World, http: httpx.AsyncClient, *, turns: int, **more: Any) -> httpx.Response:
    """Ask a model that searches over and over."""
    store = (await http.post("/vector_stores", json={"name": "s"})).json()["id"]
    world.upstream.turns = [
        tool_call("file_search", {"query": "x"}, call_id=f"c{number}") for number in range(turns)
    ]
    tools = [{"type": "file_search", "vector_store_ids": [store]}]
    return await http.post("/responses", json={"model": "small", "input": "Look.", "tools": tools} | more)


async def test_a_model_that_searches_over_and_over_is_bounded_by_the_policy(limited: Limited) -> None:
    roles = {"turns": {"max_turns": 3}, "calls": {"max_tool_calls": 1}, "free": {}}
    found = {}
    async with limited(roles=roles) as world:
        for role, calls in (("turns", 3), ("calls", 2), ("free", 6)):
            async with world.http(role, roles=[role]) as http:
                before = len(world.upstream.requests)
                answer = await searching(world, http, turns=calls - 1)
                found[role] = (
                    answer.status_code,
                    ["tools" in request for request in world.upstream.requests[before:]],
                )

    # The last turn that a model may take has nothing to search with any more.
    assert found == {
        "turns": (200, [True, True, False]),
        "calls": (200, [True, False]),
        "free": (200, [True] * 6),
    }


async def test_a_search_gives_no_more_chunks_than_the_policy_says(limited: Limited) -> None:
    async with limited(max_chunks=2) as world, world.http() as http:
        made = (await searching(world, http, turns=1)).json()

    assert [tool["max_num_results"] for tool in made["tools"]] == [2]


async def test_a_limit_of_nothing_is_a_refusal_that_no_waiting_mends(limited: Limited) -> None:
    response = {"model": "small", "input": "Hi"}
    cases: list[tuple[str, str, dict[str, Any] | None]] = [
        ("max_turns", "/chat/completions", CHAT),
        ("max_output_tokens", "/chat/completions", CHAT),
        ("max_turns", "/responses", response),
        ("max_output_tokens", "/responses", response),
        ("max_chunks", "/responses", None),
        ("max_tool_calls", "/responses", None),
    ]
    found = []
    async with limited(roles={nothing: {nothing: 0} for nothing, _, _ in cases}) as world:
        for nothing, path, body in cases:
            async with world.http("alice", roles=[nothing]) as http:
                answer = (
                    await searching(world, http, turns=1)
                    if body is None
                    else await http.post(path, json=body)
                )
                embedded = await http.post("/embeddings", json={"model": "small", "input": "x"})
            found.append(
                (
                    answer.status_code,
                    answer.json()["error"]["code"],
                    "retry-after" in answer.headers,
                    embedded.status_code,
                )
            )
        sent = [request for request in world.upstream.requests if "messages" in request]

    assert found == [(403, "policy_denied", False, 200)] * 6
    assert sent == []


# ---------------------------------------------------------------- the policy


async def test_the_decision_is_in_the_audit_record_before_the_backend_is_asked(limited: Limited) -> None:
    seen: list[Any] = []
    async with limited(rpm=9) as world, world.http() as http:

        async def look(upstream: ScriptedUpstream, request: web.Request) -> web.Response:
            seen.extend(world.audit(phase="route.call"))
            return await answering(None)(upstream, request)  # type: ignore[no-any-return]

        world.upstream.turns = [look]
        await http.post("/chat/completions", json=CHAT)

    (record,) = seen
    decision = next(one for one in record["decisions"] if one["point"] == "quota")
    assert [one["point"] for one in record["decisions"]] == ["route", "quota"]
    assert (decision["rule"], decision["allowed"], decision["qualities"]) == (
        "regate/quota/limits",
        True,
        {"limits": PLENTY | {"rpm": 9}},
    )
    assert decision["resource"]["request"]["path"] == "/v1/chat/completions"


async def test_a_policy_that_names_no_limits_grants_nothing(limited: Limited) -> None:
    async with limited() as world, world.http() as http:
        rule = world.policies / "quota" / "quota.rego"
        rule.write_text(
            rule.read_text().replace("count(deny_reasons) == 0", 'input.principal.id == "nobody"')
        )
        async with asyncio.timeout(120):
            while (answer := await http.post("/chat/completions", json=CHAT)).status_code == 200:
                pass

    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "policy_denied")
