"""Tests of stored keys and how they combine. The complement of each is such a tree as well, as Chroma has no
`not`. `filter.py`, the counterpart, makes a tree of an expression and writes it in Chroma's own form.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, assert_never

TestOperator: TypeAlias = Literal["$eq", "$ne", "$in", "$nin", "$contains", "$not_contains"]
RangeOperator: TypeAlias = Literal["$lt", "$lte", "$gt", "$gte"]
Value: TypeAlias = str | float
_OPPOSITE: Final[dict[TestOperator, TestOperator]] = {
    "$eq": "$ne",
    "$ne": "$eq",
    "$in": "$nin",
    "$nin": "$in",
    "$contains": "$not_contains",
    "$not_contains": "$contains",
}
_BEYOND: Final[dict[RangeOperator, RangeOperator]] = {
    "$lt": "$gte",
    "$gte": "$lt",
    "$gt": "$lte",
    "$lte": "$gt",
}


@dataclass(frozen=True, slots=True)
class Test:
    """A test of the value under one key."""

    key: str
    operator: TestOperator
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Range:
    """A comparison of numbers; holds for no other type. `is_number` says when the field is one, for
    the complement.
    """

    key: str
    operator: RangeOperator
    value: float
    is_number: Tree


@dataclass(frozen=True, slots=True)
class All:
    """Holds when every part does."""

    parts: tuple[Tree, ...]


@dataclass(frozen=True, slots=True)
class Some:
    """Holds when any part does."""

    parts: tuple[Tree, ...]


Tree: TypeAlias = bool | Test | Range | All | Some


def complement(tree: Tree) -> Tree:
    """Return the tree that holds exactly where this one does not."""
    match tree:
        case bool():
            return not tree
        case Test(key, operator, values):
            return Test(key, _OPPOSITE[operator], values)
        case Range(key, operator, value, is_number):
            return any_of([complement(is_number), Range(key, _BEYOND[operator], value, is_number)])
        case All(parts):
            return any_of(complement(part) for part in parts)
        case Some(parts):
            return all_of(complement(part) for part in parts)
        case _:
            assert_never(tree)


def all_of(parts: Iterable[Tree]) -> Tree:
    """Return the tree of which all parts must hold, simplified."""
    flat = _flat(parts, All, absorbing=False)
    if flat is None:
        return False
    merged = _merge(flat, one="$ne", many="$nin")
    return merged[0] if len(merged) == 1 else All(merged) if merged else True


def any_of(parts: Iterable[Tree]) -> Tree:
    """Return the tree of which any part must hold, simplified."""
    flat = _flat(parts, Some, absorbing=True)
    if flat is None:
        return True
    merged = _merge(flat, one="$eq", many="$in")
    return merged[0] if len(merged) == 1 else Some(merged) if merged else False


def _flat(parts: Iterable[Tree], kind: type[All] | type[Some], *, absorbing: bool) -> list[Tree] | None:
    """Return the parts without constants, duplicates and nesting, or None when one of them decides
    the whole.
    """
    pieces: dict[str, Tree] = {}  # by repr: so that no two types are ever taken for one
    for part in parts:
        if isinstance(part, bool):
            if part is absorbing:
                return None
            continue
        for piece in part.parts if isinstance(part, kind) else (part,):
            pieces.setdefault(repr(piece), piece)
    return list(pieces.values())


def _merge(parts: list[Tree], *, one: TestOperator, many: TestOperator) -> tuple[Tree, ...]:
    """Return the parts with the tests of one key for equality folded into one list for each type of
    value: Chroma takes no mixed list.
    """
    listed: dict[tuple[str, type], dict[Value, None]] = {}
    others: list[Tree] = []
    for part in parts:
        match part:
            case Test(key, operator, values) if operator in (one, many):
                listed.setdefault((key, type(values[0])), {}).update(dict.fromkeys(values))
            case _:
                others.append(part)
    return (*others, *(Test(key, many, tuple(values)) for (key, _), values in listed.items()))
