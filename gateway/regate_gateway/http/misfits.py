"""The words in which a request is refused for its form: OpenAI's own wording and codes, said once for every
reader.

`models.py` reads what is served here, `routes/chat/fields.py` what is passed on.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pydantic import ValidationError
from pydantic_core import PydanticCustomError

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.spelling import nearest
from regate_orchestrator.values import Json

MAX_CHOICE: Final = 512
"""Characters of a value that is one of a few."""
MAX_TYPE: Final = 64
"""Characters of the name of a type."""
MISFIT: Final = "misfit"
"""The type of pydantic's errors that carry words of ours."""

_MAX_NAME: Final = 200
_WRONG_TYPES: Final[Mapping[str, str]] = {
    "string_type": "a string",
    "literal_error": "a string",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "a boolean",
    "list_type": "an array",
    "dict_type": "an object",
    "model_type": "an object",
}
_QUOTED: Final = re.compile(r"'([^']+)'")


@dataclass(frozen=True, slots=True)
class Hint:
    """What to do about a field that is not known here: a sentence, for the caller."""

    text: str
    code: Literal["unknown_parameter", "unsupported_parameter"] = "unsupported_parameter"


NO_HINTS: Final[Mapping[str, Hint]] = {}


def misfit(text: str, *, code: str = InvalidRequest.code, member: str = "") -> PydanticCustomError:
    """Return the error with which a validator refuses a value.

    `member` names the member at fault of an object that is refused. In the text `{place}` stands for where
    the fault is, and `{within}` for the object around it, so that a name can follow.
    """
    return PydanticCustomError(MISFIT, "{text}", {"text": text, "code": code, "member": member})


def translated(error: ValidationError, *, path: str = "") -> InvalidRequest:
    """Return what the caller is told of a request that pydantic refused: the first thing at fault."""
    found = error.errors(include_url=False)[0]
    value, context = found["input"], found.get("ctx", {})
    place = _place(found["loc"], path)
    match found["type"]:
        case "missing":
            return missing(place)
        case "string_too_long":
            return too_long(place, len(value), context["max_length"])
        case "string_too_short":
            return empty(place, context["min_length"])
        case "too_long":
            return too_many(place, value, context["max_length"])
        case "greater_than_equal":
            return below(place, value, context["ge"])
        case "less_than_equal":
            return above(place, value, context["le"])
        case "literal_error" if isinstance(value, str):
            return not_among(place, value, _QUOTED.findall(context["expected"]))
        case kind if kind in _WRONG_TYPES:
            return wrong_type(place, _WRONG_TYPES[kind], value)
        case _:
            return _in_our_words(place, value, context or {"text": found["msg"]})


def _in_our_words(place: str, value: Any, context: Mapping[str, Any]) -> InvalidRequest:
    within = f"{place}." if place else ""
    if context.get("by_type"):
        kind = value.get("type") if isinstance(value, Mapping) else None
        if not isinstance(value, Mapping):
            return wrong_type(place, "an object", value)
        if kind is None and not context["untyped"]:
            return missing(f"{within}type")
        if kind is not None and not isinstance(kind, str):
            return wrong_type(f"{within}type", "a string", kind)
        if kind is not None and len(kind) > MAX_TYPE:
            return too_long(f"{within}type", len(kind), MAX_TYPE)
        return _refused(context["text"].replace("{kind}", kind or ""), f"{within}type", within, context)
    member = context.get("member", "")
    return _refused(context["text"], within + member if member else place, within, context)


def _refused(text: str, param: str, within: str, context: Mapping[str, Any]) -> InvalidRequest:
    message = text.replace("{place}", param).replace("{within}", within)
    return InvalidRequest(message, param=param, code=context.get("code"))


def _place(loc: tuple[int | str, ...], path: str) -> str:
    """Return the place as error answers name it. What is in parentheses is the name of a shape that a
    value may have, and no member.
    """
    place = path
    for part in loc:
        if isinstance(part, int):
            place = f"{place}[{part}]"
        elif not part.startswith("("):
            place = f"{place}.{part}" if place else part
    return place


def unknown(
    name: str, known: Collection[str], *, hints: Mapping[str, Hint] = NO_HINTS, otherwise: str = ""
) -> PydanticCustomError:
    """Return the error for a member that is not known.

    It says what was meant, if a known name is spelt like it, and else the sentence `otherwise`. `hints` go
    before both, each for a name that means something elsewhere.
    """
    hint = hints.get(name)
    if hint is not None:
        kind = "Unknown" if hint.code == "unknown_parameter" else "Unsupported"
        return misfit(f"{kind} parameter: '{{place}}'. {hint.text}", code=hint.code, member=name[:_MAX_NAME])
    near = nearest(name, known)
    advice = otherwise if near is None else f"Did you mean '{{within}}{near}'?"
    text = f"Unknown parameter: '{{place}}'. {advice}".rstrip()
    return misfit(text, code="unknown_parameter", member=name[:_MAX_NAME])


def unsupported(name: str) -> PydanticCustomError:
    """Return the error for a member that would change the answer."""
    text = "'{place}' is not supported by this gateway yet."
    return misfit(text, code="unsupported_parameter", member=name)


def require_known(
    values: Mapping[str, Json],
    known: Collection[str],
    *,
    path: str = "",
    hints: Mapping[str, Hint] = NO_HINTS,
    otherwise: str = "",
) -> None:
    """Raise `InvalidRequest` for the first member that is there and not known; see `unknown`."""
    for name, value in values.items():
        if name not in known and value is not None:
            error = unknown(name, known, hints=hints, otherwise=otherwise)
            raise _in_our_words(path, value, error.context or {})


# ---------------------------------------------------------------- single values


def missing(param: str) -> InvalidRequest:
    """Return the error for a required field that is absent or `null`."""
    return InvalidRequest(
        f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
    )


def wrong_type(param: str, expected: str, value: object) -> InvalidRequest:
    """Return the error for a value of another type."""
    message = f"Invalid type for '{param}': expected {expected}, but got {json_kind(value)} instead."
    return InvalidRequest(message, param=param, code="invalid_type")


def empty(param: str, least: int) -> InvalidRequest:
    """Return the error for an empty string."""
    message = (
        f"Invalid '{param}': empty string. Expected a string with minimum length {least}, but got an empty "
        "string instead."
    )
    return InvalidRequest(message, param=param, code="empty_string")


def too_long(param: str, length: int, most: int) -> InvalidRequest:
    """Return the error for a string beyond its length."""
    message = (
        f"Invalid '{param}': string too long. Expected a string with maximum length {most}, but got one "
        f"with length {length}."
    )
    return InvalidRequest(message, param=param, code="string_above_max_length")


def too_many(param: str, values: Collection[object], most: int) -> InvalidRequest:
    """Return the error for an array or an object that has too many members."""
    if isinstance(values, Mapping):
        message = f"Invalid '{param}': too many properties. Expected at most {most}, but got {len(values)}."
        return InvalidRequest(message, param=param, code="object_above_max_properties")
    message = f"Invalid '{param}': array too long. Expected at most {most} entries, but got {len(values)}."
    return InvalidRequest(message, param=param, code="array_above_max_length")


def below(param: str, value: float, least: float) -> InvalidRequest:
    """Return the error for a number that is too small."""
    kind = _kind_of_number(least)
    message = (
        f"Invalid '{param}': {kind} below minimum value. Expected a value >= {least}, but got {value} "
        "instead."
    )
    return InvalidRequest(message, param=param, code=f"{kind}_below_min_value")


def above(param: str, value: float, most: float) -> InvalidRequest:
    """Return the error for a number that is too large."""
    kind = _kind_of_number(most)
    message = (
        f"Invalid '{param}': {kind} above maximum value. Expected a value <= {most}, but got {value} instead."
    )
    return InvalidRequest(message, param=param, code=f"{kind}_above_max_value")


def _kind_of_number(bound: float) -> str:
    """A field that takes fractions has a bound that is one, whatever was sent."""
    return "decimal" if isinstance(bound, float) else "integer"


def not_among(param: str, value: str, options: Collection[str]) -> InvalidRequest:
    """Return the error for a string that is none of the options."""
    if len(value) > MAX_CHOICE:
        return too_long(param, len(value), MAX_CHOICE)
    supported = ", ".join(f"'{option}'" for option in options if option)
    message = f"Invalid value: '{value[:100]}'. Supported values are: {supported}."
    return InvalidRequest(message, param=param, code="invalid_value")


def json_kind(value: object) -> str:
    """Return what a JSON value is, in the words of an error message, such as `an integer` or `null`."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
