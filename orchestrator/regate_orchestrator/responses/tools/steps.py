"""How a response makes the calls of a model turn: all of them decided, then those that are permitted run, and
each closed in its turn. A part of the machine, as pure.

A call that does not run is closed when it is its turn, so items, prompt and lineage keep the order of the
calls. One that the client must approve is told of in its place, and the response ends with it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from regate_orchestrator.responses.client_tools.table import is_for_client
from regate_orchestrator.responses.commands import Command, DecideTool, RunTool
from regate_orchestrator.responses.events import ToolDecided, ToolRan
from regate_orchestrator.responses.output.calls import announce_call
from regate_orchestrator.responses.output.items import add_item, finish_call, finish_item
from regate_orchestrator.responses.prompt import PromptItem, message_text
from regate_orchestrator.responses.state import Phase, State
from regate_orchestrator.responses.steps import Step, emit, end, go_on
from regate_orchestrator.responses.tools.approvals import REQUEST, approval_request
from regate_orchestrator.responses.tools.tool import Surroundings, ToolCall, ToolResult
from regate_orchestrator.responses.tools.trace import entry_of
from regate_orchestrator.values import mint


def begin(state: State, now: int) -> Step:
    """Return the decisions on the pending calls; where none of them can run, what follows them."""
    pending = state.tools.pending
    before = state.tools.opened - len(pending)
    asked: list[Command] = [
        DecideTool(
            call,
            calls_so_far=before + place,
            round=state.round,
            trace=(*state.tools.trace, *(entry_of(one, "pending", now) for one in pending[:place])),
            labels=state.context.lineage.labels,
        )
        for place, call in enumerate(pending)
        if not call.refusal
    ]
    if not asked:
        return _follow(_close_finished(state), now)
    emitted, commands = emit(replace(state, phase=Phase.DECIDING))
    return emitted, [*commands, *asked]


def approved(state: State) -> State:
    """Return the state in which the calls that the client approved are pending, as far as their tools are
    offered still.
    """
    pending: list[ToolCall] = []
    for one in state.turn.approvals:
        tool = state.request.server_functions.get(one.name)
        if tool is None or one.name in state.turn.hidden:
            continue
        arguments = tool.kind.read(one.written)
        refusal = tool.kind.notes.bad_arguments if arguments is None else ""
        call = ToolCall(tool, one.name, None, mint(tool.kind.id_prefix), mint("call_"), arguments)
        pending.append(replace(call, refusal=refusal, written=one.written, approval=one.approval))
    tools = replace(state.tools, pending=tuple(pending), opened=state.tools.opened + len(pending))
    return replace(state, turn=replace(state.turn, approvals=()), tools=tools)


def follow(state: State, event: ToolDecided | ToolRan, now: int) -> Step:
    """Return what follows one more decision, or the end of one more call."""
    return _decided(state, event, now) if isinstance(event, ToolDecided) else _ran(state, event, now)


def _decided(state: State, event: ToolDecided, now: int) -> Step:
    """Return the state with one more call decided; after the last, the commands that run what is
    permitted.
    """
    pending = list(state.tools.pending)
    # By its place, not its id: a model may give two calls one id.
    place = next(place for place, call in enumerate(pending) if not _is_settled(call))
    pending[place] = _judged(pending[place], event)
    state = state.with_tools(pending=tuple(pending))
    if not all(map(_is_settled, pending)):
        return state, []
    state = _close_finished(state)
    permitted = [call for call in state.tools.pending if call.decided]
    if not permitted:
        return _follow(state, now)
    for call in permitted:
        state = _started(state, call)
    running: list[Command] = [RunTool(_within(state, call)) for call in state.tools.pending if call.decided]
    emitted, commands = emit(replace(state, phase=Phase.RUNNING))
    return emitted, [*commands, *running]


def _ran(state: State, event: ToolRan, now: int) -> Step:
    """Return the state with what the call found in the prompt and the lineage; after the last, what
    follows.
    """
    call = state.tools.pending[0]
    state = state.with_tools(trace=(*state.tools.trace, entry_of(call, "ran", now, event.result)))
    if event.result is None:
        made = () if event.made is None else (event.made,)
        denied = replace(call, refusal=call.tool.kind.notes.result_denied)
        state = _close(state, denied, ToolResult(rests_on=made))
    else:
        state = _close(state, call, event.result)
    state = _close_finished(state)
    return _follow(state, now) if not state.tools.pending else emit(state)


def _is_settled(call: ToolCall) -> bool:
    return bool(call.refusal) or call.decided or call.is_held


def _judged(call: ToolCall, event: ToolDecided) -> ToolCall:
    call = call if event.written is None else replace(call, written=event.written)
    match event.verdict:
        case "allow":
            arguments = call.arguments if event.arguments is None else event.arguments
            return replace(call, decided=True, terms=event.terms, arguments=arguments)
        case "needs_approval" if event.approval:
            return replace(call, is_held=True, approval=event.approval)
        case _:
            return replace(call, refusal=call.tool.kind.notes.denied)


def _announced(state: State, call: ToolCall) -> tuple[State, ToolCall]:
    """Return the state in which the call has its item, and the call with the index of that."""
    if call.index is not None:
        return state, call
    return announce_call(state, call), replace(call, index=len(state.output.items))


def _told(state: State, call: ToolCall) -> State:
    for name, members in call.tool.kind.told(call.item("in_progress")):
        state = state.told(f"response.{name}", item_id=call.item_id, output_index=call.index, **members)
    return state


def _started(state: State, call: ToolCall) -> State:
    """Return the state in which the client is told that this pending call runs."""
    state, begun = _announced(state, call)
    state = state.with_tools(pending=tuple(begun if one is call else one for one in state.tools.pending))
    state = _told(state, begun)
    kind = begun.tool.kind
    if kind.progress:
        name = f"response.{kind.item_type}.{kind.progress}"
        state = state.told(name, item_id=begun.item_id, output_index=begun.index)
    return state


def _within(state: State, call: ToolCall) -> ToolCall:
    """Return the call as it runs in this context."""
    if not call.tool.kind.reads_context:
        return call
    items = (*state.context.history, *state.context.prompted)
    said = [
        message_text(item.body)
        for item in items
        if item.body["type"] == "message" and item.body.get("role") == "user"
    ]
    passages = [passage for item in items for passage in item.passages]
    return replace(call, tool=call.tool.within(Surroundings(said, passages, state.context.lineage)))


def _close_finished(state: State) -> State:
    """Return the state with the calls closed that do not run and that no other is waited for before."""
    while state.tools.pending and (state.tools.pending[0].refusal or state.tools.pending[0].is_held):
        call = state.tools.pending[0]
        state = _hold(state, call) if call.is_held else _close(state, call, ToolResult())
    return state


def _hold(state: State, call: ToolCall) -> State:
    """Return the state in which the client is asked to approve the first pending call."""
    state = state.with_tools(pending=state.tools.pending[1:])
    index, item = len(state.output.items), approval_request(call)
    return finish_item(add_item(state, item), index, item)


def _close(state: State, call: ToolCall, result: ToolResult) -> State:
    """Return the state with the first pending call done: its item closed, and what it found in the prompt
    and in the lineage from now on.
    """
    if call.index is None:
        state, call = _announced(state, call)
        state = _told(state, call)
    kind = call.tool.kind
    failed = bool(call.refusal) or result.failed
    if not failed or kind.tells_failure:
        name = f"response.{kind.item_type}.{'failed' if failed else 'completed'}"
        state = state.told(name, item_id=call.item_id, output_index=call.index)
    state = state.with_tools(pending=state.tools.pending[1:])
    state = finish_call(state, call, "failed" if failed else "completed", result)
    output = state.output.items[cast("int", call.index)]
    prompted = PromptItem(
        {**(output.stored or output.body), "call_id": call.call_id},
        passages=result.passages,
        note=call.refusal,
        text=result.text,
        lineage=output.lineage,
        turn=state.round,
    )
    state = state.prompted(prompted)
    return state.with_context(lineage=state.context.lineage.plus(result.sources))


def _follow(state: State, now: int) -> Step:
    """Return what comes after the last call: the client's turn where its tools were called or it must approve
    a call, else the model's.
    """
    bodies = state.output.bodies
    if any(is_for_client(body) or body["type"] == REQUEST for body in bodies):
        return end(state, "completed", now)
    return go_on(state, now)
