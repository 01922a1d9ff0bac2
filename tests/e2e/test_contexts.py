"""Contexts of chunks through a whole gateway: what a model wrote is found, and never shown."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.e2e.conftest import ScriptedUpstream, World, started, text
from tests.e2e.test_retrieval import ingest

from regate_gateway.config.settings import Settings
from regate_orchestrator.errors import ConfigurationError


@pytest.fixture
async def world(
    configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path
) -> AsyncIterator[World]:
    context = {"upstream": "scripted", "model": "small"}
    async with started(configure(ingestion={"context": context}), upstream, policies) as running:
        yield running


async def test_a_chunk_is_found_by_what_was_written_of_it_and_shown_as_it_is(world: World) -> None:
    alice = world.client("alice", "acme")
    store = (await alice.vector_stores.create(name="s")).id
    world.upstream.turns = [text("About zebras.")]
    await ingest(alice, store, "leave.md", "They have 28 days.")
    page = await alice.vector_stores.search(store, query="zebras")
    content = [part.text for part in page.data[0].content]
    (asked,) = [body for body in world.upstream.requests if "messages" in body]

    assert content == ["They have 28 days."]
    assert page.data[0].score > 0.5  # of the context: the text has no word of the query
    assert "They have 28 days." in asked["messages"][1]["content"]


async def test_an_upstream_that_is_not_there_is_refused_at_start(configure: Callable[..., Settings]) -> None:
    with pytest.raises((ConfigurationError, ValueError), match=r"ingestion\.context\.upstream names 'other'"):
        configure(ingestion={"context": {"upstream": "other", "model": "small"}})
