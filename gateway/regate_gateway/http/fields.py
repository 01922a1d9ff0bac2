"""Fields of requests: typed reading of JSON objects and query strings, with OpenAI's own wording and codes
where a value does not fit.

A route reads every field through `Fields` (or `Query`) and calls `refuse_unknown`, so that no field is
ignored in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Literal
from urllib.parse import parse_qsl

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.spelling import nearest
from regate_orchestrator.values import Json

_MAX_PARAMETERS: Final = 50
_MAX_METADATA: Final = 16
_MAX_KEY: Final = 64
_MAX_VALUE: Final = 512
_MAX_ID: Final = 256
_NO_HINTS: Final[Mapping[str, Hint]] = {}


@dataclass(frozen=True, slots=True)
class Hint:
    """What to do about a field that is not known here: a sentence, for the caller."""

    text: str
    code: Literal["unknown_parameter", "unsupported_parameter"] = "unsupported_parameter"


class Fields:
    """One JSON object of a request. `null` counts as absent; every wrong type is an `InvalidRequest`
    with the field's path as `param`.
    """

    def __init__(self, values: Mapping[str, Json], *, path: str = "") -> None:
        self.values = values
        self._prefix = f"{path}." if path else ""

    def param(self, name: str) -> str:
        """Return the field's path as error answers name it, e.g. `tools[0].type`."""
        return self._prefix + name

    def has(self, name: str) -> bool:
        """Return whether the field is there and not `null`."""
        return self.values.get(name) is not None

    def refuse_unknown(
        self, known: Collection[str], *, hints: Mapping[str, Hint] = _NO_HINTS, otherwise: str = ""
    ) -> None:
        """Raise `InvalidRequest` with code `unknown_parameter` for the first field that is there and not
        known.

        The message says what was meant, if a known name is spelt like it, and else the sentence `otherwise`.
        `hints` go before both, each for a name that means something elsewhere.
        """
        for name, value in self.values.items():
            if name not in known and value is not None:
                raise self._unknown(name, known, hints.get(name), otherwise)

    def _unknown(
        self, name: str, known: Collection[str], hint: Hint | None, otherwise: str
    ) -> InvalidRequest:
        param = self.param(name[:200])
        if hint is not None:
            kind = "Unknown" if hint.code == "unknown_parameter" else "Unsupported"
            return InvalidRequest(f"{kind} parameter: '{param}'. {hint.text}", param=param, code=hint.code)
        near = nearest(name, known)
        advice = otherwise if near is None else f"Did you mean '{self.param(near)}'?"
        return InvalidRequest(
            f"Unknown parameter: '{param}'. {advice}".rstrip(), param=param, code="unknown_parameter"
        )

    def refuse_unsupported(self, *names: str) -> None:
        """Raise `InvalidRequest` with code `unsupported_parameter` for the first of these that is
        there: it would change the answer.
        """
        for name in names:
            if self.has(name):
                param = self.param(name)
                raise InvalidRequest(
                    f"'{param}' is not supported by this gateway yet.",
                    param=param,
                    code="unsupported_parameter",
                )

    def required(self, name: str) -> Json:
        """Return the field of whatever type."""
        value = self.values.get(name)
        if value is None:
            param = self.param(name)
            raise InvalidRequest(
                f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter"
            )
        return value

    def string(self, name: str, *, most: int) -> str:
        """Return a required string of at most `most` characters."""
        return self._text(name, self.required(name), most)

    def maybe_string(self, name: str, *, most: int) -> str | None:
        """Return the string, or None when the field is absent."""
        value = self.values.get(name)
        return None if value is None else self._text(name, value, most)

    def id(self, name: str) -> str:
        """Return a required id, or name by which something is found: never an empty one, which would
        be read as none.
        """
        return self._text(name, self.required(name), _MAX_ID, least=1)

    def maybe_id(self, name: str) -> str | None:
        """Return the id, or None when the field is absent."""
        return self.id(name) if self.has(name) else None

    def ids(self, name: str, *, most: int) -> list[str]:
        """Return an array of ids, empty when the field is absent."""
        return [
            self._text(f"{name}[{index}]", value, _MAX_ID, least=1)
            for index, value in enumerate(self.array(name, most=most))
        ]

    def choice(self, name: str, options: Collection[str], *, default: str | None) -> str:
        """Return one of the options; without a default the field is required."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        text = self._text(name, self.required(name), _MAX_VALUE)
        if text not in options:
            raise _not_among(self.param(name), text, options)
        return text

    def boolean(self, name: str, *, default: bool) -> bool:
        """Return the boolean."""
        value = self.values.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self._wrong_type(name, "a boolean", value)
        return value

    def integer(self, name: str, *, least: int, most: int, default: int) -> int:
        """Return the integer, which must lie between `least` and `most`, both included."""
        found = self.maybe_integer(name, least=least, most=most)
        return default if found is None else found

    def maybe_integer(self, name: str, *, least: int, most: int) -> int | None:
        """Return the integer, or None when the field is absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong_type(name, "an integer", value)
        _require_between(self.param(name), value, "integer", (least, most))
        return value

    def maybe_number(self, name: str, *, least: float, most: float) -> float | None:
        """Return the number, or None when the field is absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong_type(name, "a number", value)
        _require_between(self.param(name), value, "decimal", (least, most))
        return float(value)

    def object(self, name: str) -> Fields:
        """Return a required object."""
        value = self.required(name)
        if not isinstance(value, Mapping):
            raise self._wrong_type(name, "an object", value)
        return Fields(value, path=self.param(name))

    def maybe_object(self, name: str) -> Fields | None:
        """Return the object, or None when the field is absent."""
        return self.object(name) if self.has(name) else None

    def array(self, name: str, *, most: int) -> list[Json]:
        """Return the array, empty when the field is absent."""
        value = self.values.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong_type(name, "an array", value)
        if len(value) > most:
            param = self.param(name)
            message = (
                f"Invalid '{param}': array too long. Expected at most {most} entries, but got {len(value)}."
            )
            raise InvalidRequest(message, param=param, code="array_above_max_length")
        return value

    def strings(self, name: str, *, most: int, longest: int) -> list[str]:
        """Return an array of strings, empty when the field is absent."""
        return [
            self._text(f"{name}[{index}]", value, longest)
            for index, value in enumerate(self.array(name, most=most))
        ]

    def objects(self, name: str, *, most: int) -> list[Fields]:
        """Return an array of objects, empty when the field is absent."""
        found: list[Fields] = []
        for index, value in enumerate(self.array(name, most=most)):
            if not isinstance(value, Mapping):
                raise self._wrong_type(f"{name}[{index}]", "an object", value)
            found.append(Fields(value, path=f"{self.param(name)}[{index}]"))
        return found

    def metadata(self, name: str = "metadata") -> dict[str, str]:
        """Return OpenAI's metadata: at most 16 pairs, keys of at most 64 and string values of at most
        512 characters.
        """
        pairs = self.maybe_object(name)
        if pairs is None:
            return {}
        param = self.param(name)
        if len(pairs.values) > _MAX_METADATA:
            message = (
                f"Invalid '{param}': too many properties. Expected at most {_MAX_METADATA}, but got "
                f"{len(pairs.values)}."
            )
            raise InvalidRequest(message, param=param, code="object_above_max_properties")
        if any(len(key) > _MAX_KEY for key in pairs.values):
            raise InvalidRequest(
                f"Invalid '{param}': a key is longer than {_MAX_KEY} characters.",
                param=param,
                code="invalid_value",
            )
        # Our own class
        return {key: pairs._text(key, value, _MAX_VALUE) for key, value in pairs.values.items()}  # noqa: SLF001

    def _wrong_type(self, name: str, expected: str, value: Json) -> InvalidRequest:
        param = self.param(name)
        message = f"Invalid type for '{param}': expected {expected}, but got {json_kind(value)} instead."
        return InvalidRequest(message, param=param, code="invalid_type")

    def _text(self, name: str, value: Json, most: int, *, least: int = 0) -> str:
        if not isinstance(value, str):
            raise self._wrong_type(name, "a string", value)
        if len(value) < least:
            param = self.param(name)
            message = (
                f"Invalid '{param}': empty string. Expected a string with minimum length {least}, but got "
                "an empty string instead."
            )
            raise InvalidRequest(message, param=param, code="empty_string")
        if len(value) > most:
            raise _too_long(self.param(name), len(value), most)
        return value


class Query:
    """The query string. A parameter may occur once, unless it is read as a list (`name` or `name[]`,
    repeated).
    """

    def __init__(self, scope: MutableMapping[str, Any]) -> None:
        try:
            text = scope["query_string"].decode("ascii")
            pairs = parse_qsl(
                text,
                keep_blank_values=True,
                max_num_fields=_MAX_PARAMETERS,
                encoding="utf-8",
                errors="strict",
            )
        except ValueError:
            raise InvalidRequest("The query string is not valid.", code="invalid_query") from None
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            if "\0" in name or "\0" in value:
                raise InvalidRequest("The query string holds the character U+0000.", code="invalid_query")
            self._values.setdefault(name.removesuffix("[]"), []).append(value)

    def refuse_unknown(self, known: Collection[str]) -> None:
        """Raise `InvalidRequest` with code `unknown_parameter` for the first parameter that is not known."""
        for name in self._values:
            if name not in known:
                near = nearest(name, known)
                advice = "" if near is None else f" Did you mean '{near}'?"
                raise InvalidRequest(
                    f"Unknown parameter: '{name[:200]}'.{advice}", param=name[:200], code="unknown_parameter"
                )

    def maybe_string(self, name: str, *, most: int) -> str | None:
        """Return the parameter, or None when it is absent."""
        values = self._values.get(name, [])
        if len(values) > 1:
            raise InvalidRequest(
                f"Invalid '{name}': it is given more than once.", param=name, code="invalid_value"
            )
        if values and len(values[0]) > most:
            raise _too_long(name, len(values[0]), most)
        return values[0] if values else None

    def choice(self, name: str, options: Collection[str], *, default: str) -> str:
        """Return one of the options."""
        value = self.maybe_string(name, most=_MAX_VALUE)
        if value is None:
            return default
        if value not in options:
            raise _not_among(name, value, options)
        return value

    def integer(self, name: str, *, least: int, most: int, default: int) -> int:
        """Return the integer, which must lie between `least` and `most`, both included."""
        value = self.maybe_string(name, most=20)
        if value is None:
            return default
        digits = value.removeprefix("-")
        if not (digits.isascii() and digits.isdigit()):
            raise InvalidRequest(
                f"Invalid type for '{name}': expected an integer.", param=name, code="invalid_type"
            )
        number = int(value)
        _require_between(name, number, "integer", (least, most))
        return number

    def boolean(self, name: str, *, default: bool) -> bool:
        """Return the boolean, written as `true` or `false`."""
        return self.choice(name, ("true", "false"), default="true" if default else "false") == "true"

    def strings(self, name: str, *, most: int) -> list[str]:
        """Return all values of a parameter that may be repeated."""
        values = self._values.get(name, [])
        if len(values) > most:
            raise InvalidRequest(
                f"Invalid '{name}': given more than {most} times.", param=name, code="array_above_max_length"
            )
        return values


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


def _require_between(param: str, value: float, kind: str, bounds: tuple[float, float]) -> None:
    least, most = bounds
    if not value >= least:
        message = (
            f"Invalid '{param}': {kind} below minimum value. Expected a value >= {least}, but got {value} "
            "instead."
        )
        raise InvalidRequest(message, param=param, code=f"{kind}_below_min_value")
    if not value <= most:
        message = (
            f"Invalid '{param}': {kind} above maximum value. Expected a value <= {most}, but got {value} "
            "instead."
        )
        raise InvalidRequest(message, param=param, code=f"{kind}_above_max_value")


def _too_long(param: str, length: int, most: int) -> InvalidRequest:
    message = (
        f"Invalid '{param}': string too long. Expected a string with maximum length {most}, but got one "
        f"with length {length}."
    )
    return InvalidRequest(message, param=param, code="string_above_max_length")


def _not_among(param: str, value: str, options: Collection[str]) -> InvalidRequest:
    supported = ", ".join(f"'{option}'" for option in options if option)
    return InvalidRequest(
        f"Invalid value: '{value[:100]}'. Supported values are: {supported}.",
        param=param,
        code="invalid_value",
    )
