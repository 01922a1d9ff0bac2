"""`apply_patch`: changes of files, which the client makes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final, cast

from regate_orchestrator.guards.places import Place, texts_in
from regate_orchestrator.responses.arguments import fitted
from regate_orchestrator.responses.client_tools.kind import WITHHELD, ClientKind
from regate_orchestrator.responses.tools.tool import Told
from regate_orchestrator.values import JsonObject

_PATH: Final[JsonObject] = {"type": "string", "description": "The file."}
_DIFF: Final[JsonObject] = {
    "type": "string",
    "description": (
        "The change in V4A form: a line that begins with '+' is added, one with '-' removed, one with ' ' "
        "kept; '@@' with a line of the file begins another place. No line numbers and no headers. Of a "
        "file that is created every line begins with '+'."
    ),
}
OPERATION: Final[JsonObject] = {
    "anyOf": [
        {
            "type": "object",
            "properties": {
                "type": {"type": "string", "enum": ["create_file", "update_file"]},
                "path": _PATH,
                "diff": _DIFF,
            },
            "required": ["type", "path", "diff"],
            "additionalProperties": False,
        },
        {
            "type": "object",
            "properties": {"type": {"type": "string", "enum": ["delete_file"]}, "path": _PATH},
            "required": ["type", "path"],
            "additionalProperties": False,
        },
    ]
}
"""A change of one file."""
PATCH: Final[JsonObject] = {
    "type": "object",
    "properties": {"operation": OPERATION},
    "required": ["operation"],
    "additionalProperties": False,
}
"""What a model says to change a file."""


class _ApplyPatch(ClientKind):
    type = "apply_patch"
    item_type = "apply_patch_call"
    output_type = "apply_patch_call_output"
    id_prefix = "apc_"
    output_prefix = "apco_"

    def members(self, written: str) -> JsonObject | None:
        return fitted(PATCH, written)

    def arguments(self, item: JsonObject) -> str:
        return json.dumps({"operation": item["operation"]}, ensure_ascii=False)

    def told(self, item: JsonObject) -> Told:
        return ()

    def empty(self, item: JsonObject) -> JsonObject:
        operation = cast("JsonObject", item["operation"])
        return {**item, "operation": {**operation, **({"diff": ""} if "diff" in operation else {})}}

    def withheld(self, item: JsonObject) -> JsonObject:
        empty = self.empty(item)
        return {**empty, "operation": {**cast("JsonObject", empty["operation"]), "path": ""}}

    def places(self, item: JsonObject) -> Sequence[Place]:
        places = texts_in(item["operation"], ("operation",))
        return [place for place in places if place[-1] != "type"]

    def output_text(self, item: JsonObject) -> str:
        said = "The change was made." if item["status"] == "completed" else "The change was not made."
        return "\n".join(filter(None, (said, cast("str | None", item.get("output")))))

    def withheld_output(self, item: JsonObject) -> JsonObject:
        return {**item, "output": WITHHELD}


APPLY_PATCH: Final[ClientKind] = _ApplyPatch()
