"""Output items: added once, under the id and index that they keep, and finished once."""

from __future__ import annotations

from dataclasses import replace

from regate_orchestrator.responses.state import Output, State
from regate_orchestrator.responses.tools.tool import ToolCall, ToolResult
from regate_orchestrator.values import JsonObject


def add_item(state: State, body: JsonObject) -> State:
    """Return the state with a new output item, announced as added."""
    items = state.output.items
    state = state.told("response.output_item.added", output_index=len(items), item=body)
    return state.with_output(items=(*items, Output(body, lineage=state.context.lineage)))


def finish_item(state: State, index: int, body: JsonObject) -> State:
    """Return the state with the item at this index in its final form, announced as done."""
    return _finished(state, index, replace(state.output.items[index], body=body))


def finish_call(state: State, call: ToolCall, status: str, result: ToolResult) -> State:
    """Return the state with the item of a call that ran here in its final form, announced as done, with what
    it found and what it rests on.
    """
    assert call.index is not None  # noqa: S101 — INVARIANT: a call is announced before it ends
    stored = call.item(status, result)
    output = state.output.items[call.index]
    shown = call.tool.kind.shown(stored, result.passages, state.request.include.parts)
    lineage = output.lineage.plus(result.rests_on)
    finished = replace(output, body=shown, stored=stored, passages=result.passages, lineage=lineage)
    return _finished(state, call.index, finished)


def _finished(state: State, index: int, output: Output) -> State:
    items = list(state.output.items)
    items[index] = output
    state = state.told("response.output_item.done", output_index=index, item=output.body)
    return state.with_output(items=tuple(items))
