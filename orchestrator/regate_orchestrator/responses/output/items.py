"""Output items: added once, under the id and index that they keep, and finished once."""

from __future__ import annotations

from dataclasses import replace

from regate_orchestrator.responses.state import Output, State
from regate_orchestrator.responses.tools.passage import Passage
from regate_orchestrator.values import JsonObject


def add_item(state: State, body: JsonObject) -> State:
    """Return the state with a new output item, announced as added."""
    items = state.output.items
    state = state.told("response.output_item.added", output_index=len(items), item=body)
    return state.with_output(items=(*items, Output(body, state.context.lineage)))


def finish_item(state: State, index: int, body: JsonObject, passages: tuple[Passage, ...] = ()) -> State:
    """Return the state with the item at this index in its final form, announced as done. `passages` are what
    it found.
    """
    items = list(state.output.items)
    items[index] = replace(items[index], body=body, passages=passages)
    state = state.told("response.output_item.done", output_index=index, item=body)
    return state.with_output(items=tuple(items))
