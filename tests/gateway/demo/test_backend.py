from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest

from regate_adapters.backend.chat import ChatBackend
from regate_adapters.backend.upstream_client import UpstreamConfig
from regate_adapters.backend.upstreams import Upstreams
from regate_gateway.demo.backend import MODEL, RunningBackend, pieces_of, running_backend
from regate_orchestrator.model_events import ArgumentsWritten, CallOpened, ModelEnded, TextWritten, Usage
from regate_orchestrator.ports import Serving

TOOL: Any = {
    "type": "function",
    "function": {"name": "file_search", "parameters": {"type": "object", "properties": {}}},
}
QUESTION = {"role": "user", "content": "How many days of leave?"}
PASSAGES = {
    "role": "tool",
    "tool_call_id": "call_1",
    "content": "Passages found.\n\n【1】 file: leave.md\nThere are 28 days of leave.",
}
ANSWER = "There are 28 days of leave. 【1】"


@pytest.fixture
async def backend() -> AsyncIterator[RunningBackend]:
    async with running_backend() as running:
        yield running


@pytest.fixture
async def client(backend: RunningBackend) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=backend.base_url, api_key="none", max_retries=0) as client:
        yield client


async def test_models_are_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id for model in (await client.models.list()).data] == [MODEL]
    assert (await client.models.retrieve(MODEL)).id == MODEL


async def test_offered_search_is_called(client: openai.AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(model=MODEL, messages=[QUESTION], tools=[TOOL])  # type: ignore[list-item]
    (call,) = completion.choices[0].message.tool_calls or []
    assert completion.choices[0].finish_reason == "tool_calls"
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == (
        "file_search",
        {"query": QUESTION["content"]},
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"tool_choice": "none"},
        {"tools": []},
        {"tools": [{"type": "function", "function": {"name": "other"}}]},
    ],
)
async def test_search_that_may_not_be_called_is_not(
    client: openai.AsyncOpenAI, changes: dict[str, Any]
) -> None:
    completion = await client.chat.completions.create(
        **{"model": MODEL, "messages": [QUESTION], "tools": [TOOL], **changes}
    )
    assert completion.choices[0].message.tool_calls is None


async def test_answer_quotes_the_prompt(client: openai.AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(
        model=MODEL, messages=[QUESTION, PASSAGES], tools=[TOOL]
    )  # type: ignore[list-item]
    assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == (ANSWER, "stop")
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (16, 7)


async def test_answer_is_streamed_word_by_word(client: openai.AsyncOpenAI) -> None:
    stream = await client.chat.completions.create(
        model=MODEL,
        messages=[QUESTION, PASSAGES],  # type: ignore[list-item]
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = [chunk async for chunk in stream]
    words = [chunk.choices[0].delta.content for chunk in chunks[1:-2]]
    assert words == ["There", " are", " 28", " days", " of", " leave.", " 【1】"]
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert (chunks[-1].choices, chunks[-1].usage and chunks[-1].usage.total_tokens) == ([], 23)


async def test_limit_cuts_the_answer(client: openai.AsyncOpenAI) -> None:
    completion = await client.chat.completions.create(
        model=MODEL, messages=[QUESTION, PASSAGES], max_tokens=3
    )  # type: ignore[list-item]
    assert (completion.choices[0].message.content, completion.choices[0].finish_reason) == (
        "There are 28",
        "length",
    )


async def test_prompts_are_kept(client: openai.AsyncOpenAI, backend: RunningBackend) -> None:
    await client.chat.completions.create(model=MODEL, messages=[QUESTION, PASSAGES])  # type: ignore[list-item]
    assert list(backend.prompts) == [[QUESTION, PASSAGES]]


async def test_another_model_is_not_found(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as raised:
        await client.chat.completions.create(model="other", messages=[QUESTION])  # type: ignore[list-item]
    assert raised.value.code == "model_not_found"


async def test_embeddings_are_not_served(client: openai.AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        await client.embeddings.create(model=MODEL, input="text")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"nonsense",
        b"[]",
        b'{"model": "regate-extract"}',
        b'{"model": "regate-extract", "messages": []}',
        b'{"model": "regate-extract", "messages": ["text"]}',
        b'{"model": "regate-extract", "messages": [{}], "max_tokens": 0}',
        b'{"model": "regate-extract", "messages": [{}], "max_tokens": true}',
    ],
)
async def test_malformed_request_is_answered_as_one(backend: RunningBackend, body: bytes) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{backend.base_url}/chat/completions", data=body) as answer,
    ):
        assert (answer.status, (await answer.json())["error"]["type"]) == (400, "invalid_request_error")
    assert list(backend.prompts) == []


async def test_gateway_reads_the_search_and_the_answer(backend: RunningBackend) -> None:
    async with Upstreams([UpstreamConfig("demo", backend.base_url, None, None, 5.0)]) as upstreams:
        assert await upstreams.serving(MODEL) == Serving("demo")
        chat = ChatBackend(upstreams).chat
        async with chat("demo", {"model": MODEL, "messages": [QUESTION], "tools": [TOOL]}) as events:
            searching = [event async for event in events]
        async with chat("demo", {"model": MODEL, "messages": [QUESTION, PASSAGES]}) as events:
            answering = [event async for event in events]
    assert isinstance(searching[0], CallOpened)
    arguments = "".join(event.text for event in searching if isinstance(event, ArgumentsWritten))
    assert (json.loads(arguments), searching[-1]) == (
        {"query": QUESTION["content"]},
        ModelEnded("tool_calls", Usage(5, 0, 6, 0)),
    )
    assert ["".join(event.text for event in answering if isinstance(event, TextWritten)), answering[-1]] == [
        ANSWER,
        ModelEnded("stop", Usage(16, 0, 7, 0)),
    ]


@pytest.mark.parametrize("text", ["", "one", " one  two\nthree ", "\n", "a 【1】"])
def test_pieces_are_the_text(text: str) -> None:
    assert "".join(pieces_of(text)) == text


async def test_command_serves_until_it_is_told_to_end() -> None:
    command = [sys.executable, "-m", "regate_gateway.demo.backend", "--port", "0"]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(120):
            line = (await process.stdout.readline()).decode()
            base_url = re.fullmatch(r"regate-extract at (http://127\.0\.0\.1:\d+/v1)\n", line)
            assert base_url is not None
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"{base_url.group(1)}/models") as answer,
            ):
                assert answer.status == 200
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
