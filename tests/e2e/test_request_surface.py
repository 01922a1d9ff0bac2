"""The surface of `/v1/responses`: every request field does what it says, or is refused by name; none
is ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
from openai.types.responses.input_token_count_params import InputTokenCountParams
from openai.types.responses.response_compact_params import ResponseCompactParams
from openai.types.responses.response_create_params import ResponseCreateParamsBase
from tests.deployments import only_on
from tests.e2e.conftest import World
from tests.e2e.test_responses import WEATHER

from regate_gateway.composition.wiring import gateway_app
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import Running

TOOL: dict[str, Any] = {
    **WEATHER,
    "parameters": {
        "type": "object",
        "$defs": {"city": {"type": "string", "enum": ["Rome", "Oslo"]}},
        "properties": {"cities": {"type": "array", "items": {"$ref": "#/$defs/city"}}},
    },
}

SENT = {
    "temperature": (0.5, {"temperature": 0.5}),
    "top_p": (0.25, {"top_p": 0.25}),
    "presence_penalty": (0.5, {"presence_penalty": 0.5}),
    "frequency_penalty": (0.5, {"frequency_penalty": 0.5}),
    "top_logprobs": (2, {"logprobs": True, "top_logprobs": 2}),
    "max_output_tokens": (64, {"max_tokens": 64}),
    "text": (
        {"format": {"type": "json_object"}, "verbosity": "low"},
        {"response_format": {"type": "json_object"}, "verbosity": "low"},
    ),
    "reasoning": (
        {"effort": "high", "summary": "auto", "mode": "standard", "context": "current_turn"},
        {"reasoning_effort": "high"},
    ),
    "instructions": ("Be brief.", {}),
    "tools": (
        [TOOL],
        {"tools": [{"type": "function", "function": {name: TOOL[name] for name in TOOL if name != "type"}}]},
    ),
}
"""Fields that the upstream is told, in its own spelling, and that the Response repeats."""

REPEATED = {
    "max_tool_calls": 3,
    "parallel_tool_calls": False,
    "truncation": "auto",
    "tool_choice": "none",
    "store": False,
    "metadata": {"a": "b"},
    "user": "u",
    "safety_identifier": "s",
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "implicit", "ttl": "12h"},
    "service_tier": "default",
    "background": False,
}
"""Fields that the Response repeats."""

TAKEN = {
    "background_options": {"completion_window": "soonest"},
    "context_management": [{"type": "compaction", "compact_threshold": 1000}],
    "include": ["reasoning.encrypted_content", "web_search_call.action.sources"],
    "stream_options": {"include_obfuscation": False},
    "client_metadata": {"a": "b"},
}
"""Fields of which the Response has no member."""

ELSEWHERE = {"model", "input", "previous_response_id", "conversation", "prompt"}
"""Fields that tests of their own are about."""

REFUSED: dict[str, tuple[Any, str]] = {
    "moderation": ({"model": "m"}, "moderation"),
    "access_programs": ([{"type": "x"}], "access_programs"),
    "image": ({"context_compression": "auto"}, "image"),
}

REFUSED_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"service_tier": "first"}, "service_tier"),
    ({"background_options": {"completion_window": "8h"}}, "background_options.completion_window"),
    ({"background_options": {"continuation_id": "x"}}, "background_options.continuation_id"),
    ({"reasoning": {"mode": "pro"}}, "reasoning.mode"),
    ({"reasoning": {"effort": "most"}}, "reasoning.effort"),
    ({"prompt_cache_options": {"mode": "explicit"}}, "prompt_cache_options.mode"),
    ({"prompt_cache_options": {"prewarm": True}}, "prompt_cache_options.prewarm"),
    (
        {"prompt_cache_options": {"comparison_response_id": "resp_1"}},
        "prompt_cache_options.comparison_response_id",
    ),
    (
        {"context_management": [{"type": "compaction", "compact_threshold": 999}]},
        "context_management[0].compact_threshold",
    ),
    ({"stream_options": {"include_usage": True}}, "stream_options.include_usage"),
    ({"text": {"format": {"type": "grammar"}}}, "text.format.type"),
    ({"top_logprobs": 21}, "top_logprobs"),
    ({"max_tool_calls": 0}, "max_tool_calls"),
    ({"generate": False}, "generate"),
    ({"stream_id": "s"}, "stream_id"),
    *(
        ({"tools": [{"type": kind}]}, "tools[0].type")
        for kind in (
            *(
                "web_search",
                "web_search_2025_08_26",
                "web_search_preview",
                "code_interpreter",
                "image_generation",
            ),
            "programmatic_tool_calling",
        )
    ),
    ({"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]}, "tools[0].tools[0].type"),
    ({"tools": [{"type": "function", "name": "f", "defer_loading": True}]}, "tools"),
    ({"tools": [{"type": "function", "name": "f", "async": True}]}, "tools[0].async"),
    ({"tools": [{"type": "function", "name": "f", "output_schema": {}}]}, "tools[0].output_schema"),
    (
        {"tools": [{"type": "function", "name": "f", "allowed_callers": ["direct"]}]},
        "tools[0].allowed_callers",
    ),
    *(
        ({"input": [{"type": kind, "id": "x"}]}, "input[0].type")
        for kind in ("program", "additional_tools", "compaction_trigger")
    ),
    ({"input": [{"type": "function_call_output", "output": "x"}]}, "input[0].call_id"),
    (
        {
            "input": [
                {
                    "type": "function_call",
                    "call_id": "c",
                    "name": "f",
                    "arguments": "{}",
                    "caller": {"type": "x"},
                }
            ]
        },
        "input[0].caller",
    ),
    (
        {"input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "async": True}]},
        "input[0].async",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "http://127.0.0.1/x"}]}]},
        "input",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "file:///etc/passwd"}]}]},
        "input[0].content[0].file_url",
    ),
    ({"input": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "input[0].content[0].type"),
]


async def refused(http: httpx.AsyncClient, body: dict[str, Any], path: str = "/responses") -> Any:
    answer = await http.post(path, json={"model": "small", "input": "Hi"} | body)
    return answer.json()["error"]["param"] if answer.status_code == 400 else answer.status_code


def test_every_field_of_the_official_client_is_in_a_table() -> None:
    known = {*SENT, *REPEATED, *TAKEN, *ELSEWHERE, *REFUSED}

    assert set(ResponseCreateParamsBase.__annotations__) - known == set()


@only_on("embedded")
async def test_fields_reach_the_upstream_and_are_repeated(world: World) -> None:
    found = {}
    async with world.http() as http:
        for name, (value, sent) in SENT.items():
            answer = await http.post("/responses", json={"model": "small", "input": "Hi", name: value})
            request = world.upstream.requests[-1]
            found[name] = (answer.json().get(name), {member: request.get(member) for member in sent})

    assert found == SENT


@only_on("embedded")
async def test_fields_that_the_gateway_itself_honours_are_repeated(world: World) -> None:
    async with world.http() as http:
        found = {
            name: (await http.post("/responses", json={"model": "small", "input": "Hi", name: value}))
            .json()
            .get(name)
            for name, value in REPEATED.items()
        }
        taken = [
            (
                await http.post("/responses", json={"model": "small", "input": "Hi", name: TAKEN[name]})
            ).status_code
            for name in TAKEN
        ]

    assert found == REPEATED
    assert set(taken) == {200}


@only_on("embedded")
async def test_what_is_not_supported_is_refused_by_its_name(world: World) -> None:
    rows = [*(({name: value}, param) for name, (value, param) in REFUSED.items()), *REFUSED_VALUES]
    async with world.http() as http:
        found = [(body, await refused(http, body)) for body, _ in rows]

    assert found == rows
    assert world.upstream.requests == []


@only_on("embedded")
async def test_fields_of_compacting_and_measuring_are_taken_or_refused_by_name(world: World) -> None:
    hints = {
        "prompt_cache_key": "k",
        "prompt_cache_retention": "24h",
        "prompt_cache_options": {"mode": "implicit"},
        "service_tier": "auto",
    }
    measured: dict[str, Any] = {
        "instructions": "Be brief.",
        "parallel_tool_calls": True,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [WEATHER],
        "truncation": "auto",
    }
    async with world.http() as http:
        compacted = await http.post(
            "/responses/compact", json={"model": "small", "input": "Hi", "instructions": "Be brief."} | hints
        )
        counted = await http.post(
            "/responses/input_tokens", json={"model": "small", "input": "Hi"} | measured
        )
        named = [
            await refused(http, {"image": {}}, "/responses/compact"),
            await refused(http, {"personality": "x"}, "/responses/input_tokens"),
        ]

    assert (compacted.status_code, counted.status_code, named) == (200, 200, ["image", "personality"])
    assert set(ResponseCompactParams.__annotations__) - {*hints, "instructions", "image"} - ELSEWHERE == set()
    assert set(InputTokenCountParams.__annotations__) - {*measured, "personality"} - ELSEWHERE == set()


@only_on("embedded")
async def test_query_parameters_of_reading_are_honoured_or_refused(world: World) -> None:
    items = [{"role": "user", "content": f"Number {number}"} for number in range(3)]
    async with world.http() as http:
        made = (await http.post("/responses", json={"model": "small", "input": items})).json()["id"]
        listed = [
            item["id"] for item in (await http.get(f"/responses/{made}/input_items?order=asc")).json()["data"]
        ]
        last = (await http.get(f"/responses/{made}/input_items?order=asc&limit=1&before={listed[2]}")).json()
        first = (await http.get(f"/responses/{made}/input_items?order=desc&before={listed[1]}")).json()
        queries = (
            "?include=everything",
            "/input_items?include[]=everything",
            "/input_items?before=msg_absent",
            "?foo=1",
        )
        params = [(await http.get(f"/responses/{made}{query}")).json()["error"]["param"] for query in queries]

    assert ([item["id"] for item in last["data"]], last["has_more"]) == ([listed[1]], True)
    assert [item["id"] for item in first["data"]] == [listed[2]]
    assert params == ["include[0]", "include[0]", "before", "foo"]


@only_on("embedded")
async def test_credentials_in_a_tool_that_is_left_out_are_neither_shown_nor_stored(
    configure: Callable[..., Settings], world: World
) -> None:
    settings = configure(data_dir=world.settings.data_dir.parent / "other", tools={"omit": ["mcp"]})
    app, gateway = gateway_app(settings)
    tool = {
        "type": "mcp",
        "server_label": "s",
        "server_url": "https://mcp.example",
        "authorization": "hush",
        "headers": {"x-key": "hush"},
    }
    async with Running(app, settings.listen) as server:
        other = World(server.url, settings, gateway, world.upstream, world.policies)
        async with other.http() as http:
            made = await http.post("/responses", json={"model": "small", "input": "Hi", "tools": [tool]})
            stored = await http.get(f"/responses/{made.json()['id']}")

    assert made.json()["tools"] == [{"type": "mcp", "server_label": "s", "server_url": "https://mcp.example"}]
    assert "hush" not in made.text + stored.text
