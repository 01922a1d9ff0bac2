from __future__ import annotations

import json
from typing import Any

import pytest

from regate_adapters.backend.stream.chat_events import ChatTranslator
from regate_adapters.backend.stream.token_usage import read_usage
from regate_adapters.backend.stream.tool_slots import NotUnderstood
from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.model_events import (
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
    return [
        event for chunk in chunks for event in translator.read(json.dumps(chunk).encode())
    ] + translator.end()


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
    "reasoning under both names": (
        [delta(reasoning="Hm", reasoning_content="Hm"), STOP],
        [ReasoningWritten("Hm")],
    ),
    "refusal": ([delta(refusal="No."), STOP], [RefusalWritten("No.")]),
    "a first chunk without choices": (
        [{"choices": [], "prompt_filter_results": []}, delta(content="a"), STOP],
        [TextWritten("a")],
    ),
    "null error beside choices": ([{**delta(content="a"), "error": None}, STOP], [TextWritten("a")]),
    "no index in the choice": (
        [{"choices": [{"delta": {"content": "a"}, "finish_reason": "stop"}]}],
        [TextWritten("a")],
    ),
    "other choices": ([{"choices": [{"index": 1, "delta": {"content": "b"}}]}, STOP], []),
    "empty finish reasons before the last": (
        [{"choices": [{"delta": {"content": "a"}, "finish_reason": ""}]}, STOP],
        [TextWritten("a")],
    ),
    "text and thinking in parts": (
        [
            delta(content=[{"type": "thinking", "thinking": [{"type": "text", "text": "Okay"}]}]),
            delta(content=[{"type": "text", "text": "42"}]),
            STOP,
        ],
        [ReasoningWritten("Okay"), TextWritten("42")],
    ),
    "thinking and text in one list": (
        [
            delta(
                content=[
                    {"type": "reasoning_text", "text": "Okay"},
                    "4",
                    {"type": "output_text", "text": "2"},
                ]
            ),
            STOP,
        ],
        [ReasoningWritten("Okay"), TextWritten("4"), TextWritten("2")],
    ),
    "a refusal among the parts": (
        [delta(content=[{"type": "refusal", "refusal": "No."}]), STOP],
        [RefusalWritten("No.")],
    ),
    "thinking under its own name": ([delta(thinking="Hm"), STOP], [ReasoningWritten("Hm")]),
    "reasoning in details": (
        [
            delta(
                reasoning_details=[
                    {"type": "reasoning.text", "text": "Hm"},
                    {"type": "reasoning.encrypted", "data": "x"},
                ]
            ),
            STOP,
        ],
        [ReasoningWritten("Hm")],
    ),
    "reasoning and its details": (
        [delta(reasoning="Hm", reasoning_details=[{"type": "reasoning.summary", "summary": "Hm"}]), STOP],
        [ReasoningWritten("Hm")],
    ),
    "thinking blocks": (
        [delta(thinking_blocks=[{"type": "thinking", "thinking": "Hm", "signature": "x"}]), STOP],
        [ReasoningWritten("Hm")],
    ),
    "the whole message after its deltas": (
        [
            delta(reasoning_content="Hm"),
            delta(content="Hello"),
            {
                "choices": [
                    {
                        "message": {"role": "assistant", "content": "Hello", "reasoning_content": "Hm"},
                        "finish_reason": "stop",
                    }
                ]
            },
        ],
        [ReasoningWritten("Hm"), TextWritten("Hello")],
    ),
    "the message beside the delta, each time": (
        [
            {"choices": [{"delta": {"content": "a"}, "message": {"content": "a"}}]},
            {"choices": [{"delta": {"content": "b"}, "message": {"content": "b"}, "finish_reason": "stop"}]},
        ],
        [TextWritten("a"), TextWritten("b")],
    ),
    "a message with what no delta told": (
        [delta(reasoning="Hm"), {"choices": [{"message": {"content": "Hello"}, "finish_reason": "stop"}]}],
        [ReasoningWritten("Hm"), TextWritten("Hello")],
    ),
    "messages in the place of deltas": (
        [
            {"choices": [{"message": {"content": "a"}}]},
            {"choices": [{"message": {"content": "b"}, "finish_reason": "stop"}]},
        ],
        [TextWritten("a"), TextWritten("b")],
    ),
    "a word for no end before the last": (
        [
            *[
                delta(word, content="a")
                for word in ("null", "None", "not_finished", "FINISH_REASON_UNSPECIFIED")
            ],
            STOP,
        ],
        [TextWritten("a")] * 4,
    ),
    "an end in every chunk": (
        [delta("stop", content="a"), delta("stop", content="b")],
        [TextWritten("a"), TextWritten("b")],
    ),
    "a keep-alive as an object": ([delta(content="a"), {}, {"type": "ping"}, None, STOP], [TextWritten("a")]),
    "a finish reason as an object": (
        [{"choices": [{"delta": {"content": "a"}, "finish_reason": {"type": "stop", "matched": 2}}]}],
        [TextWritten("a")],
    ),
    "a whole completion": (
        [{"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}],
        [TextWritten("a")],
    ),
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
        ("sensitive", "content_filter"),
        ("content_filter: RECITATION", "content_filter"),
        ("content_filtered", "content_filter"),
        ("RECITATION", "content_filter"),
        ("model_context_window_exceeded", "length"),
        ("max-tokens", "length"),
        ("eos", "stop"),
        ("end_turn", "stop"),
        ("normal", "stop"),
        ("stop_sequence", "stop"),
        ("tool_calls", "stop"),
    ],
)
def test_finish_reason_of_a_turn_without_calls(finish: str, expected: str) -> None:
    assert translate(delta(finish, content="a"))[-1] == ModelEnded(expected, Usage())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("finish", "expected"),
    [
        ("tool_calls", "tool_calls"),
        ("stop", "tool_calls"),
        ("function_call", "tool_calls"),
        ("eos", "tool_calls"),
        ("length", "length"),
    ],
)
def test_finish_reason_of_a_turn_with_calls(finish: str, expected: str) -> None:
    call = delta(tool_calls=[{"index": 0, "id": "a", "function": {"name": "f", "arguments": "{}"}}])
    assert translate(call, delta(finish))[-1] == ModelEnded(expected, Usage())  # type: ignore[arg-type]


def test_legacy_function_call_is_a_tool_call() -> None:
    events = translate(
        delta(function_call={"name": "f", "arguments": ""}),
        delta(function_call={"arguments": "{}"}),
        delta("function_call"),
    )
    assert isinstance(events[0], CallOpened)
    assert events[0].name == "f"


USAGE = {
    "prompt_tokens": 7,
    "completion_tokens": 5,
    "prompt_tokens_details": {"cached_tokens": 3},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
RENAMED = {
    "input_tokens": 7,
    "output_tokens": 5,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens_details": {"reasoning_tokens": 2},
}


@pytest.mark.parametrize(
    "chunks",
    [
        [STOP, {"choices": [], "usage": USAGE}],
        [STOP, {"usage": USAGE}],
        [{**STOP, "usage": USAGE}],
        [{**delta(content=""), "usage": {**USAGE, "completion_tokens": 1}}, {**STOP, "usage": USAGE}],
        [STOP, {"choices": [], "usage": USAGE}, {"choices": [], "usage": None}],
        [
            STOP,
            {"choices": [], "usage": USAGE},
            {"choices": [], "usage": {"prompt_tokens": 0, "completion_tokens": 0}},
        ],
        [{"choices": [{"delta": {}, "finish_reason": "stop", "usage": USAGE}]}],
        [{**STOP, "x_groq": {"usage": USAGE}}],
        [STOP, {"choices": [], "usage": RENAMED}],
        [
            STOP,
            {
                "choices": [],
                "usage": {
                    "prompt_tokens": 7.0,
                    "completion_tokens": 5,
                    "cached_tokens": 3,
                    "reasoning_tokens": 2,
                },
            },
        ],
    ],
    ids=[
        *(
            "own chunk",
            "own chunk without choices",
            "last chunk",
            "growing",
            "null afterwards",
            "zero afterwards",
            "in the choice",
        ),
        *("a host's own member", "other names", "without details"),
    ],
)
def test_usage_is_found_wherever_the_upstream_puts_it(chunks: list[Any]) -> None:
    assert translate(*chunks)[-1] == ModelEnded("stop", Usage(7, 3, 5, 2))


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"prompt_tokens": "7"},
        {"prompt_tokens": -1},
        {"prompt_tokens": True, "prompt_tokens_details": []},
        {"prompt_tokens": 0.5, "completion_tokens": float("inf")},
    ],
)
def test_odd_usage_counts_as_zero(odd: dict[str, Any]) -> None:
    assert read_usage(odd) == Usage()


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"[]",
        b'"text"',
        b'{"choices": {"a": 1}}',
        b'{"choices": NaN}',
        b'{"choices": [',
        b"\xff",
        b"<html>",
    ],
)
def test_what_is_no_chunk_is_not_understood(data: bytes) -> None:
    with pytest.raises(NotUnderstood):
        ChatTranslator().read(data)


@pytest.mark.parametrize("data", [b"", b" ", b"null", b"\t"])
def test_event_without_a_chunk_says_nothing(data: bytes) -> None:
    assert ChatTranslator().read(data) == []


BROKEN = [
    "error",
    "abort",
    "cancelled",
    "network_error",
    "insufficient_system_resource",
    "MALFORMED_FUNCTION_CALL",
    "OTHER",
    "未知",
]


@pytest.mark.parametrize("reason", BROKEN)
def test_finish_reason_that_is_not_known_for_good_is_no_ending(reason: str) -> None:
    with pytest.raises(NotUnderstood, match="finish reason"):
        translate(delta(reason, content="Hel"))


@pytest.mark.parametrize("reason", BROKEN)
def test_text_beside_a_broken_end_is_told(reason: str) -> None:
    assert ChatTranslator().read(json.dumps(delta(reason, content="Hel")).encode()) == [TextWritten("Hel")]


@pytest.mark.parametrize(
    ("reasons", "expected"),
    [(["length", "stop"], "length"), (["stop", "length"], "length"), (["stop", "stop"], "stop")],
)
def test_of_two_ends_the_graver_holds(reasons: list[str], expected: str) -> None:
    assert translate(*[delta(reason, content="a") for reason in reasons])[-1] == ModelEnded(expected, Usage())  # type: ignore[arg-type]


@pytest.mark.parametrize("reasons", [["error", "stop"], ["stop", "error"]])
def test_broken_end_is_not_mended_by_a_good_one(reasons: list[str]) -> None:
    with pytest.raises(NotUnderstood):
        translate(*map(delta, reasons))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            (
                b'{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"token":"a",'
                b'"logprob":-Infinity}]}}]}'
            ),
            "a",
        ),
        (
            b'{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[{"token":"a","logprob":NaN}]}}]}',
            "a",
        ),
        (b'{"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":Infinity}}', "a"),
        (b'{"choices":[{"delta":{"content":"a\xffb"}}]}', "a\ufffdb"),
        (b'{"choices":[{"delta":{"content":"a\nb"}}]}', "a\nb"),
        (b'{"choices":[{"delta":{"content":"a\\ud83d"}}]}', "a\ufffd"),
        (b'{"choices":[{"delta":{"content":"\\ud83d\\ude00 \\ude00"}}]}', "\U0001f600 \ufffd"),
    ],
)
def test_damage_beside_the_text_does_not_cost_the_text(data: bytes, text: str) -> None:
    (event,) = ChatTranslator().read(data)
    assert isinstance(event, TextWritten)
    assert event.text == text


def test_log_probability_that_is_no_number_is_a_very_low_one() -> None:
    token = b'{"token":"a","logprob":-Infinity,"top_logprobs":[{"token":"b","logprob":NaN}]}'
    data = b'{"choices":[{"delta":{"content":"a"},"logprobs":{"content":[%s]}}]}' % token
    (event,) = ChatTranslator().read(data)
    assert isinstance(event, TextWritten)
    assert (event.logprobs[0]["logprob"], event.logprobs[0]["top_logprobs"][0]["logprob"]) == (
        -9999.0,
        -9999.0,
    )  # type: ignore[index, call-overload]


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
    assert (raised.value.status, "secret" in raised.value.message, "secret" in raised.value.detail) == (
        status,
        False,
        True,
    )
    assert not translator.finished
