"""Conditions of SQL on what a row stores under one field, by the kind of JSON that it is. `filter.py`, the
counterpart, makes them of an expression.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, assert_never

from psycopg import sql

from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.expression import CompareFields, Field, Operator, Scalar

Condition: TypeAlias = sql.SQL | sql.Composed
Kind: TypeAlias = Literal["null", "boolean", "number", "string", "array", "object"]
RANKS: Final[tuple[Kind, ...]] = ("null", "boolean", "number", "string", "array", "object")
"""The types in Rego's order, by the names that `jsonb_typeof` gives them."""
OPERATORS: Final[dict[Operator, sql.SQL]] = {
    "eq": sql.SQL("="),
    "ne": sql.SQL("<>"),
    "lt": sql.SQL("<"),
    "le": sql.SQL("<="),
    "gt": sql.SQL(">"),
    "ge": sql.SQL(">="),
}
TRUE: Final = sql.SQL("TRUE")
FALSE: Final = sql.SQL("FALSE")


@dataclass(frozen=True, slots=True)
class Source:
    """A field in SQL: its JSON, its text, the types that it may have, and whether it is always there."""

    json: Condition
    text: Condition
    kinds: tuple[Kind, ...]
    required: bool

    def among(self, kinds: Iterable[Kind]) -> Condition:
        """Return whether the field is there and of one of these types."""
        asked = frozenset(kinds)
        wanted = [kind for kind in self.kinds if kind in asked]
        if not wanted:
            return FALSE
        if self.required and len(wanted) == len(self.kinds):
            return TRUE
        names = sql.SQL(", ").join(_KIND_NAMES[kind] for kind in wanted)
        return sql.SQL("jsonb_typeof({}) IN ({})").format(self.json, names)


_KIND_NAMES: Final[dict[Kind, sql.SQL]] = {
    "null": sql.SQL("'null'"),
    "boolean": sql.SQL("'boolean'"),
    "number": sql.SQL("'number'"),
    "string": sql.SQL("'string'"),
    "array": sql.SQL("'array'"),
    "object": sql.SQL("'object'"),
}


def same_kind(atom: CompareFields, kind: Kind, left: Source, right: Source) -> Condition:
    """Return when two fields of this kind compare as the atom says."""
    operator = OPERATORS[atom.operator]
    match kind:
        case "null":
            return TRUE if atom.operator in {"eq", "le", "ge"} else FALSE
        case "boolean" | "number":
            return sql.SQL("{} {} {}").format(left.json, operator, right.json)
        case "string":
            return sql.SQL("{} {} {}").format(left.text, operator, right.text)
        case "array":
            return sql.SQL('{} {} {} COLLATE "C"').format(texts(left), operator, texts(right))
        case "object":
            raise refusal("the attributes as a whole have no order in SQL", atom.left)
        case _:
            assert_never(kind)


def texts(source: Source) -> Condition:
    """Return a declared list as an SQL array, which compares element by element and then by length, as
    in Rego.
    """
    known = sql.SQL("CASE WHEN jsonb_typeof({}) = 'array' THEN {} END").format(source.json, source.json)
    return sql.SQL(
        "ARRAY(SELECT e.v FROM jsonb_array_elements_text({}) WITH ORDINALITY AS e (v, i) ORDER BY e.i)"
    ).format(known)


def kind_of(value: Scalar) -> Kind:
    """Return the kind of JSON that the value is."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case str():
            return "string"
        case int() | float():
            return "number"
        case _:
            assert_never(value)


def join(operator: Literal["AND", "OR"], parts: Sequence[Condition]) -> Condition:
    """Return the parts joined, simplified."""
    neutral, absorbing = (TRUE, FALSE) if operator == "AND" else (FALSE, TRUE)
    kept = [part for part in parts if part is not neutral]
    if any(part is absorbing for part in kept):
        return absorbing
    if not kept:
        return neutral
    if len(kept) == 1:
        return kept[0]
    glue = sql.SQL(" AND ") if operator == "AND" else sql.SQL(" OR ")
    return sql.SQL("({})").format(glue.join(kept))


def negated(condition: Condition) -> Condition:
    """Return the condition that holds where this one does not; both must be two-valued."""
    if condition is TRUE:
        return FALSE
    return TRUE if condition is FALSE else sql.SQL("NOT ({})").format(condition)


def two_valued(condition: Condition) -> Condition:
    """Return the condition with NULL read as false, so that its NOT is its complement."""
    return (
        condition
        if condition is TRUE or condition is FALSE
        else sql.SQL("COALESCE({}, FALSE)").format(condition)
    )


def refusal(reason: str, path: Field) -> FilterNotExpressible:
    """Return the refusal of what has no exact form in SQL."""
    return FilterNotExpressible(f"PostgreSQL: {reason} ({'.'.join(path)})")
