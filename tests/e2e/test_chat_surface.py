"""The surface of the routes that pass requests on: every member that is known is checked before
anything is decided; every other is refused.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiohttp import web
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.completion_create_params import CompletionCreateParamsBase as LegacyParams
from openai.types.embedding_create_params import EmbeddingCreateParams
from tests.deployments import only_on
from tests.e2e.conftest import ScriptedUpstream, World, text

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

CHAT: dict[str, Any] = {"model": "small", "messages": [{"role": "user", "content": "Hi"}]}
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather.",
        "parameters": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "https://example.com/weather.schema.json",
            "type": "object",
            "$defs": {"city": {"type": "string"}},
            "properties": {"city": {"$ref": "#/$defs/city"}, "id": {"type": "string", "default": "x"}},
        },
        "strict": True,
    },
}
GREP: dict[str, Any] = {
    "type": "custom",
    "custom": {
        "name": "grep",
        "description": "Finds.",
        "format": {"type": "grammar", "grammar": {"syntax": "regex", "definition": ".*"}},
    },
}
SCHEMA = {"name": "answer", "description": "d", "schema": {"type": "object"}, "strict": True}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + b"\0" * 20).decode()

SENT: dict[str, Any] = {
    "temperature": 0.5,
    "top_p": 1,
    "presence_penalty": -2,
    "frequency_penalty": 0,
    "seed": 7,
    "n": 2,
    "stop": ["a", "b"],
    "logit_bias": {"50256": -100},
    "user": "u",
    "max_tokens": 5,
    "logprobs": True,
    "tools": [WEATHER, GREP],
    "functions": [WEATHER["function"]],
    "response_format": {"type": "json_schema", "json_schema": SCHEMA},
    "reasoning_effort": "xhigh",
    "verbosity": "low",
}
"""Fields of chat completions that an upstream is sent as they are."""

SENT_TOGETHER: list[dict[str, Any]] = [
    {"logprobs": True, "top_logprobs": 20},
    {"stream": True, "stream_options": {"include_usage": True, "include_obfuscation": False}},
    {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False},
    {"tools": [WEATHER], "tool_choice": {"type": "function", "function": {"name": "weather"}}},
    {"tools": [GREP], "tool_choice": {"type": "custom", "custom": {"name": "grep"}}},
    {"functions": [WEATHER["function"]], "function_call": {"name": "weather"}},
]

TAKEN: list[dict[str, Any]] = [
    {"metadata": {"a": "b"}},
    {"store": False},
    {"safety_identifier": "s"},
    {"prompt_cache_key": "k"},
    {"prompt_cache_retention": "24h"},
    {"prompt_cache_options": {"mode": "implicit", "ttl": "30m"}},
    {"modalities": ["text"]},
    {"service_tier": "flex"},
    {"tools": []},
    {"tool_choice": "auto"},
    {"parallel_tool_calls": True},
    {"stream_options": {"include_usage": True}},
    {"top_logprobs": 0},
    {"audio": None, "web_search_options": None, "not_known": None},
]
"""What asks for nothing that is not done anyway: taken, and not sent on."""

ELSEWHERE = {
    "model",
    "messages",
    "stream",
    "tool_choice",
    "function_call",
    "parallel_tool_calls",
    "top_logprobs",
    "stream_options",
}
"""Fields that other tables and tests are about."""

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"n": 1_000_000}, "n"),
    ({"n": 1.5}, "n"),
    ({"n": True}, "n"),
    ({"n": 0}, "n"),
    ({"n": "2"}, "n"),
    ({"max_tokens": 1.5}, "max_tokens"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"max_completion_tokens": False}, "max_completion_tokens"),
    ({"seed": 1.5}, "seed"),
    ({"temperature": "warm"}, "temperature"),
    ({"temperature": True}, "temperature"),
    ({"temperature": -0.1}, "temperature"),
    ({"top_p": 1.01}, "top_p"),
    ({"presence_penalty": 3}, "presence_penalty"),
    ({"logprobs": 3}, "logprobs"),
    ({"top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": False, "top_logprobs": 3}, "top_logprobs"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
    ({"logit_bias": [1]}, "logit_bias"),
    ({"logit_bias": {"word": 1}}, "logit_bias"),
    ({"logit_bias": {"1": 101}}, "logit_bias.1"),
    ({"logit_bias": {"1": None}}, "logit_bias.1"),
    ({"stop": ["a"] * 5}, "stop"),
    ({"stop": [1]}, "stop[0]"),
    ({"stop": {"a": 1}}, "stop"),
    ({"user": 7}, "user"),
    ({"stream": "yes"}, "stream"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ({"stream_options": {"callback": "http://127.0.0.1"}}, "stream_options.callback"),
    ({"reasoning_effort": "most"}, "reasoning_effort"),
    ({"verbosity": "loud"}, "verbosity"),
    ({"store": True}, "store"),
    ({"service_tier": "first"}, "service_tier"),
    ({"metadata": {"a": 1}}, "metadata.a"),
    ({"modalities": ["text", "audio"]}, "modalities"),
    ({"audio": {"voice": "alloy", "format": "wav"}}, "audio"),
    ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
    ({"web_search_options": {}}, "web_search_options"),
    ({"moderation": {"model": "m"}}, "moderation"),
    ({"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm"),
    ({"response_format": {"type": "grammar"}}, "response_format.type"),
    ({"response_format": {"type": "json_object", "json_schema": SCHEMA}}, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
    (
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": []}}},
        "response_format.json_schema.schema",
    ),
    (
        {
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "a", "schema": {"$ref": "http://169.254.169.254/"}},
            }
        },
        "response_format.json_schema.schema.$ref",
    ),
    ({"messages": []}, "messages"),
    ({"messages": "Hi"}, "messages"),
    ({"messages": ["Hi"]}, "messages[0]"),
    (
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}] * 501}]},
        "messages",
    ),
]

REFUSED_MESSAGES: list[tuple[dict[str, Any], str]] = [
    ({"role": "root", "content": "x"}, "role"),
    ({"content": "x"}, "role"),
    ({"role": "user"}, "content"),
    ({"role": "user", "content": 7}, "content"),
    ({"role": "user", "content": []}, "content"),
    ({"role": "user", "content": "x", "name": 7}, "name"),
    ({"role": "user", "content": "x", "tool_calls": []}, "tool_calls"),
    (
        {
            "role": "system",
            "content": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}"}}],
        },
        "content[0].type",
    ),
    ({"role": "assistant", "content": "x", "audio": {"id": "audio_1"}}, "audio"),
    ({"role": "assistant", "content": "x", "prefix": True}, "prefix"),
    ({"role": "assistant", "content": [{"type": "image_url"}]}, "content[0].type"),
    ({"role": "assistant", "tool_calls": [{"id": "c"}]}, "tool_calls[0].function"),
    ({"role": "assistant", "tool_calls": [{"id": "c", "type": "mcp", "mcp": {}}]}, "tool_calls[0].type"),
    (
        {"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": {}}}]},
        "tool_calls[0].function.arguments",
    ),
    (
        {
            "role": "assistant",
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "", "x": 1}}],
        },
        "tool_calls[0].function.x",
    ),
    ({"role": "assistant", "function_call": {"arguments": "{}"}}, "function_call.name"),
    ({"role": "tool", "content": "x"}, "tool_call_id"),
    ({"role": "tool", "tool_call_id": "c", "content": [{"type": "image_url"}]}, "content[0].type"),
    ({"role": "function", "content": "x"}, "name"),
]

REFUSED_PARTS: list[tuple[dict[str, Any], str]] = [
    ({"text": "x"}, "type"),
    ({"type": "text"}, "text"),
    ({"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}, "cache_control"),
    (
        {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "implicit"}},
        "prompt_cache_breakpoint.mode",
    ),
    ({"type": "refusal", "refusal": "x"}, "type"),
    *(
        ({"type": kind, kind: {"url": "http://127.0.0.1/"}}, "type")
        for kind in ("video_url", "audio_url", "input_image", "image_embeds")
    ),
    ({"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}}, "type"),
    ({"type": "image_url", "image_url": f"data:image/png;base64,{PNG}"}, "image_url"),
    *(
        ({"type": "image_url", "image_url": {"url": url}}, "image_url.url")
        for url in (
            "file:///etc/passwd",
            "ftp://h/x",
            "gopher://h",
            "data:text/html;base64,aGk=",
            "",
            " http://h/x",
        )
    ),
    ({"type": "image_url", "image_url": {"url": "http://169.254.169.254/latest/meta-data"}}, "image_url.url"),
    ({"type": "image_url", "image_url": {"url": "https://example.com/x.png"}}, "image_url.url"),
    ({"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}, "image_url.url"),
    (
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "detail": "most"}},
        "image_url.detail",
    ),
    (
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PNG}", "headers": {}}},
        "image_url.headers",
    ),
    ({"type": "file", "file": {}}, "file.file_id"),
    ({"type": "file", "file": {"file_id": ""}}, "file.file_id"),
    ({"type": "file", "file": {"file_id": "file-1", "file_data": "aGk="}}, "file.file_id"),
    ({"type": "file", "file": {"file_url": "http://127.0.0.1/"}}, "file.file_url"),
    ({"type": "file", "file": {"file_data": "http://127.0.0.1/"}}, "file.file_data"),
    ({"type": "file", "file": {"file_data": "AAAA", "filename": "a.exe"}}, "file.file_data"),
]

REFUSED_TOOLS: list[tuple[dict[str, Any], str]] = [
    *(
        ({"type": kind}, "type")
        for kind in (
            "mcp",
            "web_search",
            "web_search_preview",
            "code_interpreter",
            "file_search",
            "retrieval",
            "image_generation",
            "shell",
        )
    ),
    ({"function": {"name": "f"}}, "type"),
    ({"type": "function"}, "function"),
    ({"type": "function", "name": "f"}, "function"),
    ({"type": "function", "function": {"name": "a b"}}, "function.name"),
    ({"type": "function", "function": {"name": "f", "strict": "yes"}}, "function.strict"),
    ({"type": "function", "function": {"name": "f", "url": "http://h"}}, "function.url"),
    ({"type": "function", "function": {"name": "f"}, "server_url": "http://h"}, "server_url"),
    *(
        (
            {
                "type": "function",
                "function": {"name": "f", "parameters": {"properties": {"a": [{key: value}]}}},
            },
            f"function.parameters.properties.a[0].{key}",
        )
        for key, value in (
            ("$ref", "http://169.254.169.254/"),
            ("$ref", "other.json#/a"),
            ("$dynamicRef", "file:///etc/passwd"),
            ("$id", "//h"),
            ("id", "http://h"),
        )
    ),
    (
        {
            "type": "custom",
            "custom": {"name": "c", "format": {"type": "grammar", "grammar": {"syntax": "bnf"}}},
        },
        "custom.format.grammar.syntax",
    ),
]

REFUSED_CHOICES: list[tuple[dict[str, Any], str]] = [
    ({"tool_choice": "any", "tools": [WEATHER]}, "tool_choice"),
    ({"tool_choice": "required"}, "tool_choice"),
    ({"tool_choice": {"type": "function", "function": {"name": "weather"}}}, "tool_choice"),
    (
        {"tool_choice": {"type": "function", "function": {"name": "other"}}, "tools": [WEATHER]},
        "tool_choice.function.name",
    ),
    ({"tool_choice": {"type": "mcp"}, "tools": [WEATHER]}, "tool_choice.type"),
    (
        {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}, "tools": [WEATHER]},
        "tool_choice.allowed_tools.tools",
    ),
    ({"function_call": {"name": "other"}, "functions": [WEATHER["function"]]}, "function_call.name"),
    ({"function_call": {"name": "weather"}}, "function_call"),
    ({"tools": [WEATHER, WEATHER]}, "tools[1].function.name"),
    ({"tools": [WEATHER], "functions": [WEATHER["function"]]}, "functions[0].name"),
]


def all_refused() -> list[tuple[dict[str, Any], str]]:
    return [
        *REFUSED,
        *(
            ({"messages": [*CHAT["messages"], message]}, f"messages[1].{param}")
            for message, param in REFUSED_MESSAGES
        ),
        *(
            (
                {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, part]}]},
                f"messages[0].content[1].{param}",
            )
            for part, param in REFUSED_PARTS
        ),
        *(({"tools": [GREP, tool]}, f"tools[1].{param}") for tool, param in REFUSED_TOOLS),
        *REFUSED_CHOICES,
    ]


COMPLETION = {"model": "small", "prompt": "Once"}
SENT_OF_COMPLETIONS: dict[str, Any] = {
    "suffix": "end",
    "echo": True,
    "best_of": 2,
    "logprobs": 5,
    "max_tokens": 0,
    "prompt": [[1, 2], [3]],
}
REFUSED_OF_COMPLETIONS: list[tuple[dict[str, Any], str]] = [
    *(({"prompt": prompt}, "prompt") for prompt in ("", [], {"a": 1}, [True], [1.5], [-1], [None], 7, [""])),
    ({"prompt": [[]]}, "prompt[0]"),
    ({"prompt": ["a", 1]}, "prompt[1]"),
    ({"prompt": [[1], "a"]}, "prompt[1]"),
    ({"prompt": [{"type": "image_url"}]}, "prompt"),
    ({"suffix": 7}, "suffix"),
    ({"echo": "yes"}, "echo"),
    ({"best_of": 17}, "best_of"),
    ({"best_of": 1, "n": 2}, "best_of"),
    ({"logprobs": True}, "logprobs"),
    ({"max_tokens": -1}, "max_tokens"),
    ({"messages": CHAT["messages"]}, "messages"),
    ({"max_completion_tokens": 3}, "max_completion_tokens"),
]

EMBEDDING = {"model": "small", "input": "x"}
SENT_OF_EMBEDDINGS: dict[str, Any] = {
    "input": ["a", "b"],
    "encoding_format": "float",
    "dimensions": 8,
    "user": "u",
}
REFUSED_OF_EMBEDDINGS: list[tuple[dict[str, Any], str]] = [
    *(
        ({"input": value}, "input")
        for value in ("", [], [""], {"text": "x"}, [True], [-1], [2**40], [{"type": "image_url"}])
    ),
    ({"input": ["x"] * 2_049}, "input"),
    ({"input": [[1], []]}, "input[1]"),
    ({"dimensions": 0}, "dimensions"),
    ({"dimensions": 1.5}, "dimensions"),
    ({"encoding_format": "ubinary"}, "encoding_format"),
    ({"temperature": 1}, "temperature"),
    ({"stream": True}, "stream"),
]


async def params(
    http: httpx.AsyncClient, path: str, body: dict[str, Any], rows: list[tuple[dict[str, Any], str]]
) -> list[Any]:
    """What each of the changes to a body is answered: the place that a 400 with a code names, or
    whatever else it is.
    """
    found = []
    for change, _ in rows:
        answer = await http.post(path, json=body | change)
        error = answer.json().get("error", {})
        named = (
            error.get("param")
            if answer.status_code == 400 and error.get("code") and error.get("message")
            else answer.text
        )
        found.append((change, named))
    return found


def test_every_field_of_the_official_client_is_in_a_table() -> None:
    known = {
        *SENT,
        *(name for row in TAKEN for name in row),
        *(name for row, _ in REFUSED for name in row),
        *ELSEWHERE,
    }
    legacy = {*SENT, *SENT_OF_COMPLETIONS, *ELSEWHERE}

    assert set(CompletionCreateParamsBase.__annotations__) - known == set()
    assert set(LegacyParams.__annotations__) - legacy == set()
    assert set(EmbeddingCreateParams.__annotations__) - {*SENT_OF_EMBEDDINGS, "model"} == set()


@only_on("embedded")
async def test_what_is_known_reaches_the_upstream_as_it_is(world: World) -> None:
    rows = [
        *({name: value} for name, value in SENT.items() if name != "functions"),
        {"functions": SENT["functions"]},
        *SENT_TOGETHER,
    ]
    found = []
    async with world.http() as http:
        for row in rows:
            answer = await http.post("/chat/completions", json=CHAT | row)
            assert answer.status_code == 200, (row, answer.text)
            found.append({name: world.upstream.requests[-1].get(name) for name in row})

    assert found == rows


@only_on("embedded")
async def test_what_asks_for_nothing_is_taken_and_not_sent_on(world: World) -> None:
    async with world.http() as http:
        statuses = [(await http.post("/chat/completions", json=CHAT | row)).status_code for row in TAKEN]

    assert statuses == [200] * len(TAKEN)
    assert world.upstream.requests == [CHAT] * len(TAKEN)


@only_on("embedded")
async def test_messages_reach_the_upstream_as_they_are_and_what_is_left_over_in_them_does_not(
    world: World,
) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    custom = {"id": "d", "type": "custom", "custom": {"name": "grep", "input": "x"}}
    kept: list[dict[str, Any]] = [
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "system", "content": "Be kind.", "name": "s"},
        {"role": "user", "content": "Weather?", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [call, custom]},
        {"role": "tool", "content": "Rain.", "tool_call_id": "c"},
        {"role": "tool", "content": [{"type": "text", "text": "Found."}], "tool_call_id": "d"},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "Rain"}, {"type": "refusal", "refusal": "No."}],
        },
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "content": "7", "name": "f"},
    ]
    answered = {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "annotations": [],
        "audio": None,
        "function_call": None,
    }
    left_over = [
        {**answered, "content": "Hm.", "tool_calls": [], "reasoning_content": "Let me see."},
        {**answered, "tool_calls": [{**call, "index": 0}]},
        {"role": "tool", "content": "Sun.", "tool_call_id": "c"},
        answered,
        {"role": "assistant", "content": []},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}}
            ],
        },
    ]
    async with world.http() as http:
        answer = await http.post("/chat/completions", json=CHAT | {"messages": [*kept, *left_over]})

    assert answer.status_code == 200, answer.text
    assert world.upstream.requests[-1]["messages"] == [
        {
            "role": "system",
            "content": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        },
        *kept[2:],
        {"role": "assistant", "content": "Hm."},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "Sun.", "tool_call_id": "c"},
        {"role": "assistant", "content": ""},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": "x"}]},
    ]


@only_on("embedded")
async def test_what_is_not_known_or_does_not_fit_is_refused_by_its_place(world: World) -> None:
    rows = all_refused()
    async with world.http() as http:
        found = await params(http, "/chat/completions", CHAT, rows)

    assert found == rows
    assert world.upstream.requests == []


@pytest.mark.one_process
@only_on("embedded")
async def test_bodies_are_checked_before_anything_is_decided_or_counted(world: World) -> None:
    before_upstream = [
        row
        for row in all_refused()
        if "image_url.url" not in row[1] and row[1] != "messages[0].content[1].file.file_data"
    ]
    async with world.http() as http:
        await params(http, "/chat/completions", CHAT, before_upstream)
        good = await http.post("/chat/completions", json=CHAT)

    limit, left = (int(good.headers[f"x-ratelimit-{name}-requests"]) for name in ("limit", "remaining"))
    assert limit - left == 1
    assert len(world.audit(phase="route.call")) == 1


@only_on("embedded")
async def test_completions_and_embeddings_are_held_to_the_same(world: World) -> None:
    async with world.http() as http:
        completions = await params(http, "/completions", COMPLETION, REFUSED_OF_COMPLETIONS)
        embeddings = await params(http, "/embeddings", EMBEDDING, REFUSED_OF_EMBEDDINGS)
        embedded = await http.post("/embeddings", json=EMBEDDING | SENT_OF_EMBEDDINGS)

    assert completions == REFUSED_OF_COMPLETIONS
    assert embeddings == REFUSED_OF_EMBEDDINGS
    assert (embedded.status_code, world.upstream.requests) == (200, [EMBEDDING | SENT_OF_EMBEDDINGS])


ADVICE: list[tuple[str, dict[str, Any], str, str]] = [
    ("/chat/completions", {"temprature": 1}, "unknown_parameter", "Did you mean 'temperature'?"),
    (
        "/chat/completions",
        {"max_output_tokens": 9},
        "unsupported_parameter",
        "moved to 'max_completion_tokens'",
    ),
    ("/chat/completions", {"messages": None, "input": "Hi"}, "unsupported_parameter", "moved to 'messages'"),
    ("/chat/completions", {"previous_response_id": "resp_1"}, "unsupported_parameter", "'messages'"),
    *(
        (path, {name: 1}, "unknown_parameter", "upstreams[].extra_fields")
        for path in ("/chat/completions", "/completions", "/embeddings", "/responses")
        for name in ("top_k", "min_p", "repetition_penalty", "num_ctx", "xyzzy")
    ),
    (
        "/chat/completions",
        {"messages": [{"role": "user", "contents": "Hi"}]},
        "unknown_parameter",
        "Did you mean 'messages[0].content'?",
    ),
    ("/completions", {"promt": "x"}, "unknown_parameter", "Did you mean 'prompt'?"),
    ("/embeddings", {"encoding": "float"}, "unknown_parameter", "Did you mean 'encoding_format'?"),
    ("/responses", {"temprature": 1}, "unknown_parameter", "Did you mean 'temperature'?"),
    ("/responses", {"max_tokens": 9}, "unsupported_parameter", "moved to 'max_output_tokens'"),
    ("/responses", {"max_completion_tokens": 9}, "unsupported_parameter", "moved to 'max_output_tokens'"),
    ("/responses", {"messages": []}, "unsupported_parameter", "moved to 'input'"),
    ("/responses", {"response_format": {"type": "text"}}, "unsupported_parameter", "moved to 'text.format'"),
    ("/responses", {"functions": []}, "unsupported_parameter", "moved to 'tools'"),
    ("/responses", {"function_call": "auto"}, "unsupported_parameter", "moved to 'tool_choice'"),
    ("/responses", {"reasoning_effort": "low"}, "unsupported_parameter", "moved to 'reasoning.effort'"),
    ("/responses", {"verbosity": "low"}, "unsupported_parameter", "moved to 'text.verbosity'"),
    ("/responses", {"n": 2}, "unsupported_parameter", "/v1/chat/completions"),
    ("/responses", {"reasoning": {"efort": "low"}}, "unknown_parameter", "Did you mean 'reasoning.effort'?"),
]


@only_on("embedded")
async def test_misspelt_and_misplaced_fields_are_told_what_to_send_instead(world: World) -> None:
    bodies = {
        "/chat/completions": CHAT,
        "/completions": COMPLETION,
        "/embeddings": EMBEDDING,
        "/responses": EMBEDDING,
    }
    found = []
    async with world.http() as http:
        for path, change, _, advice in ADVICE:
            answer = await http.post(path, json=bodies[path] | change)
            error = answer.json()["error"]
            assert answer.status_code == 400, answer.text
            found.append(
                (path, change, error["code"], advice if advice in error["message"] else error["message"])
            )

    assert found == ADVICE


@only_on("embedded")
async def test_schemas_of_responses_refer_to_nothing_outside_themselves_either(world: World) -> None:
    outside = {"properties": {"a": {"$ref": "http://169.254.169.254/"}}}
    rows: list[tuple[dict[str, Any], str]] = [
        (
            {"tools": [{"type": "function", "name": "f", "parameters": outside}]},
            "tools[0].parameters.properties.a.$ref",
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": outside}}},
            "text.format.schema.properties.a.$ref",
        ),
    ]
    async with world.http() as http:
        found = await params(http, "/responses", EMBEDDING, rows)

    assert found == rows


# ---------------------------------------------------------------- what one kind of backend takes


Opened = Callable[..., AbstractAsyncContextManager[World]]


@pytest.fixture
def opened(configure: Callable[..., Settings], upstream: ScriptedUpstream, policies: Path) -> Opened:
    """A gateway before an upstream of `small` with settings of its own, and one of `large` without."""

    @asynccontextmanager
    async def running(tools: dict[str, Any] | None = None, **own: Any) -> AsyncIterator[World]:
        able = {"name": "able", "base_url": upstream.url, "models": ["small"], **own}
        plain = {"name": "plain", "base_url": upstream.url, "models": ["large"]}
        settings = configure(upstreams=[able, plain], tools=tools or {})
        app, gateway = gateway_app(settings)
        async with Running(app, settings.listen) as server:
            yield World(server.url, settings, gateway, upstream, policies)

    return running


@only_on("embedded")
async def test_fields_of_a_backends_own_go_where_the_operator_lists_them_and_nowhere_else(
    opened: Opened,
) -> None:
    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    extra = {"top_k": 4, "messages": [{"role": "user", "content": [part]}], "web_search_options": {}}
    extra |= {"prompt_cache_key": "k", "store": True, "modalities": ["text", "audio"]}
    rows: list[tuple[dict[str, Any], str]] = [
        ({"top_k": 4}, "top_k"),
        ({"messages": extra["messages"]}, "messages[0].content[0].cache_control"),
        ({"min_p": 4}, "min_p"),
        ({"store": True}, "store"),
        ({"modalities": ["audio"]}, "modalities"),
    ]
    listed = ["top_k", "cache_control", "web_search_options", "prompt_cache_key", "store", "modalities"]
    async with opened(extra_fields=listed) as world, world.http() as http:
        able = await http.post("/chat/completions", json=CHAT | extra)
        (asked,) = world.audit(phase="route.call")
        plain = await params(http, "/chat/completions", CHAT | {"model": "large"}, rows)
        hinted = await http.post("/chat/completions", json=CHAT | {"model": "large", "prompt_cache_key": "k"})

    assert (able.status_code, plain, hinted.status_code) == (200, rows, 200)
    assert world.upstream.requests == [CHAT | extra, CHAT | {"model": "large"}]
    assert asked["decisions"][0]["resource"]["request"]["tool_types"] == ["web_search"]


@only_on("embedded")
async def test_responses_pass_a_backends_own_fields_on_as_chat_completions_do(opened: Opened) -> None:
    listed = ["top_k", "min_p", "messages", "n", "web_search_options", "seed"]
    rows: list[tuple[dict[str, Any], str]] = [
        ({"min_tokens": 4}, "min_tokens"),
        *(
            ({name: value}, name)
            for name, value in (("messages", []), ("n", 2), ("web_search_options", {}), ("seed", 7))
        ),
    ]
    asked = {"model": "small", "input": "Hi", "store": False}
    async with opened(extra_fields=listed) as world, world.http() as http:
        able = await http.post("/responses", json=asked | {"top_k": 4, "min_p": None})
        plain = await params(http, "/responses", asked | {"model": "large"}, [({"top_k": 4}, "top_k")])
        refused = await params(http, "/responses", asked, rows)

    assert (able.status_code, plain, refused) == (200, [({"top_k": 4}, "top_k")], rows)
    assert [request.get("top_k") for request in world.upstream.requests] == [4]


@only_on("embedded")
async def test_reasoning_goes_back_only_to_a_backend_that_takes_it_and_under_its_name(opened: Opened) -> None:
    said = {"role": "assistant", "content": "Hm.", "reasoning_content": "Let me see."}
    async with opened(reasoning_field="reasoning") as world, world.http() as http:
        for model in ("small", "large"):
            assert (
                await http.post("/chat/completions", json={"model": model, "messages": [said]})
            ).status_code == 200

    plain = {"role": "assistant", "content": "Hm."}
    assert [request["messages"] for request in world.upstream.requests] == [
        [plain | {"reasoning": "Let me see."}],
        [plain],
    ]


@only_on("embedded")
async def test_tools_that_the_operator_leaves_out_are_not_sent(opened: Opened) -> None:
    async with opened(tools={"omit": ["web_search"]}) as world, world.http() as http:
        answer = await http.post(
            "/chat/completions", json=CHAT | {"tools": [{"type": "web_search"}], "tool_choice": "required"}
        )

    assert (answer.status_code, world.upstream.requests) == (200, [CHAT])


@only_on("embedded")
async def test_addresses_of_images_go_only_to_an_upstream_that_may_fetch_them(opened: Opened) -> None:
    address = {"type": "image_url", "image_url": {"url": "https://example.com/x.png", "detail": "low"}}
    async with opened(image_urls=True) as world, world.http() as http:
        body = {"messages": [{"role": "user", "content": [address]}]}
        able = await http.post("/chat/completions", json=CHAT | body)
        plain = await http.post("/chat/completions", json=CHAT | {"model": "large"} | body)

    assert (able.status_code, world.upstream.requests) == (200, [CHAT | body])
    assert (plain.status_code, plain.json()["error"]["param"]) == (
        400,
        "messages[0].content[0].image_url.url",
    )


TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast", "on_demand", "performance")


@only_on("embedded")
async def test_the_tier_of_service_is_told_to_an_upstream_that_has_tiers(opened: Opened) -> None:
    async with opened(service_tiers=True) as world, world.http() as http:
        for tier in TIERS:
            assert (
                await http.post("/chat/completions", json=CHAT | {"service_tier": tier})
            ).status_code == 200
        told = [request.get("service_tier") for request in world.upstream.requests]

    assert told == list(TIERS)


@only_on("embedded")
async def test_an_upstream_without_tiers_is_not_told_and_the_answer_says_default(world: World) -> None:
    client = world.client()
    plain = await client.chat.completions.create(**CHAT, service_tier="flex")
    streamed = await client.chat.completions.create(**CHAT, service_tier="priority", stream=True)

    assert {plain.service_tier, *[chunk.service_tier async for chunk in streamed]} == {"default"}
    assert ["service_tier" in request for request in world.upstream.requests] == [False] * 2


@only_on("embedded")
async def test_an_upstream_that_says_its_tier_is_believed(world: World) -> None:
    async def answer(upstream: ScriptedUpstream, request: web.Request) -> web.Response:
        choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
        return web.json_response(
            {"id": "c", "object": "chat.completion", "choices": [choice], "service_tier": "scale"}
        )

    world.upstream.turns = [answer]
    async with world.http() as http:
        found = await http.post("/chat/completions", json=CHAT | {"service_tier": "flex"})

    assert (found.json()["service_tier"], found.text.count("service_tier")) == ("scale", 1)


@only_on("embedded")
async def test_responses_tell_the_tier_as_well_and_say_in_which_they_were_served(opened: Opened) -> None:
    def served(*tiers: str) -> list[dict[str, Any]]:
        return [{**chunk, "service_tier": tier} for tier in tiers for chunk in text("Hi.")]

    async with opened(service_tiers=True) as world, world.http() as http:
        world.upstream.turns = [text("Hi."), served("default"), text("Hi."), text("Hi.")]
        asked = [("small", "flex"), ("small", "priority"), ("small", "auto"), ("large", "flex")]
        answers = [
            await http.post("/responses", json={"model": model, "input": "Hi", "service_tier": tier})
            for model, tier in asked
        ]
        stored = await http.get(f"/responses/{answers[1].json()['id']}")
        told = [request.get("service_tier") for request in world.upstream.requests]

    assert told == ["flex", "priority", "auto", None]
    assert [answer.json()["service_tier"] for answer in answers] == ["flex", "default", "default", "default"]
    assert stored.json()["service_tier"] == "default"
