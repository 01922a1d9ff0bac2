"""What a client says that tools returned, as policies see it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from regate_orchestrator.authz.batches import Admitted, Batch
from regate_orchestrator.responses.client_tools.table import OUTPUTS
from regate_orchestrator.responses.tools.kinds.table import KINDS
from regate_orchestrator.responses.tools.view import tool_view
from regate_orchestrator.values import JsonObject


def sent_results(items: Sequence[JsonObject]) -> tuple[JsonObject, ...]:
    """Return what the client says that tools returned, as policies see it."""
    results: list[JsonObject] = []
    for item in items:
        name = cast("str", item["type"])
        if (client := OUTPUTS.get(name)) is not None:
            wire = "" if client.is_named else client.type
            text = client.output_text(item)
            results.append(tool_result(text, client.view(wire), mime=client.result_mime))
        elif (kind := KINDS.get(name)) is not None and (text := kind.answer(item)):
            results.append(tool_result(text, kind.view(item)))
    return tuple(results)


def tool_result(text: str, tool: JsonObject | None = None, *, mime: str = "text/plain") -> JsonObject:
    """Return a tool's output as policies see it: its size, never its text. The tool is a client's own, unless
    another is named.
    """
    size = len(text.encode("utf-8", "replace"))
    result: JsonObject = {"mime": mime, "size": size, "labels": []}
    return {"tool": tool_view("function", "") if tool is None else tool, "result": result}


def denied_from(first: int, batch: Batch, admitted: Admitted) -> bool:
    """Return whether any tool result from this position on is not admitted."""
    return not frozenset(range(first, len(batch.tool_results))) <= admitted.tool_results
