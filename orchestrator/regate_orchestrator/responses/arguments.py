"""Reading the arguments that a model wrote for a call of ours, or of a tool whose arguments are known here.
Whatever it wrote, reading it fails in one way: there is no such text, or nothing that fits.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Final, cast

from regate_orchestrator.values import Json, JsonObject

_LARGEST: Final = 2**53
"""Beyond it programs that read JSON disagree about numbers."""
_DEEPEST: Final = 64
"""How deep arguments may be nested; whatever reads them after us has a limit too."""


class _Misfit(Exception):
    """The value does not fit the schema."""


def text_among(arguments: str, name: str) -> str | None:
    """Return the text of this name in the arguments; None where they are no JSON object with such a
    text, one that UTF-8 can spell.
    """
    value = object_in(arguments)
    text = None if value is None else value.get(name)
    return text if isinstance(text, str) and is_whole(text) else None


def object_in(arguments: str) -> JsonObject | None:
    """Return the JSON object that the arguments are; None where they are none."""
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):  # the latter for what is nested too deep
        return None
    return value if isinstance(value, dict) else None


def exact_object_in(arguments: str) -> JsonObject | None:
    """Return the JSON object that the arguments are, to be passed on as a whole; None where they are none, or
    where two readers could differ about them: a name that is there twice, a number that JSON cannot spell,
    half a character, or what is nested too deep.
    """
    try:
        value = json.loads(arguments, object_pairs_hook=_members, parse_constant=_finite, parse_float=_finite)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and _can_be_sent(value) else None


def _members(pairs: Sequence[tuple[str, Json]]) -> JsonObject:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands there twice")
    return members


def _finite(written: str) -> float:
    number = float(written)
    if not math.isfinite(number):
        raise ValueError("JSON knows no such number")
    return number


def _can_be_sent(value: Json) -> bool:
    level: list[Json] = [value]
    for _ in range(_DEEPEST):
        if not level:
            return True
        if not all(is_whole(text) for one in level for text in _texts(one)):
            return False
        level = [inner for one in level for inner in _inside(one)]
    return not level


def _texts(value: Json) -> Sequence[str]:
    if isinstance(value, str):
        return (value,)
    return list(value) if isinstance(value, Mapping) else ()


def _inside(value: Json) -> Sequence[Json]:
    if isinstance(value, Mapping):
        return list(value.values())
    return value if isinstance(value, list) else ()


def fitted(schema: JsonObject, arguments: str) -> JsonObject | None:
    """Return the arguments as far as the schema knows them; None where they do not fit. Members that are null
    count as absent, since models write null for what they leave out.

    Of JSON Schema it knows what the schemas of this package say: objects, lists, texts, whole numbers and
    `anyOf`.
    """
    value = object_in(arguments)
    return None if value is None else fitting(schema, value)


def fitting(schema: JsonObject, value: JsonObject) -> JsonObject | None:
    """Return an object as far as the schema knows it; None where it does not fit."""
    try:
        return cast("JsonObject", _fit(schema, value))
    except _Misfit:
        return None


def _fit(schema: JsonObject, value: Json) -> Json:
    for alternative in cast("Sequence[JsonObject]", schema.get("anyOf", ())):
        if isinstance(value, Mapping) and (found := fitting(alternative, value)) is not None:
            return found
    match schema.get("type"):
        case "object" if isinstance(value, Mapping):
            return _object(schema, value)
        case "array" if isinstance(value, list) and len(value) >= cast("int", schema.get("minItems", 0)):
            return [_fit(cast("JsonObject", schema["items"]), one) for one in value]
        case "string" if isinstance(value, str) and is_whole(value):
            if value in cast("Sequence[Json]", schema.get("enum", (value,))):
                return value
        case "integer" if _is_number(value) and abs(number := cast("float", value)) <= _LARGEST:
            if int(number) == number:
                return int(number)
    raise _Misfit


def _object(schema: JsonObject, value: Mapping[str, Json]) -> JsonObject:
    properties = cast("Mapping[str, JsonObject]", schema.get("properties", {}))
    there = {name: one for name, one in value.items() if one is not None}
    if not there.keys() >= set(cast("Sequence[str]", schema.get("required", ()))):
        raise _Misfit
    others = schema.get("additionalProperties")
    if isinstance(others, Mapping):
        return {name: _fit(others, one) for name, one in there.items() if is_whole(name)}
    return {name: _fit(properties[name], one) for name, one in there.items() if name in properties}


def _is_number(value: Json) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_whole(text: str) -> bool:
    """Return whether the text holds no lone surrogate, which JSON can escape and nothing can send on."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
