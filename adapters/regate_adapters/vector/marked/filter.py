"""The filter algebra as conditions on marks: exactly what `meaning.holds` says of a stored chunk, or
`FilterNotExpressible`. No IO.

Not expressible are string predicates, orderings of strings, and comparisons of two fields. A field that the
schema does not declare is absent, as it is in the canonical view.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, assert_never

from regate_adapters.vector.marked.marks import LARGEST, MarkedField, Marking
from regate_adapters.vector.marked.tree import (
    Has,
    Lacks,
    Tree,
    all_of,
    any_of,
    complement,
    conditions_of,
    measured,
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

_SAMPLES: Final[dict[FieldType, object]] = {"boolean": False, "number": 0, "string": "", "list": []}


@dataclass(frozen=True, slots=True)
class Limits:
    """How large a condition an engine should be asked: how many marks it names, how many levels it has, and
    of how many parts it is.
    """

    most_marks: int = 50_000
    deepest: int = 60
    most_conditions: int = 50_000


USUAL: Final = Limits()


def render(plan: FilterPlan, marking: Marking, limits: Limits = USUAL) -> Tree:
    """Return the condition that selects the plan's chunks of the present schema version.

    Raises `FilterNotExpressible`, with a reason, for what has no exact form, and for a condition that is
    deeper, has more parts or names more marks than the engine should be asked.
    """
    tree = all_of([Has((marking.version,)), _lowered(normalize(expression_of(plan)), marking)])
    marks, depth = measured(tree)
    if marks > limits.most_marks or depth > limits.deepest:
        raise FilterNotExpressible(
            f"the filter has {marks} values and {depth} levels; at most {limits.most_marks} and "
            f"{limits.deepest} are taken"
        )
    if (conditions := conditions_of(tree)) > limits.most_conditions:
        raise FilterNotExpressible(
            f"the filter has {conditions} conditions; at most {limits.most_conditions} are taken"
        )
    return tree


def _lowered(expression: Expression, marking: Marking) -> Tree:
    match expression:
        case Constant(holds):
            return holds
        case And(parts):
            return all_of(_lowered(part, marking) for part in parts)
        case Or(parts):
            return any_of(_lowered(part, marking) for part in parts)
        case Not(part):
            return complement(_lowered(part, marking))
        case CompareFields():
            raise _refusal("two fields cannot be compared", expression.left)
        case _:
            field = marking.field(expression.field)
            return field is not None and _atom(expression, field)


def _atom(
    atom: Compare | Ordered | In | Overlaps | Text | Truthy | Defined | NonEmpty, field: MarkedField
) -> Tree:
    match atom:
        case Compare(operator, path, value):
            return any_of(_compared(field, kind, operator, value, path) for kind in field.types)
        case Ordered(operator, path, value):
            return "number" in field.types and _range(field, operator, _exact(value, path))
        case In(path, values):
            return any_of(_equal(field, value, path) for value in values)
        case Overlaps(_, values):
            wanted = [field.holding(value) for value in values if isinstance(value, str)]
            return "list" in field.types and any_of([Has((mark,)) for mark in wanted])
        case Text(_, path, _):
            if "string" in field.types:
                raise _refusal("there are no string predicates", path)
            return False
        case Truthy():
            return any_of(
                Has((field.equal(True),)) if kind == "boolean" else _is(field, kind) for kind in field.types
            )
        case Defined():
            return any_of(_is(field, kind) for kind in field.types)
        case NonEmpty():
            return "list" in field.types and Has((field.not_empty(),))
        case _:
            assert_never(atom)


def _compared(field: MarkedField, kind: FieldType, operator: Operator, value: Scalar, path: Field) -> Tree:
    """Return the comparison for a field of this type: with its own type by its marks, with another by Rego's
    order of types.
    """
    match kind, value:
        case "boolean", bool():
            return any_of(Has((field.equal(one),)) for one in (False, True) if compares(operator, one, value))
        case "number", int() | float() if not isinstance(value, bool):
            number = _exact(value, path)
            if operator in ("eq", "ne"):
                return _equality(field, kind, operator, number)
            return _range(field, operator, number)
        case "string", str():
            if operator in ("eq", "ne"):
                return _equality(field, kind, operator, value)
            raise _refusal("strings cannot be ordered", path)
        case _:
            return compares(operator, _SAMPLES[kind], value) and _is(field, kind)


def _equality(field: MarkedField, kind: FieldType, operator: Operator, value: str | float) -> Tree:
    mark = field.equal(value)
    return Has((mark,)) if operator == "eq" else all_of([_is(field, kind), Lacks((mark,))])


def _range(field: MarkedField, operator: Operator | Ordering, value: float) -> Tree:
    marks = field.beyond(value, above=operator in ("gt", "ge"), inclusive=operator in ("le", "ge"))
    return bool(marks) and Has(marks)


def _equal(field: MarkedField, value: Scalar, path: Field) -> Tree:
    match value:
        case bool():
            return "boolean" in field.types and Has((field.equal(value),))
        case str():
            return "string" in field.types and Has((field.equal(value),))
        case int() | float():
            return "number" in field.types and Has((field.equal(_exact(value, path)),))
        case _:
            return False


def _exact(value: int | float, path: Field) -> float:
    if not (math.isfinite(value) and abs(value) <= LARGEST):
        raise _refusal("numbers beyond 2^53 are not compared exactly", path)
    return float(value)


def _is(field: MarkedField, kind: FieldType) -> Tree:
    return field.required or Has((field.is_a(kind),))


def _refusal(reason: str, field: Field) -> FilterNotExpressible:
    return FilterNotExpressible(f"{reason} ({'.'.join(field)})")
