"""The row filter: renders the filter algebra as a boolean SQL expression over stored rows. Its counterpart is
`regate_orchestrator.filters.evaluate`.

Every atom is wrapped in COALESCE(…, FALSE), so each is two-valued and NOT is the exact complement. Values are
compared only within their JSON type, and types by Rego's order. All names and values are bound parameters.
What has no exact form raises `FilterNotExpressible`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, assert_never

from sqlalchemy import BigInteger, ColumnElement, String, and_, exists, false, func, literal, not_, or_, true

from regate_adapters.state.filters.json_sql import Elements, JsonSql, Kind, Value
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.expression import (
    And,
    Atom,
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
    Scalar,
    Text,
    Truthy,
    normalize,
)

Condition = ColumnElement[bool]
_IsAmong = Callable[[Sequence[int]], Condition]

_NULL, _FALSE, _TRUE, _NUMBER, _TEXT, _ARRAY, _OBJECT = range(7)
_KINDS: Final = (("null",), ("false",), ("true",), ("integer", "real"), ("text",), ("array",), ("object",))
"""The JSON types in Rego's order. The two booleans are ranks of their own, since each has one value only."""

_MIRRORED: Final[Mapping[Operator, Operator]] = {
    "eq": "eq",
    "ne": "ne",
    "lt": "gt",
    "le": "ge",
    "gt": "lt",
    "ge": "le",
}
_DEEPEST: Final = 24
_WIDEST: Final = 100
_ATOM_HEIGHT: Final = 12
_HIGHEST: Final = 900
"""SQLite follows 100 open parser states and expressions 1,000 high; these bounds stay below both,
whatever the tree.
"""
_MAX_ATOMS: Final = 1_000
_MAX_INTEGER: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class RowShape:
    """Where a row's fields are: some in columns that always hold a text or a number, all others in a
    JSON document.
    """

    texts: Mapping[str, ColumnElement[str]]
    numbers: Mapping[str, ColumnElement[int]]
    document: Value


def render(expression: Expression, shape: RowShape, json: JsonSql) -> Condition:
    """Return the condition that holds for exactly the rows for which the expression holds. Must be called
    before any IO.

    Raises `FilterNotExpressible`, with what and why, for anything that this database cannot compare exactly.
    """
    # In negation normal form NOT stands before atoms only, which keeps the nesting that a parser must follow
    # low.
    return _Renderer(shape, json).render(normalize(expression), depth=1).condition


@dataclass(frozen=True, slots=True)
class _Source:
    """A field in SQL. `rank` is known for a column; elsewhere the type is the row's own. `elements` is
    None for what is never a list.
    """

    rank: int | None
    kind: Kind
    text: Value
    number: Value
    elements: Elements | None

    def of_rank(self, rank: int) -> Value:
        """Return the field as a value of this rank, which it must be known to have where the value counts."""
        return self.text if rank == _TEXT else self.number

    def is_among(self, ranks: Sequence[int]) -> Condition:
        """Return whether the value is present and of one of these types."""
        if self.rank is not None:
            return true() if self.rank in ranks else false()
        return _is_kind(self.kind, ranks)


@dataclass(frozen=True, slots=True)
class _Rendered:
    """A two-valued condition, and how high its expression is at most."""

    condition: Condition
    height: int


class _Renderer:
    def __init__(self, shape: RowShape, json: JsonSql) -> None:
        self._shape = shape
        self._json = json
        self._atoms = 0

    def render(self, expression: Expression, *, depth: int) -> _Rendered:
        if depth > _DEEPEST:
            raise FilterNotExpressible(f"the filter is deeper than {_DEEPEST} levels")
        match expression:
            case Constant(holds):
                return _Rendered(true() if holds else false(), 1)
            case And(parts):
                return self._checked(
                    _joined(and_, [self.render(part, depth=depth + 1) for part in parts], neutral=true())
                )
            case Or(parts):
                return self._checked(
                    _joined(or_, [self.render(part, depth=depth + 1) for part in parts], neutral=false())
                )
            case Not(part):
                return _Rendered(not_(self.render(part, depth=depth + 1).condition), _ATOM_HEIGHT + 1)
            case _:
                self._atoms += 1
                if self._atoms > _MAX_ATOMS:
                    raise FilterNotExpressible(f"the filter has more than {_MAX_ATOMS} comparisons")
                return _Rendered(func.coalesce(self._atom(expression), false()), _ATOM_HEIGHT)

    def _checked(self, rendered: _Rendered) -> _Rendered:
        if rendered.height > _HIGHEST:
            raise FilterNotExpressible("the filter is too large and too nested at once")
        return rendered

    def _atom(self, atom: Atom) -> Condition:
        if isinstance(atom, CompareFields):
            return self._compare_fields(atom)
        source = self._source(atom.field)
        if source is None:
            return false()
        match atom:
            case Compare(operator, _, known):
                rank, value = self._known(known)
                return _compare(operator, source, rank, value)
            case Ordered(operator, _, known):
                rank, value = self._known(known)
                return and_(source.is_among([rank]), _compare(operator, source, rank, value))
            case In(_, values):
                return self._equals_one(source.is_among, source.text, source.number, values)
            case Overlaps(_, values):
                return self._has_element(
                    source, lambda each, is_among: self._equals_one(is_among, each.text, each.number, values)
                )
            case Text(operator, _, known):
                matched = self._json.matches(operator, source.text, _exact_text(known)) if known else true()
                return and_(source.is_among([_TEXT]), matched)
            case Truthy():
                return source.is_among([rank for rank in range(len(_KINDS)) if rank != _FALSE])
            case Defined():
                return source.is_among(range(len(_KINDS)))
            case NonEmpty():
                return self._has_element(source, lambda _each, _is_among: true())
            case _:
                assert_never(atom)

    def _compare_fields(self, atom: CompareFields) -> Condition:
        left, right = self._source(atom.left), self._source(atom.right)
        if left is None or right is None:
            return false()
        if right.rank is not None:
            return _compare(atom.operator, left, right.rank, right.of_rank(right.rank))
        if left.rank is not None:
            return _compare(_MIRRORED[atom.operator], right, left.rank, left.of_rank(left.rank))
        raise FilterNotExpressible(
            f"{'.'.join(atom.left)} {atom.operator} {'.'.join(atom.right)}: both may be lists, which "
            "SQL cannot order as Rego does"
        )

    def _source(self, field: Field) -> _Source | None:
        """Return the field in SQL, or None when no row can have it."""
        if not field:
            raise FilterNotExpressible("a comparison of the whole row")
        for rank, columns in ((_TEXT, self._shape.texts), (_NUMBER, self._shape.numbers)):
            if field[0] in columns:
                inside = len(field) > 1
                column = columns[field[0]]
                return (
                    None if inside else _Source(rank, literal(_KINDS[rank][0], String), column, column, None)
                )
        document, json = self._shape.document, self._json
        kind, text, number = (
            json.kind(document, field),
            json.text(document, field),
            json.number(document, field),
        )
        return _Source(None, kind, text, number, json.elements(document, field))

    def _has_element(self, source: _Source, matches: Callable[[Elements, _IsAmong], Condition]) -> Condition:
        if source.elements is None:
            return false()
        each = source.elements
        found = exists().select_from(each.rows).where(matches(each, lambda ranks: _is_kind(each.kind, ranks)))
        return and_(source.is_among([_ARRAY, _OBJECT]), found)

    def _equals_one(
        self, is_among: _IsAmong, text: Value, number: Value, known: Sequence[Scalar]
    ) -> Condition:
        texts = [_exact_text(one) for one in known if isinstance(one, str)]
        numbers = [
            _exact_number(one) for one in known if isinstance(one, int | float) and not isinstance(one, bool)
        ]
        singles = [
            rank
            for rank, one in ((_NULL, None), (_FALSE, False), (_TRUE, True))
            if any(each is one for each in known)
        ]
        options = [is_among(singles)] if singles else []
        if texts:
            options.append(and_(is_among([_TEXT]), text.in_(self._json.listed(texts))))
        if numbers:
            options.append(and_(is_among([_NUMBER]), number.in_(self._json.listed(numbers))))
        return or_(false(), *options)

    def _known(self, value: Scalar) -> tuple[int, Value | None]:
        """Return the rank of a known value, and the value where the rank alone does not say it."""
        match value:
            case None:
                return _NULL, None
            case bool():
                return (_TRUE if value else _FALSE), None
            case str():
                return _TEXT, literal(_exact_text(value), String)
            case int():
                return _NUMBER, literal(_exact_number(value), BigInteger)
            case float():
                return _NUMBER, self._json.fraction(_exact_number(value))
            case _:
                assert_never(value)


def _compare(operator: Operator, source: _Source, rank: int, value: Value | None) -> Condition:
    """Return whether the source compares so with a value of this rank (or with the rank's one value)."""
    below, above = source.is_among(range(rank)), source.is_among(range(rank + 1, len(_KINDS)))
    same, own = source.is_among([rank]), source.of_rank(rank)
    match operator:
        case "eq":
            return same if value is None else and_(same, own == value)
        case "ne":
            return or_(below, above) if value is None else or_(below, above, and_(same, own != value))
        case "lt":
            return below if value is None else or_(below, and_(same, own < value))
        case "le":
            return or_(below, same) if value is None else or_(below, and_(same, own <= value))
        case "gt":
            return above if value is None else or_(above, and_(same, own > value))
        case "ge":
            return or_(above, same) if value is None else or_(above, and_(same, own >= value))
        case _:
            assert_never(operator)


def _is_kind(kind: Kind, ranks: Sequence[int]) -> Condition:
    if len(ranks) == len(_KINDS):
        return kind.is_not(None)
    names = [name for rank in ranks for name in _KINDS[rank]]
    return kind.in_(names) if names else false()


def _joined(join: Callable[..., Condition], parts: Sequence[_Rendered], *, neutral: Condition) -> _Rendered:
    """Return the parts joined, many of them in groups: databases bound the depth of an expression, and
    a flat chain is as deep as it is long.
    """
    while len(parts) > _WIDEST:
        groups = [
            _joined(join, parts[start : start + _WIDEST], neutral=neutral)
            for start in range(0, len(parts), _WIDEST)
        ]
        # COALESCE changes nothing here; it keeps SQLAlchemy from flattening the groups again.
        parts = [_Rendered(func.coalesce(group.condition, false()), group.height + 1) for group in groups]
    return _Rendered(
        join(neutral, *(part.condition for part in parts)), len(parts) + max(part.height for part in parts)
    )


def _exact_text(value: str) -> str:
    if "\x00" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise FilterNotExpressible("a text with a NUL or a lone surrogate has no exact form in SQL")
    return value


def _exact_number(value: int | float) -> int | float:
    if isinstance(value, int) and abs(value) > _MAX_INTEGER:
        raise FilterNotExpressible("an integer past 64 bits has no exact form in SQL")
    if isinstance(value, float) and not math.isfinite(value):
        raise FilterNotExpressible("NaN and the infinities are not numbers of JSON")
    return value
