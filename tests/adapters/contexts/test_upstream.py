"""Contexts from an upstream, over a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from tests.adapters.contexts.chat_server import (
    ChatServer,
    chat_server,
    document_of,
    passage_of,
    said,
)

from regate_adapters.contexts.upstream import UpstreamContextWriter
from regate_orchestrator.errors import ContextUnavailable
from regate_orchestrator.ports import WrittenContext


@pytest.fixture
async def server() -> AsyncIterator[ChatServer]:
    async with chat_server() as scripted:
        yield scripted


async def test_a_context_is_one_line_with_what_it_took(server: ChatServer) -> None:
    server.answer = lambda _: said("  From the\0 handbook,\nabout leave. ")
    async with UpstreamContextWriter(server.url + "/", "m", max_tokens=50, api_key="sk-1") as writer:
        written = await writer.write("The handbook.\ud800", "It is 28 days.")
    (body,) = server.bodies

    assert written == WrittenContext("From the handbook, about leave.", 30, 5)
    assert (body["model"], body["max_tokens"], server.keys) == ("m", 50, ["Bearer sk-1"])
    assert (document_of(body), passage_of(body)) == ("The handbook.?", "It is 28 days.")


async def test_a_context_is_no_longer_than_it_may_be(server: ChatServer) -> None:
    server.answer = lambda _: said("x" * 100_000)
    async with UpstreamContextWriter(server.url, "m", max_tokens=16) as writer:
        assert len((await writer.write("d", "p")).text) == 256


@pytest.mark.parametrize("count", [None, -1, "7", 1.5, True])
async def test_counts_that_are_none_count_nothing(server: ChatServer, count: object) -> None:
    server.answer = lambda _: said("So.", sent=count, written=count)
    async with UpstreamContextWriter(server.url, "m", max_tokens=50) as writer:
        assert await writer.write("d", "p") == WrittenContext("So.", 0, 0)


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"choices": []},
        said(None),
        said(""),
        said("  \n"),
        said("\0"),
        said(["text"]),
        {**said("a"), "usage": [1]},
    ],
    ids=lambda value: json.dumps(value)[:60],
)
async def test_an_answer_that_is_no_text_is_refused(server: ChatServer, value: object) -> None:
    server.answer = lambda _: value
    async with UpstreamContextWriter(server.url, "m", max_tokens=50) as writer:
        with pytest.raises(ContextUnavailable) as failure:
            await writer.write("d", "p")

    assert "malformed" in failure.value.detail


@pytest.mark.parametrize("status", [301, 401, 404, 429, 500])
async def test_any_status_but_200_is_a_failure_that_says_nothing_of_the_body(
    server: ChatServer, status: int
) -> None:
    server.answer = lambda _: status
    async with UpstreamContextWriter(server.url, "m", max_tokens=50) as writer:
        with pytest.raises(ContextUnavailable) as failure:
            await writer.write("d", "p")

    assert failure.value.detail == f"m: status {status}"


async def test_a_server_that_hangs_is_a_failure_after_the_deadline(server: ChatServer) -> None:
    server.hangs = True
    async with UpstreamContextWriter(server.url, "m", max_tokens=50, deadline_s=0.1) as writer:
        with pytest.raises(ContextUnavailable) as failure:
            await writer.write("d", "p")

    assert failure.value.detail == "m: no answer within 0.1 s"
