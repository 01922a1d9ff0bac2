"""The items that tell a client what a server of tools offers."""

from __future__ import annotations

from typing import Final

from regate_orchestrator.responses.tools.tool import Told
from regate_orchestrator.values import JsonObject

LISTING: Final = "mcp_list_tools"
"""The type of such an item."""


def empty(item: JsonObject) -> JsonObject:
    """Return the item as it is announced, with nothing in it yet."""
    return {**item, "tools": []}


def told(item: JsonObject) -> Told:
    """Return the events that tell of the item."""
    end = "completed" if item.get("error") is None else "failed"
    return ((f"{LISTING}.in_progress", {}), (f"{LISTING}.{end}", {}))
