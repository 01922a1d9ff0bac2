"""`function` and `custom`: tools that the client describes itself."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, cast

from regate_orchestrator.guards.places import Place, places_in_content
from regate_orchestrator.responses.arguments import text_among
from regate_orchestrator.responses.client_tools.kind import WITHHELD, ClientKind
from regate_orchestrator.responses.tools.tool import Told
from regate_orchestrator.responses.tools.view import tool_view
from regate_orchestrator.values import Json, JsonObject


def output_text(output: Json) -> str:
    """Return a tool output's text: a string, or its text parts joined."""
    if isinstance(output, str):
        return output
    return "".join(str(part.get("text", "")) for part in cast("Sequence[Mapping[str, Json]]", output))


class _Described(ClientKind):
    is_named = True
    is_announced_early = True

    def output_text(self, item: JsonObject) -> str:
        return output_text(item["output"])

    def output_parts(self, item: JsonObject) -> Sequence[JsonObject]:
        output = item.get("output", "")
        return () if isinstance(output, str) else cast("Sequence[JsonObject]", output)

    def output_places(self, item: JsonObject) -> Sequence[Place]:
        return list(places_in_content(item.get("output"), ("output",)))

    def withheld_output(self, item: JsonObject) -> JsonObject:
        return {**item, "output": WITHHELD}

    def view(self, wire: str) -> JsonObject:
        # Of what the client's own functions do nothing is known here, and nothing is claimed.
        return tool_view("function", wire)


class _Function(_Described):
    type = "function"
    item_type = "function_call"
    output_type = "function_call_output"
    id_prefix = "fc_"
    output_prefix = "fco_"
    streamed = "function_call_arguments.delta"

    def members(self, written: str) -> JsonObject:
        return {"arguments": written}

    def arguments(self, item: JsonObject) -> str:
        return cast("str", item["arguments"])

    def told(self, item: JsonObject) -> Told:
        written = item["arguments"]
        done: JsonObject = {"name": item["name"], "arguments": written}
        return ((self.streamed, {"delta": written}), ("function_call_arguments.done", done))

    def empty(self, item: JsonObject) -> JsonObject:
        return {**item, "arguments": ""}

    def withheld(self, item: JsonObject) -> JsonObject:
        return {**item, "arguments": "{}"}

    def places(self, item: JsonObject) -> Sequence[Place]:
        return [("arguments",)]


class _Custom(_Described):
    """To a backend a custom tool is a function whose one argument is a text."""

    type = "custom"
    item_type = "custom_tool_call"
    output_type = "custom_tool_call_output"
    id_prefix = "ctc_"
    output_prefix = "ctco_"

    def members(self, written: str) -> JsonObject:
        # What a model wrote otherwise is taken as it is.
        text = text_among(written, "input")
        return {"input": written if text is None else text}

    def arguments(self, item: JsonObject) -> str:
        return json.dumps({"input": item["input"]}, ensure_ascii=False)

    def told(self, item: JsonObject) -> Told:
        text = item["input"]
        return (
            ("custom_tool_call_input.delta", {"delta": text}),
            ("custom_tool_call_input.done", {"input": text}),
        )

    def empty(self, item: JsonObject) -> JsonObject:
        return {**item, "input": ""}

    def places(self, item: JsonObject) -> Sequence[Place]:
        return [("input",)]


FUNCTION: Final[ClientKind] = _Function()
CUSTOM: Final[ClientKind] = _Custom()
