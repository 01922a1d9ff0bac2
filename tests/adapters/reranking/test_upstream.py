"""Relevance from an upstream, over a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

from regate_adapters.reranking.upstream import UpstreamReranker
from regate_orchestrator.errors import RerankingUnavailable


@dataclass
class RerankServer:
    """`answer` makes the reply; `bodies` and `keys` are what came."""

    url: str = ""
    answer: Callable[[], Awaitable[web.StreamResponse]] | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.keys.append(request.headers.get("Authorization"))
        assert self.answer is not None
        return await self.answer()

    def answers(self, value: object, *, status: int = 200) -> None:
        async def answer() -> web.StreamResponse:
            return web.Response(
                status=status, body=json.dumps(value).encode(), content_type="application/json"
            )

        self.answer = answer


@pytest.fixture
async def server() -> AsyncIterator[RerankServer]:
    scripted = RerankServer()
    app = web.Application()
    app.router.add_post("/v1/rerank", scripted.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    scripted.url = f"http://{host}:{port}/v1"
    yield scripted
    await runner.cleanup()


def scored(*scores: tuple[int, object]) -> dict[str, Any]:
    return {"results": [{"index": index, "relevance_score": score} for index, score in scores]}


async def test_scores_are_in_the_order_of_the_texts_and_cut_to_their_range(server: RerankServer) -> None:
    server.answers({**scored((2, 0.9), (0, -0.1), (1, 7)), "model": "m", "usage": {}})

    async with UpstreamReranker(server.url + "/", "m", api_key="sk-1") as reranker:
        scores = await reranker.relevance("q\ud800", ["a", "", "c"])

    assert scores == [0.0, 1.0, 0.9]
    assert server.keys == ["Bearer sk-1"]
    assert server.bodies == [
        {"model": "m", "query": "q?", "documents": ["a", " ", "c"], "top_n": 3, "return_documents": False}
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"results": None},
        {"results": ["a", "b"]},
        scored((0, 0.5)),
        scored((0, 0.5), (0, 0.5)),
        scored((0, 0.5), (2, 0.5)),
        scored((0, 0.5), (1, 0.5), (1, 0.4)),
        scored((0, "0.5"), (1, 0.5)),
        scored((0, True), (1, 0.5)),
        scored((0, None), (1, 0.5)),
        {"results": [{"index": 0, "score": 1}, {"index": 1, "score": 1}]},
    ],
    ids=lambda value: json.dumps(value)[:60],
)
async def test_an_answer_that_is_not_one_number_a_text_is_refused(
    server: RerankServer, value: object
) -> None:
    server.answers(value)

    async with UpstreamReranker(server.url, "m") as reranker:
        with pytest.raises(RerankingUnavailable, match="unavailable") as failure:
            await reranker.relevance("q", ["a", "b"])

    assert "malformed" in (failure.value.detail or "")


@pytest.mark.parametrize("status", [301, 401, 404, 429, 500])
async def test_any_status_but_200_is_a_failure_that_says_nothing_of_the_body(
    server: RerankServer, status: int
) -> None:
    server.answers({"error": "the passage was: secret"}, status=status)

    async with UpstreamReranker(server.url, "m") as reranker:
        with pytest.raises(RerankingUnavailable) as failure:
            await reranker.relevance("q", ["a"])

    assert failure.value.detail == f"m: status {status}"


async def test_a_server_that_hangs_is_a_failure_after_the_deadline(server: RerankServer) -> None:
    async def never() -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    server.answer = never
    async with UpstreamReranker(server.url, "m", deadline_s=0.1) as reranker:
        with pytest.raises(RerankingUnavailable) as failure:
            await reranker.relevance("q", ["a"])

    assert failure.value.detail == "m: no answer within 0.1 s"
