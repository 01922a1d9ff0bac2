"""Quotas as HTTP shows them, requests narrowed to them, and what an answer's bytes say that it used."""

from __future__ import annotations

import json
from typing import Any

import pytest

from regate_gateway.routes.chat.usage import UsageTap
from regate_gateway.routes.quotas import (
    MAX_OUTPUT_TOKENS,
    Demand,
    duration,
    forwarded_demand,
    narrowed_request,
    rate_headers,
    within_output_limit,
)
from regate_orchestrator.authz.limits import QuotaLimits
from regate_orchestrator.errors import NotPermitted
from regate_orchestrator.filters.expression import ALWAYS
from regate_orchestrator.ports import Allowance, Exhausted
from regate_orchestrator.quota.metering import Used
from regate_orchestrator.responses.request import ResponseRequest
from regate_orchestrator.responses.tools.kinds.file_search import FileSearchTool
from regate_orchestrator.values import StoreId


def limits(**changes: int) -> QuotaLimits:
    plenty = {
        "rpm": 10,
        "tpm": 1_000,
        "max_turns": 4,
        "max_tool_calls": 8,
        "max_chunks": 50,
        "max_output_tokens": MAX_OUTPUT_TOKENS,
    }
    return QuotaLimits(**(plenty | changes))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0s"),
        (0.02, "1s"),
        (12, "12s"),
        (59.1, "1m0s"),
        (60.75, "1m1s"),
        (3_599.5, "1h0m0s"),
        (90_061, "25h1m1s"),
    ],
)
def test_durations_are_whole_seconds_and_never_too_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_headers_are_those_of_the_api_and_of_the_limit_of_which_the_least_is_left() -> None:
    tokens = Allowance(1_000, 0, 12.0, "person", "tpm")
    others = (
        Allowance(10_000, 5_000, 60.0, "tenant", "tpm"),
        Allowance(1, 0, 60.0, "model", "rpm"),
        Allowance(1, 0, 60.0, "person", "requests_per_day"),
    )
    found = Exhausted(tokens, 50, 3.2, (Allowance(10, 4, 60.75), tokens, *others))

    assert dict(rate_headers(found)) == {
        b"x-ratelimit-limit-requests": b"10",
        b"x-ratelimit-remaining-requests": b"4",
        b"x-ratelimit-reset-requests": b"1m1s",
        b"x-ratelimit-limit-tokens": b"1000",
        b"x-ratelimit-remaining-tokens": b"0",
        b"x-ratelimit-reset-tokens": b"12s",
    }


# ---------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(
    ("values", "output", "choices"),
    [
        ({}, None, 1),
        ({"max_tokens": 20}, 20, 1),
        ({"max_tokens": 20, "max_completion_tokens": 10, "n": 3}, 10, 3),
        ({"n": 2, "best_of": 5}, None, 5),
        ({"max_tokens": "20", "n": "3"}, None, 1),
        ({"max_tokens": True, "n": None}, None, 1),
    ],
)
def test_what_a_forwarded_request_asks_for(values: dict[str, Any], output: int | None, choices: int) -> None:
    found = forwarded_demand(
        {"messages": [{"role": "user", "content": "x" * 400}], "user": "y" * 4_000, **values}, writes=True
    )

    assert (100 < found.sent < 115, found.output, found.choices) == (True, output, choices)


@pytest.mark.parametrize(
    ("demand", "needs"),
    [
        (Demand(7, 20), Used(7, 20)),
        (Demand(7, 20, choices=3), Used(7, 60)),
        (Demand(7), Used(7, 1_000)),
        (Demand(7, 5_000), Used(7, 2_000)),
        (Demand(7, 20, writes=False), Used(7)),
    ],
)
def test_what_a_request_is_taken_to_need(demand: Demand, needs: Used) -> None:
    assert demand.needs(limits(max_output_tokens=2_000)) == needs


# ---------------------------------------------------------------- narrowing


@pytest.mark.parametrize(
    ("body", "most", "expected"),
    [
        ({}, 50, {"max_tokens": 50}),
        ({"max_tokens": 20}, 50, {"max_tokens": 20}),
        ({"max_tokens": 80}, 50, {"max_tokens": 50}),
        ({"max_completion_tokens": 80}, 50, {"max_completion_tokens": 50}),
        (
            {"max_completion_tokens": 10, "max_tokens": 80},
            50,
            {"max_completion_tokens": 10, "max_tokens": 50},
        ),
        ({"n": 5}, 50, {"n": 5, "max_tokens": 10}),
        ({"n": 2, "best_of": 10}, 50, {"n": 2, "best_of": 10, "max_tokens": 5}),
        ({"prompt": ["a", "b"], "n": 5}, 50, {"prompt": ["a", "b"], "n": 5, "max_tokens": 5}),
        ({"prompt": [[1, 2], [3]]}, 50, {"prompt": [[1, 2], [3]], "max_tokens": 25}),
        ({"prompt": [1, 2, 3]}, 50, {"prompt": [1, 2, 3], "max_tokens": 50}),
        ({}, MAX_OUTPUT_TOKENS, {}),
        ({"max_tokens": 80}, MAX_OUTPUT_TOKENS, {"max_tokens": 80}),
    ],
)
def test_output_tokens_are_lowered_for_all_choices_together(
    body: dict[str, Any], most: int, expected: dict[str, Any]
) -> None:
    assert within_output_limit(body, limits(max_output_tokens=most)) == expected


def test_more_choices_than_tokens_are_refused() -> None:
    with pytest.raises(NotPermitted) as refused:
        within_output_limit({"n": 5}, limits(max_output_tokens=4))

    assert refused.value.param == "n"


SEARCH = FileSearchTool((StoreId("vs_1"),), 20, 0.0, ALWAYS, {"type": "file_search", "max_num_results": 20})
FUNCTION = {"type": "function", "name": "f"}


@pytest.mark.parametrize(
    ("asked", "most", "found"),
    [
        (None, 50, 50),
        (20, 50, 20),
        (80, 50, 50),
        (None, MAX_OUTPUT_TOKENS, None),
        (80, MAX_OUTPUT_TOKENS, 80),
    ],
)
def test_a_response_gets_the_lower_of_its_own_and_the_policys_limit(
    asked: int | None, most: int, found: int | None
) -> None:
    assert (
        narrowed_request(
            ResponseRequest("m", (), max_output_tokens=asked), limits(max_output_tokens=most)
        ).max_output_tokens
        == found
    )


@pytest.mark.parametrize(("most", "found"), [(5, 5), (20, 20), (50, 20)])
def test_a_search_gets_so_many_chunks_and_the_response_says_so(most: int, found: int) -> None:
    request = ResponseRequest("m", (), server_tools=(SEARCH,), tools_echo=(FUNCTION, SEARCH.echo))
    narrowed = narrowed_request(request, limits(max_chunks=most))

    (tool,) = narrowed.server_tools
    assert isinstance(tool, FileSearchTool)
    assert (tool.limit, tool.store_ids) == (found, SEARCH.store_ids)
    assert narrowed.tools_echo == (FUNCTION, {"type": "file_search", "max_num_results": found})


@pytest.mark.parametrize("nothing", ["max_chunks", "max_tool_calls"])
def test_a_search_of_nothing_is_refused_and_a_response_without_one_is_not(nothing: str) -> None:
    none = limits(**{nothing: 0})
    with pytest.raises(NotPermitted) as refused:
        narrowed_request(ResponseRequest("m", (), server_tools=(SEARCH,)), none)

    assert refused.value.param == "tools"
    assert narrowed_request(ResponseRequest("m", ()), none) == ResponseRequest("m", ())


# ---------------------------------------------------------------- what an answer used

USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 3,
    "total_tokens": 10,
    "prompt_tokens_details": {"cached_tokens": 5},
}


def tokens_of(body: bytes, *, size: int = 7, writes: bool = True, streamed: bool = False) -> int:
    tap = UsageTap(sent=100, writes=writes, streamed=streamed)
    for start in range(0, len(body), size):
        tap.note(body[start : start + size])
    return tap.used().total


def stream(*chunks: Any) -> bytes:
    return (
        b"".join(b"data: " + json.dumps(chunk).encode() + b"\n\n" for chunk in chunks) + b"data: [DONE]\n\n"
    )


@pytest.mark.parametrize("size", [1, 7, 4_096, 100_000])
@pytest.mark.parametrize("usage", [USAGE, {"prompt_tokens": 7, "completion_tokens": 3}, {"total_tokens": 10}])
def test_the_usage_of_an_answer_counts_wherever_its_bytes_are_cut(usage: dict[str, Any], size: int) -> None:
    body = json.dumps(
        {"choices": [{"message": {"content": "x" * 9_000}}], "usage": usage, "service_tier": "default"},
        indent=1,
    ).encode()

    assert tokens_of(body, size=size) == 10


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_the_last_usage_of_a_stream_counts(size: int) -> None:
    pieces = [
        {"choices": [{"delta": {"content": "y"}}], "usage": {"total_tokens": number}} for number in range(50)
    ]

    assert tokens_of(stream(*pieces, {"choices": [], "usage": USAGE}), size=size, streamed=True) == 10


def test_a_stream_without_usage_has_about_a_token_in_an_event() -> None:
    pieces = [{"choices": [{"delta": {"content": "word " * 3}}], "usage": None} for _ in range(60)]

    assert tokens_of(stream(*pieces), streamed=True) == 161


@pytest.mark.parametrize(
    ("usage", "used"),
    [
        (USAGE, Used(7, 3)),
        ({"prompt_tokens": 7, "total_tokens": 12}, Used(7, 5)),
        ({"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 15}, Used(7, 8)),
        ({"completion_tokens": 3, "total_tokens": 10}, Used(7, 3)),
        ({"total_tokens": 10}, Used(10, 0)),
        ({"completion_tokens": 3}, Used(0, 3)),
        ({"prompt_tokens": 70, "total_tokens": 10}, Used(10, 0)),
    ],
)
def test_what_was_sent_and_written_is_told_apart(usage: dict[str, Any], used: Used) -> None:
    tap = UsageTap(sent=100, writes=True, streamed=False)
    tap.note(json.dumps({"usage": usage}).encode())

    assert tap.used() == used


def test_text_that_looks_like_usage_is_none() -> None:
    content = 'He said {"usage": {"total_tokens": 1}} and left.'
    plain = json.dumps({"choices": [{"message": {"content": content}}]}).encode()

    assert tokens_of(plain) == 100 + len(plain) // 4
    assert tokens_of(stream({"choices": [{"delta": {"content": content}}]}), streamed=True) == 102


@pytest.mark.parametrize(
    "usage",
    [{}, {"total_tokens": -5}, {"total_tokens": "10"}, {"total_tokens": True}, {"total_tokens": 10**12}],
)
def test_usage_that_is_no_count_is_estimated(usage: dict[str, Any]) -> None:
    body = json.dumps({"usage": usage}).encode()

    assert tokens_of(body) == 100 + len(body) // 4


def test_the_bytes_of_an_embedding_are_no_tokens() -> None:
    vectors = {"data": [{"embedding": [0.1] * 2_000}]}

    assert tokens_of(json.dumps(vectors).encode(), writes=False) == 100
    assert (
        tokens_of(
            json.dumps(vectors | {"usage": {"prompt_tokens": 8, "total_tokens": 8}}).encode(), writes=False
        )
        == 8
    )


def test_an_answer_of_any_size_is_looked_at_in_bounded_memory() -> None:
    tap = UsageTap(sent=0, writes=True, streamed=False)
    for _ in range(100):
        tap.note(b"x" * 65_536)
    tap.note(b'"usage": {"total_tokens": 77}}')

    assert (tap.used().total, len(tap._tail)) == (77, 4_096)
