"""The filter algebra: which rows a principal may see, as a value. `evaluate.py` says what each node means;
stores render it or refuse.

Every node is two-valued on a row: it holds or it does not. A missing field or a value of another type makes
an atom not hold, and `Not` is the exact complement. That is what lets one tree mean the same in Rego, in SQL
and in a vector store (ADR 0002).

A field is a path from the row's root: `("tenant",)` is a stamped policy field, `("attributes", "colour")` a
client attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, assert_never

Scalar: TypeAlias = str | int | float | bool | None
Field: TypeAlias = tuple[str, ...]
Operator: TypeAlias = Literal["eq", "ne", "lt", "le", "gt", "ge"]
Ordering: TypeAlias = Literal["lt", "le", "gt", "ge"]
TextOperator: TypeAlias = Literal["startswith", "endswith", "contains"]


@dataclass(frozen=True, slots=True)
class Constant:
    """Holds for every row, or for none."""

    holds: bool


@dataclass(frozen=True, slots=True)
class Compare:
    """The field is present and compares so with a known value, in Rego's order (null < boolean < number <
    string < array < object).

    `ne` needs the field to be present too: it is not the complement of `eq`.
    """

    operator: Operator
    field: Field
    value: Scalar


@dataclass(frozen=True, slots=True)
class Ordered:
    """The field is a number that is so ordered with a known one. Unlike for `Compare`, nothing of
    another type comes before or after it.
    """

    operator: Ordering
    field: Field
    value: int | float


@dataclass(frozen=True, slots=True)
class CompareFields:
    """Both fields are present and compare so with each other."""

    operator: Operator
    left: Field
    right: Field


@dataclass(frozen=True, slots=True)
class In:
    """The field is present and equals one of the values."""

    field: Field
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Overlaps:
    """The field is a list (or an object) with at least one element equal to one of the values."""

    field: Field
    values: tuple[Scalar, ...]


@dataclass(frozen=True, slots=True)
class Text:
    """The field is a string that starts with, ends with, or contains the value; compared by code point."""

    operator: TextOperator
    field: Field
    value: str


@dataclass(frozen=True, slots=True)
class Truthy:
    """The field is present and not `false`. Null and zero are truthy, as in Rego."""

    field: Field


@dataclass(frozen=True, slots=True)
class Defined:
    """The field is present, null included."""

    field: Field


@dataclass(frozen=True, slots=True)
class NonEmpty:
    """The field is a list or an object with at least one element."""

    field: Field


@dataclass(frozen=True, slots=True)
class And:
    """All parts hold. Build with `all_of`, which flattens and folds constants."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """Some part holds. Build with `any_of`."""

    parts: tuple[Expression, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part does not hold: the exact complement. Build with `negate`."""

    part: Expression


Atom: TypeAlias = Compare | Ordered | CompareFields | In | Overlaps | Text | Truthy | Defined | NonEmpty
Expression: TypeAlias = Constant | And | Or | Not | Atom

ALWAYS: Final = Constant(holds=True)
NEVER: Final = Constant(holds=False)


def all_of(parts: Iterable[Expression]) -> Expression:
    """Return the conjunction, flattened, without duplicates and constants. No part at all is `ALWAYS`."""
    return _join(parts, And, neutral=ALWAYS, absorbing=NEVER)


def any_of(parts: Iterable[Expression]) -> Expression:
    """Return the disjunction, flattened, without duplicates and constants. No part at all is `NEVER`."""
    return _join(parts, Or, neutral=NEVER, absorbing=ALWAYS)


def negate(part: Expression) -> Expression:
    """Return the exact complement."""
    match part:
        case Constant(holds):
            return Constant(not holds)
        case Not(inner):
            return inner
        case _:
            return Not(part)


def normalize(expression: Expression, *, positive: bool = True) -> Expression:
    """Return the same set of rows in negation normal form: `Not` stands only before atoms."""
    match expression:
        case Constant(holds):
            return Constant(holds == positive)
        case Not(part):
            return normalize(part, positive=not positive)
        case And(parts):
            join = all_of if positive else any_of
            return join(normalize(part, positive=positive) for part in parts)
        case Or(parts):
            join = any_of if positive else all_of
            return join(normalize(part, positive=positive) for part in parts)
        case (
            Compare()
            | Ordered()
            | CompareFields()
            | In()
            | Overlaps()
            | Text()
            | Truthy()
            | Defined()
            | NonEmpty()
        ):
            return expression if positive else Not(expression)
        case _:
            assert_never(expression)


def atoms_of(expression: Expression) -> Iterator[Atom]:
    """Yield the tests of fields that the expression is made of, in the order in which they stand."""
    match expression:
        case And(parts) | Or(parts):
            for part in parts:
                yield from atoms_of(part)
        case Not(part):
            yield from atoms_of(part)
        case Constant():
            pass
        case _:
            yield expression


def size(expression: Expression) -> int:
    """Return the number of nodes and listed values: what a store pays for."""
    match expression:
        case And(parts) | Or(parts):
            return 1 + sum(size(part) for part in parts)
        case Not(part):
            return 1 + size(part)
        case In(_, values) | Overlaps(_, values):
            return 1 + len(values)
        case _:
            return 1


def _join(
    parts: Iterable[Expression], kind: type[And] | type[Or], *, neutral: Constant, absorbing: Constant
) -> Expression:
    # Keyed by repr, not by value: in Python `Compare("eq", f, 1)`, `…, 1.0)` and `…, True)` are equal, in
    # Rego the last is not.
    flat: dict[str, Expression] = {}
    for part in parts:
        if part == absorbing:
            return absorbing
        if part == neutral:
            continue
        for piece in part.parts if isinstance(part, kind) else (part,):
            flat.setdefault(repr(piece), piece)
    pieces = tuple(flat.values())
    if not pieces:
        return neutral
    return pieces[0] if len(pieces) == 1 else kind(pieces)


@dataclass(frozen=True, slots=True)
class Everything:
    """Every row of the searched store is permitted by the policy. The guard is conjoined all the same."""


@dataclass(frozen=True, slots=True)
class Nothing:
    """No row is permitted. A store given this must do no IO."""


@dataclass(frozen=True, slots=True)
class Matching:
    """The rows for which the expression holds are permitted."""

    expression: Expression


FilterPlan: TypeAlias = Everything | Nothing | Matching


def plan_of(expression: Expression) -> FilterPlan:
    """Return the plan that an expression amounts to, so that 'all' and 'none' are never an empty filter."""
    match expression:
        case Constant(holds=True):
            return Everything()
        case Constant(holds=False):
            return Nothing()
        case _:
            return Matching(expression)


def expression_of(plan: FilterPlan) -> Expression:
    """Return the expression that a plan amounts to."""
    match plan:
        case Everything():
            return ALWAYS
        case Nothing():
            return NEVER
        case Matching(expression):
            return expression
        case _:
            assert_never(plan)


def narrow(plan: FilterPlan, *expressions: Expression) -> FilterPlan:
    """Return the plan restricted further by And: the only way to combine a plan with a client filter
    or the guard.
    """
    return plan_of(all_of((*expressions, expression_of(plan))))
