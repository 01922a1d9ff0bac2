"""Runs that end without an answer: whatever the reason, the end says so."""

from __future__ import annotations

from typing import Any

import pytest
from tests.orchestrator.responses.playbook import SEARCH, WEATHER, Playbook, check_stream, request

from regate_orchestrator.model_events import (
    ArgumentsWritten,
    CallOpened,
    ModelEnded,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
    Usage,
)
from regate_orchestrator.responses.commands import CallModel, Finish
from regate_orchestrator.responses.events import Event, ModelOpened, ToolDecided, ToolRan
from regate_orchestrator.responses.request import Limits
from regate_orchestrator.responses.tools.tool import ToolResult

STOP = ModelEnded("stop", Usage(3, 0, 2, 0))
CALLED = ModelEnded("tool_calls", Usage(3, 0, 2, 0))
UNSEEN: list[Event] = [CallOpened(0, "a", "no_such_tool"), ArgumentsWritten(0, "{}"), CALLED]
SEARCHED: list[Event] = [CallOpened(0, "a", "file_search"), ArgumentsWritten(0, '{"query": "q"}'), CALLED]
FOUND: list[Event] = [ToolDecided("a", "allow"), ToolRan("a", ToolResult(()))]
OUTPUT = [
    {"id": "fc", "type": "function_call", "call_id": "a", "name": "weather", "arguments": "{}"},
    {"id": "fo", "type": "function_call_output", "call_id": "a", "output": "sunny"},
]

UNANSWERED: dict[str, tuple[dict[str, Any], list[Event]]] = {
    "a tool that there is not, in every round": ({}, [*UNSEEN, ModelOpened(), *UNSEEN]),
    "a search when no more is offered": (
        {"server_tools": (SEARCH,)},
        [*SEARCHED, *FOUND, ModelOpened(), *SEARCHED],
    ),
    "nothing": ({}, [STOP]),
    "nothing after a search": ({"server_tools": (SEARCH,)}, [*SEARCHED, *FOUND, ModelOpened(), STOP]),
    "reasoning alone": ({}, [ReasoningWritten("Hm."), STOP]),
    "a tool that there is not, after the output of one": (
        {"items": tuple(OUTPUT)},
        [*UNSEEN, ModelOpened(), *UNSEEN],
    ),
}


def played(changes: dict[str, Any], events: list[Event]) -> Playbook:
    return Playbook(request(**changes), limits=Limits(max_rounds=2)).begin().tell(*events)


@pytest.mark.parametrize("case", UNANSWERED)
def test_run_without_an_answer_has_failed(case: str) -> None:
    book = played(*UNANSWERED[case])
    check_stream(book.events)
    (finish,) = book.of(Finish)
    rounds = len(book.of(CallModel))

    assert (finish.response["status"], finish.response["error"]["code"]) == ("failed", "server_error")
    assert finish.response["usage"]["output_tokens"] == 2 * rounds


ANSWERED: dict[str, tuple[dict[str, Any], list[Event]]] = {
    "text": ({}, [TextWritten("Hello"), STOP]),
    "a refusal": ({}, [RefusalWritten("No."), STOP]),
    "text beside a tool that there is not": ({}, [*UNSEEN, ModelOpened(), TextWritten("Hello"), *UNSEEN]),
    "a call": ({"client_tools": (WEATHER,)}, [CallOpened(0, "a", "weather"), CALLED]),
    "nothing to add to a tool's output": ({"items": tuple(OUTPUT)}, [STOP]),
}


@pytest.mark.parametrize("case", ANSWERED)
def test_run_with_an_answer_is_completed(case: str) -> None:
    book = played(*ANSWERED[case])
    check_stream(book.events)

    assert [finish.response["status"] for finish in book.of(Finish)] == ["completed"]


def test_run_that_is_cut_before_its_answer_is_incomplete() -> None:
    book = played({}, [ReasoningWritten("Hm."), ModelEnded("length", Usage())])

    assert [finish.response["status"] for finish in book.of(Finish)] == ["incomplete"]
