"""Tools that are not offered at first: the model finds them, here or at the client, and they are offered
for as long as what was found is in the context.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseOutputItem
from pydantic import TypeAdapter
from tests.orchestrator.responses.playbook import Playbook, authorized, check_stream, request
from tests.orchestrator.responses.test_mcp import CLOSE, READ

from regate_orchestrator.errors import UpstreamError
from regate_orchestrator.model_events import (
    ArgumentsWritten,
    CallOpened,
    ModelEnded,
    ModelFailed,
    TextWritten,
    Usage,
)
from regate_orchestrator.ports import McpServer
from regate_orchestrator.responses.client_tools.deferred import (
    MOST_FOUND,
    Deferred,
    Found,
    deferred,
    found_in,
    search,
)
from regate_orchestrator.responses.client_tools.described import described_in
from regate_orchestrator.responses.client_tools.shell import SHELL, SHELL_ACTION
from regate_orchestrator.responses.client_tools.tool_search import HOSTED_SEARCH, QUERY, TOOL_SEARCH
from regate_orchestrator.responses.commands import CallModel, Finish
from regate_orchestrator.responses.context.history import redacted_body
from regate_orchestrator.responses.events import ModelOpened, Requested, ToolsListed
from regate_orchestrator.responses.output.replay import events_of
from regate_orchestrator.responses.prompt import PromptItem
from regate_orchestrator.responses.request import ClientTool, Limits, ResponseRequest
from regate_orchestrator.responses.state import Phase
from regate_orchestrator.responses.tools.kinds.mcp import McpServerTool
from regate_orchestrator.values import JsonObject, ResponseId


def function(name: str, about: str, *, deferred: bool = True, **properties: Any) -> dict[str, Any]:
    schema = {"type": "object", "properties": properties}
    shown = {"type": "function", "name": name, "description": about, "parameters": schema, "strict": None}
    return {**shown, "defer_loading": True} if deferred else shown


CRM = {
    "type": "namespace", "name": "crm", "description": "Customers and their orders.",
    "tools": [function("getCustomer", "Looks a customer up."), function("list_orders", "Lists orders.")],
}  # fmt: skip
ECHO: tuple[Any, ...] = (
    CRM,
    function("send_mail", "Sends an e-mail.", recipient={"type": "string"}),
    function("now", "Tells the time.", deferred=False),
    {"type": "tool_search", "execution": "server"},
)
OUTPUT_ITEM: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)
HOSTED = ClientTool("tool_search", None, QUERY, None, HOSTED_SEARCH)
ATCLIENT = ClientTool("tool_search", "Finds tools.", QUERY, None, TOOL_SEARCH)
SERVER = McpServerTool(
    McpServer("tickets"),
    {"type": "mcp", "server_label": "tickets", "defer_loading": True, "server_description": "Bugs."},
)


def asking(search_tool: ClientTool = HOSTED, **changes: Any) -> ResponseRequest:
    tools = (*described_in(ECHO), search_tool)
    return request(**{"client_tools": tools, "tools_echo": ECHO, **changes})


def begun(asked: ResponseRequest | None = None, *, rounds: int = 10, **turn: Any) -> Playbook:
    book = Playbook(asked or asking(), limits=Limits(max_rounds=rounds))
    book.tell(Requested(book.request, ResponseId("resp_1"), "acme", "alice"))
    book.tell(authorized(book.request, **turn))
    if book.request.server_tools:
        listed = tuple(tool.offering([READ, CLOSE]) for tool in book.request.server_tools)  # type: ignore[attr-defined]
        book.tell(ToolsListed(listed, ()))
    return book.tell(ModelOpened())


def searching(book: Playbook, query: str, slot: int = 0) -> Playbook:
    book.tell(CallOpened(slot, f"call_{slot}", "tool_search"))
    return book.tell(ArgumentsWritten(slot, json.dumps({"query": query})))


def ended(book: Playbook) -> Playbook:
    return book.tell(ModelEnded("tool_calls", Usage()))


def offered(book: Playbook, at: int = -1) -> list[str]:
    return [one["function"]["name"] for one in book.of(CallModel)[at].payload.get("tools", ())]


def answered(book: Playbook) -> Any:
    return book.of(Finish)[-1].response


def test_deferred_tools_are_not_offered_until_the_model_found_them() -> None:
    book = begun()
    assert offered(book) == ["now", "tool_search"]
    ended(searching(book, "find a customer")).tell(ModelOpened())
    assert offered(book) == ["crm__getCustomer", "crm__list_orders", "now", "tool_search"]
    book.tell(CallOpened(0, "c", "crm__getCustomer"), ArgumentsWritten(0, "{}"))
    ended(book)
    check_stream(book.events)
    call, output, called = answered(book)["output"]

    for item in (call, output):
        OUTPUT_ITEM.validate_python(item)
    assert (call["type"], call["execution"], call["arguments"]) == (
        "tool_search_call", "server", {"query": "find a customer"},
    )  # fmt: skip
    assert (output["type"], output["execution"], output["call_id"]) == (
        "tool_search_output", "server", call["call_id"],
    )  # fmt: skip
    assert output["tools"][0] == {**CRM, "tools": output["tools"][0]["tools"]}
    assert CRM["tools"][0] in output["tools"][0]["tools"]  # type: ignore[index]
    assert (called["type"], called["name"], called["namespace"]) == ("function_call", "getCustomer", "crm")


def test_what_was_found_is_told_to_the_model_by_the_names_that_it_calls() -> None:
    book = ended(searching(begun(), "mail"))
    messages = book.of(CallModel)[-1].payload["messages"]

    asked = {"name": "tool_search", "arguments": '{"query": "mail"}'}
    assert messages[-2]["tool_calls"][0]["function"] == asked
    assert (messages[-1]["role"], "send_mail" in messages[-1]["content"]) == ("tool", True)


def test_search_is_told_again_as_it_was_streamed() -> None:
    book = ended(searching(begun(), "mail")).tell(ModelOpened(), TextWritten("Done."))
    book.tell(ModelEnded("stop", Usage()))

    assert events_of(answered(book)) == book.events
    check_stream(book.events)


def test_model_is_told_what_there_is_to_find_and_of_groups_no_more_than_the_group() -> None:
    told = book_description(begun())

    assert "- crm: Customers and their orders." in told
    assert "- send_mail" in told
    assert "getCustomer" not in told


def book_description(book: Playbook, at: int = 0) -> str:
    (only,) = [
        one["function"]["description"]
        for one in book.of(CallModel)[at].payload["tools"]
        if one["function"]["name"] == "tool_search"
    ]
    return str(only)


def test_description_of_thousands_of_tools_is_bounded() -> None:
    tools = [function(f"tool_{number}_{'x' * 40}", "Does it.") for number in range(2_000)]
    book = begun(asking(client_tools=(*described_in(tools), HOSTED), tools_echo=tuple(tools)))

    assert len(book_description(book)) < 5_000


def test_search_finds_a_bounded_number() -> None:
    tools = [function(f"tool_{number}", "Counts.") for number in range(100)]
    book = begun(asking(client_tools=(*described_in(tools), HOSTED), tools_echo=tuple(tools)))
    ended(searching(book, "tool that counts"))

    assert len(offered(book)) == MOST_FOUND + 1


def test_tools_that_policy_hides_are_neither_named_nor_found() -> None:
    hidden = frozenset({"crm__getCustomer", "crm__list_orders", "send_mail"})
    assert offered(begun(hidden=hidden)) == ["now"]
    book = begun(hidden=hidden - {"send_mail"})
    assert "crm" not in book_description(book)
    ended(searching(book, "getCustomer crm customer orders"))
    assert "crm" not in str(book.of(CallModel)[-1].payload["tools"])
    assert "crm__" not in str(book.of(CallModel)[-1].payload)


def test_tools_that_the_choice_leaves_out_are_not_found() -> None:
    book = begun(asking(allowed=frozenset({"send_mail", "now"})))
    ended(searching(book, "customer mail"))

    assert [name for name in offered(book) if name not in ("now", "tool_search")] == ["send_mail"]


def test_tool_that_must_be_called_is_offered_at_once() -> None:
    choice = {"type": "function", "function": {"name": "send_mail"}}
    payload = begun(asking(tool_choice=choice)).of(CallModel)[0].payload

    assert payload["tool_choice"] == choice
    assert "send_mail" in [one["function"]["name"] for one in payload["tools"]]


def test_once_all_are_found_there_is_nothing_to_search() -> None:
    book = ended(searching(searching(begun(), "customer orders crm"), "mail", slot=1))

    assert sorted(offered(book)) == ["crm__getCustomer", "crm__list_orders", "now", "send_mail"]


def test_search_that_finds_nothing_says_so_and_the_model_goes_on() -> None:
    book = ended(searching(begun(), "weather"))

    assert book.of(CallModel)[-1].payload["messages"][-1]["content"].startswith("No tools were found")
    assert offered(book) == ["now", "tool_search"]


@pytest.mark.parametrize("written", ["", "{}", "mail", '{"query": ""}', '{"query": 1}', "[1]"])
def test_search_for_nothing_is_no_item(written: str) -> None:
    book = begun().tell(CallOpened(0, "c", "tool_search"), ArgumentsWritten(0, written))
    ended(book).tell(ModelOpened(), TextWritten("Sorry."), ModelEnded("stop", Usage()))

    assert [item["type"] for item in answered(book)["output"]] == ["message"]
    check_stream(book.events)


def test_search_is_not_offered_in_the_last_round_and_searching_for_ever_ends() -> None:
    book = begun(rounds=3)
    for _ in range(2):
        ended(searching(book, "weather")).tell(ModelOpened())
    assert offered(book) == ["now"]
    ended(searching(book, "weather"))
    assert answered(book)["status"] == "failed"
    check_stream(book.events)


def test_call_of_the_clients_beside_a_search_is_the_clients_to_answer() -> None:
    book = searching(begun(), "mail").tell(CallOpened(1, "c", "now"), ArgumentsWritten(1, "{}"))
    ended(book)

    assert answered(book)["status"] == "completed"
    assert sorted(item["type"] for item in answered(book)["output"]) == [
        "function_call", "tool_search_call", "tool_search_output",
    ]  # fmt: skip


def found_before(execution: str = "server", tools: Any = (ECHO[1],)) -> list[JsonObject]:
    head = {"call_id": "s", "status": "completed", "execution": execution}
    return [
        {"id": "tsc_1", "type": "tool_search_call", "arguments": {"query": "mail"}, **head},
        {"id": "tso_1", "type": "tool_search_output", "tools": list(tools), **head},
    ]


def test_tools_found_in_an_earlier_turn_are_offered_while_that_may_be_used() -> None:
    items = found_before()
    shown = [PromptItem(item) for item in items]
    withheld = [PromptItem(redacted_body(item, shown=False), note="Withheld.") for item in items]

    assert offered(begun(history=shown)) == ["send_mail", "now", "tool_search"]
    assert offered(begun(history=withheld)) == ["now", "tool_search"]


def test_tool_that_a_server_search_found_elsewhere_is_not_offered_unless_the_request_has_it() -> None:
    items = [PromptItem(item) for item in found_before(tools=[function("wipe", "Wipes.")])]

    assert offered(begun(history=items)) == ["now", "tool_search"]


def test_search_of_the_clients_is_its_to_answer_and_what_it_found_is_offered() -> None:
    first = begun(asking(ATCLIENT))
    ended(searching(first, "wipe"))
    (call,) = answered(first)["output"]
    output = {**found_before("client", [function("wipe", "Wipes.")])[1], "call_id": call["call_id"]}
    second = begun(asking(ATCLIENT), history=[PromptItem(call), PromptItem(output)])

    assert (call["type"], call["execution"], call["arguments"]) == (
        "tool_search_call", "client", {"query": "wipe"},
    )  # fmt: skip
    assert offered(second) == ["now", "tool_search", "wipe"]
    second.tell(CallOpened(0, "c", "wipe"), ArgumentsWritten(0, "{}"))
    ended(second)
    assert [item["name"] for item in answered(second)["output"]] == ["wipe"]


@pytest.mark.parametrize("name", ["mcp__tickets__close", "mcp__tickets__more", "now"])
def test_what_a_client_found_takes_no_other_tools_place(name: str) -> None:
    items = [PromptItem(item) for item in found_before("client", [function(name, "Something else.")])]
    server = replace(SERVER, echo={"type": "mcp", "server_label": "tickets"})
    asked = asking(ATCLIENT, server_tools=(server,), tools_echo=(*ECHO, server.echo))
    offers = begun(asked, history=items).of(CallModel)[0].payload["tools"]

    assert "Something else." not in str(offers)


def test_of_all_that_a_client_ever_found_the_last_are_offered() -> None:
    tools = [function(f"tool_{number}", "Counts.") for number in range(400)]
    items = [PromptItem(item) for item in found_before("client", tools)]
    names = offered(begun(asking(ATCLIENT), history=items))

    assert (len(names), names[-1], "tool_0" in names) == (258, "tool_399", False)


def test_client_that_reaches_servers_itself_finds_their_tools() -> None:
    name = "mcp__tickets__close"
    items = [PromptItem(item) for item in found_before("client", [function(name, "Closes.")])]

    assert name in offered(begun(asking(ATCLIENT), history=items))


def test_what_a_client_found_is_hidden_by_policy_as_any_tool() -> None:
    items = [PromptItem(item) for item in found_before("client", [function("wipe", "Wipes.")])]
    book = begun(asking(ATCLIENT), history=items, hidden=frozenset({"wipe"}))

    assert offered(book) == ["now", "tool_search"]


def test_tools_of_a_deferred_server_are_found_one_by_one_and_shown_without_credentials() -> None:
    book = begun(asking(server_tools=(SERVER,), tools_echo=(*ECHO, SERVER.echo)))
    assert offered(book) == ["now", "tool_search"]
    assert "- tickets: Bugs." in book_description(book)
    ended(searching(book, "close a ticket"))
    names = offered(book)

    assert "mcp__tickets__close" in names
    book.tell(ModelOpened(), TextWritten("Done."), ModelEnded("stop", Usage()))
    (found,) = [item for item in answered(book)["output"] if item["type"] == "tool_search_output"]
    assert found["tools"][-1]["server_label"] == "tickets"
    assert "close" in found["tools"][-1]["allowed_tools"]


def test_without_a_search_deferring_means_nothing() -> None:
    tools = tuple(described_in(ECHO))
    book = begun(asking(client_tools=tools, server_tools=(SERVER,)))

    assert len(offered(book)) == 6


LEFT = [
    Deferred("a", "getCustomerOrders", "Returns what was ordered.", "crm", "Customers"),
    Deferred("b", "send_mail", "Sends an e-mail to a customer. recipient", "", ""),
    Deferred("c", "HTTPFetch2", "Fetches an address.", "", ""),
    Deferred("d", "größe", "Misst die Größe.", "maß", ""),
    Deferred("e", "list", "Lists everything.", "files", "Documents"),
]
QUERIES = {
    "orders": "a", "customer order": "a", "CRM": "a", "mail": "b", "recipients": "b", "fetch": "c",
    "http": "c", "Größe": "d", "document": "e", "LIST FILES": "e", "getcustomerorders": "a", "z": None,
    "": None, "?!": None, "\ud800": None,
}  # fmt: skip


@pytest.mark.parametrize("query", QUERIES)
def test_query_finds_the_tool_it_is_about_first(query: str) -> None:
    first = QUERIES[query]
    assert search(query, LEFT)[:1] == ([] if first is None else [first])


def test_nothing_is_found_among_nothing() -> None:
    assert search("mail", []) == []
    assert found_in([]) == Found()
    assert deferred(request(), frozenset(), Found()) == []


SHELL_TOOL = ClientTool("shell", "Runs commands.", SHELL_ACTION, None, SHELL)
WRITTEN = ["{", "}", '{"query": "mail"}', '{"commands": ["ls"]}', "nonsense", "", '{"query": "crm customer"}']
pieces = st.lists(
    st.one_of(
        st.builds(TextWritten, st.text(max_size=5)),
        st.builds(
            CallOpened,
            st.integers(0, 2),
            st.sampled_from(["a", "b", "c"]),
            st.sampled_from(["tool_search", "shell", "now", "send_mail", "nothing"]),
        ),
        st.builds(ArgumentsWritten, st.integers(0, 2), st.sampled_from(WRITTEN)),
    ),
    max_size=8,
)
reasons = st.sampled_from(["stop", "tool_calls", "length", "content_filter"])


@settings(max_examples=300, deadline=None)
@given(turns=st.lists(st.tuples(pieces, reasons), min_size=1, max_size=6))
def test_any_sequence_of_searches_and_calls_yields_a_valid_stream(turns: list[tuple[list[Any], Any]]) -> None:
    asked = asking(client_tools=(*described_in(ECHO), HOSTED, SHELL_TOOL))
    book = Playbook(asked, limits=Limits(max_rounds=4)).begin()
    for written, reason in turns:
        opened: set[int] = set()
        for piece in written:
            if isinstance(piece, CallOpened):
                if piece.slot in opened:
                    continue
                opened.add(piece.slot)
            book.tell(piece)
        book.tell(ModelEnded(reason, Usage()))
        if book.state.phase is not Phase.CALLING:
            break
        book.tell(ModelOpened())
    if book.state.phase is not Phase.ENDED:
        book.tell(ModelFailed(UpstreamError("broke off")))
    output = answered(book)["output"]
    searched = [item["call_id"] for item in output if item["type"] == "tool_search_call"]

    check_stream(book.events)
    assert [item["call_id"] for item in output if item["type"] == "tool_search_output"] == searched
    assert {item["status"] for item in output if item["type"] == "shell_call"} <= {"completed"}
