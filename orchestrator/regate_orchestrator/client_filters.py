"""The client's own filters (`filters` of a search) read into the same algebra as the policy's, so that they can only narrow (I6).

OpenAI's meaning: `eq`, `in` and the orderings need the key to be there; `ne` and `nin` are their exact complements and so match files
without the key. Orderings are for numbers. Limits are checked here, before any adapter sees the filter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters import ALWAYS, Compare, Expression, In, Operator, Scalar, all_of, any_of, negate

_KEY: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_ORDERINGS: Final[Mapping[str, Operator]] = {"gt": "gt", "gte": "ge", "lt": "lt", "lte": "le"}
_DEEPEST: Final = 8
_MOST_NODES: Final = 200
_MOST_VALUES: Final = 100


def read_client_filter(value: object, *, param: str = "filters") -> Expression:
    """Return the filter as an expression over `("attributes", key)`; None means no filter. Raises `InvalidRequest`."""
    return ALWAYS if value is None else _Reader(param).read(value, param, depth=1)


class _Reader:
    def __init__(self, param: str) -> None:
        self._param = param
        self._nodes = 0

    def read(self, value: object, place: str, *, depth: int) -> Expression:
        self._nodes += 1
        if depth > _DEEPEST or self._nodes > _MOST_NODES:
            raise InvalidRequest(f"'{self._param}' may be {_DEEPEST} deep and have {_MOST_NODES} parts at most.", param=self._param)
        if not isinstance(value, Mapping):
            raise InvalidRequest(f"'{place}' must be a filter object with a 'type'.", param=place)
        kind = value.get("type")
        if kind in ("and", "or"):
            _exact_keys(value, {"type", "filters"}, place)
            parts = value.get("filters")
            if not isinstance(parts, list) or not parts:
                raise InvalidRequest(f"'{place}.filters' must be a list with at least one filter.", param=f"{place}.filters")
            join = all_of if kind == "and" else any_of
            return join([self.read(part, f"{place}.filters[{index}]", depth=depth + 1) for index, part in enumerate(parts)])
        _exact_keys(value, {"type", "key", "value"}, place)
        return _comparison(kind, value.get("key"), value.get("value"), place)


def _comparison(kind: object, key: object, value: object, place: str) -> Expression:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InvalidRequest(f"'{place}.key' must be 1 to 64 of A-Z a-z 0-9 _ . -", param=f"{place}.key")
    field = ("attributes", key)
    match kind:
        case "eq" | "ne":
            equal = Compare("eq", field, _scalar(value, f"{place}.value"))
            return equal if kind == "eq" else negate(equal)
        case "gt" | "gte" | "lt" | "lte":
            number = _scalar(value, f"{place}.value")
            if isinstance(number, str | bool):
                raise InvalidRequest(f"'{place}.value' must be a number for '{kind}'.", param=f"{place}.value")
            return Compare(_ORDERINGS[kind], field, number)
        case "in" | "nin":
            if not isinstance(value, list) or not 0 < len(value) <= _MOST_VALUES:
                raise InvalidRequest(f"'{place}.value' must be a list of 1 to {_MOST_VALUES} values.", param=f"{place}.value")
            member = In(field, tuple(_scalar(one, f"{place}.value") for one in value))
            return member if kind == "in" else negate(member)
        case _:
            raise InvalidRequest(f"'{place}.type' must be one of and, or, eq, ne, gt, gte, lt, lte, in, nin.", param=f"{place}.type")


def _scalar(value: object, place: str) -> Scalar:
    if not isinstance(value, str | int | float | bool):
        raise InvalidRequest(f"'{place}' must be a string, a number or a boolean.", param=place)
    if not isinstance(value, str | bool) and abs(value) > 2**53:
        raise InvalidRequest(f"'{place}' must be a number between -2^53 and 2^53.", param=place)
    return value


def _exact_keys(value: Mapping[object, object], known: set[str], place: str) -> None:
    if unknown := sorted(str(key) for key in value if key not in known):
        raise InvalidRequest(f"Unknown parameter: '{place}.{unknown[0]}'.", param=f"{place}.{unknown[0]}", code="unknown_parameter")
