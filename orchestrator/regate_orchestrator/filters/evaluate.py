"""The meaning of the filter algebra: an exact interpreter over one row. Its counterparts are the renderers,
which must agree with it.

Rows are JSON values as OPA sees them. Order and equality are Rego's: null < boolean < number < string < array
< object; 1 equals 1.0 and never equals true (OPA documentation, "Comparison").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, assert_never, cast

from regate_orchestrator.filters.expression import (
    And,
    Compare,
    CompareFields,
    Constant,
    Defined,
    Expression,
    Field,
    In,
    NonEmpty,
    Not,
    Operator,
    Or,
    Ordered,
    Overlaps,
    Text,
    TextOperator,
    Truthy,
)

_MISSING: Final = object()


def holds(expression: Expression, row: Mapping[str, object]) -> bool:
    """Return whether the expression holds for the row."""
    match expression:
        case Constant(always):
            return always
        case And(parts):
            return all(holds(part, row) for part in parts)
        case Or(parts):
            return any(holds(part, row) for part in parts)
        case Not(part):
            return not holds(part, row)
        case CompareFields(operator, left, right):
            first, second = _at(row, left), _at(row, right)
            return first is not _MISSING and second is not _MISSING and compares(operator, first, second)
        case _:
            value = _at(row, expression.field)
            return value is not _MISSING and _atom_holds(expression, value)


def _atom_holds(
    atom: Compare | Ordered | In | Overlaps | Text | Truthy | Defined | NonEmpty, value: object
) -> bool:
    match atom:
        case Compare(operator, _, known):
            return compares(operator, value, known)
        case Ordered(operator, _, known):
            return _rank(value) == _rank(known) and compares(operator, value, known)
        case In(_, values):
            return _is_among(value, values)
        case Overlaps(_, values):
            return any(_is_among(element, values) for element in _elements(value))
        case Text(operator, _, known):
            return isinstance(value, str) and _text_holds(operator, value, known)
        case Truthy():
            return value is not False
        case Defined():
            return True
        case NonEmpty():
            return bool(_elements(value))
        case _:
            assert_never(atom)


def _is_among(value: object, values: Sequence[object]) -> bool:
    if isinstance(value, str):
        return value in values  # quickly: there may be many, and nothing but a string equals one
    return any(compares("eq", value, known) for known in values)


def _text_holds(operator: TextOperator, value: str, known: str) -> bool:
    match operator:
        case "startswith":
            return value.startswith(known)
        case "endswith":
            return value.endswith(known)
        case "contains":
            return known in value
        case _:
            assert_never(operator)


def compares(operator: Operator, left: object, right: object) -> bool:
    """Return whether two JSON values compare so in Rego's order."""
    order = _order(left, right)
    match operator:
        case "eq":
            return order == 0
        case "ne":
            return order != 0
        case "lt":
            return order < 0
        case "le":
            return order <= 0
        case "gt":
            return order > 0
        case "ge":
            return order >= 0
        case _:
            assert_never(operator)


def _order(left: object, right: object) -> int:
    rank = _rank(left)
    other = _rank(right)
    if rank != other:
        return -1 if rank < other else 1
    match left:
        case dict() if isinstance(right, dict):
            ours, theirs = sorted(left), sorted(right)
            return _order(ours, theirs) or _order([left[key] for key in ours], [right[key] for key in theirs])
        case list() | tuple() if isinstance(right, list | tuple):
            for one, another in zip(left, right, strict=False):
                if order := _order(one, another):
                    return order
            return (len(left) > len(right)) - (len(left) < len(right))
        case None:
            return 0
        case _:
            # Strings compare by code point, which is also the order of their UTF-8 bytes (Go's order).
            first, second = cast("str", left), cast("str", right)
            return (first > second) - (first < second)


def _rank(value: object) -> int:
    match value:
        case None:
            return 0
        case bool():
            return 1
        case int() | float():
            return 2
        case str():
            return 3
        case list() | tuple():
            return 4
        case _:
            return 5


def _at(row: Mapping[str, object], field: Field) -> object:
    value: object = row
    for name in field:
        if not isinstance(value, Mapping) or name not in value:
            return _MISSING
        value = value[name]
    return value


def _elements(value: object) -> list[object]:
    match value:
        case list() | tuple():
            return list(value)
        case Mapping():
            return list(value.values())
        case _:
            return []
