"""Answers that pass through: what comes with a status of success and is no answer is an error of ours,
and a good answer loses not a byte.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from regate_adapters.backend.stream.sse_reader import MAX_EVENT_BYTES
from regate_adapters.backend.upstreams import Upstreams
from regate_orchestrator.errors import UpstreamError

if TYPE_CHECKING:
    from tests.adapters.backend.conftest import Exchange, ScriptedUpstream

SECRET = "secret words of http://10.0.0.5:8000 sk-upstream"
ANSWER = {
    "id": "c",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": 'an "error" of mine'},
            "finish_reason": "stop",
        }
    ],
}


def chunk(text: str = "", **members: Any) -> bytes:
    return (
        b"data: "
        + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}], **members}).encode()
        + b"\n\n"
    )


DONE = b"data: [DONE]\n\n"


async def read(
    upstreams: Upstreams, *, path: str = "/chat/completions", streamed: bool = False
) -> tuple[bytes, UpstreamError | None]:
    """The bytes that would reach the client, and the failure that is told after them."""
    async with upstreams.pass_through("scripted", path, {}, streamed=streamed) as answer:
        body = b"".join([piece async for piece in answer.chunks()])
        return body, answer.failure


async def refusal(
    upstreams: Upstreams, *, path: str = "/chat/completions", streamed: bool = False
) -> UpstreamError:
    with pytest.raises(UpstreamError) as raised:
        await read(upstreams, path=path, streamed=streamed)
    return raised.value


ERRORS: dict[str, tuple[dict[str, Any], int]] = {
    "OpenAI's envelope": ({"error": {"message": SECRET, "type": "server_error", "code": None}}, 502),
    "a bad request": ({"error": {"message": SECRET, "type": "invalid_request_error"}}, 400),
    "a bad request, by number": ({"error": {"message": SECRET, "code": 400}}, 400),
    "a limit": ({"error": {"message": SECRET, "code": "rate_limit_exceeded"}}, 429),
    "a limit, by number as text": ({"error": {"message": SECRET, "code": "429"}}, 429),
    "a limit, named in capitals": ({"error": {"message": SECRET, "status": "RESOURCE_EXHAUSTED"}}, 429),
    "the key refused": ({"error": {"message": SECRET, "code": 401}}, 502),
    "a time-out": ({"error": {"message": SECRET, "code": 408}}, 504),
    "too long": ({"error": {"message": f"{SECRET}: maximum context length", "code": 400}}, 400),
    "a text": ({"error": SECRET}, 502),
    "text-generation-inference": ({"error": SECRET, "error_type": "validation"}, 400),
    "beside the answer": ({**ANSWER, "error": {"message": SECRET, "code": 502}}, 502),
    "inside a choice": (
        {"choices": [{"index": 0, "error": {"message": SECRET, "code": 429}, "finish_reason": "error"}]},
        429,
    ),
    "vLLM, older": ({"object": "error", "message": SECRET, "type": "BadRequestError", "code": 400}, 400),
    "a type alone": ({"type": "error", "detail": SECRET}, 502),
    "FastAPI": ({"detail": SECRET}, 502),
    "a code and a message": ({"code": 500, "message": SECRET}, 502),
    "a message and no choice": ({"choices": [], "message": SECRET}, 502),
    "an answer without choices": ({"id": "c", "choices": None, "base_resp": {"status_msg": SECRET}}, 502),
    "nothing": ({}, 502),
}
TOLD = [case for case in ERRORS if case not in ("an answer without choices", "nothing")]
"""Those that say of themselves that they are errors: amid a stream, what says nothing is nothing."""


@pytest.mark.parametrize("case", ERRORS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_error_told_in_a_success_is_our_error(
    upstream: ScriptedUpstream, upstreams: Upstreams, case: str, streamed: bool
) -> None:
    told, status = ERRORS[case]
    upstream.script = lambda exchange: exchange.answer_json(told)
    error = await refusal(upstreams, streamed=streamed)
    assert (error.status, "secret" in error.message, "sk-upstream" in error.detail) == (status, False, False)


@pytest.mark.parametrize("case", TOLD)
async def test_error_in_place_of_the_first_event_is_our_error(
    upstream: ScriptedUpstream, upstreams: Upstreams, case: str
) -> None:
    told, status = ERRORS[case]
    upstream.script = lambda exchange: exchange.stream(b"", told, b"[DONE]")
    error = await refusal(upstreams, streamed=True)
    assert (error.status, "secret" in error.message, "sk-upstream" in error.detail) == (status, False, False)


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/embeddings"])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"  \r\n",
        b"<html>secret</html>",
        b"secret words",
        b"[]",
        b'"secret"',
        b"null",
        b'{"choices": [',
        b"\xff\xfe",
        b"[" * 9_999,
    ],
)
async def test_what_is_no_answer_at_all_is_not_passed_on(
    upstream: ScriptedUpstream, upstreams: Upstreams, path: str, body: bytes
) -> None:
    upstream.script = lambda exchange: exchange.answer(200, body, "Content-Type: text/html")
    for streamed in (False, True):
        error = await refusal(upstreams, path=path, streamed=streamed)
        assert (error.status, "secret" in error.message) == (502, False)


async def test_embeddings_are_an_answer_of_their_own(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    body = json.dumps({"object": "list", "data": [{"embedding": [0.5]}]}).encode()
    upstream.script = lambda exchange: exchange.answer(200, body)
    assert await read(upstreams, path="/embeddings") == (body, None)
    upstream.script = lambda exchange: exchange.answer_json(ANSWER)
    assert (await refusal(upstreams, path="/embeddings")).status == 502


GOOD: dict[str, bytes] = {
    "plain": json.dumps(ANSWER).encode(),
    "indented": b"\r\n " + json.dumps(ANSWER, indent=2).encode() + b"\n",
    "an error that is none": json.dumps({**ANSWER, "error": None}).encode(),
    "numbers that JSON does not have": b'{"choices": [{"logprobs": {"content": [{"logprob": -Infinity}]}}]}',
    "half a pair of surrogates": b'{"choices": [{"message": {"content": "\\ud83d"}}]}',
    "large": json.dumps({**ANSWER, "padding": "x" * 100_000}).encode(),
    "too large to hold": json.dumps({**ANSWER, "padding": "x" * 3_000_000}).encode(),
}


@pytest.mark.parametrize("case", GOOD)
@pytest.mark.parametrize("label", ["application/json", "text/plain", "text/event-stream"])
async def test_good_answer_passes_byte_for_byte_however_it_is_labelled(
    upstream: ScriptedUpstream, upstreams: Upstreams, case: str, label: str
) -> None:
    upstream.script = lambda exchange: exchange.answer(200, GOOD[case], f"Content-Type: {label}")
    for streamed in (False, True):
        body, failure = await read(upstreams, streamed=streamed)
        assert (body.strip(), failure) == (GOOD[case].strip(), None)


@pytest.mark.parametrize("size", [100_000, 3_000_000])
async def test_large_error_is_an_error_too(
    upstream: ScriptedUpstream, upstreams: Upstreams, size: int
) -> None:
    for told in (
        {"error": {"message": "x" * size}},
        {"detail": "x" * size},
        {"padding": "x" * size, "error": {"message": "y"}},
    ):
        upstream.script = lambda exchange, told=told: exchange.answer_json(told)
        assert (await refusal(upstreams)).status == 502


# ---------------------------------------------------------------- streams

STREAMS: dict[str, bytes] = {
    "as nearly all": chunk("a") + chunk('an "error"') + DONE,
    "with an error that is none": chunk("a", error=None) + DONE,
    "with the usage alone": chunk("a") + b'data: {"usage": {"total_tokens": 3}}\n\n' + DONE,
    "with carriage returns": (chunk("a") + chunk("b") + DONE).replace(b"\n", b"\r\n"),
    "with names and ids": b"event: chunk\nid: 1\n" + chunk("a") + b"id: 2\n" + chunk("b") + DONE,
    "without blanks": (chunk("a") + DONE).replace(b"data: ", b"data:"),
    "without an end": chunk("a"),
    "without the last blank line": chunk("a") + DONE.strip(),
    "in several lines": b'data: {"choices":\ndata: []}\n\n' + DONE,
    "that mentions errors": chunk("event: error") + chunk('\\"error\\": {}') + DONE,
}


@pytest.mark.parametrize("case", STREAMS)
@pytest.mark.parametrize("size", [1, 7, 100_000])
async def test_good_stream_passes_byte_for_byte_however_it_is_cut(
    upstream: ScriptedUpstream, upstreams: Upstreams, case: str, size: int
) -> None:
    stream = STREAMS[case]

    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        for start in range(0, len(stream), size):
            await exchange.piece(stream[start : start + size])
        await exchange.end()

    upstream.script = script
    assert await read(upstreams, streamed=True) == (stream, None)


async def test_good_stream_comes_while_the_upstream_is_still_writing(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    seen = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(chunk("first"))
        await seen.wait()
        await exchange.piece(chunk("second")[:20])
        await exchange.piece(chunk("second")[20:])
        await exchange.end()

    upstream.script = script
    received = []
    async with (
        asyncio.timeout(30),
        upstreams.pass_through("scripted", "/chat/completions", {}, streamed=True) as answer,
    ):
        async for piece in answer.chunks():
            received.append(piece)
            seen.set()
    assert received == [chunk("first"), chunk("second")]


FAILING: dict[str, bytes] = {
    **{case: b"data: " + json.dumps(ERRORS[case][0]).encode() + b"\n\n" for case in TOLD},
    "by its name": b'event: error\ndata: {"id": "secret"}\n\n',
    "by its name, without blanks": b'data:{"id": "secret"}\nevent:error\n\n',
    "no JSON": b"data: secret words\n\n",
    "no object": b'data: "secret words"\n\n',
    "cut in two": b'data: {"choices": [{"secret',
}


@pytest.mark.parametrize("case", FAILING)
@pytest.mark.parametrize("size", [5, 100_000])
async def test_error_amid_a_stream_ends_it_and_is_told_in_our_words(
    upstream: ScriptedUpstream, upstreams: Upstreams, case: str, size: int
) -> None:
    stream = chunk("a") + FAILING[case] + chunk("never") * (case != "cut in two")

    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        for start in range(0, len(stream), size):
            await exchange.piece(stream[start : start + size])
        await exchange.end()

    upstream.script = script
    body, failure = await read(upstreams, streamed=True)
    assert failure is not None
    assert (body, "secret" in failure.message, "sk-upstream" in failure.detail) == (chunk("a"), False, False)


async def test_events_that_are_no_part_of_an_answer_are_left_out_and_comments_lose_their_words(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        for piece in (
            b": secret\n\n",
            b"data: \n\n",
            chunk("a"),
            b'data: {"type": "ping"}\n\n',
            b"event: ping\n\n",
            chunk("b"),
            DONE,
        ):
            await exchange.piece(piece)
        await exchange.end()

    upstream.script = script
    body, failure = await read(upstreams, streamed=True)
    assert (body.replace(b":\n\n", b""), failure) == (chunk("a") + chunk("b") + DONE, None)


async def test_stream_of_one_event_that_never_ends_is_given_up(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(b"data: ")
        try:
            while True:
                await exchange.piece(b"x" * 65_536)
        except ConnectionError:
            pass

    upstream.script = script
    async with asyncio.timeout(60):
        error = await refusal(upstreams, streamed=True)
    assert str(MAX_EVENT_BYTES) in error.detail


async def test_stream_that_is_long_in_beginning_is_passed_on_meanwhile(
    upstream: ScriptedUpstream, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regate_adapters.backend.stream.passing._PATIENCE_SECONDS", 0.01)
    opened = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await opened.wait()
        await exchange.piece(chunk("at last") + b'data: {"error": "secret"}\n\n')
        await exchange.end()

    upstream.script = script
    async with (
        asyncio.timeout(30),
        upstreams.pass_through("scripted", "/chat/completions", {}, streamed=True) as answer,
    ):
        opened.set()
        body = b"".join([piece async for piece in answer.chunks()])
    assert (body, answer.failure is None) == (chunk("at last"), False)


async def test_stream_that_breaks_off_is_cut(upstream: ScriptedUpstream, upstreams: Upstreams) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(chunk("a"))
        exchange.writer.close()

    upstream.script = script
    async with upstreams.pass_through("scripted", "/chat/completions", {}, streamed=True) as answer:
        pieces = answer.chunks()
        assert await anext(pieces) == chunk("a")
        with pytest.raises(UpstreamError):
            await anext(pieces)


async def test_connection_is_kept_after_a_whole_answer(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    upstream.script = lambda exchange: exchange.answer_json(ANSWER)
    for _ in range(3):
        await read(upstreams)
    assert {exchange.connection for exchange in upstream.requests} == {1}
