"""The trace: the calls that ran before a call, as policies see them, so that rules about time and taint are
plain rules over a list.
"""

from __future__ import annotations

from collections.abc import Iterable

from regate_orchestrator.lineage import Source, ToolSource
from regate_orchestrator.responses.tools.tool import ToolCall, ToolResult, numbers_in
from regate_orchestrator.values import JsonObject


def trace_of(sources: Iterable[Source]) -> tuple[JsonObject, ...]:
    """Return the calls behind what earlier turns rest on, whether or not it may be used still: what was done
    stays done.
    """
    return tuple(
        {
            **_named(source.tool),
            "numbers": source.call.get("numbers", {}),
            "labels": list(source.labels),
            "approved": source.call.get("approved", False),
            "status": "ran",
            "at": source.call.get("at", 0),
        }
        for source in sources
        if isinstance(source, ToolSource)
    )


def entry_of(call: ToolCall, status: str, now: int, result: ToolResult | None = None) -> JsonObject:
    """Return a call of this response as the trace has it."""
    return {
        **_named(call.tool.called(call.name)),
        "numbers": numbers_in(call.arguments or {}),
        "labels": [] if result is None else sorted(result.labels),
        "approved": bool(call.approval),
        "status": status,
        "at": now,
    }


def _named(tool: JsonObject) -> JsonObject:
    return {name: tool[name] for name in ("type", "server_label", "name", "annotations")}
