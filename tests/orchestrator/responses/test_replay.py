"""A stored Response told again is a stream as valid as the one that made it."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.orchestrator.responses.playbook import check_stream

from regate_orchestrator.responses.output.replay import events_of

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@st.composite
def items(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(
            ["message", "refusal", "reasoning", "summary", "call", "custom", "search", "compaction"]
        )
    )
    text = draw(WORDS)
    head = {
        "id": f"i_{draw(st.integers(0, 10**9))}",
        "status": draw(st.sampled_from(["completed", "incomplete"])),
    }
    match kind:
        case "message":
            cited = [{"type": "file_citation", "file_id": "f", "filename": "n", "index": 0}] * draw(
                st.integers(0, 2)
            )
            part: dict[str, Any] = {"type": "output_text", "text": text, "annotations": cited, "logprobs": []}
            return {**head, "type": "message", "role": "assistant", "content": [part]}
        case "refusal":
            return {
                **head,
                "type": "message",
                "role": "assistant",
                "content": [{"type": "refusal", "refusal": text}],
            }
        case "reasoning":
            return {
                **head,
                "type": "reasoning",
                "summary": [],
                "content": [{"type": "reasoning_text", "text": text}],
                "encrypted_content": "x",
            }
        case "summary":
            return {**head, "type": "reasoning", "summary": [{"type": "summary_text", "text": text}]}
        case "call":
            return {**head, "type": "function_call", "call_id": "c", "name": "f", "arguments": text}
        case "custom":
            return {**head, "type": "custom_tool_call", "call_id": "c", "name": "f", "input": text}
        case "search":
            return {**head, "type": "file_search_call", "queries": [text], "results": None}
        case _:
            return {"id": head["id"], "type": "compaction", "encrypted_content": "x"}


@settings(max_examples=150)
@given(
    st.lists(items(), max_size=5, unique_by=lambda item: item["id"]),
    st.sampled_from(["completed", "incomplete", "failed"]),
)
def test_replay_is_a_valid_stream_of_what_is_stored(output: list[dict[str, Any]], status: str) -> None:
    response = {
        "id": "resp_1",
        "status": status,
        "output": output,
        "usage": {"total_tokens": 1},
        "error": None,
        "incomplete_details": None,
    }
    events = events_of(response)
    check_stream(events)

    assert events[-1]["response"] == response


def test_what_was_sealed_is_announced_only_when_it_is_done() -> None:
    item = {
        "id": "r",
        "type": "reasoning",
        "status": "completed",
        "summary": [],
        "encrypted_content": "sealed",
    }
    events = events_of({"id": "resp_1", "status": "completed", "output": [item]})

    assert [
        "encrypted_content" in str(event)
        for event in events
        if event["type"].startswith("response.output_item")
    ] == [False, True]


def test_cancelled_response_has_no_terminal_event() -> None:
    assert [event["type"] for event in events_of({"id": "resp_1", "status": "cancelled", "output": []})] == [
        "response.created",
        "response.in_progress",
    ]
