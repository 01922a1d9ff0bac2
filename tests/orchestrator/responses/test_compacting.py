"""Playbooks of compaction: when a conversation is summarised, and what the summary stands for."""

from __future__ import annotations

from typing import Any

from tests.orchestrator.responses.playbook import Playbook, authorized, check_stream, request

from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.model_events import ModelEnded, ModelFailed, TextWritten, Usage
from regate_orchestrator.responses.commands import CallModel, Finish, Save
from regate_orchestrator.responses.events import ModelOpened, Requested
from regate_orchestrator.responses.prompt import PromptItem, since_compaction
from regate_orchestrator.values import ResponseId


def message(identifier: str, role: str, text: str) -> PromptItem:
    kind = "output_text" if role == "assistant" else "input_text"
    return PromptItem(
        {"id": identifier, "type": "message", "role": role, "content": [{"type": kind, "text": text}]}
    )


LONG = (message("u1", "user", "word " * 2_000), message("a1", "assistant", "Noted."))


def begun(history: tuple[PromptItem, ...] = LONG, **changes: Any) -> Playbook:
    asked = request(**({"compact_threshold": 1_000} | changes))
    book = Playbook(asked).tell(
        Requested(asked, ResponseId("resp_1"), "acme", "alice"), authorized(asked, history=history)
    )
    return book.tell(ModelOpened())


def contents(command: CallModel) -> list[Any]:
    return [one["content"] for one in command.payload["messages"]]  # type: ignore[index,union-attr,call-overload]


def test_long_history_is_summarised_first_and_the_summary_stands_for_it() -> None:
    book = begun().tell(
        TextWritten("They "), TextWritten("noted it."), ModelEnded("stop", Usage(9, 0, 3, 0)), ModelOpened()
    )
    book.tell(TextWritten("28."), ModelEnded("stop", Usage(5, 0, 1, 0)))
    check_stream(book.events)
    summarising, answering = book.of(CallModel)

    assert "Summarise" in contents(summarising)[-1]
    assert contents(answering) == [
        "[Summary of the conversation so far]\nThey noted it.",
        "How many days of leave?",
    ]
    assert [item["type"] for item in book.events[-1]["response"]["output"]] == ["compaction", "message"]
    assert book.events[-1]["response"]["usage"]["total_tokens"] == 18


def test_summary_is_never_shown_as_text() -> None:
    book = begun().tell(
        TextWritten("They noted it."),
        ModelEnded("stop", Usage()),
        ModelOpened(),
        TextWritten("28."),
        ModelEnded("stop", Usage()),
    )

    assert "They noted it." not in str(book.events)


def test_short_history_is_left_as_it_is() -> None:
    book = begun((message("u1", "user", "Hi"), message("a1", "assistant", "Hello.")))

    assert contents(book.of(CallModel)[0]) == ["Hi", "Hello.", "How many days of leave?"]


def test_summary_does_not_count_against_the_tokens_of_the_answer() -> None:
    book = begun(max_output_tokens=50).tell(
        TextWritten("They noted it."), ModelEnded("stop", Usage(9, 0, 60, 0))
    )

    assert book.of(CallModel)[-1].payload["max_tokens"] == 50


def test_summary_that_fails_fails_the_response() -> None:
    book = begun().tell(TextWritten("They "), ModelFailed(UpstreamError("broke off")))
    check_stream(book.events)

    assert (book.of(Save)[-1].row.status, book.events[-1]["type"]) == ("failed", "response.failed")


def test_empty_summary_is_a_failure_and_not_an_empty_past() -> None:
    book = begun().tell(TextWritten(" "), ModelEnded("stop", Usage()))

    assert book.of(Finish)[-1].response["status"] == "failed"


def test_compaction_alone_ends_with_its_item() -> None:
    book = begun(compact=True, store=False, compact_threshold=None).tell(
        TextWritten("All."), ModelEnded("stop", Usage(3, 0, 1, 0))
    )

    assert [item["type"] for item in book.of(Finish)[-1].response["output"]] == ["compaction"]


def test_what_a_compaction_stands_for_is_dropped_but_for_the_turn_it_was_made_in() -> None:
    compaction = PromptItem({"id": "cmp", "type": "compaction"}, text="s")
    items = [*LONG, message("u2", "user", "Now?"), compaction, message("a2", "assistant", "Yes.")]

    assert [item.body["id"] for item in since_compaction(items)] == ["cmp", "u2", "a2"]
