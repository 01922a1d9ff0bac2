"""`computer`: the mouse, the keyboard and the screen of a computer that the client has. What a call comes to
is a picture of the screen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final, cast

from regate_orchestrator.guards.places import Place, texts_in
from regate_orchestrator.responses.arguments import fitted
from regate_orchestrator.responses.client_tools.kind import ClientKind
from regate_orchestrator.responses.tools.tool import Told
from regate_orchestrator.values import Json, JsonObject

_WHOLE: Final[JsonObject] = {"type": "integer"}
_POINT: Final[dict[str, Json]] = {"x": _WHOLE, "y": _WHOLE}
_KEYS: Final[JsonObject] = {"type": "array", "items": {"type": "string"}}
_HELD: Final[dict[str, Json]] = {"keys": {**_KEYS, "description": "Keys that are held down meanwhile."}}
_PATH: Final[JsonObject] = {
    "type": "array",
    "items": {
        "type": "object",
        "properties": _POINT,
        "required": ["x", "y"],
        "additionalProperties": False,
    },
}
_BUTTON: Final[JsonObject] = {"type": "string", "enum": ["left", "right", "wheel", "back", "forward"]}
_ACTIONS: Final[dict[str, tuple[dict[str, Json], dict[str, Json]]]] = {
    "click": ({"button": _BUTTON, **_POINT}, _HELD),
    "double_click": (_POINT, _HELD),
    "drag": ({"path": _PATH}, _HELD),
    "keypress": ({"keys": _KEYS}, {}),
    "move": (_POINT, _HELD),
    "screenshot": ({}, {}),
    "scroll": ({**_POINT, "scroll_x": _WHOLE, "scroll_y": _WHOLE}, _HELD),
    "type": ({"text": {"type": "string"}}, {}),
    "wait": ({}, {}),
}
"""What can be done, each with what it must say and what it may say."""
ACTION: Final[JsonObject] = {
    "anyOf": [
        {
            "type": "object",
            "properties": {"type": {"type": "string", "enum": [name]}, **must, **may},
            "required": ["type", *must],
            "additionalProperties": False,
        }
        for name, (must, may) in _ACTIONS.items()
    ]
}
"""One action."""
BATCH: Final[JsonObject] = {
    "type": "object",
    "properties": {"actions": {"type": "array", "items": ACTION, "minItems": 1}},
    "required": ["actions"],
    "additionalProperties": False,
}
"""What a model says to have several things done before it looks again."""
SINGLE: Final[JsonObject] = {
    "type": "object",
    "properties": {"action": ACTION},
    "required": ["action"],
    "additionalProperties": False,
}
"""What a model says to have one thing done."""


class _Computer(ClientKind):
    type = "computer"
    item_type = "computer_call"
    output_type = "computer_call_output"
    id_prefix = "cu_"
    output_prefix = "cuo_"
    result_mime = "image/*"

    def __init__(self, schema: JsonObject) -> None:
        self._schema = schema

    def members(self, written: str) -> JsonObject | None:
        asked = fitted(self._schema, written)
        return None if asked is None else {**_asked(asked), "pending_safety_checks": []}

    def arguments(self, item: JsonObject) -> str:
        return json.dumps(_asked(item), ensure_ascii=False)

    def told(self, item: JsonObject) -> Told:
        return ()

    def empty(self, item: JsonObject) -> JsonObject:
        empty = {name: value for name, value in item.items() if name != "action"}
        return {**empty, "actions": []} if "actions" in item else empty

    def places(self, item: JsonObject) -> Sequence[Place]:
        return [
            place
            for name in ("action", "actions")
            for place in texts_in(item.get(name), (name,))
            if place[-1] == "text"
        ]

    def output_text(self, item: JsonObject) -> str:
        return "The screen as it is now follows."

    def output_parts(self, item: JsonObject) -> Sequence[JsonObject]:
        shot = cast("Mapping[str, Json]", item["output"])
        source = {name: shot[name] for name in ("image_url", "file_id") if name in shot}
        return [{"type": "input_image", "detail": "original", **source}] if source else ()

    def withheld_output(self, item: JsonObject) -> JsonObject:
        return {**item, "output": {"type": "computer_screenshot"}}


def _asked(said: JsonObject) -> JsonObject:
    return {name: said[name] for name in ("action", "actions") if name in said}


COMPUTER: Final[ClientKind] = _Computer(BATCH)
COMPUTER_PREVIEW: Final[ClientKind] = _Computer(SINGLE)
"""The same tool as earlier models know it: one action a call."""
