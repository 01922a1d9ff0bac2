"""Tools of servers through the whole gateway: decided call by call, on terms, approved by the client, told as
OpenAI tells them.
"""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest
from openai.types.responses import ResponseStreamEvent
from openai.types.responses.response_output_item import McpApprovalRequest, McpCall, McpListTools
from pydantic import TypeAdapter
from sqlalchemy import update
from tests.deployments import only_on
from tests.e2e.conftest import World, text, tool_call
from tests.e2e.mcp_world import (
    OpenTickets,
    Tickets,
    calling,
    granted,
    offering,
    regrant,
    told,
)
from tests.e2e.mcp_world import opened as opened
from tests.e2e.mcp_world import tickets as tickets

from regate_adapters.state.tables import approvals

pytestmark = only_on("embedded")


async def asked(world: World, client: openai.AsyncOpenAI | None = None, **more: Any) -> Any:
    given = {"model": "small", "input": "How is ticket 7?", "tools": [offering()]} | more
    return await (client or world.client()).responses.create(**given)


async def test_call_is_made_and_its_answer_read(opened: OpenTickets, tickets: Tickets) -> None:
    async with opened() as world:
        world.upstream.turns = [calling("search", {"query": "7"}), text("It is open.")]
        response = await asked(world)
        listing, call, _ = response.output
        assert isinstance(listing, McpListTools)
        assert {tool.name for tool in listing.tools} == {"search", "close", "fail"}
        assert isinstance(call, McpCall)
        assert (call.server_label, call.name, json.loads(call.arguments)) == (
            "tickets",
            "search",
            {"query": "7"},
        )
        assert (call.output, call.error, call.status) == ("Ticket 7 is open.", None, "completed")
        assert response.output_text == "It is open."
        assert told(world) == ["Ticket 7 is open."]
        assert tickets.calls == [("search", {"query": "7", "tenant": "", "top": 10})]
        (ran,) = world.audit(phase="tool.ran")
        assert (ran["kind"], ran["identity"], ran["outcome"]) == ("tool.ran", "none", "completed")
        assert '"query": "7"' not in json.dumps(world.audit())  # arguments are known by their digest alone


async def test_stream_is_as_the_sdk_has_it(opened: OpenTickets) -> None:
    event_type: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    async with opened() as world:
        world.upstream.turns = [calling("search", {"query": "7"}), text("It is ", "open.")]
        stream = await asked(world, stream=True)
        events = [event async for event in stream]
        for event in events:
            event_type.validate_python(event.model_dump(), strict=False)
        kinds = [event.type for event in events]
        assert [kind for kind in kinds if "mcp" in kind] == [
            "response.mcp_list_tools.in_progress",
            "response.mcp_list_tools.completed",
            "response.mcp_call.in_progress",
            "response.mcp_call_arguments.delta",
            "response.mcp_call_arguments.done",
            "response.mcp_call.completed",
        ]
        assert events[-1].response.output == [
            event.item for event in events if event.type == "response.output_item.done"
        ]


async def test_background_response_lists_and_calls(opened: OpenTickets, tickets: Tickets) -> None:
    async with opened() as world:
        client = world.client()
        world.upstream.turns = [calling("search", {"query": "7"}), text("It is open.")]
        response = await asked(world, client, background=True)
        stream = await client.responses.retrieve(response.id, stream=True)
        events = [event async for event in stream]
        assert events[-1].type == "response.completed"
        found = await client.responses.retrieve(response.id)
        assert [item.type for item in found.output] == ["mcp_list_tools", "mcp_call", "message"]
        assert len(tickets.calls) == 1


async def test_tool_that_is_granted_to_nobody_is_not_shown_nor_callable(
    opened: OpenTickets, tickets: Tickets
) -> None:
    async with opened(granted("tickets/search")) as world:
        world.upstream.turns = [calling("close", {"id": 7}), text("I cannot.")]
        await asked(world)
        offered = [tool["function"]["name"] for tool in world.upstream.requests[0]["tools"]]
        assert offered == ["mcp__tickets__search"]
        assert (tickets.calls, told(world)) == (
            [],
            ["There is no such tool. Use only the tools that were offered."],
        )


DENY_SEVEN = """package regate.custom.tool

deny if input.tool.arguments.id == 7
"""


async def test_call_is_decided_with_its_arguments(opened: OpenTickets, tickets: Tickets) -> None:
    async with opened(overlay=DENY_SEVEN) as world:
        world.upstream.turns = [
            calling("close", {"id": 7}),
            calling("close", {"id": 8}, call_id="call_2"),
            text("Done."),
        ]
        response = await asked(world)
        assert tickets.calls == [("close", {"id": 8})]
        calls = [item for item in response.output if item.type == "mcp_call"]
        assert [(call.status, call.output) for call in calls] == [
            ("failed", None),
            ("completed", "Ticket 8 is closed."),
        ]
        assert told(world) == ["The tool did not run: it is not permitted.", "Ticket 8 is closed."]


async def test_obligations_rewrite_cap_and_redact(opened: OpenTickets, tickets: Tickets) -> None:
    tickets.text = json.dumps({"tickets": [{"id": 7, "salary": 99_000}]})
    terms = {"set_arguments": {"tenant": "acme"}, "max_arguments": {"top": 3}, "redact": ["salary"]}
    async with opened(granted("tickets/search", **terms)) as world:
        world.upstream.turns = [
            calling("search", {"query": "7", "tenant": "globex", "top": 500}),
            text("It is open."),
        ]
        response = await asked(world)
        assert tickets.calls == [("search", {"query": "7", "tenant": "acme", "top": 3})]
        assert "99000" not in world.upstream.prompt + response.model_dump_json()
        assert "[redacted]" in told(world)[0]


async def test_result_that_is_too_large_or_cannot_be_redacted_is_not_used(
    opened: OpenTickets, tickets: Tickets
) -> None:
    tickets.text = "x" * 5_000
    for terms in ({"max_result_bytes": 1_000}, {"redact": ["salary"]}):
        async with opened(granted("tickets/search", **terms)) as world:
            world.upstream.turns = [calling("search", {"query": "7"}), text("I could not.")]
            response = await asked(world)
            assert "xxxx" not in world.upstream.prompt + response.model_dump_json()
            assert response.output[1].status == "failed"


async def test_tool_that_fails_says_so_and_the_loop_goes_on(opened: OpenTickets) -> None:
    async with opened() as world:
        world.upstream.turns = [calling("fail", {}), text("It failed.")]
        response = await asked(world)
        call = response.output[1]
        assert (call.status, call.output) == ("failed", None)
        assert call.error is not None
        assert "Error executing tool" in told(world)[0]


# ---------------------------------------------------------------- approvals


async def requested(world: World, client: openai.AsyncOpenAI, **more: Any) -> Any:
    """Have the client be asked to approve closing ticket 7; return the response that asks."""
    world.upstream.turns = [calling("close", {"id": 7})]
    response = await asked(world, client, tools=[offering(require_approval="always")], **more)
    assert isinstance(response.output[-1], McpApprovalRequest)
    return response


def approval(request: Any, *, approve: bool = True, **more: Any) -> dict[str, Any]:
    return {
        "type": "mcp_approval_response",
        "approval_request_id": request.output[-1].id,
        "approve": approve,
        **more,
    }


async def answered(world: World, client: openai.AsyncOpenAI, request: Any, answer: Any, **more: Any) -> Any:
    given = {"previous_response_id": request.id, "tools": [offering(require_approval="always")]} | more
    return await asked(world, client, input=[answer], **given)


async def test_approved_call_is_made_once(opened: OpenTickets, tickets: Tickets) -> None:
    async with opened() as world:
        client = world.client()
        request = await requested(world, client)
        assert tickets.calls == []
        world.upstream.turns = [text("Closed.")]
        response = await answered(world, client, request, approval(request))
        assert tickets.calls == [("close", {"id": 7})]
        call = next(item for item in response.output if item.type == "mcp_call")
        assert (call.approval_request_id, call.output) == (request.output[-1].id, "Ticket 7 is closed.")
        assert told(world) == ["Ticket 7 is closed."]
        with pytest.raises(openai.BadRequestError, match="answered already"):
            await answered(world, client, request, approval(request))
        assert len(tickets.calls) == 1
        whats = [record["what"] for record in world.audit(kind="approval")]
        assert whats == ["asked", "used"]


@pytest.mark.parametrize("choice", ["required", {"type": "mcp", "server_label": "tickets", "name": "close"}])
async def test_approved_call_is_the_one_that_must_be_made(
    opened: OpenTickets, tickets: Tickets, choice: Any
) -> None:
    async with opened() as world:
        client = world.client()
        request = await requested(world, client, tool_choice=choice)
        assert "tool_choice" in world.upstream.requests[-1]
        world.upstream.turns = [text("Closed.")]
        response = await answered(world, client, request, approval(request), tool_choice=choice)
        assert (response.output_text, len(tickets.calls)) == ("Closed.", 1)
        assert "tool_choice" not in world.upstream.requests[-1]  # or the model would ask for another


async def test_call_that_is_not_approved_is_not_made(opened: OpenTickets, tickets: Tickets) -> None:
    async with opened() as world:
        client = world.client()
        request = await requested(world, client)
        world.upstream.turns = [text("Then not.")]
        await answered(world, client, request, approval(request, approve=False, reason="Not today"))
        assert tickets.calls == []
        assert told(world) == ["The call was not made: the user did not approve it. Reason: Not today"]


async def test_policy_asks_whatever_the_client_says(opened: OpenTickets, tickets: Tickets) -> None:
    async with opened(granted("tickets/close", needs_approval=True)) as world:
        world.upstream.turns = [calling("close", {"id": 7})]
        response = await asked(world, tools=[offering(require_approval="never")])
        assert (response.output[-1].type, tickets.calls) == ("mcp_approval_request", [])


async def test_client_without_state_approves_with_the_request_it_was_sent(
    opened: OpenTickets, tickets: Tickets
) -> None:
    async with opened() as world:
        client = world.client()
        request = await requested(world, client, store=False)
        world.upstream.turns = [text("Closed.")]
        items = [{"role": "user", "content": "Close 7"}, request.output[-1].model_dump(), approval(request)]
        await asked(world, client, input=items, tools=[offering(require_approval="always")], store=False)
        assert tickets.calls == [("close", {"id": 7})]


async def test_counting_tokens_makes_no_call_that_was_approved(opened: OpenTickets, tickets: Tickets) -> None:
    offered: list[Any] = [offering(require_approval="always")]
    async with opened() as world:
        client = world.client()
        conversation = await client.conversations.create()
        given = {"conversation": conversation.id, "tools": offered}
        request = await requested(world, client, conversation=conversation.id)
        answer: Any = [approval(request)]
        counted = await client.responses.input_tokens.count(model="small", input=answer, **given)
        assert counted.input_tokens > 0
        assert tickets.calls == []
        listed = (await client.get("/responses", cast_to=httpx.Response)).json()
        assert [one["id"] for one in listed["data"]] == [request.id]
        world.upstream.turns = [text("Closed.")]
        response = await client.responses.create(model="small", input=answer, **given)
        assert (response.output_text, tickets.calls) == ("Closed.", [("close", {"id": 7})])


@pytest.mark.parametrize("approve", [True, False])
async def test_answered_request_is_history_when_it_is_sent_again(
    opened: OpenTickets, tickets: Tickets, approve: bool
) -> None:
    offered = [offering(require_approval="always")]
    async with opened() as world:
        client = world.client()
        request = await requested(world, client, store=False)
        world.upstream.turns = [text("Done.")]
        items = [*request.output, approval(request, approve=approve)]
        second = await asked(world, client, input=items, tools=offered, store=False)
        async with world.database.maintenance.writing() as connection:
            await connection.execute(update(approvals).values(expires_at=0))
        world.upstream.turns = [text("Yes.")]
        items += [*second.output, {"role": "user", "content": "Sure?"}]
        third = await asked(world, client, input=items, tools=offered, store=False)
        assert third.output_text == "Yes."
        assert tickets.calls == [("close", {"id": 7})] * approve
        assert (told(world) == ["Ticket 7 is closed."]) is approve


async def test_announced_call_has_no_arguments_until_events_tell_them(opened: OpenTickets) -> None:
    async with opened() as world:
        world.upstream.turns = [calling("search", {"query": "7"}), text("It is open.")]
        stream = await asked(world, stream=True)
        events = [event async for event in stream]
        items = [event.item for event in events if event.type.startswith("response.output_item")]
        added, done = (item for item in items if item.type == "mcp_call")
        assert (added.arguments, done.arguments) == ("", '{"query": "7"}')


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"arguments": '{"id": 8}'}, "send it unchanged"),
        ({"name": "search"}, "send it unchanged"),
        ({"id": "mcpr_" + "0" * 32}, "not among the items"),
    ],
)
async def test_altered_request_approves_nothing(
    opened: OpenTickets, tickets: Tickets, change: dict[str, str], said: str
) -> None:
    async with opened() as world:
        client = world.client()
        request = await requested(world, client, store=False)
        items = [request.output[-1].model_dump() | change, approval(request)]
        with pytest.raises(openai.APIStatusError, match=said) as refused:
            await asked(world, client, input=items, tools=[offering(require_approval="always")])
        assert (refused.value.status_code, tickets.calls) == (400, [])


async def test_approval_of_another_is_as_one_that_does_not_exist(
    opened: OpenTickets, tickets: Tickets
) -> None:
    async with opened() as world:
        request = await requested(world, world.client("alice"))
        made_up = {**approval(request), "approval_request_id": "mcpr_" + "0" * 32}
        said = []
        for who, tenant, answer in (
            ("bob", "acme", approval(request)),
            ("alice", "globex", approval(request)),
            ("alice", "acme", made_up),
        ):
            item = request.output[-1].model_dump() | {"id": answer["approval_request_id"]}
            with pytest.raises(openai.NotFoundError) as refused:
                await asked(world, world.client(who, tenant), input=[item, answer])
            said.append(str(refused.value.message).replace(answer["approval_request_id"], "ID"))
        assert (len(set(said)), tickets.calls) == (1, [])


async def test_approved_call_is_decided_again_when_it_is_made(opened: OpenTickets, tickets: Tickets) -> None:
    async with opened(overlay="package regate.custom.tool\n\ndeny if input.turn.approved\n") as world:
        client = world.client()
        request = await requested(world, client)
        world.upstream.turns = [text("I may not.")]
        response = await answered(world, client, request, approval(request))
        assert tickets.calls == []
        assert next(item for item in response.output if item.type == "mcp_call").status == "failed"


# ---------------------------------------------------------------- what rests on a result


async def revoked(world: World) -> None:
    """Take the grant of searching away, and wait until that is in force."""
    await regrant(world, granted("tickets/close"))


@pytest.mark.parametrize("way", ["previous", "conversation", "reference", "compaction"])
async def test_withdrawn_grant_takes_results_and_what_was_made_of_them_out_of_later_turns(
    opened: OpenTickets, tickets: Tickets, way: str
) -> None:
    tickets.text = "The code is blue-heron."
    async with opened() as world:
        client = world.client()
        more: dict[str, Any] = {}
        if way == "conversation":
            more["conversation"] = (await client.conversations.create()).id
        world.upstream.turns = [calling("search", {"query": "7"}), text("They said blue-heron.")]
        first = await asked(world, client, **more)
        assert "blue-heron" in first.output_text
        if way == "compaction":
            world.upstream.turns = [text("Summary: blue-heron.")]
            compacted = await client.responses.compact(model="small", previous_response_id=first.id)
            before = [item.model_dump(exclude_none=True) for item in compacted.output]
        await revoked(world)
        world.upstream.turns = [text("I do not know.")]
        if way == "previous":
            await asked(world, client, previous_response_id=first.id, tools=[], input="And now?")
        elif way == "conversation":
            await asked(world, client, tools=[], input="And now?", **more)
        elif way == "reference":
            item = {"type": "item_reference", "id": first.output[-1].id}
            await asked(world, client, tools=[], input=[item, {"role": "user", "content": "And now?"}])
        else:
            await asked(world, client, tools=[], input=[*before, {"role": "user", "content": "And now?"}])
        assert "blue-heron" not in world.upstream.prompt
        shown = await client.responses.retrieve(first.id)
        assert "blue-heron" not in shown.model_dump_json()
        items = await client.responses.input_items.list(first.id)
        assert "blue-heron" not in items.model_dump_json()


async def test_grant_that_is_withdrawn_within_a_response_takes_its_result_out_of_the_next_call(
    opened: OpenTickets, tickets: Tickets
) -> None:
    tickets.text = "The code is blue-heron."
    async with opened() as world:
        prompts: list[str] = []

        async def second(upstream: Any, request: Any) -> Any:
            await revoked(world)
            return await upstream.chat(request)

        world.upstream.turns = [calling("search", {"query": "7"}), second]
        world.upstream.turns += [calling("close", {"id": 7}, call_id="call_2"), text("Done.")]
        await asked(world)
        prompts.append(world.upstream.prompt)
        assert "blue-heron" not in prompts[0]


async def test_labels_of_a_tool_restrict_what_it_returned_from_then_on(
    opened: OpenTickets, tickets: Tickets
) -> None:
    tickets.text = "The code is blue-heron."
    async with opened(granted("tickets/search", labels=["board-only"])) as world:
        client = world.client()
        world.upstream.turns = [calling("search", {"query": "7"}), text("They said blue-heron.")]
        first = await asked(world, client)
        assert told(world) == [tickets.text]
        before = await world.gateway.revision()
        data = world.policies / "data.json"
        document = json.loads(data.read_text())
        document["regate"]["deny_labels"]["board-only"] = "board"
        data.write_text(json.dumps(document))
        async with world.http() as http:
            while await world.gateway.revision() == before:
                await http.get("/models")
        world.upstream.turns = [text("I do not know.")]
        await asked(world, client, previous_response_id=first.id, tools=[], input="And now?")
        assert "blue-heron" not in world.upstream.prompt
        world.upstream.turns = [calling("search", {"query": "7"}), text("I may not.")]
        await asked(world, client)
        assert told(world) == ["The tool ran, but its result may not be used."]


# ---------------------------------------------------------------- names and servers


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        ([offering(), offering()], "tools[1].server_label"),
        (
            [{"type": "function", "name": "mcp__tickets__close", "parameters": {}}, offering()],
            "tools",
        ),
        ([offering(server_label="a__b")], "tools[0].server_label"),
        ([offering(server_label="a_")], "tools[0].server_label"),
        ([offering(server_label="1a")], "tools[0].server_label"),
        ([offering(connector_id="connector_gmail")], "tools[0].connector_id"),
        ([offering(tunnel_id="t")], "tools[0].tunnel_id"),
        ([offering(require_approval="sometimes")], "tools[0].require_approval"),
        ([offering(authorization="x" * 20_000)], "tools[0].authorization"),
    ],
)
async def test_what_cannot_be_told_apart_or_done_is_refused(
    opened: OpenTickets, tools: list[dict[str, Any]], param: str
) -> None:
    async with opened() as world:
        with pytest.raises(openai.BadRequestError) as refused:
            await asked(world, tools=tools)
        assert refused.value.param == param


async def test_client_that_reaches_servers_itself_offers_functions_of_such_names(
    opened: OpenTickets, tickets: Tickets
) -> None:
    own = {"type": "function", "name": "mcp__own__search", "parameters": {"type": "object"}}
    async with opened() as world:
        world.upstream.turns = [tool_call("mcp__own__search", {"query": "7"})]
        response = await asked(world, tools=[own, offering()])
        call = response.output[-1]
        assert (call.type, call.name, tickets.calls) == ("function_call", "mcp__own__search", [])


@pytest.mark.parametrize(
    "tool",
    [
        offering(server_label="nowhere"),
        offering(server_url="http://127.0.0.1:1/mcp"),
        offering(server_url="http://169.254.169.254/mcp", server_label="other"),
    ],
)
async def test_server_that_may_not_be_used_offers_nothing_and_says_so(
    opened: OpenTickets, tool: dict[str, Any]
) -> None:
    async with opened() as world:
        world.upstream.turns = [text("There is nothing.")]
        response = await asked(world, tools=[tool])
        assert (response.output[0].type, response.output[0].tools) == ("mcp_list_tools", [])
        assert response.output[0].error
        assert "tools" not in world.upstream.requests[0]


async def test_credentials_for_a_server_are_stored_and_shown_nowhere(
    opened: OpenTickets,
) -> None:
    async with opened(server={"identity": {"kind": "client"}}) as world:
        world.upstream.turns = [calling("search", {"query": "7"}), text("Open.")]
        tool = offering(authorization="top-secret")
        response = await asked(world, tools=[tool], metadata={"a": "b"})
        again = await world.client().responses.retrieve(response.id)
        said = response.model_dump_json() + again.model_dump_json() + json.dumps(world.audit())
        assert "top-secret" not in said
        assert "top-secret" not in json.dumps(world.upstream.requests)


async def test_choice_of_a_server_binds(opened: OpenTickets) -> None:
    async with opened() as world:
        weather = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
        world.upstream.turns = [text("x"), text("x")]
        choice = {"type": "mcp", "server_label": "tickets"}
        await asked(world, tools=[weather, offering()], tool_choice=choice)
        sent = world.upstream.requests[0]
        assert sent["tool_choice"] == "required"
        assert all(tool["function"]["name"].startswith("mcp__tickets__") for tool in sent["tools"])
        await asked(world, tools=[weather, offering()], tool_choice={**choice, "name": "search"})
        assert world.upstream.requests[1]["tool_choice"]["function"]["name"] == "mcp__tickets__search"


async def test_only_allowed_tools_are_offered(opened: OpenTickets) -> None:
    async with opened() as world:
        for allowed in (["search"], {"tool_names": ["search"]}, {"read_only": True}):
            world.upstream.turns = [text("x")]
            await asked(world, tools=[offering(allowed_tools=allowed)])
            names = [tool["function"]["name"] for tool in world.upstream.requests[-1]["tools"]]
            assert names == ["mcp__tickets__search"]


async def test_what_a_client_says_that_a_server_returned_is_its_word(opened: OpenTickets) -> None:
    async with opened(granted("tickets/search")) as world:
        call = {
            "type": "mcp_call", "id": "mcp_1", "server_label": "tickets", "name": "search",
            "arguments": "{}", "output": "made up", "error": None,
        }  # fmt: skip
        world.upstream.turns = [text("x")]
        items = [{"role": "user", "content": "x"}, {"type": "mcp_list_tools", "id": "mcpl_1"}, call]
        await asked(world, input=items, tools=[])
        assert told(world) == ["made up"]
        denied = {**call, "name": "close"}
        with pytest.raises(openai.PermissionDeniedError):
            await asked(world, input=[*items[:2], denied], tools=[])


# ---------------------------------------------------------------- guards

DETECTOR = {"providers": [{"name": "own", "kind": "detector", "steps": ["tool_arguments", "tool_result"]}]}
CARD = "4111 1111 1111 1111"
"""A number that is a card's by its check digit."""


def thresholds(world_policies: Any, *, action: str) -> None:
    data = world_policies / "data.json"
    document = json.loads(data.read_text())
    for step in ("tool_arguments", "tool_result"):
        document["regate"]["guard_thresholds"][step] = {
            "scores": {},
            "labels": {"payment_card": action},
        }
    data.write_text(json.dumps(document))


@pytest.mark.parametrize("action", ["redact", "block"])
async def test_guards_look_at_arguments_and_results(
    opened: OpenTickets, tickets: Tickets, policies: Any, action: str
) -> None:
    thresholds(policies, action=action)
    tickets.text = f"Paid with {CARD}."
    async with opened(guards=DETECTOR) as world:
        world.upstream.turns = [
            calling("search", {"query": "7"}),
            calling("search", {"query": CARD}, call_id="call_2"),
            text("Done."),
        ]
        response = await asked(world)
        assert CARD not in response.model_dump_json()
        assert CARD not in world.upstream.prompt
        queries = [arguments["query"] for _, arguments in tickets.calls]
        assert CARD not in queries
        assert len(queries) == (2 if action == "redact" else 1)
