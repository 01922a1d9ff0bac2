"""The filter algebra rendered for Chroma: exactly what `meaning.holds` says of a stored chunk, or
`FilterNotExpressible`. No IO.

Chroma's `$eq $in $contains` and the orderings are strict; `$ne $nin $not_contains` are their exact
complements and so match where the key is absent. Every leaf below therefore has an exact complement, and no
leaf is ever negated by operator name alone. Not expressible are string predicates, orderings of strings,
comparisons of two fields, and fields that the schema does not declare (ADR 0002).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, assert_never

from regate_adapters.vector.chroma.layout import (
    EMPTY,
    LARGEST,
    RESERVED,
    TYPES_KEY,
    VERSION_KEY,
    ChromaLayout,
    StoredField,
    stored_boolean,
)
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.evaluate import compares
from regate_orchestrator.filters.expression import (
    And,
    Compare,
    CompareFields,
    Constant,
    Defined,
    Expression,
    Field,
    FilterPlan,
    In,
    NonEmpty,
    Not,
    Operator,
    Or,
    Ordered,
    Ordering,
    Overlaps,
    Scalar,
    Text,
    Truthy,
    expression_of,
    normalize,
)
from regate_orchestrator.filters.schema import FieldType

Where: TypeAlias = dict[str, object]

# Measured: 1,000 leaves cost 30 to 90 ms on small collections, 4,000 a second; SQLite ends at 32,766
# variables, Chroma at 80 levels.
_MAX_LEAVES: Final = 1_000
_MAX_VALUES: Final = 10_000
_DEEPEST: Final = 60

_TestOperator: TypeAlias = Literal["$eq", "$ne", "$in", "$nin", "$contains", "$not_contains"]
_RangeOperator: TypeAlias = Literal["$lt", "$lte", "$gt", "$gte"]
_Value: TypeAlias = str | float

_OPPOSITE: Final[dict[_TestOperator, _TestOperator]] = {
    "$eq": "$ne",
    "$ne": "$eq",
    "$in": "$nin",
    "$nin": "$in",
    "$contains": "$not_contains",
    "$not_contains": "$contains",
}
_BEYOND: Final[dict[_RangeOperator, _RangeOperator]] = {
    "$lt": "$gte",
    "$gte": "$lt",
    "$gt": "$lte",
    "$lte": "$gt",
}
_RANGES: Final[dict[Ordering, _RangeOperator]] = {"lt": "$lt", "le": "$lte", "gt": "$gt", "ge": "$gte"}
_SAMPLES: Final[dict[FieldType, object]] = {"boolean": False, "number": 0, "string": "", "list": []}


@dataclass(frozen=True, slots=True)
class _Test:
    key: str
    operator: _TestOperator
    values: tuple[_Value, ...]


@dataclass(frozen=True, slots=True)
class _Range:
    """A comparison of numbers; holds for no other type. `is_number` says when the field is one, for
    the complement.
    """

    key: str
    operator: _RangeOperator
    value: float
    is_number: _Tree


@dataclass(frozen=True, slots=True)
class _All:
    parts: tuple[_Tree, ...]


@dataclass(frozen=True, slots=True)
class _Some:
    parts: tuple[_Tree, ...]


_Tree: TypeAlias = bool | _Test | _Range | _All | _Some


def render(plan: FilterPlan, layout: ChromaLayout) -> Where | None:
    """Return the `where` that selects the plan's chunks of the present schema version, or None when it
    selects none at all.

    Raises `FilterNotExpressible`, with a reason, for what has no exact form or is larger than Chroma can
    take.
    """
    tree = _lower(normalize(expression_of(plan)), layout)
    guarded = _all([_Test(VERSION_KEY, "$eq", (layout.version,)), tree])
    if guarded is False:
        return None
    _refuse_oversize(guarded)
    return _emit(guarded, layout.prefix)


# ---------------------------------------------------------------- the algebra, in terms of stored keys


def _lower(expression: Expression, layout: ChromaLayout) -> _Tree:
    match expression:
        case Constant(holds):
            return holds
        case And(parts):
            return _all(_lower(part, layout) for part in parts)
        case Or(parts):
            return _some(_lower(part, layout) for part in parts)
        case Not(part):
            return _complement(_lower(part, layout))
        case CompareFields():
            raise _refusal("Chroma cannot compare two fields", expression.left)
        case _:
            return _atom(expression, layout)


def _atom(
    atom: Compare | Ordered | In | Overlaps | Text | Truthy | Defined | NonEmpty, layout: ChromaLayout
) -> _Tree:
    field = layout.field(atom.field)
    if field is None:
        raise _refusal("Chroma: the field is not stored, as it is not declared in rego/schemas", atom.field)
    match atom:
        case Compare(operator, path, value):
            return _compare(field, operator, value, path=path)
        case Ordered(operator, path, value):
            return _range(field, operator, _exact(value, path)) if "number" in field.types else False
        case In(path, values):
            return _equals_one(field, values, path=path)
        case Overlaps(_, values):
            return _overlaps(field, values)
        case Text(_, path, _):
            if "string" in field.types:
                raise _refusal("Chroma has no string predicates", path)
            return False
        case Truthy():
            return _some(
                _test(field, "$eq", stored_boolean(True)) if kind == "boolean" else _is(field, kind)
                for kind in field.types
            )
        case Defined():
            return _some(_is(field, kind) for kind in field.types)
        case NonEmpty():
            return (
                _all([_is(field, "list"), _test(field, "$not_contains", EMPTY)])
                if "list" in field.types
                else False
            )
        case _:
            assert_never(atom)


def _compare(field: StoredField, operator: Operator, value: Scalar, *, path: Field) -> _Tree:
    """Return the comparison for each type that the field may have: with its own type natively, with
    another by Rego's order of types.
    """
    parts: list[_Tree] = []
    for kind in field.types:
        match kind, value:
            case "boolean", bool():
                wanted = [one for one in (False, True) if compares(operator, one, value)]
                parts.append(
                    _is(field, kind)
                    if len(wanted) > 1
                    else _some(_test(field, "$eq", stored_boolean(one)) for one in wanted)
                )
            case "number", int() | float() if not isinstance(value, bool):
                parts.append(_compare_numbers(field, operator, _exact(value, path)))
            case "string", str():
                parts.append(_compare_strings(field, operator, value, path=path))
            case _ if compares(operator, _SAMPLES[kind], value):
                parts.append(_is(field, kind))
            case _:
                pass
    return _some(parts)


def _compare_numbers(field: StoredField, operator: Operator, value: float) -> _Tree:
    is_number = _is(field, "number")
    match operator:
        case "eq":
            return _test(field, "$eq", value)
        case "ne":
            return _all([is_number, _test(field, "$ne", value)])
        case "lt" | "le" | "gt" | "ge":
            return _range(field, operator, value)
        case _:
            assert_never(operator)


def _range(field: StoredField, operator: Ordering, value: float) -> _Tree:
    return _Range(field.key, _RANGES[operator], value, _is(field, "number"))


def _exact(value: int | float, path: Field) -> float:
    if not (math.isfinite(value) and abs(value) <= LARGEST):
        raise _refusal("Chroma: numbers beyond 2^53 are not compared exactly", path)
    return float(value)


def _compare_strings(field: StoredField, operator: Operator, value: str, *, path: Field) -> _Tree:
    value = _whole(value, path)
    match operator:
        case "eq":
            return value not in RESERVED and _test(field, "$eq", value)
        case "ne":
            return _all([_is(field, "string"), value in RESERVED or _test(field, "$ne", value)])
        case "lt" | "le" | "gt" | "ge":
            raise _refusal("Chroma cannot order strings", path)
        case _:
            assert_never(operator)


def _equals_one(field: StoredField, values: Iterable[Scalar], *, path: Field) -> _Tree:
    """Return whether the field equals one of the values: a list for each type that Chroma knows, since
    it takes no mixed one.
    """
    listed: dict[type, list[_Value]] = {float: [], str: []}
    for value in values:
        match value:
            case bool() if "boolean" in field.types:
                listed[str].append(stored_boolean(value))
            case str() if "string" in field.types and value not in RESERVED:
                listed[str].append(_whole(value, path))
            case int() | float() if "number" in field.types and not isinstance(value, bool):
                listed[float].append(_exact(value, path))
            case _:
                pass
    return _some(_Test(field.key, "$in", tuple(dict.fromkeys(known))) for known in listed.values() if known)


def _overlaps(field: StoredField, values: Iterable[Scalar]) -> _Tree:
    if "list" not in field.types:
        return False
    # Stored lists hold valid strings alone, so no other value is ever an element of one; nor is the mark of
    # an empty list.
    wanted = [
        value for value in values if isinstance(value, str) and value not in RESERVED and _is_unicode(value)
    ]
    return _some(_test(field, "$contains", value) for value in wanted)


def _is(field: StoredField, kind: FieldType) -> _Tree:
    """Return what holds when the field is there with this type."""
    return field.required or _Test(TYPES_KEY, "$contains", (field.mark(kind),))


def _test(field: StoredField, operator: _TestOperator, value: _Value) -> _Tree:
    return _Test(field.key, operator, (value,))


# ---------------------------------------------------------------- the tree


def _complement(tree: _Tree) -> _Tree:
    match tree:
        case bool():
            return not tree
        case _Test(key, operator, values):
            return _Test(key, _OPPOSITE[operator], values)
        case _Range(key, operator, value, is_number):
            return _some([_complement(is_number), _Range(key, _BEYOND[operator], value, is_number)])
        case _All(parts):
            return _some(_complement(part) for part in parts)
        case _Some(parts):
            return _all(_complement(part) for part in parts)
        case _:
            assert_never(tree)


def _all(parts: Iterable[_Tree]) -> _Tree:
    flat = _flat(parts, _All, absorbing=False)
    if flat is None:
        return False
    merged = _merge(flat, one="$ne", many="$nin")
    return merged[0] if len(merged) == 1 else _All(merged) if merged else True


def _some(parts: Iterable[_Tree]) -> _Tree:
    flat = _flat(parts, _Some, absorbing=True)
    if flat is None:
        return True
    merged = _merge(flat, one="$eq", many="$in")
    return merged[0] if len(merged) == 1 else _Some(merged) if merged else False


def _flat(parts: Iterable[_Tree], kind: type[_All] | type[_Some], *, absorbing: bool) -> list[_Tree] | None:
    """Return the parts without constants, duplicates and nesting, or None when one of them decides
    the whole.
    """
    pieces: dict[str, _Tree] = {}  # by repr: so that no two types are ever taken for one
    for part in parts:
        if isinstance(part, bool):
            if part is absorbing:
                return None
            continue
        for piece in part.parts if isinstance(part, kind) else (part,):
            pieces.setdefault(repr(piece), piece)
    return list(pieces.values())


def _merge(parts: list[_Tree], *, one: _TestOperator, many: _TestOperator) -> tuple[_Tree, ...]:
    """Return the parts with the tests of one key for equality folded into one list for each type of
    value: Chroma takes no mixed list.
    """
    listed: dict[tuple[str, type], dict[_Value, None]] = {}
    others: list[_Tree] = []
    for part in parts:
        match part:
            case _Test(key, operator, values) if operator in (one, many):
                listed.setdefault((key, type(values[0])), {}).update(dict.fromkeys(values))
            case _:
                others.append(part)
    return (*others, *(_Test(key, many, tuple(values)) for (key, _), values in listed.items()))


# ---------------------------------------------------------------- Chroma's own form


def _emit(tree: _Tree, prefix: str) -> Where:
    match tree:
        case _Test(key, "$in" | "$nin" as operator, (value,)):
            return {prefix + key: {"$eq" if operator == "$in" else "$ne": value}}
        case _Test(key, "$in" | "$nin" as operator, values):
            return {prefix + key: {operator: list(values)}}
        case _Test(key, operator, (value,)):
            return {prefix + key: {operator: value}}
        case _Range(key, operator, value, _):
            return {prefix + key: {operator: value}}
        case _All(parts):
            return _balanced("$and", [_emit(part, prefix) for part in parts])
        case _Some(parts):
            return _balanced("$or", [_emit(part, prefix) for part in parts])
        case _:
            raise AssertionError(f"not folded: {tree}")


def _balanced(operator: Literal["$and", "$or"], parts: list[Where]) -> Where:
    """Return a tree of pairs: Chroma turns a flat list into a chain as deep as the list is long."""
    while len(parts) > 1:
        pairs = [parts[start : start + 2] for start in range(0, len(parts), 2)]
        parts = [{operator: pair} if len(pair) > 1 else pair[0] for pair in pairs]
    return parts[0]


def _refuse_oversize(tree: _Tree) -> None:
    leaves, values, depth = _measure(tree)
    if leaves > _MAX_LEAVES or values > _MAX_VALUES or depth > _DEEPEST:
        raise FilterNotExpressible(
            f"Chroma: the filter has {leaves} conditions, {values} values and {depth} levels; "
            f"at most {_MAX_LEAVES}, {_MAX_VALUES} and {_DEEPEST} are taken"
        )


def _measure(tree: _Tree) -> tuple[int, int, int]:
    match tree:
        case _All(parts) | _Some(parts):
            leaves, values, depths = zip(*map(_measure, parts), strict=True)
            return sum(leaves), sum(values), max(depths) + math.ceil(math.log2(len(parts)))
        case _Test(_, _, listed):
            return 1, len(listed), 1
        case _:
            return 1, 1, 1


def _whole(value: str, path: Field) -> str:
    if not _is_unicode(value):
        raise _refusal("Chroma: the text is not valid Unicode", path)
    return value


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _refusal(reason: str, field: Field) -> FilterNotExpressible:
    return FilterNotExpressible(f"{reason} ({'.'.join(field)})")
