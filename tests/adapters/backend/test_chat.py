from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from regate_adapters.backend.chat import ChatBackend
from regate_adapters.backend.stream.merging import merged
from regate_adapters.backend.stream.sse_reader import MAX_EVENT_BYTES
from regate_adapters.backend.upstreams import Upstreams, encode
from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.model_events import (
    CallOpened,
    ModelEnded,
    ModelEvent,
    ModelFailed,
    TextWritten,
    Usage,
)

if TYPE_CHECKING:
    from tests.adapters.backend.conftest import Exchange, ScriptedUpstream

PAYLOAD = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}


def delta(finish: str | None = None, **members: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": members, "finish_reason": finish}]}


async def chat(upstreams: Upstreams) -> list[ModelEvent]:
    async with ChatBackend(upstreams).chat("scripted", PAYLOAD) as events:
        return [event async for event in events]


def failure(events: list[ModelEvent]) -> UpstreamError:
    assert isinstance(events[-1], ModelFailed)
    return events[-1].error


async def test_stream_comes_out_as_events(upstream: ScriptedUpstream, upstreams: Upstreams) -> None:
    async def script(exchange: Exchange) -> None:
        usage = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}
        await exchange.stream(
            delta(role="assistant"),
            delta(content="Hel"),
            delta(content="lo"),
            delta("stop"),
            usage,
            b"[DONE]",
        )

    upstream.script = script
    assert list(merged(await chat(upstreams))) == [
        TextWritten("Hello"),
        ModelEnded("stop", Usage(3, 0, 2, 0)),
    ]


async def test_request_is_streamed_and_asks_for_usage(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    upstream.script = lambda exchange: exchange.stream(delta("stop"), b"[DONE]")
    await chat(upstreams)
    sent = upstream.requests[0]
    assert (sent.method, sent.path) == ("POST", "/v1/chat/completions")
    assert json.loads(sent.body) == {**PAYLOAD, "stream": True, "stream_options": {"include_usage": True}}


async def test_events_come_while_the_upstream_is_still_writing(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    seen = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(b"data: " + json.dumps(delta(content="first")).encode() + b"\n\n")
        await seen.wait()
        await exchange.piece(b"data: " + json.dumps(delta("stop")).encode() + b"\n\ndata: [DONE]\n\n")
        await exchange.end()

    upstream.script = script
    received: list[ModelEvent] = []
    async with asyncio.timeout(120), ChatBackend(upstreams).chat("scripted", PAYLOAD) as events:
        async for event in events:
            received.append(event)
            seen.set()
    assert received == [TextWritten("first"), ModelEnded("stop", Usage())]


async def test_completion_that_was_not_streamed_is_read_whole(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    upstream.script = lambda exchange: exchange.answer_json(
        {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
    )
    events = await chat(upstreams)
    assert (events[0], events[-1]) == (CallOpened(0, "a", "f"), ModelEnded("tool_calls", Usage(3, 0, 2, 0)))


async def test_stream_without_an_end_mark_is_complete_after_its_finish_reason(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    upstream.script = lambda exchange: exchange.stream(delta(content="a"), delta("stop"))
    assert await chat(upstreams) == [TextWritten("a"), ModelEnded("stop", Usage())]


async def test_connection_reset_after_the_finish_reason_loses_nothing(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(b"data: " + json.dumps(delta("stop", content="a")).encode() + b"\n\n")
        exchange.writer.close()

    upstream.script = script
    assert await chat(upstreams) == [TextWritten("a"), ModelEnded("stop", Usage())]


async def test_stream_that_ends_without_a_finish_reason_has_failed(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    upstream.script = lambda exchange: exchange.stream(delta(content="a"), b"[DONE]")
    events = await chat(upstreams)
    assert (events[0], failure(events).status) == (TextWritten("a"), 502)


async def test_stream_that_is_cut_has_failed(upstream: ScriptedUpstream, upstreams: Upstreams) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(b"data: " + json.dumps(delta(content="a")).encode() + b"\n\n")
        exchange.writer.close()

    upstream.script = script
    events = await chat(upstreams)
    assert (events[0], failure(events).status) == (TextWritten("a"), 502)


async def test_stream_that_is_reset_has_failed(upstream: ScriptedUpstream, upstreams: Upstreams) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        exchange.reset()

    upstream.script = script
    assert failure(await chat(upstreams)).status == 502


async def test_stream_that_falls_silent_has_failed_at_the_deadline(
    upstream: ScriptedUpstream, impatient: Upstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(b"data: " + json.dumps(delta(content="a")).encode() + b"\n\n")
        await exchange.gone()

    upstream.script = script
    async with asyncio.timeout(120):
        events = await chat(impatient)
    assert (events[0], failure(events).status) == (TextWritten("a"), 504)


@pytest.mark.parametrize(
    "payload",
    [b"nonsense", b"[]", b"<html></html>", b'{"choices": [', b'{"error": {"message": "secret words"}}'],
)
async def test_stream_that_is_not_understood_has_failed_in_our_words(
    upstream: ScriptedUpstream, upstreams: Upstreams, payload: bytes
) -> None:
    upstream.script = lambda exchange: exchange.stream(delta(content="a"), payload, delta("stop"), b"[DONE]")
    events = await chat(upstreams)
    assert events[0] == TextWritten("a")
    assert len(events) == 2
    assert "secret" not in failure(events).message


USAGE = {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}


@pytest.mark.parametrize(
    "keep_alive",
    [
        b"data: \n\n",
        b"data:\n\n",
        b"data: null\n\n",
        b": ping\n\n",
        b"event: ping\ndata: {}\n\n",
        b"\n\n",
        b"id: 1\n\n",
    ],
)
async def test_event_that_says_nothing_ends_nothing(
    upstream: ScriptedUpstream, upstreams: Upstreams, keep_alive: bytes
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        for chunk in (delta(content="a"), delta("stop", content="b"), USAGE):
            await exchange.piece(keep_alive + b"data: " + json.dumps(chunk).encode() + b"\n\n" + keep_alive)
        await exchange.piece(b"data: [DONE] \n\n")
        await exchange.end()

    upstream.script = script
    assert list(merged(await chat(upstreams))) == [TextWritten("ab"), ModelEnded("stop", Usage(3, 0, 2, 0))]


@pytest.mark.parametrize(
    ("last", "usage"), [([USAGE], Usage(3, 0, 2, 0)), ([], Usage())], ids=["with usage", "without usage"]
)
async def test_whole_answer_is_given_though_the_upstream_keeps_the_connection_open(
    upstream: ScriptedUpstream, upstreams: Upstreams, last: list[Any], usage: Usage
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        for chunk in (delta("stop", content="a"), *last):
            await exchange.piece(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await exchange.gone()

    upstream.script = script
    async with asyncio.timeout(30):  # half of what the upstream is waited for amid its answer
        assert await chat(upstreams) == [TextWritten("a"), ModelEnded("stop", usage)]


async def test_comments_without_end_do_not_hold_an_answer_back(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(b"data: " + json.dumps(delta("stop", content="a")).encode() + b"\n\n")
        while True:
            try:
                async with asyncio.timeout(0.1):
                    return await exchange.gone()
            except TimeoutError:
                await exchange.piece(b": still here\n\n")

    upstream.script = script
    async with asyncio.timeout(30):
        assert await chat(upstreams) == [TextWritten("a"), ModelEnded("stop", Usage())]


async def test_upstream_that_calls_every_chunk_the_end_is_read_to_its_own(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        for _ in range(5):  # each comes within what is waited for, and all together do not
            await exchange.piece(b"data: " + json.dumps(delta("stop", content="a")).encode() + b"\n\n")
            with suppress(TimeoutError):
                async with asyncio.timeout(0.6):
                    await exchange.gone()
        await exchange.end()

    upstream.script = script
    assert "".join(event.text for event in await chat(upstreams) if isinstance(event, TextWritten)) == "aaaaa"


async def test_usage_may_come_a_moment_after_the_end(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    told = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(b"data: " + json.dumps(delta("stop", content="a")).encode() + b"\n\n")
        await told.wait()
        await exchange.piece(b"data: " + json.dumps(USAGE).encode() + b"\n\n")
        await exchange.gone()

    upstream.script = script
    received: list[ModelEvent] = []
    async with asyncio.timeout(120), ChatBackend(upstreams).chat("scripted", PAYLOAD) as events:
        async for event in events:
            received.append(event)
            told.set()
    assert received == [TextWritten("a"), ModelEnded("stop", Usage(3, 0, 2, 0))]


async def test_event_that_is_cut_after_the_end_was_told_costs_nothing(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(
            b"data: " + json.dumps(delta("stop", content="a")).encode() + b'\n\ndata: {"choices": [], "usa'
        )
        await exchange.end()

    upstream.script = script
    assert await chat(upstreams) == [TextWritten("a"), ModelEnded("stop", Usage())]


WHOLE = {"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}
EVENTS = b"data: " + json.dumps(delta("stop", content="a")).encode() + b"\n\ndata: [DONE]\n\n"


@pytest.mark.parametrize("label", ["application/json", "text/event-stream; charset=utf-8", "text/plain", ""])
@pytest.mark.parametrize(
    "body",
    [
        EVENTS,
        b": hello\n\n" + EVENTS,
        json.dumps(WHOLE).encode(),
        b"\xef\xbb\xbf \n" + json.dumps(WHOLE).encode(),
    ],
)
async def test_what_an_answer_is_says_its_first_byte_and_not_its_label(
    upstream: ScriptedUpstream, upstreams: Upstreams, label: str, body: bytes
) -> None:
    upstream.script = lambda exchange: exchange.answer(
        200, body, *([f"Content-Type: {label}"] if label else [])
    )
    assert await chat(upstreams) == [TextWritten("a"), ModelEnded("stop", Usage())]


async def test_page_instead_of_a_stream_has_failed(upstream: ScriptedUpstream, upstreams: Upstreams) -> None:
    upstream.script = lambda exchange: exchange.answer(
        200, b"<html>\n\n<p>Hello</p>\n\n</html>", "Content-Type: text/html"
    )
    assert len(await chat(upstreams)) == 1


async def test_garbage_instead_of_json_has_failed(upstream: ScriptedUpstream, upstreams: Upstreams) -> None:
    upstream.script = lambda exchange: exchange.answer(
        200, b"{oops", "Content-Type: application/json; charset=utf-8"
    )
    assert failure(await chat(upstreams)).status == 502


async def test_huge_event_has_failed_before_it_ends(upstream: ScriptedUpstream, upstreams: Upstreams) -> None:
    sent = 0

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.open_stream()
        await exchange.piece(b"data: ")
        while True:
            await exchange.piece(b"x" * 65_536)
            sent += 65_536

    upstream.script = script
    assert failure(await chat(upstreams)).status == 502
    assert sent < 4 * MAX_EVENT_BYTES


async def test_refusal_of_the_request_raises_before_anything_is_yielded(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    upstream.script = lambda exchange: exchange.answer(500, b"no")
    with pytest.raises(UpstreamError):
        await chat(upstreams)


async def test_leaving_in_mid_stream_is_seen_by_the_upstream_at_once(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    gone = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(b"data: " + json.dumps(delta(content="a")).encode() + b"\n\n")
        await exchange.gone()
        gone.set()

    upstream.script = script
    async with ChatBackend(upstreams).chat("scripted", PAYLOAD) as events:
        async for _ in events:
            break
    async with asyncio.timeout(120):
        await gone.wait()


async def test_cancelling_the_reader_is_seen_by_the_upstream_at_once(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    reading, gone = asyncio.Event(), asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        reading.set()
        await exchange.gone()
        gone.set()

    upstream.script = script
    async with asyncio.TaskGroup() as group:
        task = group.create_task(chat(upstreams))
        await reading.wait()
        task.cancel()
    async with asyncio.timeout(120):
        await gone.wait()


@pytest.fixture
def settling(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait long for the end of a body, which certainly comes."""
    monkeypatch.setattr("regate_adapters.backend.chat._SETTLE_SECONDS", 30)


@pytest.mark.usefixtures("settling")
async def test_connection_is_used_again_after_a_stream_was_read_to_its_end(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.stream(delta("stop", content="a"), b"[DONE]")

    upstream.script = script
    for _ in range(3):
        async with ChatBackend(upstreams).chat("scripted", PAYLOAD) as events:
            async for event in events:
                if isinstance(event, ModelEnded):
                    break
    assert [exchange.connection for exchange in upstream.requests] == [1, 1, 1]


@pytest.mark.usefixtures("settling")
async def test_end_of_the_body_may_come_a_moment_after_the_end_mark(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        ended.clear()
        await exchange.open_stream()
        await exchange.piece(b"data: " + json.dumps(delta("stop")).encode() + b"\n\ndata: [DONE]\n\n")
        await ended.wait()
        await exchange.end()

    ended = asyncio.Event()
    upstream.script = script
    for _ in range(2):
        async with ChatBackend(upstreams).chat("scripted", PAYLOAD) as events:
            assert [event async for event in events] == [ModelEnded("stop", Usage())]
            ended.set()
    assert [exchange.connection for exchange in upstream.requests] == [1, 1]


async def test_stream_that_never_ends_has_failed_at_its_limit(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        while True:
            await exchange.piece((b": " + b"x" * 65_000 + b"\n") * 8)

    upstream.script = script
    async with asyncio.timeout(120):
        assert "in all" in failure(await chat(upstreams)).detail


async def test_upstream_that_keeps_the_stream_open_after_its_end_mark_is_let_go(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    gone = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(b"data: " + json.dumps(delta("stop")).encode() + b"\n\ndata: [DONE]\n\n")
        await exchange.gone()
        gone.set()

    upstream.script = script
    async with asyncio.timeout(120):
        assert await chat(upstreams) == [ModelEnded("stop", Usage())]
        await gone.wait()


def test_numbers_beyond_64_bits_stay_exact() -> None:
    assert json.loads(encode({"maximum": 2**70})) == {"maximum": 2**70}
