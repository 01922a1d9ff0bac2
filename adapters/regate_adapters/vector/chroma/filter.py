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
from typing import Final, Literal, TypeAlias, assert_never

from regate_adapters.vector.chroma.key_tests import (
    All,
    Range,
    RangeOperator,
    Some,
    Test,
    TestOperator,
    Tree,
    Value,
    all_of,
    any_of,
    complement,
)
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


_RANGES: Final[dict[Ordering, RangeOperator]] = {"lt": "$lt", "le": "$lte", "gt": "$gt", "ge": "$gte"}
_SAMPLES: Final[dict[FieldType, object]] = {"boolean": False, "number": 0, "string": "", "list": []}


def render(plan: FilterPlan, layout: ChromaLayout) -> Where | None:
    """Return the `where` that selects the plan's chunks of the present schema version, or None when it
    selects none at all.

    Raises `FilterNotExpressible`, with a reason, for what has no exact form or is larger than Chroma can
    take.
    """
    tree = _lower(normalize(expression_of(plan)), layout)
    guarded = all_of([Test(VERSION_KEY, "$eq", (layout.version,)), tree])
    if guarded is False:
        return None
    _refuse_oversize(guarded)
    return _emit(guarded, layout.prefix)


# ---------------------------------------------------------------- the algebra, in terms of stored keys


def _lower(expression: Expression, layout: ChromaLayout) -> Tree:
    match expression:
        case Constant(holds):
            return holds
        case And(parts):
            return all_of(_lower(part, layout) for part in parts)
        case Or(parts):
            return any_of(_lower(part, layout) for part in parts)
        case Not(part):
            return complement(_lower(part, layout))
        case CompareFields():
            raise _refusal("Chroma cannot compare two fields", expression.left)
        case _:
            return _atom(expression, layout)


def _atom(
    atom: Compare | Ordered | In | Overlaps | Text | Truthy | Defined | NonEmpty, layout: ChromaLayout
) -> Tree:
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
            return any_of(
                _test(field, "$eq", stored_boolean(True)) if kind == "boolean" else _is(field, kind)
                for kind in field.types
            )
        case Defined():
            return any_of(_is(field, kind) for kind in field.types)
        case NonEmpty():
            return (
                all_of([_is(field, "list"), _test(field, "$not_contains", EMPTY)])
                if "list" in field.types
                else False
            )
        case _:
            assert_never(atom)


def _compare(field: StoredField, operator: Operator, value: Scalar, *, path: Field) -> Tree:
    """Return the comparison for each type that the field may have: with its own type natively, with
    another by Rego's order of types.
    """
    parts: list[Tree] = []
    for kind in field.types:
        match kind, value:
            case "boolean", bool():
                wanted = [one for one in (False, True) if compares(operator, one, value)]
                parts.append(
                    _is(field, kind)
                    if len(wanted) > 1
                    else any_of(_test(field, "$eq", stored_boolean(one)) for one in wanted)
                )
            case "number", int() | float() if not isinstance(value, bool):
                parts.append(_compare_numbers(field, operator, _exact(value, path)))
            case "string", str():
                parts.append(_compare_strings(field, operator, value, path=path))
            case _ if compares(operator, _SAMPLES[kind], value):
                parts.append(_is(field, kind))
            case _:
                pass
    return any_of(parts)


def _compare_numbers(field: StoredField, operator: Operator, value: float) -> Tree:
    is_number = _is(field, "number")
    match operator:
        case "eq":
            return _test(field, "$eq", value)
        case "ne":
            return all_of([is_number, _test(field, "$ne", value)])
        case "lt" | "le" | "gt" | "ge":
            return _range(field, operator, value)
        case _:
            assert_never(operator)


def _range(field: StoredField, operator: Ordering, value: float) -> Tree:
    return Range(field.key, _RANGES[operator], value, _is(field, "number"))


def _exact(value: int | float, path: Field) -> float:
    if not (math.isfinite(value) and abs(value) <= LARGEST):
        raise _refusal("Chroma: numbers beyond 2^53 are not compared exactly", path)
    return float(value)


def _compare_strings(field: StoredField, operator: Operator, value: str, *, path: Field) -> Tree:
    value = _whole(value, path)
    match operator:
        case "eq":
            return value not in RESERVED and _test(field, "$eq", value)
        case "ne":
            return all_of([_is(field, "string"), value in RESERVED or _test(field, "$ne", value)])
        case "lt" | "le" | "gt" | "ge":
            raise _refusal("Chroma cannot order strings", path)
        case _:
            assert_never(operator)


def _equals_one(field: StoredField, values: Iterable[Scalar], *, path: Field) -> Tree:
    """Return whether the field equals one of the values: a list for each type that Chroma knows, since
    it takes no mixed one.
    """
    listed: dict[type, list[Value]] = {float: [], str: []}
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
    return any_of(Test(field.key, "$in", tuple(dict.fromkeys(known))) for known in listed.values() if known)


def _overlaps(field: StoredField, values: Iterable[Scalar]) -> Tree:
    if "list" not in field.types:
        return False
    # Stored lists hold valid strings alone, so no other value is ever an element of one; nor is the mark of
    # an empty list.
    wanted = [
        value for value in values if isinstance(value, str) and value not in RESERVED and _is_unicode(value)
    ]
    return any_of(_test(field, "$contains", value) for value in wanted)


def _is(field: StoredField, kind: FieldType) -> Tree:
    """Return what holds when the field is there with this type."""
    return field.required or Test(TYPES_KEY, "$contains", (field.mark(kind),))


def _test(field: StoredField, operator: TestOperator, value: Value) -> Tree:
    return Test(field.key, operator, (value,))


# ---------------------------------------------------------------- the tree


# ---------------------------------------------------------------- Chroma's own form


def _emit(tree: Tree, prefix: str) -> Where:
    match tree:
        case Test(key, "$in" | "$nin" as operator, (value,)):
            return {prefix + key: {"$eq" if operator == "$in" else "$ne": value}}
        case Test(key, "$in" | "$nin" as operator, values):
            return {prefix + key: {operator: list(values)}}
        case Test(key, operator, (value,)):
            return {prefix + key: {operator: value}}
        case Range(key, operator, value, _):
            return {prefix + key: {operator: value}}
        case All(parts):
            return _balanced("$and", [_emit(part, prefix) for part in parts])
        case Some(parts):
            return _balanced("$or", [_emit(part, prefix) for part in parts])
        case _:
            raise AssertionError(f"not folded: {tree}")


def _balanced(operator: Literal["$and", "$or"], parts: list[Where]) -> Where:
    """Return a tree of pairs: Chroma turns a flat list into a chain as deep as the list is long."""
    while len(parts) > 1:
        pairs = [parts[start : start + 2] for start in range(0, len(parts), 2)]
        parts = [{operator: pair} if len(pair) > 1 else pair[0] for pair in pairs]
    return parts[0]


def _refuse_oversize(tree: Tree) -> None:
    leaves, values, depth = _measure(tree)
    if leaves > _MAX_LEAVES or values > _MAX_VALUES or depth > _DEEPEST:
        raise FilterNotExpressible(
            f"Chroma: the filter has {leaves} conditions, {values} values and {depth} levels; "
            f"at most {_MAX_LEAVES}, {_MAX_VALUES} and {_DEEPEST} are taken"
        )


def _measure(tree: Tree) -> tuple[int, int, int]:
    match tree:
        case All(parts) | Some(parts):
            leaves, values, depths = zip(*map(_measure, parts), strict=True)
            return sum(leaves), sum(values), max(depths) + math.ceil(math.log2(len(parts)))
        case Test(_, _, listed):
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
