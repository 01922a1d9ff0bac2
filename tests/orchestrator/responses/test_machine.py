"""Playbooks of the machine: what each path of a response looks like, event by event, without any IO."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.orchestrator.responses.playbook import (
    NOW,
    SEARCH,
    WEATHER,
    Playbook,
    authorized,
    check_stream,
    passage,
    request,
    searchable,
)

from regate_orchestrator.errors import NotFound, PolicyUnavailable, StateUnavailable, UpstreamError
from regate_orchestrator.lineage import NOTHING_READ
from regate_orchestrator.model_events import (
    ArgumentsWritten,
    CallOpened,
    ModelEnded,
    ModelFailed,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
    Usage,
)
from regate_orchestrator.responses.commands import (
    CallModel,
    DecideTool,
    Finish,
    Recall,
    Refuse,
    RunTool,
    Save,
)
from regate_orchestrator.responses.context.history import held
from regate_orchestrator.responses.events import (
    ClientLeft,
    ContextDecided,
    Failed,
    ModelOpened,
    QuotaGranted,
    Recalled,
    Requested,
    Saved,
    ToolDecided,
    ToolRan,
)
from regate_orchestrator.responses.machine import TRANSITIONS, advance
from regate_orchestrator.responses.request import Include, Limits
from regate_orchestrator.responses.state import Phase, State
from regate_orchestrator.responses.tools.kinds.file_search import RESULTS
from regate_orchestrator.responses.tools.tool import ToolResult
from regate_orchestrator.rows import ResponseRow
from regate_orchestrator.values import ResponseId


def searching(*, query: str = "leave", slot: int = 0) -> list[object]:
    return [
        CallOpened(slot, f"call_{slot}", "file_search"),
        ArgumentsWritten(slot, json.dumps({"query": query})),
    ]


def test_plain_answer_streams_created_to_completed_in_order() -> None:
    book = (
        Playbook().begin().tell(TextWritten("Hel"), TextWritten("lo"), ModelEnded("stop", Usage(3, 0, 2, 0)))
    )
    check_stream(book.events)

    assert book.kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]


def test_nothing_is_sent_to_a_backend_before_the_turn_is_authorized() -> None:
    book = Playbook().tell(Requested(request(), ResponseId("resp_1"), "acme", "alice"))

    assert book.of(CallModel) == []


def test_nothing_is_announced_before_the_backend_accepted_the_call() -> None:
    book = Playbook().tell(Requested(request(), ResponseId("resp_1"), "acme", "alice"), authorized(request()))

    assert book.events == []


def test_failure_before_the_first_byte_is_a_refusal() -> None:
    error = UpstreamError("no", status=429)
    book = Playbook().tell(
        Requested(request(), ResponseId("resp_1"), "acme", "alice"), authorized(request()), Failed(error)
    )

    assert book.commands[-1] == Refuse(error)


def test_usage_is_summed_over_rounds() -> None:
    book = Playbook(searchable()).begin().tell(*searching(), ModelEnded("tool_calls", Usage(10, 1, 5, 0)))
    book.tell(ToolDecided("call_0", "allow"), ToolRan("call_0", ToolResult((passage(),))), ModelOpened())
    book.tell(TextWritten("28 days"), ModelEnded("stop", Usage(20, 2, 7, 3)))

    usage = book.of(Finish)[0].response["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (30, 12, 42)


def test_file_search_round_trip_cites_the_file_behind_the_marker() -> None:
    book = Playbook(searchable()).begin().tell(*searching(), ModelEnded("tool_calls", Usage()))
    assert [command.call.arguments for command in book.tell(ToolDecided("call_0", "allow")).of(RunTool)] == [
        {"query": "leave"}
    ]
    book.tell(ToolRan("call_0", ToolResult((passage(),))), ModelOpened())
    book.tell(TextWritten("28 days【"), TextWritten("1】."), ModelEnded("stop", Usage()))
    check_stream(book.events)

    search, message = book.of(Finish)[0].response["output"]
    assert (search["type"], search["queries"], search["results"]) == ("file_search_call", ["leave"], None)
    (part,) = message["content"]
    assert part["text"] == "28 days."
    assert part["annotations"] == [
        {"type": "file_citation", "file_id": "file-1", "filename": "leave-1.md", "index": 7}
    ]


def test_annotation_is_announced_before_the_content_part_is_done() -> None:
    book = Playbook(searchable()).begin().tell(*searching(), ModelEnded("tool_calls", Usage()))
    book.tell(ToolDecided("call_0", "allow"), ToolRan("call_0", ToolResult((passage(),))), ModelOpened())
    book.tell(TextWritten("28 days"), ModelEnded("stop", Usage()))

    assert book.kinds.index("response.output_text.annotation.added") < book.kinds.index(
        "response.content_part.done"
    )


def test_unmarked_answer_cites_only_what_it_quotes() -> None:
    book = Playbook(searchable()).begin().tell(*searching(), ModelEnded("tool_calls", Usage()))
    found = (passage(1), passage(2, text="Lunch is served at noon in the canteen."))
    book.tell(ToolDecided("call_0", "allow"), ToolRan("call_0", ToolResult(found)), ModelOpened())
    book.tell(TextWritten("Staff are told that lunch is served at noon."), ModelEnded("stop", Usage()))

    (part,) = book.of(Finish)[0].response["output"][1]["content"]
    assert [annotation["file_id"] for annotation in part["annotations"]] == ["file-2"]


def test_unmarked_answer_that_quotes_nothing_cites_nothing() -> None:
    book = Playbook(searchable()).begin().tell(*searching(), ModelEnded("tool_calls", Usage()))
    book.tell(ToolDecided("call_0", "allow"), ToolRan("call_0", ToolResult((passage(),))), ModelOpened())
    book.tell(TextWritten("The documents do not say."), ModelEnded("stop", Usage()))

    assert book.of(Finish)[0].response["output"][1]["content"][0]["annotations"] == []


def test_marker_of_no_passage_is_removed_and_cites_nothing() -> None:
    book = Playbook().begin().tell(TextWritten("Yes【7】"), ModelEnded("stop", Usage()))

    (message,) = book.of(Finish)[0].response["output"]
    assert (message["content"][0]["text"], message["content"][0]["annotations"]) == ("Yes", [])


def test_message_rests_on_every_chunk_that_the_model_had_read() -> None:
    book = Playbook(searchable()).begin().tell(*searching(), ModelEnded("tool_calls", Usage()))
    book.tell(
        ToolDecided("call_0", "allow"),
        ToolRan("call_0", ToolResult((passage(1), passage(2)))),
        ModelOpened(),
    )
    book.tell(TextWritten("28"), ModelEnded("stop", Usage()))

    row = book.of(Save)[-1].row
    lineage = {item.body["type"]: [source.file_id for source in item.lineage] for item in row.items}
    assert lineage == {"message": ["file-1", "file-2"], "file_search_call": []}
    assert row.items[0].lineage == NOTHING_READ


def test_what_is_lost_before_the_next_call_is_neither_sent_nor_read_from_then_on() -> None:
    book = Playbook(searchable()).begin().tell(*searching(), ModelEnded("tool_calls", Usage()))
    book.tell(
        ToolDecided("call_0", "allow"),
        ToolRan("call_0", ToolResult((passage(1), passage(2)))),
        ModelOpened(),
    )
    book.tell(TextWritten("28, says the first. "), *searching(), ModelEnded("tool_calls", Usage()))
    book.context = ContextDecided(denied=frozenset({passage(1).source.key}))
    book.tell(ToolDecided("call_0", "allow"), ToolRan("call_0", ToolResult(())), ModelOpened())
    book.tell(TextWritten("Done."), ModelEnded("stop", Usage()))
    sent = json.dumps(book.of(CallModel)[-1].payload["messages"])
    read = [
        [source.file_id for source in item.lineage]
        for item in book.of(Save)[-1].row.items
        if item.body["type"] == "message"
    ]

    assert "28, says the first" not in sent
    assert sent.count("Everyone has 28 days") == 1
    assert read == [[], ["file-1", "file-2"], ["file-2"]]


def test_item_that_may_no_longer_be_used_is_withheld_from_the_next_call() -> None:
    book = Playbook(searchable()).begin().tell(*searching(), ModelEnded("tool_calls", Usage()))
    book.context = ContextDecided(denied_items=frozenset({"msg_in"}))
    book.tell(ToolDecided("call_0", "allow"), ToolRan("call_0", ToolResult(())))

    assert "How many days" not in json.dumps(book.of(CallModel)[-1].payload["messages"])


def test_results_are_kept_beside_the_stored_item_and_never_in_it() -> None:
    book = (
        Playbook(searchable(include=Include(frozenset({RESULTS}))))
        .begin()
        .tell(*searching(), ModelEnded("tool_calls", Usage()))
    )
    book.tell(ToolDecided("call_0", "allow"), ToolRan("call_0", ToolResult((passage(),))), ModelOpened())
    book.tell(TextWritten("28"), ModelEnded("stop", Usage()))

    stored = next(item for item in book.of(Save)[-1].row.items if item.body["type"] == "file_search_call")
    assert stored.body["results"] is None
    assert [result["text"] for result in stored.results] == ["Everyone has 28 days of leave."]
    assert book.of(Finish)[0].response["output"][0]["results"][0]["file_id"] == "file-1"


def test_denied_tool_call_runs_no_search_and_the_model_is_told() -> None:
    book = Playbook(searchable()).begin().tell(*searching(), ModelEnded("tool_calls", Usage()))
    book.tell(ToolDecided("call_0", "deny"))

    assert book.of(RunTool) == []
    assert "not permitted" in book.of(CallModel)[-1].payload["messages"][-1]["content"]


def test_denied_result_never_reaches_the_prompt() -> None:
    book = Playbook(searchable()).begin().tell(*searching(), ModelEnded("tool_calls", Usage()))
    book.tell(ToolDecided("call_0", "allow"), ToolRan("call_0", None))

    assert "28 days" not in json.dumps(book.of(CallModel)[-1].payload)


def test_search_arguments_other_than_the_query_are_ignored() -> None:
    arguments = json.dumps(
        {
            "query": "leave",
            "vector_store_ids": ["vs_foreign"],
            "filters": {"type": "or"},
            "max_num_results": 50,
        }
    )
    book = Playbook(searchable()).begin()
    book.tell(
        CallOpened(0, "c", "file_search"),
        ArgumentsWritten(0, arguments),
        ModelEnded("tool_calls", Usage()),
        ToolDecided("c", "allow"),
    )

    (run,) = book.of(RunTool)
    assert (run.call.call_id, run.call.arguments, run.call.tool) == ("c", {"query": "leave"}, SEARCH)


@pytest.mark.parametrize("arguments", ["", "not json", "[]", '{"q": "x"}', '{"query": 7}', '{"query": " "}'])
def test_search_with_unusable_arguments_fails_and_the_loop_goes_on(arguments: str) -> None:
    book = Playbook(searchable()).begin()
    book.tell(
        CallOpened(0, "c", "file_search"), ArgumentsWritten(0, arguments), ModelEnded("tool_calls", Usage())
    )

    assert book.of(DecideTool) == []
    assert "must be a JSON object" in book.of(CallModel)[-1].payload["messages"][-1]["content"]


def test_function_call_ends_the_response_and_is_returned_to_the_client() -> None:
    book = Playbook(request(client_tools=(WEATHER,))).begin()
    book.tell(
        CallOpened(0, "call_a", "weather"), ArgumentsWritten(0, '{"city":'), ArgumentsWritten(0, '"Rome"}')
    )
    book.tell(ModelEnded("tool_calls", Usage()))
    check_stream(book.events)

    (call,) = book.of(Finish)[0].response["output"]
    assert (call["type"], call["call_id"], call["name"], call["arguments"]) == (
        "function_call",
        "call_a",
        "weather",
        '{"city":"Rome"}',
    )


def test_parallel_calls_are_kept_apart_by_slot() -> None:
    book = Playbook(request(client_tools=(WEATHER,))).begin()
    book.tell(
        CallOpened(0, "a", "weather"),
        CallOpened(1, "b", "weather"),
        ArgumentsWritten(1, "{}"),
        ArgumentsWritten(0, '{"x":1}'),
    )
    book.tell(ModelEnded("tool_calls", Usage()))
    check_stream(book.events)

    assert [call["arguments"] for call in book.of(Finish)[0].response["output"]] == ['{"x":1}', "{}"]


@pytest.mark.parametrize("written", [[], [ArgumentsWritten(0, " ")]])
def test_call_without_arguments_has_the_empty_object(written: list[ArgumentsWritten]) -> None:
    book = Playbook(request(client_tools=(WEATHER,))).begin()
    book.tell(CallOpened(0, "call_a", "weather"), *written, ModelEnded("tool_calls", Usage()))
    check_stream(book.events)

    (call,) = book.of(Finish)[0].response["output"]
    deltas = [
        event["delta"] for event in book.events if event["type"] == "response.function_call_arguments.delta"
    ]
    assert (json.loads(call["arguments"]), "".join(deltas)) == ({}, call["arguments"])


def test_search_beside_a_function_call_runs_and_then_the_response_ends() -> None:
    book = Playbook(searchable(client_tools=(WEATHER,))).begin()
    book.tell(
        *searching(slot=0),
        CallOpened(1, "b", "weather"),
        ArgumentsWritten(1, "{}"),
        ModelEnded("tool_calls", Usage()),
    )
    book.tell(ToolDecided("call_0", "allow"), ToolRan("call_0", ToolResult((passage(),))))
    check_stream(book.events)

    assert [item["type"] for item in book.of(Finish)[0].response["output"]] == [
        "file_search_call",
        "function_call",
    ]
    assert len(book.of(CallModel)) == 1


def test_tool_that_was_not_offered_is_never_run_nor_shown() -> None:
    book = Playbook(request(client_tools=(WEATHER,))).begin()
    book.tell(
        CallOpened(0, "x", "delete_everything"), ArgumentsWritten(0, "{}"), ModelEnded("tool_calls", Usage())
    )

    assert book.of(DecideTool) == []
    assert "delete_everything" not in json.dumps(book.events)
    assert "no such tool" in book.of(CallModel)[-1].payload["messages"][-1]["content"]


def test_file_search_that_was_not_offered_is_not_run() -> None:
    book = Playbook().begin().tell(*searching(), ModelEnded("tool_calls", Usage()))

    assert book.of(DecideTool) == []


def test_max_tool_calls_counts_within_one_parallel_batch() -> None:
    book = Playbook(searchable(max_tool_calls=1)).begin()
    book.tell(*searching(slot=0), *searching(slot=1, query="more"), ModelEnded("tool_calls", Usage()))
    book.tell(ToolDecided("call_0", "allow"), ToolRan("call_0", ToolResult(())))

    assert len(book.of(RunTool)) == 1
    assert "tools" not in book.of(CallModel)[-1].payload


def test_loop_ends_when_the_model_calls_for_ever() -> None:
    book = Playbook(searchable(), limits=Limits(max_rounds=3, max_tool_calls=99)).begin()
    while not book.of(Finish):
        book.tell(*searching(), ModelEnded("tool_calls", Usage()))
        if book.state.phase is Phase.DECIDING:
            book.tell(ToolDecided("call_0", "allow"), ToolRan("call_0", ToolResult(())), ModelOpened())
    check_stream(book.events)

    assert len(book.of(CallModel)) == 3


def test_what_the_quota_grants_bounds_the_response_and_is_what_it_says_of_itself() -> None:
    asked = searchable(max_output_tokens=100)
    book = Playbook(asked, limits=Limits(max_rounds=3))
    book.tell(
        Requested(asked, ResponseId("resp_1"), "acme", "alice"),
        QuotaGranted(replace(asked, max_output_tokens=16), Limits(max_rounds=1)),
    )
    book.tell(authorized(asked), ModelOpened(), TextWritten("28."), ModelEnded("stop", Usage()))
    payload, created = book.of(CallModel)[0].payload, book.events[0]["response"]

    assert (payload["max_tokens"], "tools" in payload, created["max_output_tokens"]) == (16, False, 16)


def test_length_makes_the_response_incomplete_and_runs_nothing() -> None:
    book = Playbook(searchable(max_output_tokens=16)).begin()
    book.tell(
        TextWritten("A long"),
        CallOpened(0, "c", "file_search"),
        ArgumentsWritten(0, '{"query": "le'),
        ModelEnded("length", Usage()),
    )
    check_stream(book.events)

    response = book.of(Finish)[0].response
    assert (response["status"], response["incomplete_details"]) == (
        "incomplete",
        {"reason": "max_output_tokens"},
    )
    assert response["output"][-1]["status"] == "incomplete"
    assert book.of(DecideTool) == []


def test_content_filter_makes_the_response_incomplete() -> None:
    book = Playbook().begin().tell(TextWritten("A"), ModelEnded("content_filter", Usage()))

    assert book.of(Finish)[0].response["incomplete_details"] == {"reason": "content_filter"}


def test_failure_in_mid_stream_closes_items_stores_failed_and_says_so() -> None:
    book = (
        Playbook()
        .begin()
        .tell(TextWritten("Half an ans"), ModelFailed(UpstreamError("The backend broke off.")))
    )
    check_stream(book.events)

    assert book.kinds[-1] == "response.failed"
    assert book.of(Save)[-1].row.status == "failed"
    assert book.of(Finish)[0].response["error"] == {
        "code": "server_error",
        "message": "The backend broke off.",
    }


def test_policy_failure_in_mid_loop_fails_the_response() -> None:
    book = (
        Playbook(searchable())
        .begin()
        .tell(*searching(), ModelEnded("tool_calls", Usage()), Failed(PolicyUnavailable("down")))
    )
    check_stream(book.events)

    assert book.of(Finish)[0].response["error"]["code"] == "policy_unavailable"
    assert book.of(RunTool) == []


def test_response_that_could_not_be_stored_never_claims_completed() -> None:
    state, _ = Playbook().begin().tell(TextWritten("Hi")).state, None
    state, commands = advance(state, ModelEnded("stop", Usage()), NOW)
    assert isinstance(commands[-1], Save)
    state, commands = advance(state, Failed(StateUnavailable("disk")), NOW)

    assert [command.event["type"] for command in commands[:-1]] == ["response.failed"]  # type: ignore[union-attr]


def test_in_progress_row_is_saved_before_created_is_sent() -> None:
    state = State()
    asked = request(stream=True)
    for event in (Requested(asked, ResponseId("r"), "acme", "alice"), authorized(asked)):
        state, _ = advance(state, event, NOW)
    state, commands = advance(state, ModelOpened(), NOW)

    assert [type(command) for command in commands] == [Save]
    assert commands[0].row.status == "in_progress"  # type: ignore[union-attr]


def test_response_of_which_nobody_hears_before_its_end_is_saved_once() -> None:
    book = Playbook(request()).begin().tell(TextWritten("Whole"), ModelEnded("stop", Usage()))

    assert [save.row.status for save in book.of(Save)] == ["completed"]


def test_store_false_saves_nothing() -> None:
    book = Playbook(request(store=False)).begin().tell(TextWritten("Hi"), ModelEnded("stop", Usage()))
    check_stream(book.events)

    assert book.of(Save) == []


def test_client_that_leaves_in_mid_stream_leaves_a_cancelled_row_and_no_terminal_event() -> None:
    book = Playbook().begin().tell(TextWritten("Half"), ClientLeft())

    assert book.of(Save)[-1].row.status == "cancelled"
    assert not {"response.completed", "response.failed"} & set(book.kinds)


def test_client_that_leaves_after_the_end_changes_nothing() -> None:
    asked = request(stream=True)
    book = Playbook(asked).begin().tell(TextWritten("Whole"), ModelEnded("stop", Usage()), ClientLeft())

    assert [save.row.status for save in book.of(Save)] == ["in_progress", "completed"]


def test_chain_is_recalled_before_it_is_authorized() -> None:
    asked = request(previous_response_id=ResponseId("resp_0"))
    book = Playbook(asked).tell(Requested(asked, ResponseId("resp_1"), "acme", "alice"))

    assert book.commands == [Recall(asked)]


@pytest.mark.parametrize("status", ["failed", "in_progress", "cancelled"])
def test_half_turn_is_not_reused_as_history(status: str) -> None:
    asked = request(previous_response_id=ResponseId("resp_0"))
    row = ResponseRow(ResponseId("resp_0"), "acme", "alice", 0, status, None, "m", "rev", {})
    book = Playbook(asked).tell(
        Requested(asked, ResponseId("resp_1"), "acme", "alice"), Recalled(held([row]), row.status)
    )

    assert isinstance(book.commands[-1], Refuse)


def test_missing_chain_is_refused_as_not_found() -> None:
    asked = request(previous_response_id=ResponseId("resp_0"))
    error = NotFound("Previous response not found.", param="previous_response_id")
    book = Playbook(asked).tell(Requested(asked, ResponseId("resp_1"), "acme", "alice"), Failed(error))

    assert book.commands[-1] == Refuse(error)


def test_event_that_a_phase_does_not_expect_is_a_programming_error() -> None:
    with pytest.raises(AssertionError):
        advance(State(), Saved(), NOW)


def test_every_phase_has_its_transitions() -> None:
    assert set(TRANSITIONS) == set(Phase)


def test_remaining_tokens_are_what_the_next_round_may_use() -> None:
    book = (
        Playbook(searchable(max_output_tokens=100))
        .begin()
        .tell(*searching(), ModelEnded("tool_calls", Usage(0, 0, 30, 0)))
    )
    book.tell(ToolDecided("call_0", "allow"), ToolRan("call_0", ToolResult(())))

    assert [call.payload["max_tokens"] for call in book.of(CallModel)] == [100, 70]


fragments = st.lists(
    st.one_of(
        st.builds(
            TextWritten, st.text(max_size=8) | st.sampled_from(["【1】", "【", "1】", "【12", " 【1†x】"])
        ),
        st.builds(ReasoningWritten, st.text(min_size=1, max_size=5)),
        st.builds(RefusalWritten, st.text(min_size=1, max_size=5)),
        st.builds(
            CallOpened,
            st.integers(0, 3),
            st.just("call"),
            st.sampled_from(["weather", "file_search", "unknown"]),
        ),
        st.builds(ArgumentsWritten, st.integers(0, 3), st.sampled_from(['{"query": "x"}', "{", ""])),
    ),
    max_size=12,
)
ends = st.one_of(
    st.builds(
        ModelEnded,
        st.sampled_from(["stop", "tool_calls", "length", "content_filter"]),
        st.just(Usage(1, 0, 1, 0)),
    ),
    st.just(ModelFailed(UpstreamError("broke off"))),
)


@settings(max_examples=300)
@given(
    turns=st.lists(st.tuples(fragments, ends), min_size=1, max_size=6),
    verdicts=st.lists(st.sampled_from(["allow", "needs_approval", "deny"]), min_size=1, max_size=3),
)
def test_any_sequence_of_upstream_fragments_yields_a_valid_stream(
    turns: list[tuple[list[object], object]], verdicts: list[Any]
) -> None:
    book = Playbook(
        searchable(client_tools=(WEATHER,)),
        limits=Limits(max_rounds=4, max_tool_calls=3),
    ).begin()
    for pieces, end in turns:
        seen: set[int] = set()
        for piece in pieces:
            if isinstance(piece, CallOpened):
                if piece.slot in seen:  # the backend port never opens a slot twice
                    continue
                seen.add(piece.slot)
            book.tell(piece)
        book.tell(end)
        if book.state.phase is Phase.DECIDING:
            for number, call in enumerate(book.state.tools.pending):
                if not call.refusal:
                    book.tell(ToolDecided(call.call_id, verdicts[number % len(verdicts)]))
        if book.state.phase is Phase.RUNNING:
            for call in book.state.tools.pending:
                if not call.refusal:
                    book.tell(ToolRan(call.call_id, ToolResult((passage(),))))
        if book.state.phase is not Phase.CALLING:
            break
        book.tell(ModelOpened())
    if book.state.phase is not Phase.ENDED:
        book.tell(ModelFailed(UpstreamError("broke off")))

    check_stream(book.events)
