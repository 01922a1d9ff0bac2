"""Guards on the proxied routes: input of every role, and answers with their calls, plain and streamed."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openai
import pytest
from aiohttp import web
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, ended, text
from tests.e2e.guarding import KEY, Guarded, ScriptedGuards, guarded_gateway, scripted_guards

from regate_gateway.config.settings import Settings
from regate_orchestrator.guards.model_output import INPUT_REFUSAL, OUTPUT_REFUSAL

pytestmark = only_on("embedded")

SECRET = {"labels": {"secret": "redact"}}
NO_SECRET = {"labels": {"secret": "block"}}
MARK = "[redacted: secret]"
HI: list[Any] = [{"role": "user", "content": "Hi"}]
LEAK: list[Any] = [{"role": "user", "content": f"My key is {KEY}."}]
ANSWER = "The key lies here. " * 20 + f"It is {KEY}, and that is all. " + "More follows. " * 30


@pytest.fixture
def guarded(configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path) -> Guarded:
    return guarded_gateway(configure, upstream, policies)


@pytest.fixture
async def guards() -> AsyncIterator[ScriptedGuards]:
    async with scripted_guards() as scripted:
        yield scripted


def pieces_of(answer: str, size: int) -> list[str]:
    return [answer[start : start + size] for start in range(0, len(answer), size)]


def plain(message: dict[str, Any], **more: Any) -> Callable[..., Any]:
    """A turn that is a plain answer."""

    async def answer(upstream: ScriptedUpstream, request: web.Request) -> web.Response:
        choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"} | more
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        return web.json_response(
            {"id": "c", "object": "chat.completion", "model": "small", "choices": [choice], "usage": usage}
        )

    return answer


# ---------------------------------------------------------------- input

CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGES: dict[str, list[Any]] = {
    "system": [{"role": "system", "content": f"Use {KEY}."}, *HI],
    "developer": [{"role": "developer", "content": [{"type": "text", "text": f"Use {KEY}."}]}, *HI],
    "user": LEAK,
    "parts": [
        {
            "role": "user",
            "content": [{"type": "text", "text": "x " + KEY[:8]}, {"type": "text", "text": KEY[8:] + " y"}],
        }
    ],
    "assistant": [{"role": "assistant", "content": f"It is {KEY}."}, *HI],
    "arguments": [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [CALL | {"function": {"name": "f", "arguments": json.dumps({"key": KEY})}}],
        },
        {"role": "tool", "tool_call_id": "c", "content": "done"},
    ],
    "tool": [
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "c", "content": f"key {KEY}"},
    ],
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_message_of_every_role_is_sent_without_what_is_taken_out(name: str, guarded: Guarded) -> None:
    async with guarded(input=SECRET, tool_result=SECRET) as world:
        answer = await world.client().chat.completions.create(model="small", messages=MESSAGES[name])
        records = json.dumps(world.audit())

    assert answer.choices[0].message.content == "Nothing more to say."
    assert MARK in world.upstream.prompt
    assert KEY[8:] not in world.upstream.prompt + records


async def test_input_that_is_blocked_is_refused_as_by_a_model(guarded: Guarded) -> None:
    async with guarded(input=NO_SECRET) as world:
        client = world.client()
        plain_one = await client.chat.completions.create(model="small", messages=LEAK, n=2)
        async with client.chat.completions.stream(model="small", messages=LEAK) as stream:
            refusals = [event.delta async for event in stream if event.type == "refusal.delta"]
            streamed = await stream.get_final_completion()
        completion = await client.completions.create(model="small", prompt=KEY)
        with pytest.raises(openai.BadRequestError) as embedding:
            await client.embeddings.create(model="small", input=["fine", KEY])

    assert [(one.finish_reason, one.message.refusal, one.message.content) for one in plain_one.choices] == [
        ("stop", INPUT_REFUSAL, None)
    ] * 2
    assert (refusals, streamed.choices[0].message.refusal) == ([INPUT_REFUSAL], INPUT_REFUSAL)
    assert (completion.choices[0].finish_reason, completion.choices[0].text) == ("content_filter", "")
    assert embedding.value.code == "content_filter"
    assert world.upstream.requests == []


async def test_output_of_a_tool_that_is_blocked_is_replaced(guarded: Guarded) -> None:
    async with guarded(tool_result=NO_SECRET) as world:
        answer = await world.client().chat.completions.create(model="small", messages=MESSAGES["tool"])

    assert answer.choices[0].finish_reason == "stop"
    assert world.upstream.requests[0]["messages"][-1]["content"].startswith("[What this tool returned")


@pytest.mark.parametrize("route", ["completions", "embeddings"])
async def test_numbers_of_tokens_are_refused_where_somebody_looks(route: str, guarded: Guarded) -> None:
    async with guarded(input=SECRET) as world:
        given: dict[str, Any] = {"input": [1, 2]} if route == "embeddings" else {"prompt": [[1, 2]]}
        with pytest.raises(openai.BadRequestError) as refused:
            await getattr(world.client(), route).create(model="small", **given)

    assert refused.value.param == next(iter(given))
    assert "a text" in str(refused.value)


# ---------------------------------------------------------------- output


@pytest.mark.parametrize("size", [1, 9, 1_000])
async def test_secret_in_a_streamed_answer_is_taken_out_wherever_it_is_cut(
    size: int, guarded: Guarded
) -> None:
    async with guarded(output=SECRET) as world:
        world.upstream.turns = [text(*pieces_of(ANSWER, size))]
        options: Any = {"include_usage": True}
        stream = await world.client().chat.completions.create(
            model="small", messages=HI, stream=True, stream_options=options
        )
        chunks = [chunk async for chunk in stream]

    said = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(said) == ANSWER.replace(KEY, MARK)
    assert len([one for one in said if one]) > 1  # in windows, not at the end
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]
    assert chunks[-1].usage is not None
    assert {chunk.id for chunk in chunks} == {"c"}


async def test_streamed_answer_that_is_blocked_ends_as_by_the_content_filter(guarded: Guarded) -> None:
    async with guarded(output=NO_SECRET) as world:
        world.upstream.turns = [text(*pieces_of(ANSWER, 20))]
        stream = await world.client().chat.completions.create(model="small", messages=HI, stream=True)
        choices = [chunk.choices[0] async for chunk in stream]

    said = "".join(choice.delta.content or "" for choice in choices)
    assert ANSWER.startswith(said)
    assert len(said) >= 256
    assert [choice.delta.refusal for choice in choices if choice.delta.refusal] == [OUTPUT_REFUSAL]
    assert choices[-1].finish_reason == "content_filter"


PLAIN: dict[str, tuple[dict[str, Any], dict[str, Any], str, Any]] = {
    # what a model says, the thresholds, how the answer ends, and what is said
    "nothing found": ({"content": "Fine."}, SECRET, "stop", ("Fine.", None)),
    "redacted": ({"content": f"It is {KEY}."}, SECRET, "stop", (f"It is {MARK}.", None)),
    "in parts": (
        {"content": [{"type": "text", "text": f"It is {KEY}."}]},
        SECRET,
        "stop",
        (f"It is {MARK}.", None),
    ),
    "a refusal": ({"content": None, "refusal": f"No {KEY}."}, SECRET, "stop", (None, f"No {MARK}.")),
    "blocked": ({"content": f"It is {KEY}."}, NO_SECRET, "content_filter", (None, OUTPUT_REFUSAL)),
    "blocked in reasoning": (
        {"content": "Fine.", "reasoning_content": f"It is {KEY}."},
        NO_SECRET,
        "content_filter",
        (None, OUTPUT_REFUSAL),
    ),
    "in a member that nobody knows": ({"content": "Fine.", "extra": KEY}, NO_SECRET, "stop", ("Fine.", None)),
}


@pytest.mark.parametrize("name", PLAIN)
async def test_plain_answer_is_checked_before_it_is_sent(name: str, guarded: Guarded) -> None:
    message, thresholds, reason, said = PLAIN[name]
    async with guarded(output=thresholds) as world:
        world.upstream.turns = [plain(message)]
        raw = await world.client().chat.completions.with_raw_response.create(model="small", messages=HI)
        answer = raw.parse()

    choice = answer.choices[0]
    assert (choice.finish_reason, (choice.message.content, choice.message.refusal)) == (reason, said)
    assert KEY not in raw.text
    assert answer.usage is not None


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("thresholds", "made"), [(SECRET, True), (NO_SECRET, False)])
async def test_arguments_of_calls_are_checked_whole(
    streamed: bool, thresholds: dict[str, Any], made: bool, guarded: Guarded
) -> None:
    arguments = json.dumps({"to": "x", "body": f"key {KEY}"})
    calls = [
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": arguments[:20]}},
        {"index": 0, "function": {"arguments": arguments[20:]}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    chunks = [{"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]} for call in calls]
    whole = [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": arguments}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]
    async with guarded(tool_arguments=thresholds) as world:
        turn = [*chunks, ended("tool_calls")]
        world.upstream.turns = [
            turn if streamed else plain({"content": None, "tool_calls": whole}, finish_reason="tool_calls")
        ]
        client = world.client()
        choice: Any
        if streamed:
            async with client.chat.completions.stream(model="small", messages=HI) as stream:
                async for _ in stream:
                    pass
                (choice,) = stream.current_completion_snapshot.choices
        else:
            (choice,) = (await client.chat.completions.create(model="small", messages=HI)).choices

    made_calls = [
        (call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls or ()
    ]
    left = [("a", "f", json.dumps({"to": "x", "body": f"key {MARK}"})), ("b", "g", "{}")]
    assert made_calls == (left if made else [])
    assert choice.finish_reason == ("tool_calls" if made else "content_filter")
    assert choice.message.refusal == (None if made else OUTPUT_REFUSAL)


async def test_log_probabilities_of_what_is_taken_out_do_not_leave(guarded: Guarded) -> None:
    words = ["Take ", KEY[:12], KEY[12:], " now", "."]
    chunks = [
        {
            "choices": [
                {
                    "index": 0,
                    "delta": {"content": word},
                    "logprobs": {"content": [{"token": word, "logprob": -0.5, "top_logprobs": []}]},
                }
            ]
        }
        for word in words
    ]
    async with guarded(output=SECRET) as world:
        world.upstream.turns = [[*chunks, ended("stop")]]
        stream = await world.client().chat.completions.create(
            model="small", messages=HI, stream=True, logprobs=True
        )
        choices = [chunk.choices[0] async for chunk in stream if chunk.choices]

    assert "".join(choice.delta.content or "" for choice in choices) == f"Take {MARK} now."
    tokens = [one.token for choice in choices if choice.logprobs for one in choice.logprobs.content or ()]
    assert tokens == ["Take ", " now", "."]


async def test_without_a_guard_of_answers_their_bytes_pass_as_they_are(guarded: Guarded) -> None:
    async with guarded(guards=[{"name": "here", "kind": "detector", "steps": ["input"]}]) as world:
        world.upstream.turns = [text("a", KEY)]
        asked = {"model": "small", "messages": HI, "stream": True}
        async with world.http() as http, http.stream("POST", "/chat/completions", json=asked) as answer:
            body = b"".join([piece async for piece in answer.aiter_bytes()])

    assert body.startswith(
        b'data: {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta"'
    )
    assert KEY.encode() in body


@pytest.mark.parametrize("streamed", [False, True])
async def test_guard_that_gives_no_answer_keeps_the_answer(
    streamed: bool, guarded: Guarded, guards: ScriptedGuards
) -> None:
    guards.answer = lambda: web.json_response({}, status=500)
    entry = {"name": "mod", "kind": "moderation", "base_url": guards.url, "model": "m", "steps": ["output"]}
    async with guarded(guards=[entry]) as world:
        world.upstream.turns = [text("Never seen.") if streamed else plain({"content": "Never seen."})]
        async with world.http() as http:
            answer = await http.post(
                "/chat/completions", json={"model": "small", "messages": HI, "stream": streamed}
            )

    assert answer.status_code == (200 if streamed else 503)
    assert '"code":"guard_unavailable"' in answer.text
    assert "Never seen" not in answer.text


@pytest.fixture
async def texts() -> AsyncIterator[dict[str, Any]]:
    """Settings for an upstream that completes texts, with the same text each time."""

    async def completion(request: web.Request) -> web.StreamResponse:
        head = {"id": "c", "object": "text_completion", "model": "small"}
        if not (await request.json()).get("stream"):
            choice = {"index": 0, "text": ANSWER, "finish_reason": "stop", "logprobs": None}
            return web.json_response(head | {"choices": [choice]})
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        pieces = [{"text": piece, "finish_reason": None} for piece in pieces_of(ANSWER, 11)]
        for piece in [*pieces, {"text": "", "finish_reason": "stop"}]:
            event = json.dumps(head | {"choices": [{"index": 0, **piece}]})
            await answer.write(f"data: {event}\r\n\r\n".encode())
        await answer.write(b"data: [DONE]\n\n")
        return answer

    app = web.Application()
    app.router.add_post("/v1/completions", completion)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    yield {"upstreams": [{"name": "texts", "base_url": url, "models": ["small"]}]}
    await runner.cleanup()


async def test_completion_of_a_text_is_checked_too(guarded: Guarded, texts: dict[str, Any]) -> None:
    async with guarded(output=SECRET, more=texts) as world:
        client = world.client()
        whole = await client.completions.create(model="small", prompt="Say")
        stream = await client.completions.create(model="small", prompt="Say", stream=True)
        choices = [chunk.choices[0] async for chunk in stream]

    assert whole.choices[0].text == "".join(choice.text for choice in choices) == ANSWER.replace(KEY, MARK)
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["stop"]


async def test_completion_of_a_text_that_is_blocked_ends(guarded: Guarded, texts: dict[str, Any]) -> None:
    async with guarded(output=NO_SECRET, more=texts) as world:
        client = world.client()
        whole = await client.completions.create(model="small", prompt="Say")
        stream = await client.completions.create(model="small", prompt="Say", stream=True)
        choices = [chunk.choices[0] async for chunk in stream]

    said = "".join(choice.text for choice in choices)
    assert (whole.choices[0].text, whole.choices[0].finish_reason) == ("", "content_filter")
    assert (ANSWER.startswith(said), choices[-1].finish_reason) == (True, "content_filter")
