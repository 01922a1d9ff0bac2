"""Vectors from an upstream, over a real socket."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from regate_adapters.embeddings.upstream import UpstreamEmbedder
from regate_orchestrator.errors import EmbeddingsUnavailable, TextTooLong

if TYPE_CHECKING:
    from .conftest import EmbeddingsServer


async def faithful(body: dict[str, Any]) -> web.StreamResponse:
    data = [
        {"index": place, "embedding": [float(len(text)), 1.0, 0.0]}
        for place, text in enumerate(body["input"])
    ]
    return web.json_response({"data": data[::-1]})


async def test_texts_are_asked_for_in_batches_and_answered_in_order(server: EmbeddingsServer) -> None:
    server.answer = faithful
    texts = ["x" * (number % 7) for number in range(150)]

    async with UpstreamEmbedder(server.url, "m", api_key="sk-1") as embedder:
        vectors = await embedder.embed(texts, tenant="acme")

    assert [len(body["input"]) for body in server.bodies] == [64, 64, 22]
    assert {headers["Authorization"] for headers in server.headers} == {"Bearer sk-1"}
    assert [round(vector[0] / vector[1]) for vector in vectors] == [max(len(text), 1) for text in texts]


async def test_vectors_are_made_of_unit_length(server: EmbeddingsServer) -> None:
    server.answers({"data": [{"index": 0, "embedding": [3, 4]}]})

    async with UpstreamEmbedder(server.url, "m") as embedder:
        assert await embedder.embed(["a"], tenant="acme") == [[0.6, 0.8]]


async def test_the_length_is_found_out_once(server: EmbeddingsServer) -> None:
    server.answer = faithful

    async with UpstreamEmbedder(server.url, "m") as embedder:
        lengths = [await embedder.dimensions() for _ in range(3)]

    assert (lengths, len(server.bodies), embedder.name) == ([3, 3, 3], 1, "upstream:m")
    assert "Authorization" not in server.headers[0]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"data": {}},
        {"data": []},
        {"data": [{"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 0, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 2, "embedding": [1.0]}]},
        {
            "data": [
                {"index": 0, "embedding": [1.0]},
                {"index": 1, "embedding": [1.0]},
                {"index": 1, "embedding": [1.0]},
            ]
        },
        {"data": [{"index": 0, "embedding": [1.0]}, {"index": 1, "embedding": [1.0, 0.0]}]},
        {"data": [{"index": 0, "embedding": []}, {"index": 1, "embedding": []}]},
        {"data": [{"index": 0, "embedding": [0.0]}, {"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [1e308] * 9}, {"index": 1, "embedding": [1.0] * 9}]},
        {"data": [{"index": 0, "embedding": ["1"]}, {"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": [True]}, {"index": 1, "embedding": [1.0]}]},
        {"data": [{"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": "AAAA"}]},
        {"data": [{"index": 0}, {"index": 1}]},
        {"data": ["a", "b"]},
    ],
    ids=lambda value: json.dumps(value)[:60],
)
async def test_an_answer_that_is_not_one_vector_a_text_is_refused(
    server: EmbeddingsServer, value: object
) -> None:
    server.answers(value)

    async with UpstreamEmbedder(server.url, "m") as embedder:
        with pytest.raises(EmbeddingsUnavailable):
            await embedder.embed(["a", "b"], tenant="acme")


async def test_vectors_of_another_length_than_before_are_refused(server: EmbeddingsServer) -> None:
    async with UpstreamEmbedder(server.url, "m") as embedder:
        server.answers({"data": [{"index": 0, "embedding": [1.0, 0.0]}]})
        await embedder.embed(["a"], tenant="acme")
        server.answers({"data": [{"index": 0, "embedding": [1.0, 0.0, 0.0]}]})

        with pytest.raises(EmbeddingsUnavailable) as failure:
            await embedder.embed(["a"], tenant="acme")

    assert "lengths [2, 3]" in failure.value.detail


@pytest.mark.parametrize("status", [301, 400, 401, 429, 500])
async def test_any_status_but_200_is_a_failure_that_says_nothing_of_the_body(
    server: EmbeddingsServer, status: int
) -> None:
    server.answers({"error": {"message": "the key sk-1 is wrong"}}, status=status)

    async with UpstreamEmbedder(server.url, "m", api_key="sk-1") as embedder:
        with pytest.raises(EmbeddingsUnavailable) as failure:
            await embedder.embed(["a"], tenant="acme")

    assert failure.value.detail == f"upstream:m: status {status}"


TOO_LONG: list[tuple[int, Any, str]] = [
    (
        400,
        {
            "object": "error",
            "message": (
                "This model's maximum context length is 512 tokens. However, you requested 789 tokens."
            ),
        },
        "512",
    ),
    (400, {"error": {"message": "Invalid 'input[0]': maximum input length is 8192 tokens."}}, "8192"),
    (400, {"error": {"message": "Too much.", "code": "context_length_exceeded"}}, ""),
    (
        413,
        {
            "error": "Input validation error: `inputs` must have less than 512 tokens. Given: 789",
            "error_type": "Validation",
        },
        "512",
    ),
    (
        500,
        {
            "error": {
                "message": (
                    "input (789 tokens) is too large to process. increase the batch size (current batch "
                    "size: 512)"
                )
            }
        },
        "512",
    ),
    (400, {"error": "the input length exceeds the context length"}, ""),
    (
        422,
        {"detail": "Token indices sequence length is longer than the maximum sequence length for this model"},
        "",
    ),
]


@pytest.mark.parametrize(("status", "value", "limit"), TOO_LONG)
async def test_text_that_the_model_does_not_take_is_told_as_what_it_is(
    server: EmbeddingsServer, status: int, value: Any, limit: str
) -> None:
    server.answers(value, status=status)
    messages = []
    for known in (None, 256):
        async with UpstreamEmbedder(server.url, "m", most_tokens=known) as embedder:
            with pytest.raises(TextTooLong) as failure:
                await embedder.embed(["a"], tenant="acme")
        messages.append(failure.value.message)

    told = f" ({limit} tokens)" if limit else ""
    assert messages == [
        f"The text is longer than what the embedding model takes{words}. Shorten it."
        for words in (told, " (256 tokens)")
    ]


async def test_an_upstream_that_hangs_is_given_up(server: EmbeddingsServer) -> None:
    async def hang(_body: dict[str, Any]) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    server.answer = hang
    async with UpstreamEmbedder(server.url, "m", deadline_s=0.2) as embedder:
        with pytest.raises(EmbeddingsUnavailable) as failure:
            await embedder.embed(["a"], tenant="acme")

    assert "no answer within 0.2 s" in failure.value.detail


async def test_an_upstream_that_is_not_there_is_a_failure() -> None:
    async with UpstreamEmbedder("http://127.0.0.1:9", "m") as embedder:
        with pytest.raises(EmbeddingsUnavailable):
            await embedder.dimensions()


async def test_an_answer_without_end_is_cut_off(server: EmbeddingsServer) -> None:
    async def endless(_body: dict[str, Any]) -> web.StreamResponse:
        return web.Response(body=b" " * (33 * 1024 * 1024))

    server.answer = endless
    async with UpstreamEmbedder(server.url, "m") as embedder:
        with pytest.raises(EmbeddingsUnavailable) as failure:
            await embedder.embed(["a"], tenant="acme")

    assert "more than" in failure.value.detail


async def test_an_embedder_that_is_not_open_is_unavailable() -> None:
    with pytest.raises(EmbeddingsUnavailable):
        await UpstreamEmbedder("http://127.0.0.1:9", "m").embed(["a"], tenant="acme")
