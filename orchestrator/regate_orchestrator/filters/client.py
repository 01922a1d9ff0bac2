"""The client's own filters (`filters` of a search) read into the same algebra as the policy's, so that they
can only narrow (I6).

OpenAI's meaning: `eq`, `in` and the orderings need the key to be there; `ne` and `nin` are their exact
complements and so match files without the key. Orderings are of numbers, and match numbers alone. Limits are
checked here, before any adapter sees the filter, and are such that every store takes what keeps them
(`regate_adapters.testing.vector.suite`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.attribute_keys import LONGEST, is_key, is_reserved
from regate_orchestrator.filters.expression import (
    ALWAYS,
    Compare,
    Expression,
    In,
    Ordered,
    Ordering,
    Scalar,
    all_of,
    any_of,
    negate,
)
from regate_orchestrator.spelling import nearest

_ORDERINGS: Final[Mapping[str, Ordering]] = {"gt": "gt", "gte": "ge", "lt": "lt", "lte": "le"}
DEEPEST: Final = 8
MAX_PARTS: Final = 200
MAX_VALUES: Final = 100
"""Of one list."""
MAX_LISTED: Final = 1_000
"""Values of all lists together."""


def read_client_filter(value: object, *, param: str = "filters") -> Expression:
    """Return the filter as an expression over `("attributes", key)`; None means no filter. Raises
    `InvalidRequest`.
    """
    return ALWAYS if value is None else _Reader(param).read(value, param, depth=1)


class _Reader:
    def __init__(self, param: str) -> None:
        self._param = param
        self._parts = 0
        self._listed = 0

    def read(self, value: object, place: str, *, depth: int) -> Expression:
        self._parts += 1
        if depth > DEEPEST or self._parts > MAX_PARTS:
            raise InvalidRequest(
                f"'{self._param}' may be {DEEPEST} deep and have {MAX_PARTS} parts at most.",
                param=self._param,
            )
        if not isinstance(value, Mapping):
            raise InvalidRequest(f"'{place}' must be a filter object with a 'type'.", param=place)
        kind = value.get("type")
        if kind in ("and", "or"):
            _exact_keys(value, {"type", "filters"}, place)
            parts = value.get("filters")
            if not isinstance(parts, list) or not parts:
                raise InvalidRequest(
                    f"'{place}.filters' must be a list with at least one filter.", param=f"{place}.filters"
                )
            join = all_of if kind == "and" else any_of
            return join(
                [
                    self.read(part, f"{place}.filters[{index}]", depth=depth + 1)
                    for index, part in enumerate(parts)
                ]
            )
        _exact_keys(value, {"type", "key", "value"}, place)
        return self._comparison(kind, value.get("key"), value.get("value"), place)

    def _comparison(self, kind: object, key: object, value: object, place: str) -> Expression:
        if not isinstance(key, str) or not is_key(key):
            raise InvalidRequest(
                f"'{place}.key' must be a text of 1 to 64 characters, without NUL.", param=f"{place}.key"
            )
        if is_reserved(key):
            message = (
                f"'{place}.key' is '{key}', a reserved name that no file's attributes have; what policy "
                "knows of files it filters itself."
            )
            raise InvalidRequest(message, param=f"{place}.key")
        field = ("attributes", key)
        match kind:
            case "eq" | "ne":
                equal = Compare("eq", field, _scalar(value, f"{place}.value"))
                return equal if kind == "eq" else negate(equal)
            case "gt" | "gte" | "lt" | "lte":
                number = _scalar(value, f"{place}.value")
                if isinstance(number, str | bool):
                    raise InvalidRequest(
                        f"'{place}.value' must be a number for '{kind}'.", param=f"{place}.value"
                    )
                return Ordered(_ORDERINGS[kind], field, number)
            case "in" | "nin":
                member = In(field, self._members(value, f"{place}.value"))
                return member if kind == "in" else negate(member)
            case _:
                raise InvalidRequest(
                    f"'{place}.type' must be one of and, or, eq, ne, gt, gte, lt, lte, in, nin.",
                    param=f"{place}.type",
                )

    def _members(self, value: object, place: str) -> tuple[Scalar, ...]:
        if not isinstance(value, list) or not 0 < len(value) <= MAX_VALUES:
            raise InvalidRequest(f"'{place}' must be a list of 1 to {MAX_VALUES} values.", param=place)
        self._listed += len(value)
        if self._listed > MAX_LISTED:
            raise InvalidRequest(
                f"The lists of '{self._param}' may have {MAX_LISTED} values at most, all together.",
                param=self._param,
            )
        return tuple(_scalar(one, place) for one in value)


def _scalar(value: object, place: str) -> str | int | float | bool:
    if not isinstance(value, str | int | float | bool):
        raise InvalidRequest(f"'{place}' must be a string, a number or a boolean.", param=place)
    if isinstance(value, str) and len(value) > LONGEST:
        raise InvalidRequest(
            f"'{place}' must be at most {LONGEST} characters, as attributes are.", param=place
        )
    if not isinstance(value, str | bool) and abs(value) > 2**53:
        raise InvalidRequest(f"'{place}' must be a number between -2^53 and 2^53.", param=place)
    return value


def _exact_keys(value: Mapping[object, object], known: set[str], place: str) -> None:
    if unknown := sorted(str(key) for key in value if key not in known):
        near = nearest(unknown[0], known)
        advice = "" if near is None else f" Did you mean '{place}.{near}'?"
        raise InvalidRequest(
            f"Unknown parameter: '{place}.{unknown[0]}'.{advice}",
            param=f"{place}.{unknown[0]}",
            code="unknown_parameter",
        )
