"""What a model may call of the client's tools in the next call of a response, and searches for those that are
deferred, which are made here. A part of the machine, as pure.
"""

from __future__ import annotations

from typing import cast

from regate_orchestrator.responses.client_tools.deferred import (
    Found,
    deferred,
    found_in,
    offered,
    search,
    shown,
)
from regate_orchestrator.responses.client_tools.tool_search import HOSTED_SEARCH
from regate_orchestrator.responses.output.items import add_item, finish_item
from regate_orchestrator.responses.prompt import PromptItem, since_compaction
from regate_orchestrator.responses.request import ClientTool
from regate_orchestrator.responses.state import State
from regate_orchestrator.values import JsonObject, mint


def is_last_round(state: State) -> bool:
    """Return whether the next model call is the last, in which the model must answer."""
    return state.round + 1 >= state.limits.max_rounds


def found(state: State) -> Found:
    """Return what searches found, as far as it is in the context."""
    if not state.request.searches:
        return Found()
    items = since_compaction([*state.context.history, *state.context.prompted])
    return found_in(item.body for item in items)


def offered_tools(state: State) -> dict[str, ClientTool]:
    """Return the client's tools that the next model call offers, by wire name."""
    return offered(state.request, state.turn.hidden, found(state), is_last_round=is_last_round(state))


def answer_search(state: State, call: JsonObject) -> State:
    """Return the state with what a search for tools found, which the model and the client are told."""
    left = deferred(state.request, state.turn.hidden, found(state))
    query = cast("str", cast("JsonObject", call["arguments"])["query"])
    output: JsonObject = {
        "id": mint(HOSTED_SEARCH.output_prefix),
        "type": HOSTED_SEARCH.output_type,
        "status": "completed",
        "call_id": call["call_id"],
        "execution": call["execution"],
        "tools": shown(state.request, search(query, left)),
    }
    state = finish_item(add_item(state, output), len(state.output.items), output)
    for item in (call, output):
        state = state.prompted(PromptItem(item, lineage=state.context.lineage, turn=state.round))
    return state
