"""What an upstream is sent: requests in its own words, as it is said to want them and as its
refusals teach.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from regate_adapters.backend.chat import ChatBackend
from regate_adapters.backend.upstreams import Upstreams
from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities

if TYPE_CHECKING:
    from tests.adapters.backend.conftest import Exchange, ScriptedUpstream

HI = {"role": "user", "content": "Hi"}
PAYLOAD: dict[str, Any] = {"model": "m", "messages": [HI]}
ANSWER = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}


async def sent(
    upstream: ScriptedUpstream, *payloads: dict[str, Any], **capabilities: Any
) -> list[dict[str, Any]]:
    """Have the payloads answered one after the other, and return all that the upstream was sent."""
    upstream.script = upstream.script or (lambda exchange: exchange.stream(ANSWER, b"[DONE]"))
    async with Upstreams([upstream.config(capabilities=UpstreamCapabilities(**capabilities))]) as pool:
        for payload in payloads:
            async with ChatBackend(pool).chat("scripted", payload) as events:
                assert [event async for event in events]
    return [json.loads(exchange.body) for exchange in upstream.requests]


def refusing(refuses: Callable[[dict[str, Any]], bool], status: int, body: Any) -> Callable[[Exchange], Any]:
    async def script(exchange: Exchange) -> None:
        if refuses(json.loads(exchange.body)):
            await exchange.answer(status, json.dumps(body).encode(), "Content-Type: application/json")
        else:
            await exchange.stream(ANSWER, b"[DONE]")

    return script


# ---------------------------------------------------------------- the output limit


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(
    ("asked", "limit"),
    [
        ({"max_tokens": 64}, 64),
        ({"max_completion_tokens": 64}, 64),
        ({"max_tokens": 64, "max_completion_tokens": 32}, 32),
        ({}, None),
    ],
)
async def test_output_limit_goes_by_the_upstreams_name(
    upstream: ScriptedUpstream, name: str, asked: dict[str, int], limit: int | None
) -> None:
    (body,) = await sent(upstream, {**PAYLOAD, **asked}, output_limit=name)
    assert {field: body[field] for field in body if field.startswith("max_")} == (
        {} if limit is None else {name: limit}
    )


def openai_says(field: str, other: str) -> dict[str, Any]:
    message = f"Unsupported parameter: '{field}' is not supported with this model. Use '{other}' instead."
    return {
        "error": {
            "message": message,
            "type": "invalid_request_error",
            "param": field,
            "code": "unsupported_parameter",
        }
    }


REFUSALS: list[tuple[str, int, Any]] = [
    ("max_tokens", 400, openai_says("max_tokens", "max_completion_tokens")),
    ("max_tokens", 400, {"detail": "max_tokens is deprecated, please use max_completion_tokens"}),
    (
        "max_tokens",
        422,
        {
            "detail": [
                {
                    "loc": ["body", "max_tokens"],
                    "msg": "Extra inputs are not permitted",
                    "type": "extra_forbidden",
                }
            ]
        },
    ),
    (
        "max_completion_tokens",
        400,
        {"error": {"message": "Unrecognized request argument supplied: max_completion_tokens"}},
    ),
    ("max_completion_tokens", 400, {"object": "error", "message": "unknown field `max_completion_tokens`"}),
]


@pytest.mark.parametrize(("field", "status", "refusal"), REFUSALS)
async def test_other_name_is_tried_where_one_is_refused_and_is_kept(
    upstream: ScriptedUpstream, field: str, status: int, refusal: Any
) -> None:
    upstream.script = refusing(lambda body: field in body, status, refusal)
    asked = {**PAYLOAD, "max_tokens": 64}
    first, again, later = await sent(upstream, asked, asked, output_limit=field)
    (other,) = {"max_tokens", "max_completion_tokens"} - {field}
    assert (first[field], again[other], later[other]) == (64, 64, 64)


async def test_what_is_found_out_of_a_model_is_kept_for_that_model(upstream: ScriptedUpstream) -> None:
    refusal = openai_says("max_tokens", "max_completion_tokens")
    upstream.script = refusing(lambda body: body["model"] == "new" and "max_tokens" in body, 400, refusal)
    bodies = await sent(
        upstream, *[{**PAYLOAD, "model": model, "max_tokens": 64} for model in ("new", "old", "new")]
    )
    assert ["max_tokens" in body for body in bodies] == [True, False, True, False]


@pytest.mark.parametrize(
    ("status", "refusal"),
    [
        (
            400,
            {
                "error": {
                    "message": (
                        "max_tokens is too large: 100000. This model takes at most 4096 completion tokens."
                    )
                }
            },
        ),
        (400, {"error": {"message": "Unsupported parameter: 'logit_bias'."}}),
        (
            400,
            {
                "error": {
                    "message": "maximum context length is 8192 tokens: use max_completion_tokens",
                    "code": "context_length_exceeded",
                }
            },
        ),
        (400, "no"),
        (429, openai_says("max_tokens", "max_completion_tokens")),
        (500, openai_says("max_tokens", "max_completion_tokens")),
    ],
)
async def test_any_other_refusal_is_final(upstream: ScriptedUpstream, status: int, refusal: Any) -> None:
    upstream.script = refusing(lambda _: True, status, refusal)
    with pytest.raises(UpstreamError):
        await sent(upstream, {**PAYLOAD, "max_tokens": 64})
    assert len(upstream.requests) == 1


async def test_upstream_that_refuses_both_names_is_asked_no_third_way(upstream: ScriptedUpstream) -> None:
    async def script(exchange: Exchange) -> None:
        field, other = (
            ("max_tokens", "max_completion_tokens")
            if b"max_tokens" in exchange.body
            else ("max_completion_tokens", "max_tokens")
        )
        await exchange.answer(400, json.dumps(openai_says(field, other)).encode())

    upstream.script = script
    with pytest.raises(UpstreamError):
        await sent(upstream, {**PAYLOAD, "max_tokens": 64})
    assert len(upstream.requests) == 3


# ---------------------------------------------------------------- usage of streams


async def test_upstream_that_refuses_stream_options_is_not_sent_them(upstream: ScriptedUpstream) -> None:
    refusal = {
        "detail": [
            {
                "type": "extra_forbidden",
                "loc": ["body", "stream_options"],
                "msg": "Extra inputs are not permitted",
            }
        ]
    }
    upstream.script = refusing(lambda body: "stream_options" in body, 422, refusal)
    bodies = await sent(upstream, PAYLOAD, PAYLOAD)
    assert ["stream_options" in body for body in bodies] == [True, False, False]


async def test_stream_options_are_left_out_where_the_upstream_takes_none(upstream: ScriptedUpstream) -> None:
    (body,) = await sent(upstream, PAYLOAD, stream_usage=False)
    assert "stream_options" not in body


# ---------------------------------------------------------------- seeds


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"seed": 7}, {"random_seed": 7}),
        ({"seed": 7, "random_seed": 8}, {"random_seed": 8}),
        ({"random_seed": 8}, {"random_seed": 8}),
        ({}, {}),
    ],
)
async def test_seed_is_sent_in_the_field_that_the_upstream_has_for_it(
    upstream: ScriptedUpstream, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    (body,) = await sent(upstream, {**PAYLOAD, **given}, seed_field="random_seed")
    assert {name: body[name] for name in ("seed", "random_seed") if name in body} == expected


# ---------------------------------------------------------------- system messages


def system(content: Any, role: str = "system", **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


LED: dict[str, tuple[list[Any], list[Any]]] = {
    "none": ([HI], [HI]),
    "one": ([system("a"), HI], [system("a"), HI]),
    "two at the beginning": ([system("a"), system("b"), HI], [system("a\n\nb"), HI]),
    "one amid the conversation": ([HI, system("a"), HI], [system("a"), HI, HI]),
    "one at the end": ([system("a"), HI, system("b")], [system("a\n\nb"), HI]),
    "the developer's": ([system("a", "developer"), HI], [system("a"), HI]),
    "the developer's and the system's": ([system("a"), HI, system("b", "developer")], [system("a\n\nb"), HI]),
    "an empty one": ([system("a"), system(""), HI], [system("a"), HI]),
    "parts": (
        [system([{"type": "text", "text": "a"}]), HI, system("b")],
        [system([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]), HI],
    ),
}


@pytest.mark.parametrize("case", LED)
async def test_what_the_system_says_is_one_message_at_the_beginning(
    upstream: ScriptedUpstream, case: str
) -> None:
    given, expected = LED[case]
    (body,) = await sent(upstream, {**PAYLOAD, "messages": given})
    assert body["messages"] == expected


@pytest.mark.parametrize("case", LED)
async def test_what_the_system_says_stays_where_it_is_for_whom_takes_it_there(
    upstream: ScriptedUpstream, case: str
) -> None:
    given, _ = LED[case]
    (body,) = await sent(upstream, {**PAYLOAD, "messages": given}, system_messages="anywhere")
    assert body["messages"] == given


@pytest.mark.parametrize(
    "message",
    [
        "System message must be at the beginning.",
        "Only the first message may have the system role: system message must be first",
    ],
)
async def test_upstream_that_wants_one_system_message_teaches_so(
    upstream: ScriptedUpstream, message: str
) -> None:
    def misplaced(body: dict[str, Any]) -> bool:
        return any(one["role"] == "system" for one in body["messages"][1:])

    upstream.script = refusing(misplaced, 400, {"error": {"message": message}})
    asked = {**PAYLOAD, "messages": [system("a"), HI, system("b")]}
    bodies = await sent(upstream, asked, asked, system_messages="anywhere")
    assert [len(body["messages"]) for body in bodies] == [3, 2, 2]


# ---------------------------------------------------------------- tools

EMPTY = {"type": "object", "properties": {}}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, EMPTY),
        ({"parameters": None}, EMPTY),
        ({"parameters": {}}, EMPTY),
        ({"parameters": {"type": "object"}}, EMPTY),
        ({"parameters": {"properties": {"a": {}}}}, {"type": "object", "properties": {"a": {}}}),
        (
            {"parameters": {"type": "object", "additionalProperties": False}},
            {**EMPTY, "additionalProperties": False},
        ),
        (
            {"parameters": {"$ref": "#/$defs/a", "$defs": {"a": {}}}},
            {"$ref": "#/$defs/a", "$defs": {"a": {}}},
        ),
    ],
)
async def test_tool_says_that_it_takes_an_object(
    upstream: ScriptedUpstream, given: dict[str, Any], expected: Any
) -> None:
    function = {"name": "f", **given}
    (body,) = await sent(
        upstream, {**PAYLOAD, "tools": [{"type": "function", "function": function}], "functions": [function]}
    )
    told = {"name": "f", "parameters": expected}
    assert (body["tools"], body["functions"]) == ([{"type": "function", "function": told}], [told])


async def test_tool_that_is_no_function_stays_as_it_is(upstream: ScriptedUpstream) -> None:
    tool = {"type": "custom", "custom": {"name": "f"}}
    (body,) = await sent(upstream, {**PAYLOAD, "tools": [tool]})
    assert body["tools"] == [tool]


# ---------------------------------------------------------------- other requests


async def test_completion_is_sent_as_it_is(upstream: ScriptedUpstream) -> None:
    payload = {"model": "m", "prompt": "a", "max_tokens": 5}
    upstream.script = lambda exchange: exchange.answer_json({"choices": []})
    config = upstream.config(capabilities=UpstreamCapabilities(output_limit="max_completion_tokens"))
    async with (
        Upstreams([config]) as pool,
        pool.pass_through("scripted", "/completions", payload, streamed=False),
    ):
        pass
    assert json.loads(upstream.requests[0].body) == payload
