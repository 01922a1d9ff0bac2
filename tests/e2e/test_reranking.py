"""Reranking by a model of an upstream, which sees what is admitted and nothing else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.e2e.conftest import ScriptedUpstream, World, started, text, tool_call
from tests.e2e.test_retrieval import ingest, shared_store

from regate_gateway.config.settings import Settings

MODELS = {"fine": {"upstream": "scripted", "model": "judge", "passages": 3}}


@pytest.fixture
async def world(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path
) -> AsyncIterator[World]:
    async with started(configure(reranking={"models": MODELS}), upstream, policies) as running:
        yield running


async def filled(world: World) -> tuple[openai.AsyncOpenAI, str]:
    """A store of two tenants. By words, `first` fits best; the model thinks most of `second`."""
    store = await shared_store(world)
    alice, eve = world.client("alice", "acme"), world.client("eve", "globex")
    await ingest(alice, store, "first.md", "storm storm storm alpha")
    await ingest(alice, store, "second.md", "storm beta")
    await ingest(alice, store, "third.md", "oil gamma storm lamp")
    await ingest(alice, store, "fourth.md", "nothing of that, delta")
    await ingest(eve, store, "foreign.md", "storm storm omega")
    world.upstream.relevance = {"alpha": 0.2, "beta": 0.9, "gamma": 0.1, "delta": 0.05}
    return alice, store


async def search(client: openai.AsyncOpenAI, store: str, **options: Any) -> list[tuple[str, float]]:
    wanted = options.pop("max_num_results", 10)
    page = await client.vector_stores.search(
        store,
        query="storm",
        max_num_results=wanted,
        ranking_options=options,  # type: ignore[arg-type]
    )
    return [(hit.filename, hit.score) for hit in page.data]


async def test_named_ranker_has_the_last_word_and_sees_what_is_admitted_alone(world: World) -> None:
    alice, store = await filled(world)
    plain = await search(alice, store, ranker="none")
    found = await search(alice, store, ranker="fine", max_num_results=2)
    (asked,) = [body for body in world.upstream.requests if "documents" in body]

    assert len(plain) == 4
    assert found == [("second.md", 0.9), ("first.md", 0.2)]
    assert (asked["model"], asked["query"], len(asked["documents"])) == ("judge", "storm", 3)
    assert not any("omega" in passage for passage in asked["documents"])


async def test_threshold_is_of_the_rankers_scores(world: World) -> None:
    alice, store = await filled(world)

    assert await search(alice, store, ranker="fine", score_threshold=0.15) == [
        ("second.md", 0.9),
        ("first.md", 0.2),
    ]


async def test_file_search_of_a_response_uses_it(world: World) -> None:
    alice, store = await filled(world)
    tool: Any = {
        "type": "file_search",
        "vector_store_ids": [store],
        "ranking_options": {"ranker": "fine"},
        "max_num_results": 1,
    }
    world.upstream.turns = [tool_call("file_search", {"query": "storm"}), text("So.")]
    answer = await alice.responses.create(
        model="small", input="?", tools=[tool], include=["file_search_call.results"]
    )
    (call,) = [item for item in answer.output if item.type == "file_search_call"]

    assert [hit.filename for hit in call.results or []] == ["second.md"]


async def test_ranker_that_there_is_not_is_refused_with_those_that_are(world: World) -> None:
    alice, store = await filled(world)

    with pytest.raises(openai.BadRequestError) as refused:
        await search(alice, store, ranker="coarse")
    assert refused.value.param == "ranking_options.ranker"
    assert "Use one of: 'auto', 'fine', 'none'." in refused.value.message


async def test_ranker_that_fails_is_a_failure_and_not_another_order(world: World) -> None:
    alice, store = await filled(world)
    world.upstream.relevance = {}  # it cannot answer

    with pytest.raises(openai.InternalServerError) as failed:
        await search(alice.with_options(max_retries=0), store, ranker="fine")
    assert (failed.value.status_code, failed.value.code) == (503, "reranking_unavailable")


async def test_deployment_may_have_a_ranker_for_all(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path
) -> None:
    settings = configure(reranking={"default": "fine", "models": MODELS})
    async with started(settings, upstream, policies) as world:
        alice, store = await filled(world)
        found = [await search(alice, store, **one) for one in ({}, {"ranker": "auto"}, {"ranker": "none"})]

    assert [hits[0][0] for hits in found] == ["second.md", "second.md", "first.md"]
