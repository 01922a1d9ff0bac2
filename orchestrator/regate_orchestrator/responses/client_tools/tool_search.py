"""`tool_search`: how a model finds tools that are not offered at first. Either the client searches, as it
runs any tool of its own, or the search is made here (`deferred.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Literal, cast

from regate_orchestrator.guards.places import Place, texts_in
from regate_orchestrator.responses.arguments import object_in, text_among
from regate_orchestrator.responses.client_tools.kind import ClientKind
from regate_orchestrator.responses.tools.approvals import called_name
from regate_orchestrator.responses.tools.tool import Told
from regate_orchestrator.responses.tools.view import READ_ONLY, tool_view
from regate_orchestrator.responses.tools.wire import wire_name
from regate_orchestrator.values import Json, JsonObject

QUERY: Final[JsonObject] = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "description": "What the tool should do, in a few words; or its name."}
    },
    "required": ["query"],
    "additionalProperties": False,
}
"""What a model says to search."""


class _ToolSearch(ClientKind):
    type = "tool_search"
    item_type = "tool_search_call"
    output_type = "tool_search_output"
    id_prefix = "tsc_"
    output_prefix = "tso_"

    def __init__(self, execution: Literal["server", "client"]) -> None:
        self._execution = execution
        self.is_answered_here = execution == "server"

    def members(self, written: str) -> JsonObject | None:
        asked = object_in(written.strip() or "{}")
        if asked is None or (self.is_answered_here and not (text_among(written, "query") or "").strip()):
            return None
        return {"execution": self._execution, "arguments": asked}

    def arguments(self, item: JsonObject) -> str:
        return json.dumps(item["arguments"], ensure_ascii=False)

    def told(self, item: JsonObject) -> Told:
        return ()

    def empty(self, item: JsonObject) -> JsonObject:
        return {**item, "arguments": {}}

    def places(self, item: JsonObject) -> Sequence[Place]:
        return texts_in(item["arguments"], ("arguments",))

    def output_text(self, item: JsonObject) -> str:
        names = list(names_in(item))
        if not names:
            return "No tools were found. Search with other words, or go on without."
        return f"Found, and can be called from now on: {', '.join(names)}"

    def output_places(self, item: JsonObject) -> Sequence[Place]:
        places = texts_in(item["tools"], ("tools",))
        return [place for place in places if place[-1] == "description"]

    def withheld_output(self, item: JsonObject) -> JsonObject:
        return {**item, "tools": []}

    def blocked_output(self, item: JsonObject) -> JsonObject:
        return {**item, "tools": []}

    def view(self, wire: str) -> JsonObject:
        return tool_view(self.type, wire, annotations=READ_ONLY)


TOOL_SEARCH: Final[ClientKind] = _ToolSearch("client")
HOSTED_SEARCH: Final[ClientKind] = _ToolSearch("server")


def names_in(output: JsonObject) -> Iterator[str]:
    """Yield the names by which a model calls the tools of an output."""
    for tool in cast("Sequence[Mapping[str, Json]]", output["tools"]):
        match tool["type"]:
            case "namespace":
                for member in cast("Sequence[Mapping[str, Json]]", tool["tools"]):
                    yield wire_name(cast("str", member["name"]), cast("str", tool["name"]))
            case "mcp":
                for name in cast("Sequence[str]", tool["allowed_tools"]):
                    yield called_name(cast("str", tool["server_label"]), name)
            case _:
                yield wire_name(cast("str", tool["name"]), None)
