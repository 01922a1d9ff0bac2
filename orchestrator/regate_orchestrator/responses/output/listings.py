"""Listings: what servers of tools offer, and the items that tell a client of it. A part of the machine, as
pure.
"""

from __future__ import annotations

from dataclasses import replace

from regate_orchestrator.responses.events import ToolsListed
from regate_orchestrator.responses.output.items import add_item, finish_item
from regate_orchestrator.responses.state import State
from regate_orchestrator.responses.tools import listing
from regate_orchestrator.values import JsonObject


def listed(state: State, event: ToolsListed) -> State:
    """Return the state whose tools offer what was listed, in the order in which they were to be listed."""
    following = iter(event.tools)
    tools = tuple(tool if tool.is_listed else next(following) for tool in state.request.server_tools)
    header = replace(state.must_header, request=replace(state.request, server_tools=tools))
    turn = replace(state.turn, hidden=state.turn.hidden | event.hidden)
    state = replace(state, header=header, turn=turn).with_tools(listed=event.items)
    return tell_listed(state) if state.output.begun else state


def tell_listed(state: State) -> State:
    """Return the state in which the client is told what was listed."""
    for item in state.tools.listed:
        state = _told(state, item)
    return state.with_tools(listed=())


def _told(state: State, item: JsonObject) -> State:
    index = len(state.output.items)
    state = add_item(state, listing.empty(item))
    for name, members in listing.told(item):
        state = state.told(f"response.{name}", item_id=item["id"], output_index=index, **members)
    return finish_item(state, index, item)
