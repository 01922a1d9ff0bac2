"""Rewritten queries from an upstream, over a real socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from tests.adapters.contexts.chat_server import ChatServer, chat_server, said

from regate_adapters.rewriting.upstream import UpstreamQueryRewriter
from regate_orchestrator.errors import QueryRewritingUnavailable
from regate_orchestrator.ports import RewrittenQuery


@pytest.fixture
async def server() -> AsyncIterator[ChatServer]:
    async with chat_server() as scripted:
        yield scripted


def rewriter(server: ChatServer, **options: Any) -> UpstreamQueryRewriter:
    return UpstreamQueryRewriter(
        server.url + "/", "m", upstream="u", max_tokens=16, **{"api_key": "sk-1", **options}
    )


async def test_a_query_is_one_line_with_what_it_took_and_the_model_is_shown_it_alone(
    server: ChatServer,
) -> None:
    server.answer = lambda _: said("  annual\0 leave \t days \n")
    async with rewriter(server) as asked:
        written = await asked.rewrite("How many days off?\ud800")
    (body,) = server.bodies

    assert written == RewrittenQuery("annual leave days", 30, 5)
    assert (body["model"], body["max_tokens"], body["temperature"]) == ("m", 16, 0)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["messages"][1]["content"] == "<query>\nHow many days off??\n</query>"
    assert server.keys == ["Bearer sk-1"]


@pytest.mark.parametrize(
    "answer",
    [
        said(None),
        said(["leave"]),
        said(7),
        said(""),
        said(" \n"),
        said("\0"),
        said("leave\ndays"),
        said("Here it is:\n\nleave"),
        said("x" * 257),
        {
            **said("leave"),
            "choices": [{"message": {"content": "leave and the"}, "finish_reason": "length"}],
        },
    ],
    ids=lambda answer: json.dumps(answer)[:70],
)
async def test_an_answer_that_is_no_query_is_none_and_still_counts(server: ChatServer, answer: Any) -> None:
    server.answer = lambda _: answer
    async with rewriter(server) as asked:
        assert await asked.rewrite("q") == RewrittenQuery(None, 30, 5)


async def test_a_query_may_be_as_long_as_the_model_may_write(server: ChatServer) -> None:
    server.answer = lambda _: said("x" * 256)
    async with rewriter(server) as asked:
        assert (await asked.rewrite("q")).text == "x" * 256


@pytest.mark.parametrize(
    "answer",
    [None, [], {}, {"choices": []}, {"choices": [{"message": "leave"}]}, {**said("leave"), "usage": [1]}],
    ids=lambda answer: json.dumps(answer)[:60],
)
async def test_what_is_no_answer_of_a_model_is_a_failure(server: ChatServer, answer: object) -> None:
    server.answer = lambda _: answer
    async with rewriter(server) as asked:
        with pytest.raises(QueryRewritingUnavailable) as failure:
            await asked.rewrite("q")

    assert "malformed" in failure.value.detail


@pytest.mark.parametrize("status", [301, 401, 404, 429, 500])
async def test_any_status_but_200_is_a_failure_that_says_nothing_of_the_body(
    server: ChatServer, status: int
) -> None:
    server.answer = lambda _: status
    async with rewriter(server) as asked:
        with pytest.raises(QueryRewritingUnavailable) as failure:
            await asked.rewrite("q")

    assert failure.value.detail == f"m: status {status}"


async def test_a_server_that_hangs_is_a_failure_after_the_deadline(server: ChatServer) -> None:
    server.hangs = True
    async with rewriter(server, deadline_s=0.1) as asked:
        with pytest.raises(QueryRewritingUnavailable) as failure:
            await asked.rewrite("q")

    assert failure.value.detail == "m: no answer within 0.1 s"
