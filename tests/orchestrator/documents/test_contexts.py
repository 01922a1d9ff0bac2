"""Chunks with contexts: written by an upstream over a socket, kept in a real state store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.contexts.chat_server import (
    ChatServer,
    chat_server,
    document_of,
    passage_of,
    said,
)
from tests.orchestrator.documents.ingest_world import ANN, EVE, FILE, VS, World, opened, working
from tests.orchestrator.scripted import Compass

from regate_adapters.contexts.upstream import UpstreamContextWriter
from regate_orchestrator.documents.contexts import Contexts
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.metrics import Counter, Metrics
from regate_orchestrator.ports import Query, Vector


class Recording(Compass):
    """Makes vectors of a text's last line, and knows of which texts it was asked for some."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    async def embed(self, texts: Sequence[str], *, tenant: str) -> list[Vector]:
        self.texts += texts
        return await super().embed([text.split("\n")[-1] for text in texts], tenant=tenant)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path) as made:
        yield made


@pytest.fixture
async def server() -> AsyncIterator[ChatServer]:
    async with chat_server() as scripted:
        yield scripted


@pytest.fixture
async def writer(server: ChatServer) -> AsyncIterator[UpstreamContextWriter]:
    async with UpstreamContextWriter(server.url, "small", max_tokens=50) as opened_:
        yield opened_


async def ingest(
    world: World, writer: UpstreamContextWriter, status: str = "completed", **options: Any
) -> list[str]:
    """Ingest what is attached; return of which texts vectors were made."""
    metrics = options.setdefault("metrics", Metrics())
    most, file = options.pop("most_chunks", 100), options.pop("file", "file-1")
    contexts = Contexts(writer, world.state, most_chunks=most, clock=world.clock, metrics=metrics)
    embedder = Recording()
    async with working(world.ingestion(contexts=contexts, embedder=embedder, **options)):
        await world.until(status, file)
    return embedder.texts


async def test_a_chunk_is_found_by_its_context_and_shown_without(
    world: World, writer: UpstreamContextWriter, server: ChatServer
) -> None:
    server.answer = lambda body: said("zebra" if passage_of(body) == "2" else "giraffe")
    await world.attach()
    embedded = await ingest(world, writer)
    query = Query((1.0, 0.0), limit=5, text="zebra", mode="keyword")
    (found,) = (await world.engine.search(VS, query, plan=Everything())).candidates

    assert embedded == ["giraffe\n1", "zebra\n2"]
    assert found.text == "2"
    assert {document_of(body) for body in server.bodies} == {"1\n2"}


async def test_what_was_broken_off_goes_on_where_it_ended_and_nothing_is_stored_without_its_context(
    world: World, writer: UpstreamContextWriter, server: ChatServer
) -> None:
    world.reader.chunked["file-1.txt"] = [str(angle) for angle in range(20)]
    refused = iter([503])
    server.answer = lambda body: (
        (next(refused, None) if passage_of(body) == "9" else None) or said(f"About {passage_of(body)}")
    )
    await world.attach()
    embedded = await ingest(world, writer)
    row = await world.state.attachments.get(ANN, VS, FILE)

    assert row is not None
    assert (row.attempts, row.chunks) == (2, 20)
    assert embedded == [f"About {angle}\n{angle}" for angle in range(20)]
    assert sorted(passage_of(body) for body in server.bodies) == sorted([*map(str, range(20)), "9"])


async def test_a_file_without_its_contexts_fails_and_leaves_nothing(
    world: World, writer: UpstreamContextWriter, server: ChatServer
) -> None:
    server.answer = lambda _: 500
    await world.attach()
    embedded = await ingest(world, writer, "failed")
    row = await world.state.attachments.get(ANN, VS, FILE)

    assert row is not None
    assert (row.attempts, row.error_code, embedded, await world.in_engine()) == (3, "server_error", [], [])
    assert "secret" not in str(row.error_message)


async def test_a_file_that_is_read_again_asks_for_nothing_again(
    world: World, writer: UpstreamContextWriter, server: ChatServer
) -> None:
    await world.attach()
    first = await ingest(world, writer)
    world.reader.version = "2"
    await world.attach()
    second = await ingest(world, writer)

    assert (len(server.bodies), second) == (2, first)


async def test_contexts_are_of_one_file_and_go_with_it(
    world: World, writer: UpstreamContextWriter, server: ChatServer
) -> None:
    asked = []
    for file in ("file-1", "file-2", "file-1"):
        await world.state.files.delete(ANN, FILE)
        await world.attach(file)
        await ingest(world, writer, file=file)
        asked.append(len(server.bodies))

    assert asked == [2, 4, 6]


async def test_contexts_are_kept_for_the_tenant_of_the_file_alone(world: World) -> None:
    contexts = world.state.contexts
    await world.attach()
    await contexts.keep(ANN, FILE, {"a": "one"})
    await contexts.keep(ANN, FILE, {"a": "other", "b": "two"})
    await contexts.keep(EVE, FILE, {"c": "three"})
    seen = [await contexts.of(who, FILE, ["a", "c", "b"]) for who in (ANN, EVE)]
    await world.state.files.delete(ANN, FILE)
    await contexts.keep(ANN, FILE, {"d": "late"})

    assert seen == [{"a": "one", "b": "two"}, {}]
    assert await contexts.of(ANN, FILE, ["a", "b", "c", "d"]) == {}


async def test_what_it_took_is_counted_to_the_tenant_and_told(
    world: World, writer: UpstreamContextWriter
) -> None:
    metrics = Metrics()
    await world.attach()
    await ingest(world, writer, metrics=metrics)
    (used,) = await world.state.usage.report(first=0, last=10, by=["tenant", "principal", "model"])
    tokens, outcomes = (
        metrics.all[f"regate_ingest_{name}"].numbers for name in ("context_tokens", "contexts")
    )

    assert (used.tenant, used.principal, used.model) == ("acme", ANN.id, "small")
    assert (used.requests, used.input_tokens, used.output_tokens) == (0, 60, 10)
    assert isinstance(tokens, Counter)
    assert isinstance(outcomes, Counter)
    assert (tokens.now()[("input",)], tokens.now()[("output",)]) == (60, 10)
    assert outcomes.now()[("written",)] == 2


async def test_a_file_that_is_too_long_gets_no_context(
    world: World, writer: UpstreamContextWriter, server: ChatServer
) -> None:
    await world.attach()

    assert await ingest(world, writer, most_chunks=1) == ["1", "2"]
    assert server.bodies == []


async def test_of_a_long_document_the_part_around_the_chunk_is_shown_and_what_chunks_share_once(
    world: World, writer: UpstreamContextWriter, server: ChatServer
) -> None:
    words = [f"word{number:06d}" for number in range(6_000)]
    texts = [" ".join(words[start : start + 200]) for start in range(0, len(words) - 100, 100)]
    contexts = Contexts(writer, world.state, most_chunks=100, clock=world.clock)
    await world.attach()
    await contexts.of(ANN, FILE, texts)
    shown = {passage_of(body): document_of(body) for body in server.bodies}

    assert {text in document for text, document in shown.items()} == {True}
    assert max(map(len, shown.values())) < 27_000
    assert {document.count(text.split()[0]) for text, document in shown.items()} == {1}
    assert ("word000000" in shown[texts[0]], "word005999" in shown[texts[0]]) == (True, False)
