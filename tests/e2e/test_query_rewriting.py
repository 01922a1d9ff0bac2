"""`rewrite_query` by a model of an upstream, through a whole gateway: it is shown queries alone, and where it
makes none, the rule rewrites.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from aiohttp import web
from tests.adapters.tracing.trace_collector import running_trace_collector
from tests.deployments import only_on
from tests.e2e.conftest import NO_TLS, ScriptedUpstream, World, started
from tests.e2e.test_quotas import PLENTY, say
from tests.e2e.test_retrieval import ingest, shared_store
from tests.e2e.test_usage import exported

from regate_gateway.config.settings import Settings

MODEL = {"upstream": "scripted", "model": "small"}
ASKED = "Can you tell me how many days I may be off?"
BY_RULE = "many days I may be off"


@pytest.fixture
async def world(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path
) -> AsyncIterator[World]:
    async with started(configure(query_rewriting=MODEL), upstream, policies) as running:
        yield running


def query_of(body: Mapping[str, Any]) -> str:
    return str(body["messages"][1]["content"].removeprefix("<query>\n").removesuffix("\n</query>"))


def rewriting(anew: Mapping[str, object]) -> Callable[[ScriptedUpstream, web.Request], Any]:
    """A turn that writes each of these queries anew, or fails with a status."""

    async def answer(upstream: ScriptedUpstream, _: web.Request) -> web.Response:
        text = anew[query_of(upstream.requests[-1])]
        if isinstance(text, int):
            return web.json_response({"error": {"message": "the query was: secret"}}, status=text)
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 90, "completion_tokens": 4, "total_tokens": 94}
        return web.json_response({"choices": [choice], "usage": usage})

    return answer


async def searched(client: openai.AsyncOpenAI, store: str, query: str | list[str], **more: Any) -> Any:
    """The page as JSON."""
    options = {"query": query, "rewrite_query": True, **more}
    answer = await client.vector_stores.with_raw_response.search(store, **options)
    return json.loads(answer.text)


async def metrics(world: World) -> str:
    async with httpx.AsyncClient(verify=NO_TLS) as anyone:
        return (await anyone.get(f"{world.url}/metrics")).text


async def test_the_model_writes_the_query_that_is_searched_and_told(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="secret plans")).id
    await ingest(alice, store, "leave.md", "Annual leave is 28 days.")
    await ingest(alice, store, "rail.md", "Trains leave from platform two.")
    world.upstream.turns = [rewriting({ASKED: "annual leave"})]
    page = await searched(alice, store, ASKED, extra_body={"search_mode": "keyword"})
    (body,) = world.upstream.requests

    assert page["search_query"] == ["annual leave"]
    assert [hit["filename"] for hit in page["data"]] == ["leave.md", "rail.md"]
    assert (body["model"], query_of(body)) == ("small", ASKED)
    shown = json.dumps(body)
    assert not any(word in shown for word in (store, "secret plans", "leave.md", "28 days", "alice", "acme"))


async def test_each_of_several_queries_is_shown_by_itself_and_once(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    anew = {ASKED: "annual leave", "And what's the notice?": "notice period"}
    world.upstream.turns = [rewriting(anew)] * 2
    page = await searched(alice, store, [ASKED, "And what's the notice?", ASKED])

    assert page["search_query"] == ["annual leave", "notice period", "annual leave"]
    assert sorted(map(query_of, world.upstream.requests)) == sorted(anew)


async def test_a_query_of_which_the_model_makes_none_is_rewritten_by_the_rule(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    long = "leave " * 1_400
    world.upstream.turns = [rewriting({ASKED: "Sure!\n\nannual leave"}), rewriting({ASKED: None})]
    pages = [await searched(alice, store, ASKED) for _ in range(2)]
    of_long = await searched(alice, store, long)
    shown = await metrics(world)

    assert [page["search_query"] for page in pages] == [[BY_RULE]] * 2
    assert of_long["search_query"] == [long.strip()]
    assert len(world.upstream.requests) == 2
    assert 'regate_query_rewritings_total{outcome="unusable"} 2.0' in shown
    assert 'regate_query_rewritings_total{outcome="too_long"} 1.0' in shown


async def test_a_model_that_fails_is_a_failure_that_quotes_nothing(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    await ingest(alice, store, "leave.md", "Annual leave is 28 days.")
    world.upstream.turns = [rewriting({ASKED: 500, "leave": "annual leave"})] * 2
    with pytest.raises(openai.InternalServerError) as failed:
        await searched(alice, store, [ASKED, "leave"])
    without = await searched(alice, store, ASKED, rewrite_query=False)
    shown = await metrics(world)

    assert (failed.value.status_code, failed.value.code) == (503, "query_rewriting_unavailable")
    assert "secret" not in failed.value.message
    assert "without 'rewrite_query'" in failed.value.message
    assert (without["search_query"], len(without["data"])) == ([ASKED], 1)
    assert 'regate_query_rewritings_total{outcome="failed"} 1.0' in shown
    assert (
        'regate_query_rewriting_tokens_total{direction="input"} 90.0' in shown
    )  # of the one that was written


async def test_who_may_not_search_has_nothing_rewritten(world: World) -> None:
    store = (await world.client("alice", "acme").vector_stores.create(name="s")).id
    with pytest.raises(openai.NotFoundError):
        await searched(world.client("eve", "globex"), store, ASKED)

    assert world.upstream.requests == []


async def test_what_a_query_becomes_depends_on_no_other_tenant(world: World) -> None:
    store = await shared_store(world)
    alice, eve = world.client("alice", "acme"), world.client("eve", "globex")
    world.upstream.turns = [rewriting({ASKED: "annual leave"})]
    first = await searched(alice, store, ASKED)
    before = world.upstream.requests[-1]
    await ingest(eve, store, "foreign.md", "Days off are called furlough.")
    world.upstream.turns = [rewriting({ASKED: "furlough"}), rewriting({ASKED: "annual leave"})]
    foreign, again = await searched(eve, store, ASKED), await searched(alice, store, ASKED)

    assert [page["search_query"] for page in (first, foreign, again)] == [
        ["annual leave"],
        ["furlough"],
        ["annual leave"],
    ]
    assert world.upstream.requests[-1] == before  # all that the model is shown


async def test_file_search_takes_the_models_own_query(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    tool: Any = {"type": "file_search", "vector_store_ids": [store]}
    await alice.responses.create(model="small", input=ASKED, tools=[tool], tool_choice="auto")

    assert [body["messages"][-1]["content"] for body in world.upstream.requests] == [ASKED]


async def test_a_search_whose_query_a_model_writes_is_a_request_of_the_callers_quota(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path
) -> None:
    say(policies, default=PLENTY | {"rpm": 2, "tpm": 1_000})
    async with started(configure(query_rewriting=MODEL), upstream, policies) as world:
        alice = world.client("alice", "acme")
        store = (await alice.vector_stores.create(name="s")).id
        upstream.turns = [rewriting({ASKED: "annual leave"})] * 2
        left = []
        for _ in range(2):
            found = await alice.vector_stores.with_raw_response.search(store, query=ASKED, rewrite_query=True)
            left.append(int(found.headers["x-ratelimit-remaining-requests"]))
        with pytest.raises(openai.RateLimitError):
            await searched(alice, store, ASKED)
        by_rule = [await searched(alice, store, ASKED, rewrite_query=False) for _ in range(2)]
        async with world.http("alice", "acme") as http:
            embedding = await http.post("/embeddings", json={"model": "small", "input": "x"})

    assert (left, len(by_rule), embedding.status_code) == ([1, 0], 2, 429)
    assert embedding.headers["x-ratelimit-remaining-tokens"] == str(1_000 - 2 * 94)


@only_on("embedded")
async def test_what_it_took_is_in_the_usage_and_the_trace(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path, tmp_path: Path
) -> None:
    async with running_trace_collector() as collector:
        traces = {"endpoint": collector.url, "sample": 1.0, "flush_s": 60, "timeout_s": 60}
        settings = configure(query_rewriting=MODEL, telemetry={"traces": traces})
        async with started(settings, upstream, policies) as world:
            alice = world.client("alice", "acme")
            store = (await alice.vector_stores.create(name="s")).id
            upstream.turns = [rewriting({ASKED: "annual leave", "leave": "leave"})] * 2
            await searched(alice, store, [ASKED, "leave"])
    used = await exported(settings, tmp_path, "--by", "principal", "--by", "model")
    calls = [span for span in collector.spans if span.name == "chat small"]

    assert used.splitlines()[1:] == ["acme,alice,small,1,180,8,0.0"]
    assert [(call.kind, call.attributes["regate.upstream"]) for call in calls] == [("client", "scripted")] * 2
    assert {call.attributes["gen_ai.usage.input_tokens"] for call in calls} == {90}
    assert not any(word in json.dumps([call.attributes for call in calls]) for word in ("annual", "days"))
