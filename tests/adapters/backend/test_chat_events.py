from __future__ import annotations

import json
from typing import Any

import pytest

from regate_adapters.backend.chat_events import ChatTranslator, read_usage
from regate_adapters.backend.tool_slots import NotUnderstood
from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.responses.events import (
    CallOpened,
    ModelEnded,
    ModelEvent,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
    Usage,
)


def translate(*chunks: Any) -> list[ModelEvent]:
    translator = ChatTranslator()
    return [event for chunk in chunks for event in translator.read(json.dumps(chunk).encode())] + translator.end()


def delta(finish: str | None = None, **members: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": members, "finish_reason": finish}]}


STOP = delta("stop")
ENDED = ModelEnded("stop", Usage())

TOLD: dict[str, tuple[list[Any], list[ModelEvent]]] = {
    "text": (
        [delta(role="assistant", content=""), delta(content="Hel"), delta(content="lo"), STOP],
        [TextWritten("Hel"), TextWritten("lo")],
    ),
    "text in parts": ([delta(content=[{"type": "text", "text": "Hello"}]), STOP], [TextWritten("Hello")]),
    "text with the finish": ([delta("stop", content="Hello")], [TextWritten("Hello")]),
    "reasoning, older name": ([delta(reasoning_content="Hm"), STOP], [ReasoningWritten("Hm")]),
    "reasoning, newer name": ([delta(reasoning="Hm"), STOP], [ReasoningWritten("Hm")]),
    "reasoning under both names": ([delta(reasoning="Hm", reasoning_content="Hm"), STOP], [ReasoningWritten("Hm")]),
    "refusal": ([delta(refusal="No."), STOP], [RefusalWritten("No.")]),
    "a first chunk without choices": ([{"choices": [], "prompt_filter_results": []}, delta(content="a"), STOP], [TextWritten("a")]),
    "null error beside choices": ([{**delta(content="a"), "error": None}, STOP], [TextWritten("a")]),
    "no index in the choice": ([{"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}], [TextWritten("a")]),
    "other choices": ([{"choices": [{"index": 1, "delta": {"content": "b"}}]}, STOP], []),
    "empty finish reasons before the last": ([{"choices": [{"delta": {"content": "a"}, "finish_reason": ""}]}, STOP], [TextWritten("a")]),
    "a whole completion": ([{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}], [TextWritten("a")]),
}


@pytest.mark.parametrize("case", TOLD)
def test_chunks_become_the_events_they_tell(case: str) -> None:
    chunks, expected = TOLD[case]
    assert translate(*chunks) == [*expected, ENDED]


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("stop", "stop"),
        ("length", "length"),
        ("max_tokens", "length"),
        ("content_filter", "content_filter"),
        ("SAFETY", "content_filter"),
        ("eos", "stop"),
        ("tool_calls", "stop"),
    ],
)
def test_finish_reason_of_a_turn_without_calls(finish: str, expected: str) -> None:
    assert translate(delta(finish, content="a"))[-1] == ModelEnded(expected, Usage())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("finish", "expected"),
    [("tool_calls", "tool_calls"), ("stop", "tool_calls"), ("function_call", "tool_calls"), ("eos", "tool_calls"), ("length", "length")],
)
def test_finish_reason_of_a_turn_with_calls(finish: str, expected: str) -> None:
    call = delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}])
    assert translate(call, delta(finish))[-1] == ModelEnded(expected, Usage())  # type: ignore[arg-type]


def test_legacy_function_call_is_a_tool_call() -> None:
    events = translate(
        delta(function_call={"name": "f", "arguments": ""}), delta(function_call={"arguments": "{}"}), delta("function_call")
    )
    assert isinstance(events[0], CallOpened)
    assert events[0].name == "f"


USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}


@pytest.mark.parametrize(
    "chunks",
    [
        [STOP, {"choices": [], "usage": USAGE}],
        [STOP, {"usage": USAGE}],
        [{**STOP, "usage": USAGE}],
        [{**delta(content=""), "usage": {**USAGE, "completion_tokens": 1}}, {**STOP, "usage": USAGE}],
        [STOP, {"choices": [], "usage": USAGE}, {"choices": [], "usage": None}],
    ],
    ids=["own chunk", "own chunk without choices", "last chunk", "growing", "null afterwards"],
)
def test_usage_is_found_wherever_the_upstream_puts_it(chunks: list[Any]) -> None:
    assert translate(*chunks)[-1] == ModelEnded("stop", Usage(7, 3, 5, 2))


@pytest.mark.parametrize("odd", [{}, {"prompt_tokens": "7"}, {"prompt_tokens": -1}, {"prompt_tokens": True, "prompt_tokens_details": []}])
def test_odd_usage_counts_as_zero(odd: dict[str, Any]) -> None:
    assert read_usage(odd) == Usage()


@pytest.mark.parametrize(
    "data",
    [b"", b"nonsense", b"[]", b'"text"', b'{"choices": {"a": 1}}', b'{"choices": NaN}', b'{"choices": [', b"\xff", b"<html>"],
)
def test_what_is_no_chunk_is_not_understood(data: bytes) -> None:
    with pytest.raises(NotUnderstood):
        ChatTranslator().read(data)


@pytest.mark.parametrize("reason", ["error", "abort", "cancelled"])
def test_finish_reason_that_says_broken_off_is_no_ending(reason: str) -> None:
    with pytest.raises(NotUnderstood):
        translate(delta(reason))


def test_turn_without_a_finish_reason_has_not_ended() -> None:
    with pytest.raises(NotUnderstood):
        translate(delta(content="Hel"))


@pytest.mark.parametrize(
    ("chunk", "status"),
    [
        ({"error": {"message": "secret words", "code": 500}}, 502),
        ({"error": "secret words"}, 502),
        ({"object": "error", "message": "secret words", "code": 400}, 400),
        ({"error": {"message": "secret words", "code": 429}}, 429),
        ({"error": {"message": "secret words", "code": "rate_limit_exceeded"}}, 429),
    ],
)
def test_error_in_the_stream_is_told_in_our_words(chunk: dict[str, Any], status: int) -> None:
    translator = ChatTranslator()
    translator.read(json.dumps(STOP).encode())
    with pytest.raises(UpstreamError) as raised:
        translator.read(json.dumps(chunk).encode())
    assert (raised.value.status, "secret" in raised.value.message, "secret" in raised.value.detail) == (status, False, True)
    assert not translator.finished
