"""Model turns in a prompt: which calls stand in one assistant message, and which output answers
which call.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.orchestrator.responses.playbook import SEARCH, WEATHER, Playbook, passage, request
from tests.orchestrator.responses.test_prompt import call, message, output, search

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.lineage import Lineage
from regate_orchestrator.model_events import ArgumentsWritten, CallOpened, ModelEnded, Usage
from regate_orchestrator.responses.commands import CallModel
from regate_orchestrator.responses.context.history import prompt_item
from regate_orchestrator.responses.events import ModelOpened, ToolDecided, ToolRan
from regate_orchestrator.responses.prompt import PromptItem, build_prompt
from regate_orchestrator.responses.tools.tool import ToolResult
from regate_orchestrator.rows import StoredItem


def shape(messages: Any) -> list[tuple[str, list[str]]]:
    """Each message's role, with the ids of its calls or of the call that it answers."""
    return [
        (
            one["role"],
            [tool["id"] for tool in one.get("tool_calls", ())] or [one["tool_call_id"]]
            if one["role"] in ("assistant", "tool")
            else [],
        )
        for one in messages
    ]


def test_call_after_an_output_begins_another_turn() -> None:
    prompt = build_prompt(None, [message("user", "q"), call("a"), output("a"), call("b"), output("b")])

    assert shape(prompt.messages) == [
        ("user", []),
        ("assistant", ["a"]),
        ("tool", ["a"]),
        ("assistant", ["b"]),
        ("tool", ["b"]),
    ]


def test_parallel_calls_answered_together_are_one_turn() -> None:
    prompt = build_prompt(None, [call("a"), call("b"), output("b"), output("a"), call("c"), output("c")])

    assert shape(prompt.messages)[0] == ("assistant", ["a", "b"])
    assert shape(prompt.messages)[3] == ("assistant", ["c"])


def test_searches_of_two_rounds_are_two_turns() -> None:
    book = Playbook(request(server_tools=(SEARCH,))).begin()
    for call_id in ("a", "b"):
        book.tell(CallOpened(0, call_id, "file_search"), ArgumentsWritten(0, json.dumps({"query": call_id})))
        book.tell(
            ModelEnded("tool_calls", Usage()),
            ToolDecided(call_id, "allow"),
            ToolRan(call_id, ToolResult(())),
            ModelOpened(),
        )

    sent = book.of(CallModel)[-1].payload["messages"]
    assert shape(sent) == [
        ("user", []),
        ("assistant", ["a"]),
        ("tool", ["a"]),
        ("assistant", ["b"]),
        ("tool", ["b"]),
    ]


def test_searches_of_one_round_are_one_turn() -> None:
    book = Playbook(request(server_tools=(SEARCH,))).begin()
    for slot, call_id in enumerate(("a", "b")):
        book.tell(
            CallOpened(slot, call_id, "file_search"), ArgumentsWritten(slot, json.dumps({"query": call_id}))
        )
    book.tell(ModelEnded("tool_calls", Usage()))
    book.tell(ToolDecided("a", "allow"), ToolDecided("b", "allow"))
    book.tell(*(ToolRan(call_id, ToolResult((passage(),))) for call_id in ("a", "b")))

    sent = book.of(CallModel)[-1].payload["messages"]
    assert shape(sent) == [("user", []), ("assistant", ["a", "b"]), ("tool", ["a"]), ("tool", ["b"])]


def test_call_of_no_tool_and_the_search_after_it_are_two_turns() -> None:
    book = Playbook(request(server_tools=(SEARCH,), client_tools=(WEATHER,))).begin()
    book.tell(
        CallOpened(0, "a", "nonsense"),
        ArgumentsWritten(0, "{}"),
        ModelEnded("tool_calls", Usage()),
        ModelOpened(),
    )
    book.tell(
        CallOpened(0, "b", "file_search"),
        ArgumentsWritten(0, '{"query": "q"}'),
        ModelEnded("tool_calls", Usage()),
    )
    book.tell(ToolDecided("b", "allow"), ToolRan("b", ToolResult(())))

    sent = book.of(CallModel)[-1].payload["messages"]
    assert shape(sent) == [
        ("user", []),
        ("assistant", ["a"]),
        ("tool", ["a"]),
        ("assistant", ["b"]),
        ("tool", ["b"]),
    ]


def test_stored_searches_of_two_rounds_are_two_turns() -> None:
    found = passage()
    first = StoredItem("fs_1", {**search().body, "id": "fs_1"}, "output")
    second = replace(first, id="fs_2", body={**first.body, "id": "fs_2"}, lineage=Lineage.of([found.source]))
    prompt = build_prompt(None, [prompt_item(item, shown=True) for item in (first, second)])

    assert shape(prompt.messages) == [
        ("assistant", ["fs_1"]),
        ("tool", ["fs_1"]),
        ("assistant", ["fs_2"]),
        ("tool", ["fs_2"]),
    ]


Q1, Q2 = message("user", "q1"), message("user", "q2")
USER = ("user", [])

SPOKEN_BETWEEN: dict[str, tuple[list[PromptItem], list[tuple[str, list[str]]]]] = {
    "nothing": ([Q1, call("a"), output("a"), Q2], [USER, ("assistant", ["a"]), ("tool", ["a"]), USER]),
    "a question": ([Q1, call("a"), Q2, output("a")], [USER, USER, ("assistant", ["a"]), ("tool", ["a"])]),
    "two questions": ([call("a"), Q1, Q2, output("a")], [USER, USER, ("assistant", ["a"]), ("tool", ["a"])]),
    "a question between parallel calls and outputs": (
        [call("a"), call("b"), Q1, output("b"), output("a")],
        [USER, ("assistant", ["a", "b"]), ("tool", ["a"]), ("tool", ["b"])],
    ),
    "a question between two outputs": (
        [call("a"), call("b"), output("a"), Q1, output("b")],
        [("assistant", ["a"]), ("tool", ["a"]), USER, ("assistant", ["b"]), ("tool", ["b"])],
    ),
    "a question, and one after it": (
        [call("a"), Q1, output("a"), Q2],
        [USER, ("assistant", ["a"]), ("tool", ["a"]), USER],
    ),
    "an output of an earlier call": (
        [call("a"), output("a"), call("b"), Q1, output("b")],
        [("assistant", ["a"]), ("tool", ["a"]), USER, ("assistant", ["b"]), ("tool", ["b"])],
    ),
}


@pytest.mark.parametrize("between", SPOKEN_BETWEEN)
def test_call_stands_where_its_output_is_when_something_was_said_between(between: str) -> None:
    items, expected = SPOKEN_BETWEEN[between]

    assert shape(build_prompt(None, items).messages) == expected


def test_what_was_said_with_a_call_stays_before_what_was_said_after_it() -> None:
    prompt = build_prompt(None, [Q1, message("assistant", "Let me look."), call("a"), Q2, output("a")])

    assert [(one["role"], one["content"]) for one in prompt.messages] == [
        ("user", "q1"),
        ("assistant", "Let me look."),
        ("user", "q2"),
        ("assistant", None),
        ("tool", "sunny"),
    ]


def test_text_that_the_model_wrote_after_its_call_is_of_the_same_turn() -> None:
    prompt = build_prompt(None, [Q1, call("a"), message("assistant", "Just a moment."), output("a")])

    assert [(one["role"], one["content"]) for one in prompt.messages] == [
        ("user", "q1"),
        ("assistant", "Just a moment."),
        ("tool", "sunny"),
    ]


def test_reasoning_goes_with_the_call_that_it_led_to() -> None:
    thought = PromptItem(
        {
            "id": "rs",
            "type": "reasoning",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
        }
    )
    prompt = build_prompt(None, [Q1, thought, call("a"), Q2, output("a")], reasoning_field="reasoning")

    assert [one.get("reasoning") for one in prompt.messages] == [None, None, "Hm.", None]


def test_id_that_a_backend_uses_again_answers_each_call_with_its_own_output() -> None:
    items = [call("call_0"), output("call_0", "first"), call("call_0"), output("call_0", "second")]
    prompt = build_prompt(None, items)

    assert [one["content"] for one in prompt.messages if one["role"] == "tool"] == ["first", "second"]


@pytest.mark.parametrize(
    "items",
    [
        [call("call_0"), output("call_0"), call("call_0")],
        [call("call_0"), output("call_0"), call("call_0"), message("user", "Go on.")],
    ],
)
def test_output_of_an_earlier_call_answers_no_later_one(items: list[PromptItem]) -> None:
    with pytest.raises(InvalidRequest, match="No tool output found for function call call_0"):
        build_prompt(None, items)
