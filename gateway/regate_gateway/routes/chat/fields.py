"""Fields of requests that are passed on: typed reading of JSON objects, with OpenAI's own wording and codes
where a value does not fit (`misfits.py`).

A route reads every field through `Fields` and calls `refuse_unknown`, so that no field is ignored in silence.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from regate_gateway.http import misfits
from regate_gateway.http.misfits import NO_HINTS, Hint
from regate_gateway.http.models import MAX_METADATA, MAX_METADATA_KEY, MAX_METADATA_VALUE
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.values import Json


class Fields:
    """One JSON object of a request. `null` counts as absent; every wrong type is an `InvalidRequest`
    with the field's path as `param`.
    """

    def __init__(self, values: Mapping[str, Json], *, path: str = "") -> None:
        self.values = values
        self.path = path
        self._prefix = f"{path}." if path else ""

    def param(self, name: str) -> str:
        """Return the field's path as error answers name it, e.g. `tools[0].type`."""
        return self._prefix + name

    def has(self, name: str) -> bool:
        """Return whether the field is there and not `null`."""
        return self.values.get(name) is not None

    def refuse_unknown(
        self, known: Collection[str], *, hints: Mapping[str, Hint] = NO_HINTS, otherwise: str = ""
    ) -> None:
        """Raise `InvalidRequest` for the first field that is there and not known (`misfits.unknown`)."""
        misfits.require_known(self.values, known, path=self.path, hints=hints, otherwise=otherwise)

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
            raise misfits.missing(self.param(name))
        return value

    def string(self, name: str, *, most: int) -> str:
        """Return a required string of at most `most` characters."""
        return self._text(name, self.required(name), most)

    def maybe_string(self, name: str, *, most: int) -> str | None:
        """Return the string, or None when the field is absent."""
        value = self.values.get(name)
        return None if value is None else self._text(name, value, most)

    def choice(self, name: str, options: Collection[str], *, default: str | None) -> str:
        """Return one of the options; without a default the field is required."""
        value = self.values.get(name)
        if value is None and default is not None:
            return default
        text = self._text(name, self.required(name), misfits.MAX_CHOICE)
        if text not in options:
            raise misfits.not_among(self.param(name), text, options)
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
        self._require_between(name, value, least, most)
        return value

    def maybe_number(self, name: str, *, least: float, most: float) -> float | None:
        """Return the number, or None when the field is absent."""
        value = self.values.get(name)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong_type(name, "a number", value)
        self._require_between(name, value, float(least), float(most))
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
            raise misfits.too_many(self.param(name), value, most)
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
        if len(pairs.values) > MAX_METADATA:
            raise misfits.too_many(param, pairs.values, MAX_METADATA)
        if any(len(key) > MAX_METADATA_KEY for key in pairs.values):
            raise InvalidRequest(
                f"Invalid '{param}': a key is longer than {MAX_METADATA_KEY} characters.",
                param=param,
                code="invalid_value",
            )
        # Our own class
        return {key: pairs._text(key, value, MAX_METADATA_VALUE) for key, value in pairs.values.items()}  # noqa: SLF001

    def _wrong_type(self, name: str, expected: str, value: Json) -> InvalidRequest:
        return misfits.wrong_type(self.param(name), expected, value)

    def _require_between(self, name: str, value: float, least: float, most: float) -> None:
        if not value >= least:
            raise misfits.below(self.param(name), value, least)
        if not value <= most:
            raise misfits.above(self.param(name), value, most)

    def _text(self, name: str, value: Json, most: int) -> str:
        if not isinstance(value, str):
            raise self._wrong_type(name, "a string", value)
        if len(value) > most:
            raise misfits.too_long(self.param(name), len(value), most)
        return value
