"""Calls, as the model writes them: of the client's tools, of tools that run here, and of tools that there are
not. A part of the assembler.

A call that the client never sees is answered to the model alone; one of a tool that runs here is pending once
its turn has ended (`tools/steps.py`).
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from regate_orchestrator.model_events import CallOpened
from regate_orchestrator.responses.output.emitter import ItemStatus, OpenCall, Text
from regate_orchestrator.responses.output.items import add_item, finish_call, finish_item
from regate_orchestrator.responses.output.offering import answer_search
from regate_orchestrator.responses.prompt import PromptItem
from regate_orchestrator.responses.state import State
from regate_orchestrator.responses.tools.tool import ServerTool, ToolCall, ToolResult
from regate_orchestrator.values import Json, JsonObject, mint

_TOOL_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_MISFIT: Final = (
    "The call was not made: its arguments do not fit the tool's parameters. Correct them and call again."
)
_NO_SUCH_TOOL: Final = "There is no such tool. Use only the tools that were offered."


def call_limit(state: State) -> int:
    """Return how many calls of tools that run here the response may make: the client's limit or the
    operator's, whichever is lower.
    """
    asked = state.request.max_tool_calls
    return state.limits.max_tool_calls if asked is None else min(asked, state.limits.max_tool_calls)


def open_call(state: State, event: CallOpened) -> State:
    """Return the state with one more open call, announced unless the client is not to see it."""
    index, tool, server = len(state.output.items), None, state.tools.offered.get(event.name)
    if server is not None and state.tools.opened < call_limit(state):
        call = OpenCall(mint(server.kind.id_prefix), None, event.call_id, event.name, server_tool=server)
        if server.kind.is_announced_early:
            call = replace(call, index=index)
            state = announce_call(state, server_call(call, server))
        state = state.with_tools(opened=state.tools.opened + 1)
    elif (tool := state.tools.client.get(event.name)) is not None:
        call = OpenCall(mint(tool.kind.id_prefix), None, event.call_id, event.name, tool)
        if tool.kind.is_announced_early:
            call = replace(call, index=index)
            state = add_item(state, call.item("in_progress"))
    else:
        call = OpenCall(mint("fc_"), None, event.call_id, event.name)
    return state.with_output(calls={**state.output.calls, event.slot: call})


def server_call(call: OpenCall, tool: ServerTool, arguments: JsonObject | None = None) -> ToolCall:
    """Return a call of a tool that runs here, as it is decided and run."""
    return ToolCall(
        tool, call.name, call.index, call.id, call.call_id, arguments, written=str(call.arguments)
    )


def announce_call(state: State, call: ToolCall) -> State:
    """Return the state with the item of a call added, which is at this index from now on. What events are
    to tell of the call is not in it yet.
    """
    kind, index, item = call.tool.kind, len(state.output.items), call.item("in_progress")
    state = add_item(state, kind.empty(item) if kind.told(item) else kind.shown(item, (), frozenset()))
    return state.told(f"response.{kind.item_type}.in_progress", item_id=call.item_id, output_index=index)


def write_arguments(state: State, slot: int, piece: str) -> State:
    """Return the state after a piece of a call's arguments. What most kinds say is known only when their
    arguments are whole.
    """
    call = state.output.calls.get(slot)
    if call is None or not piece:
        return state
    if call.tool is not None and call.kind.streamed:
        place: dict[str, Json] = {"item_id": call.id, "output_index": call.index}
        state = state.told(f"response.{call.kind.streamed}", **place, delta=piece)
    written = replace(call, arguments=call.arguments + piece)
    return state.with_output(calls={**state.output.calls, slot: written})


def close_calls(state: State, *, cut: bool) -> State:
    """Return the state without open calls; those of tools that run here are pending, unless the turn was cut.

    Only the call being written when the turn was cut can lack a part of its arguments.
    """
    slots = sorted(state.output.calls)
    for slot in slots:
        call = state.output.calls[slot]
        whole = not cut or (slot != slots[-1] and call.server_tool is None)
        state = _close_call(state, call, "completed" if whole else "incomplete")
    return state.with_output(calls={})


def abandon_calls(state: State) -> State:
    """Return the state with every call closed as incomplete, pending ones included."""
    for slot in sorted(state.output.calls):
        state = _close_call(state, state.output.calls[slot], "incomplete")
    for call in state.tools.pending:
        if call.index is not None:
            state = finish_call(state, call, "incomplete", ToolResult())
    return state.with_output(calls={}).with_tools(pending=())


def _close_call(state: State, call: OpenCall, status: ItemStatus) -> State:
    if call.server_tool is not None:
        return _close_server_call(state, call, call.server_tool, status)
    if call.is_unseen:
        return _answer_unseen(state, call)
    if call.index is not None:
        return _close_client_call(state, call, call.index, status)
    if status != "completed":
        return state  # what was cut before it was announced is no call
    index = len(state.output.items)
    return _close_client_call(add_item(state, call.item("in_progress")), call, index, status)


def _answer_unseen(state: State, call: OpenCall) -> State:
    name = call.name if _TOOL_NAME.fullmatch(call.name) else "unknown_tool"
    body = {**replace(call, name=name, tool=None).item("completed"), "arguments": "{}"}
    server = None if call.name in state.turn.hidden else state.request.server_functions.get(call.name)
    note = _NO_SUCH_TOOL if server is None or server.is_deferred else server.kind.notes.no_more
    note = note if call.tool is None else _MISFIT
    return state.prompted(PromptItem(body, note=note, lineage=state.context.lineage, turn=state.round))


def _close_server_call(state: State, call: OpenCall, tool: ServerTool, status: ItemStatus) -> State:
    if status != "completed":
        cut = server_call(replace(call, arguments=Text()), tool)
        return state if cut.index is None else finish_call(state, cut, "incomplete", ToolResult())
    arguments = tool.kind.read(str(call.arguments))
    refusal = tool.kind.notes.bad_arguments if arguments is None else ""
    pending = replace(server_call(call, tool, arguments), refusal=refusal)
    return state.with_tools(pending=(*state.tools.pending, pending))


def _close_client_call(state: State, call: OpenCall, index: int, status: ItemStatus) -> State:
    place: dict[str, Json] = {"item_id": call.id, "output_index": index}
    streamed = call.kind.streamed
    if status != "completed":
        return finish_item(state, index, call.item(status))
    if streamed and not str(call.arguments).strip():
        # Some backends write nothing where there are no arguments; clients, and backends that read it again,
        # want JSON.
        state = state.told(f"response.{streamed}", **place, delta="{}")
        call = replace(call, arguments=call.arguments + "{}")
    item = call.item(status)
    for name, members in call.kind.told(item):
        if name != streamed:
            state = state.told(f"response.{name}", **place, **members)
    state = finish_item(state, index, item)
    return answer_search(state, item) if call.kind.is_answered_here else state
