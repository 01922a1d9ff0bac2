"""Tools as policies see them."""

from __future__ import annotations

from typing import Final

from regate_orchestrator.values import JsonObject

READ_ONLY: Final[JsonObject] = {
    "read_only": True,
    "destructive": False,
    "idempotent": True,
    "open_world": False,
}
"""The annotations of a tool that only reads, and only what is ours."""
UNKNOWN: Final[JsonObject] = {
    "read_only": False,
    "destructive": True,
    "idempotent": False,
    "open_world": True,
}
"""The annotations of a tool of which nothing was recorded: the worst."""


def tool_view(
    kind: str,
    name: str,
    arguments: JsonObject | None = None,
    *,
    server_label: str = "",
    annotations: JsonObject = READ_ONLY,
) -> JsonObject:
    """Return a tool, or a call of it, as policies see it (`rego/schemas/input/tool_call.json`)."""
    return {
        "type": kind,
        "server_label": server_label,
        "name": name,
        "arguments": arguments or {},
        "side_effect": annotations["read_only"] is not True,
        "annotations": annotations,
    }
