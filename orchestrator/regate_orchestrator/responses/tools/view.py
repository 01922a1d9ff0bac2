"""Tools as policies see them."""

from __future__ import annotations

from regate_orchestrator.values import JsonObject


def tool_view(kind: str, name: str, arguments: JsonObject | None = None) -> JsonObject:
    """Return a tool, or a call of it, as policies see it (`rego/schemas/input/tool_call.json`)."""
    return {
        "type": kind,
        "server_label": "",
        "name": name,
        "arguments": arguments or {},
        "side_effect": False,
    }
