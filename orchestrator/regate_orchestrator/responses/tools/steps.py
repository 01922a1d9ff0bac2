"""How a response makes the calls of a model turn: all of them decided, then those that are permitted run, and
each closed in its turn. A part of the machine, as pure.

A call that does not run is closed when it is its turn, so items, prompt and lineage keep the order of the
calls.
"""

from __future__ import annotations

from dataclasses import replace

from regate_orchestrator.responses.commands import Command, DecideTool, RunTool
from regate_orchestrator.responses.events import ToolDecided, ToolRan
from regate_orchestrator.responses.output.items import finish_item
from regate_orchestrator.responses.prompt import CALLS, PromptItem
from regate_orchestrator.responses.state import Phase, State
from regate_orchestrator.responses.steps import Step, emit, end, go_on
from regate_orchestrator.responses.tools.tool import ToolCall, ToolResult


def begin(state: State, now: int) -> Step:
    """Return the decisions on the pending calls; where none of them can run, what follows them."""
    pending = state.tools.pending
    before = state.tools.opened - len(pending)
    asked: list[Command] = [
        DecideTool(call, calls_so_far=before + place, round=state.round)
        for place, call in enumerate(pending)
        if not call.refusal
    ]
    if not asked:
        return _follow(_close_refused(state), now)
    emitted, commands = emit(replace(state, phase=Phase.DECIDING))
    return emitted, [*commands, *asked]


def decided(state: State, event: ToolDecided, now: int) -> Step:
    """Return the state with one more call decided; after the last, the commands that run what is permitted.

    A call that needs approval is refused: there is nobody to ask.
    """
    pending = list(state.tools.pending)
    # By its place, not its id: a model may give two calls one id.
    place = next(place for place, call in enumerate(pending) if not (call.refusal or call.decided))
    pending[place] = _judged(pending[place], event)
    state = state.with_tools(pending=tuple(pending))
    if not all(call.refusal or call.decided for call in pending):
        return state, []
    state = _close_refused(state)
    permitted = [call for call in state.tools.pending if not call.refusal]
    if not permitted:
        return _follow(state, now)
    for call in permitted:
        kind = call.tool.kind
        name = f"response.{kind.item_type}.{kind.progress}"
        state = state.told(name, item_id=call.item_id, output_index=call.index)
    emitted, commands = emit(replace(state, phase=Phase.RUNNING))
    return emitted, [*commands, *map(RunTool, permitted)]


def ran(state: State, event: ToolRan, now: int) -> Step:
    """Return the state with what the call found in the prompt and the lineage; after the last, what
    follows.
    """
    call = state.tools.pending[0]
    if event.result is None:
        state = _close(state, replace(call, refusal=call.tool.kind.notes.result_denied), ToolResult())
    else:
        name = f"response.{call.tool.kind.item_type}.completed"
        state = state.told(name, item_id=call.item_id, output_index=call.index)
        state = _close(state, call, event.result)
    state = _close_refused(state)
    return _follow(state, now) if not state.tools.pending else emit(state)


def _judged(call: ToolCall, event: ToolDecided) -> ToolCall:
    if event.verdict == "allow":
        return replace(call, decided=True, max_result_bytes=event.max_result_bytes)
    return replace(call, refusal=call.tool.kind.notes.denied)


def _close_refused(state: State) -> State:
    """Return the state with the refused calls closed that no other call is waited for before."""
    while state.tools.pending and state.tools.pending[0].refusal:
        state = _close(state, state.tools.pending[0], ToolResult())
    return state


def _close(state: State, call: ToolCall, result: ToolResult) -> State:
    """Return the state with the first pending call done: its item closed, and what it found in the prompt
    and in the lineage from now on.
    """
    results = [one.as_result() for one in result.passages] if state.request.include.results else None
    item = call.item("failed" if call.refusal else "completed", results)
    state = state.with_tools(pending=state.tools.pending[1:])
    state = finish_item(state, call.index, item, result.passages)
    prompted = PromptItem(
        {**item, "call_id": call.call_id},
        passages=result.passages,
        note=call.refusal,
        lineage=state.output.items[call.index].lineage,
        turn=state.round,
    )
    state = state.prompted(prompted)
    return state.with_context(lineage=state.context.lineage.plus(result.sources))


def _follow(state: State, now: int) -> Step:
    """Return what comes after the last call: the client's turn where its tools were called, else the
    model's.
    """
    if any(output.body["type"] in CALLS for output in state.output.items):
        return end(state, "completed", now)
    return go_on(state, now)
