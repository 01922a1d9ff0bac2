"""Playbooks of background responses, of warm-ups, and of truncation: the paths on which a model is not
called at once, or again.
"""

from __future__ import annotations

from tests.orchestrator.responses.playbook import Playbook, authorized, check_stream, request
from tests.orchestrator.responses.test_compacting import contents, message

from regate_orchestrator.errors import StateUnavailable, UpstreamError
from regate_orchestrator.model_events import ModelEnded, TextWritten, Usage
from regate_orchestrator.responses.commands import CallModel, DecideContext, Finish, Refuse, Save
from regate_orchestrator.responses.events import ClientLeft, Failed, ModelOpened, Requested, Saved
from regate_orchestrator.responses.machine import advance
from regate_orchestrator.responses.prompt import PromptItem
from regate_orchestrator.responses.state import State
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import ResponseId

OVERFLOW = UpstreamError("too long", status=400, code="context_length_exceeded")


def requested(book: Playbook) -> Playbook:
    return book.tell(Requested(book.request, ResponseId("resp_1"), "acme", "alice"))


def test_background_response_is_stored_as_queued_before_anything_is_announced_or_called() -> None:
    asked = request(background=True)
    state, _ = advance(State(), Requested(asked, ResponseId("resp_1"), "acme", "alice"), 0)
    state, commands = advance(state, authorized(asked), 0)

    assert [type(command) for command in commands] == [Save]
    assert commands[0].row.status == "queued"  # type: ignore[union-attr]


def test_background_stream_tells_created_queued_and_in_progress_in_order() -> None:
    book = requested(Playbook(request(background=True)))
    book.tell(authorized(book.request), ModelOpened(), TextWritten("Hi"), ModelEnded("stop", Usage()))
    check_stream(book.events)

    assert book.kinds[:3] == ["response.created", "response.queued", "response.in_progress"]
    assert [save.row.status for save in book.of(Save)] == ["queued", "in_progress", "completed"]


def test_background_response_that_no_backend_accepts_is_failed_and_not_refused() -> None:
    book = requested(Playbook(request(background=True)))
    book.tell(authorized(book.request), Failed(UpstreamError("no")))

    assert (book.kinds[-1], book.of(Refuse), book.of(Save)[-1].row.status) == (
        "response.failed",
        [],
        "failed",
    )


def test_background_response_that_cannot_be_queued_is_refused() -> None:
    asked = request(background=True)
    state, _ = advance(State(), Requested(asked, ResponseId("resp_1"), "acme", "alice"), 0)
    state, _ = advance(state, authorized(asked), 0)
    error = StateUnavailable()
    _, commands = advance(state, Failed(error), 0)

    assert commands == [Refuse(error)]


def test_queued_response_can_be_cancelled_before_its_turn() -> None:
    book = requested(Playbook(request(background=True)))
    book.tell(authorized(book.request), ClientLeft())

    assert book.of(Save)[-1].row.status == "cancelled"


def test_warm_up_completes_without_a_model() -> None:
    book = requested(Playbook(request(generate=False, store=False)))
    book.tell(authorized(book.request))
    check_stream(book.events)

    assert (book.of(CallModel), book.of(Finish)[0].response["output"]) == ([], [])


def test_overflow_is_the_callers_error_without_truncation() -> None:
    book = requested(Playbook())
    book.tell(authorized(book.request), Failed(OVERFLOW))

    assert book.commands[-1] == Refuse(OVERFLOW)


def test_truncation_drops_the_older_half_of_the_turns_until_it_fits() -> None:
    history = tuple(
        message(f"{role}{turn}", role, f"{role} {turn}")
        for turn in range(4)
        for role in ("user", "assistant")
    )
    book = requested(Playbook(request(truncation="auto")))
    book.tell(authorized(book.request, history=history), Failed(OVERFLOW), Failed(OVERFLOW), Failed(OVERFLOW))
    sizes = [len(contents(call)) for call in book.of(CallModel)]

    assert sizes == [9, 3, 1]
    assert contents(book.of(CallModel)[-1]) == ["How many days of leave?"]
    assert book.commands[-1] == Refuse(OVERFLOW)


def test_truncation_keeps_the_rounds_for_the_tools() -> None:
    book = requested(Playbook(request(truncation="auto")))
    history = (message("u1", "user", "a"), message("a1", "assistant", "b"))
    book.tell(authorized(book.request, history=history), Failed(OVERFLOW))

    assert book.state.round == 1


def test_known_window_is_kept_to_before_the_backend_is_asked() -> None:
    history = tuple(
        message(f"{role}{turn}", role, "word " * 100) for turn in range(4) for role in ("user", "assistant")
    )
    refused, shortened = requested(Playbook()), requested(Playbook(request(truncation="auto")))
    for book in (refused, shortened):
        book.tell(
            authorized(book.request, history=history, capabilities=UpstreamCapabilities(context_window=300))
        )

    assert refused.of(CallModel) == []
    assert (type(refused.commands[-1]), refused.commands[-1].error.code) == (
        Refuse,
        "context_length_exceeded",
    )  # type: ignore[union-attr]
    assert [len(contents(call)) for call in shortened.of(CallModel)] == [3]


def test_reasoning_of_earlier_turns_is_sent_back_unless_the_client_wants_it_forgotten() -> None:
    thought = PromptItem(
        {
            "id": "rs",
            "type": "reasoning",
            "summary": [],
            "content": [{"type": "reasoning_text", "text": "Hm."}],
        }
    )
    history = (message("u1", "user", "a"), thought, message("a1", "assistant", "b"))
    sent = []
    for forget in (False, True):
        book = requested(Playbook(request(forget_reasoning=forget)))
        book.tell(
            authorized(
                book.request, history=history, capabilities=UpstreamCapabilities(reasoning_field="reasoning")
            )
        )
        sent.append(book.of(CallModel)[0].payload["messages"][1])  # type: ignore[index,call-overload]

    assert sent == [
        {"role": "assistant", "content": "b", "reasoning": "Hm."},
        {"role": "assistant", "content": "b"},
    ]


def test_saving_is_answered_in_the_phase_it_was_asked_in() -> None:
    asked = request(background=True)
    state, _ = advance(State(), Requested(asked, ResponseId("resp_1"), "acme", "alice"), 0)
    state, _ = advance(state, authorized(asked), 0)
    state, commands = advance(state, Saved(), 0)

    assert isinstance(commands[-1], DecideContext)
