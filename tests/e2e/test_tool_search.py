"""`tool_search` with the official client: searched here, and by the client."""

from __future__ import annotations

from typing import Any

import pytest
from tests.deployments import only_on
from tests.e2e.conftest import World, text, tool_call
from tests.e2e.test_client_tools import ruled

SEARCH: Any = {"type": "tool_search"}
MAIL: Any = {
    "type": "function",
    "name": "send_mail",
    "description": "Sends an e-mail.",
    "parameters": {"type": "object", "properties": {"to": {"type": "string"}}},
    "strict": False,
    "defer_loading": True,
}
NOTE: Any = {"type": "custom", "name": "note", "description": "Writes a note down.", "defer_loading": True}
CRM: Any = {
    "type": "namespace",
    "name": "crm",
    "description": "Customers.",
    "tools": [{**MAIL, "name": "get_customer", "description": "Looks up a customer."}],
}
TOOLS: Any = [SEARCH, MAIL, NOTE, CRM]


def offered(world: World, at: int = -1) -> list[str]:
    return [tool["function"]["name"] for tool in world.upstream.requests[at].get("tools", ())]


QUERIES = {
    "mail": ("send_mail", {"to": "ann"}, "function_call"),
    "note": ("note", {"input": "hello"}, "custom_tool_call"),
    "customer": ("crm__get_customer", {"to": "ann"}, "function_call"),
}


@pytest.mark.parametrize("query", QUERIES)
async def test_model_finds_a_tool_and_calls_it_in_one_response(world: World, query: str) -> None:
    name, arguments, called = QUERIES[query]
    client = world.client()
    world.upstream.turns = [
        tool_call("tool_search", {"query": query}, call_id="s"),
        tool_call(name, arguments, call_id="c"),
        text("Done."),
    ]
    stream = await client.responses.create(model="small", input="Go.", tools=TOOLS, stream=True)
    events: Any = [event async for event in stream]
    first = events[-1].response
    answer: Any = {"type": f"{called}_output", "call_id": "c", "output": "ok"}
    second = await client.responses.create(
        model="small", input=[answer], previous_response_id=first.id, tools=TOOLS
    )
    replayed = [event async for event in await client.responses.retrieve(first.id, stream=True)]

    assert offered(world, 0) == ["tool_search"]
    assert (name in offered(world, 1), name in offered(world, 2)) == (True, True)
    assert [item.type for item in first.output] == ["tool_search_call", "tool_search_output", called]
    assert first.output[0].execution == "server"
    assert first.output[1].tools[0].name in (name, name.partition("__")[0])
    assert second.output_text == "Done."
    assert [message["role"] for message in world.upstream.requests[-1]["messages"]] == [
        *("user", "assistant", "tool", "assistant", "tool"),
    ]
    assert [event.type for event in replayed] == [event.type for event in events]


@only_on("embedded")
async def test_client_that_keeps_its_items_itself_keeps_what_was_found(world: World) -> None:
    client = world.client()
    world.upstream.turns = [tool_call("tool_search", {"query": "mail"}), text("Found."), text("Still.")]
    first = await client.responses.create(model="small", input="Go.", tools=TOOLS, store=False)
    history: Any = [
        {"role": "user", "content": "Go."},
        *(item.to_dict() for item in first.output),
        {"role": "user", "content": "Again."},
    ]
    await client.responses.create(model="small", input=history, tools=TOOLS, store=False)

    assert "send_mail" in offered(world)


@only_on("embedded")
async def test_search_of_the_clients_brings_tools_that_the_request_has_not(world: World) -> None:
    client = world.client()
    search: Any = {
        "type": "tool_search",
        "execution": "client",
        "description": "Finds tools by goal.",
        "parameters": {"type": "object", "properties": {"goal": {"type": "string"}}, "required": ["goal"]},
    }
    world.upstream.turns = [
        tool_call("tool_search", {"goal": "mail"}, call_id="s"),
        tool_call("send_mail", {"to": "ann"}, call_id="c"),
        text("Done."),
    ]
    first = await client.responses.create(model="small", input="Go.", tools=[search])
    (call,) = first.output
    found: Any = {"type": "tool_search_output", "call_id": "s", "execution": "client", "tools": [MAIL, CRM]}
    second = await client.responses.create(
        model="small", input=[found], previous_response_id=first.id, tools=[search]
    )
    answer: Any = {"type": "function_call_output", "call_id": "c", "output": "sent"}
    third = await client.responses.create(
        model="small", input=[answer], previous_response_id=second.id, tools=[search]
    )
    asked = world.upstream.requests[0]["tools"][0]["function"]

    assert (asked["description"], asked["parameters"]) == (search["description"], search["parameters"])
    assert (call.type, call.execution, call.arguments) == ("tool_search_call", "client", {"goal": "mail"})  # type: ignore[union-attr]
    assert offered(world, 1) == offered(world, 2) == ["tool_search", "send_mail", "crm__get_customer"]
    assert [item.type for item in second.output] == ["function_call"]
    assert third.output_text == "Done."


@only_on("embedded")
@pytest.mark.parametrize("execution", ["server", "client"])
async def test_tools_that_policy_hides_are_found_by_nobody(
    configure: Any, upstream: Any, policies: Any, execution: str
) -> None:
    async with ruled(configure, upstream, policies, 'deny if input.tool.name == "send_mail"') as world:
        client = world.client()
        upstream.turns = [tool_call("tool_search", {"query": "mail note"}, call_id="s"), text("Done.")]
        search: Any = {"type": "tool_search", "execution": execution}
        first = await client.responses.create(model="small", input="Go.", tools=[search, MAIL, NOTE])
        if execution == "client":
            found: Any = {"type": "tool_search_output", "call_id": "s", "execution": "client"}
            await client.responses.create(
                model="small",
                input=[{**found, "tools": [MAIL, NOTE]}],
                previous_response_id=first.id,
                tools=[search],
            )

    assert "note" in offered(world)
    assert "send_mail" not in str([request.get("tools") for request in upstream.requests])


@only_on("embedded")
async def test_custom_tool_is_shown_as_it_was_sent_and_its_grammar_told_in_words(world: World) -> None:
    tool: Any = {**NOTE, "format": {"type": "grammar", "syntax": "regex", "definition": "[a-z]+"}}
    world.upstream.turns = [tool_call("tool_search", {"query": "note"}), text("Done.")]
    response = await world.client().responses.create(model="small", input="Go.", tools=[SEARCH, tool])
    found: Any = response.output[1]
    told = world.upstream.requests[-1]["tools"][0]["function"]["description"]

    assert [response.tools[1].to_dict(), found.tools[0].to_dict()] == [tool, tool]
    assert told.startswith("Writes a note down.\n\nThe input must match this regex grammar:\n[a-z]+")


REFUSED: dict[str, tuple[Any, str]] = {
    "deferred without a search": ({"tools": [MAIL]}, "tools"),
    "two searches": ({"tools": [SEARCH, {**SEARCH, "execution": "client"}, MAIL]}, "tools[1].type"),
    "a function of its name": (
        {"tools": [SEARCH, {**MAIL, "name": "tool_search"}]}, "tools[1].name"),
    "a search by nobody": ({"tools": [{**SEARCH, "execution": "nobody"}, MAIL]}, "tools[0].execution"),
    "an output of no search": (
        {"input": [{"type": "tool_search_output", "call_id": "x", "tools": []}]}, "input"),
    "a tool of another kind found": (
        {"input": [{"type": "tool_search_output", "call_id": "x", "tools": [{"type": "shell"}]}]},
        "input[0].tools[0].type"),
}  # fmt: skip


@only_on("embedded")
@pytest.mark.parametrize("name", REFUSED)
async def test_what_cannot_be_is_refused_by_name(world: World, name: str) -> None:
    changes, param = REFUSED[name]
    async with world.http() as http:
        answer = await http.post("/responses", json={"model": "small", "input": "Go.", **changes})

    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
