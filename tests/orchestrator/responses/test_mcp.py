"""Tools of servers, as the machine makes their calls: listed first, told in order, approved by the client."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from tests.orchestrator.responses.playbook import Playbook, authorized, check_stream, request

from regate_orchestrator.lineage import ToolSource
from regate_orchestrator.model_events import ArgumentsWritten, CallOpened, ModelEnded, TextWritten, Usage
from regate_orchestrator.ports import Annotations, McpServer, McpTool
from regate_orchestrator.responses.commands import CallModel, DecideTool, Finish, ListTools, RunTool, Save
from regate_orchestrator.responses.events import (
    ContextDecided,
    Event,
    ModelOpened,
    Requested,
    ToolDecided,
    ToolRan,
    ToolsListed,
)
from regate_orchestrator.responses.output.replay import events_of
from regate_orchestrator.responses.prompt import PromptItem
from regate_orchestrator.responses.request import ResponseRequest
from regate_orchestrator.responses.tools.kinds.mcp import Chosen, McpServerTool
from regate_orchestrator.responses.tools.tool import ApprovedCall, Terms, ToolResult
from regate_orchestrator.values import ResponseId

READ = McpTool("search", "Finds tickets.", {"type": "object"}, {}, Annotations(read_only=True))
CLOSE = McpTool("close", "Closes a ticket.", {"type": "object"}, {"readOnlyHint": True}, Annotations())
SERVER = McpServerTool(
    McpServer("tickets", authorization="Bearer secret"), {"type": "mcp", "server_label": "tickets"}
)
LISTING = {"id": "mcpl_1", "type": "mcp_list_tools", "server_label": "tickets", "tools": [], "error": None}


def asking(*, tool: McpServerTool = SERVER, **changes: Any) -> ResponseRequest:
    return request(server_tools=(tool,), tools_echo=(tool.echo,), **changes)


def begun(asked: ResponseRequest | None = None, **turn: Any) -> Playbook:
    """A response whose tools are listed, as far as the model writes or its approved calls are decided."""
    book = Playbook(asked or asking())
    book.tell(Requested(book.request, ResponseId("resp_1"), "acme", "alice"))
    book.tell(authorized(book.request, **turn))
    listed = tuple(tool.offering([READ, CLOSE]) for tool in book.request.server_tools)  # type: ignore[attr-defined]
    assert [command.tools for command in book.of(ListTools)] == [book.request.server_tools]
    book.tell(ToolsListed(listed, (LISTING,)))
    return book.tell(ModelOpened()) if book.of(CallModel) else book


def calling(name: str, arguments: str = '{"id": 7}', slot: int = 0) -> list[Event]:
    call = CallOpened(slot, f"call_{slot}", f"mcp__tickets__{name}")
    return [call, ArgumentsWritten(slot, arguments)]


ENDED = ModelEnded("tool_calls", Usage())
FOUND = ToolResult(
    size=2,
    text="ok",
    shown={"output": "ok"},
    rests_on=(ToolSource("mcp_1", {"type": "mcp"}, {"labels": ["hr"]}, {}),),
)


def answered(book: Playbook) -> dict[str, Any]:
    response: dict[str, Any] = book.of(Finish)[-1].response
    return response


def test_tools_are_listed_before_the_model_is_called_and_told_first() -> None:
    book = begun()
    functions = [tool["function"]["name"] for tool in book.of(CallModel)[0].payload["tools"]]
    assert functions == ["mcp__tickets__search", "mcp__tickets__close"]
    book.tell(TextWritten("Hello"), ModelEnded("stop", Usage()))
    check_stream(book.events)
    assert book.kinds[2:6] == [
        "response.output_item.added",
        "response.mcp_list_tools.in_progress",
        "response.mcp_list_tools.completed",
        "response.output_item.done",
    ]
    assert [item["type"] for item in answered(book)["output"]] == ["mcp_list_tools", "message"]


def test_call_is_told_as_the_api_has_it_and_the_model_reads_what_it_returned() -> None:
    book = begun().tell(*calling("search"), ENDED)
    assert [command.call.name for command in book.of(DecideTool)] == ["mcp__tickets__search"]
    assert "mcp_call" not in str(book.events)  # not before it is decided
    book.tell(ToolDecided("call_0", "allow", Terms(100)), ToolRan("call_0", FOUND), ModelOpened())
    message = book.of(CallModel)[-1].payload["messages"][-1]
    assert (message["role"], message["content"]) == ("tool", "ok")
    book.tell(TextWritten("Done"), ModelEnded("stop", Usage()))
    check_stream(book.events)
    of_call = [kind for kind in book.kinds if "mcp_call" in kind]
    assert of_call == [
        "response.mcp_call.in_progress",
        "response.mcp_call_arguments.delta",
        "response.mcp_call_arguments.done",
        "response.mcp_call.completed",
    ]
    item = answered(book)["output"][1]
    assert item == {
        "id": item["id"], "type": "mcp_call", "status": "completed", "server_label": "tickets",
        "name": "search", "arguments": '{"id": 7}', "output": "ok", "error": None,
        "approval_request_id": None,
    }  # fmt: skip
    assert [event["type"] for event in events_of(answered(book))] == book.kinds


def test_what_was_made_from_a_result_rests_on_it() -> None:
    book = begun().tell(*calling("search"), ENDED)
    book.tell(ToolDecided("call_0", "allow", Terms(100)), ToolRan("call_0", FOUND), ModelOpened())
    book.tell(TextWritten("Done"), ModelEnded("stop", Usage()))
    stored = {item.body["type"]: item.lineage for item in book.of(Save)[-1].row.items}
    assert [source.key for source in stored["mcp_call"]] == [("tool", "mcp_1")]
    assert [source.key for source in stored["message"]][:0] == []
    assert stored["mcp_call"].labels == {"hr"}
    outputs = [item for item in book.of(Save)[-1].row.items if item.direction == "output"]
    assert [item.lineage.size for item in outputs] == [0, 1, 1]


def test_denied_call_is_told_as_failed_and_the_loop_goes_on() -> None:
    book = begun().tell(*calling("close"), ENDED, ToolDecided("call_0", "deny"), ModelOpened())
    assert book.of(RunTool) == []
    assert "not permitted" in book.of(CallModel)[-1].payload["messages"][-1]["content"]
    book.tell(TextWritten("I could not."), ModelEnded("stop", Usage()))
    check_stream(book.events)
    assert "response.mcp_call.failed" in book.kinds
    item = answered(book)["output"][1]
    assert (item["status"], item["error"]["type"]) == ("failed", "mcp_tool_execution_error")


def test_result_of_a_withdrawn_tool_leaves_the_context_before_the_next_call() -> None:
    book = begun().tell(*calling("search"), ENDED)
    book.context = ContextDecided(frozenset(), frozenset({("tool", "mcp_1")}))
    book.tell(ToolDecided("call_0", "allow", Terms(100)), ToolRan("call_0", FOUND))
    assert '"ok"' not in json.dumps(book.of(CallModel)[-1].payload)


def test_client_is_asked_to_approve_and_the_response_ends() -> None:
    book = begun().tell(*calling("close"), ENDED, ToolDecided("call_0", "needs_approval", approval="mcpr_1"))
    assert book.of(RunTool) == []
    check_stream(book.events)
    request_item = answered(book)["output"][-1]
    assert request_item == {
        "id": "mcpr_1", "type": "mcp_approval_request", "server_label": "tickets", "name": "close",
        "arguments": '{"id": 7}',
    }  # fmt: skip
    assert answered(book)["status"] == "completed"


def test_calls_that_need_none_run_beside_one_that_does() -> None:
    book = begun().tell(*calling("close", slot=0), *calling("search", slot=1), ENDED)
    book.tell(
        ToolDecided("call_0", "needs_approval", approval="mcpr_1"), ToolDecided("call_1", "allow", Terms(9))
    )
    book.tell(ToolRan("call_1", FOUND))
    assert [item["type"] for item in answered(book)["output"]] == [
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_call",
    ]
    check_stream(book.events)


ASKED = {
    "id": "mcpr_1", "type": "mcp_approval_request", "server_label": "tickets", "name": "close",
    "arguments": '{"id": 7}',
}  # fmt: skip


def answer(*, approve: bool, **changes: Any) -> dict[str, Any]:
    return {
        "id": "mcpa_1", "type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": approve,
        "reason": None, **changes,
    }  # fmt: skip


APPROVED = ApprovedCall("mcpr_1", "mcp__tickets__close", '{"id": 7}')


def test_approved_call_is_decided_again_and_runs_before_the_model_is_called() -> None:
    book = begun(asking(items=(answer(approve=True),)), history=[PromptItem(ASKED)], approvals=(APPROVED,))
    assert book.of(CallModel) == []
    (asked,) = book.of(DecideTool)
    assert (asked.call.approval, asked.call.arguments) == ("mcpr_1", {"id": 7})
    call = asked.call.call_id
    book.tell(ToolDecided(call, "allow", Terms(100)), ToolRan(call, FOUND), ModelOpened())
    messages = book.of(CallModel)[0].payload["messages"]
    assert [message["role"] for message in messages] == ["assistant", "tool"]  # the call once, not twice
    assert messages[-1]["content"] == "ok"
    book.tell(TextWritten("Closed"), ModelEnded("stop", Usage()))
    check_stream(book.events)
    item = answered(book)["output"][1]
    assert (item["type"], item["approval_request_id"]) == ("mcp_call", "mcpr_1")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (answer(approve=False, reason="Not today"), "did not approve it. Reason: Not today"),
        (answer(approve=False), "did not approve it."),
        (None, "waits for the user's approval"),
    ],
)
def test_model_is_told_of_a_call_that_was_not_approved(said: dict[str, Any] | None, told: str) -> None:
    items = request().items if said is None else (said,)
    book = begun(asking(items=items), history=[PromptItem(ASKED)])
    messages = book.of(CallModel)[0].payload["messages"]
    assert [message["role"] for message in messages][:2] == ["assistant", "tool"]
    assert told in messages[1]["content"]


def test_approved_call_of_a_tool_that_is_not_offered_any_more_is_not_made() -> None:
    tool = replace(SERVER, allowed=Chosen(frozenset({"search"})))
    book = begun(
        asking(tool=tool, items=(answer(approve=True),)), history=[PromptItem(ASKED)], approvals=(APPROVED,)
    )
    assert book.of(DecideTool) == []
    assert "not offered any more" in book.of(CallModel)[0].payload["messages"][1]["content"]


def test_later_calls_know_what_ran_before() -> None:
    earlier = {"type": "mcp", "server_label": "web", "name": "get", "status": "ran"}
    book = begun(trace=(earlier,))
    book.tell(*calling("search", slot=0), *calling("close", '{"amount": 12.5}', slot=1), ENDED)
    first, second = book.of(DecideTool)
    assert [one["name"] for one in first.trace] == ["get"]
    assert [(one["name"], one["status"]) for one in second.trace] == [("get", "ran"), ("search", "pending")]
    book.tell(ToolDecided("call_0", "allow", Terms(9)), ToolDecided("call_1", "allow", Terms(9)))
    book.tell(ToolRan("call_0", FOUND), ToolRan("call_1", FOUND), ModelOpened())
    book.tell(*calling("search"), ENDED)
    trace = book.of(DecideTool)[-1].trace
    assert [(one["name"], one["status"]) for one in trace] == [
        ("get", "ran"),
        ("search", "ran"),
        ("close", "ran"),
    ]
    assert (trace[2]["numbers"], trace[1]["labels"], book.of(DecideTool)[-1].labels) == (
        {"amount": 12.5},
        ["hr"],
        {"hr"},
    )


@pytest.mark.parametrize(
    ("always", "never", "asks"),
    [
        (Chosen(), None, {"search": True, "close": True}),
        (None, None, {"search": False, "close": False}),
        (Chosen(), Chosen(frozenset({"search"})), {"search": False, "close": True}),
        (Chosen(frozenset({"close"})), None, {"search": False, "close": True}),
        (Chosen(), Chosen(read_only=True), {"search": False, "close": True}),
        (Chosen(), Chosen(frozenset({"close"}), read_only=True), {"search": True, "close": True}),
    ],
)
def test_client_says_which_calls_it_approves(
    always: Chosen | None, never: Chosen | None, asks: dict[str, bool]
) -> None:
    tool = replace(SERVER, always=always, never=never).offering([READ, CLOSE])
    assert {name: tool.asks_first(f"mcp__tickets__{name}") for name in asks} == asks


def test_what_a_server_claims_of_a_tool_is_not_believed() -> None:
    tool = SERVER.offering([CLOSE])
    assert tool.called("mcp__tickets__close")["side_effect"] is True
    assert replace(SERVER, allowed=Chosen(read_only=True)).offering([READ, CLOSE]).functions.keys() == {
        "mcp__tickets__search"
    }


def test_server_of_a_clients_own_is_not_taken_for_one_of_the_operators() -> None:
    server = McpServer("tickets", url="https://mcp.evil.example:8443/mcp?x=y")
    view = replace(SERVER, server=server).offering([READ]).called("mcp__tickets__search")
    assert view["server_label"] == "url:mcp.evil.example"


def test_call_cut_off_or_abandoned_leaves_no_open_item() -> None:
    book = begun().tell(*calling("search", '{"id"'), ModelEnded("length", Usage()))
    check_stream(book.events)
    assert [item["type"] for item in answered(book)["output"]] == ["mcp_list_tools"]


def test_secrets_of_a_server_are_in_nothing_that_is_stored_or_shown() -> None:
    book = begun().tell(TextWritten("x"), ModelEnded("stop", Usage()))
    assert "secret" not in repr(book.commands)
