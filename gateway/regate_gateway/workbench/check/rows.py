"""Rows to try a filter on, made from the filter's own constants: values at and beside each boundary, missing
fields, and wrong types.

For each row that a filter admits (a *witness*), and some that it does not, every field is changed in turn.
Deterministic: the same filter gives the same rows. Not what is asked of them; that is `agreement.py`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import (
    And,
    Atom,
    Compare,
    CompareFields,
    Constant,
    Expression,
    In,
    Not,
    Or,
    Overlaps,
    Text,
    normalize,
)
from regate_orchestrator.filters.schema import FieldType, RowSchema

Row: TypeAlias = dict[str, Any]
Literals: TypeAlias = list[Atom | Not]

_OF_TYPE: Final[Mapping[FieldType, tuple[Any, ...]]] = {
    "string": ("", "zz-other"),
    "number": (0, 1),
    "boolean": (False, True),
    "list": ([], ["zz-other"]),
}
_ODD: Final[tuple[Any, ...]] = (None, True, 7, "zz", ["zz"], {"zz": "zz"})
_LISTED: Final = 3
_TRIES: Final = 12
_ROOM: Final = 2**53


class RowMaker:
    """Makes rows of one kind for one filter. `names` and `numbers` are further constants to try, such
    as those of the principal.
    """

    def __init__(
        self, expression: Expression, schema: RowSchema, *, names: Sequence[str], numbers: Sequence[int]
    ) -> None:
        self._expression = normalize(expression)
        self._schema = schema
        self._random = random.Random(20_251_122)  # noqa: S311 — for repeatable variety, not for secrets
        constants = dict(_constants(self._expression))
        self._pools = {
            name: _distinct(
                [*_OF_TYPE[spec.type], *_candidates(spec.type, [*constants.get(name, ()), *names, *numbers])]
            )
            for name, spec in schema.fields.items()
        }

    def rows(self, *, witnesses: int, others: int) -> list[Row]:
        """Return the rows: those that the filter should admit, others, and each with one field
        changed, missing or of a wrong type.
        """
        bases = [*self._witnesses(witnesses), *(self._any_row() for _ in range(others))]
        return _distinct([*bases, *(changed for base in bases for changed in self._changed(base))])

    def _any_row(self) -> Row:
        return {name: self._random.choice(pool) for name, pool in self._pools.items()}

    def _witnesses(self, wanted: int) -> list[Row]:
        found: list[Row] = []
        for _ in range(wanted * _TRIES):
            literals: Literals = []
            if len(found) < wanted and self._choose(self._expression, literals):
                row = self._satisfying(literals)
                if holds(self._expression, row) and row not in found:
                    found.append(row)
        return found

    def _choose(self, expression: Expression, literals: Literals) -> bool:
        """Collect literals that together make the expression hold, taking one branch of each `Or` by
        chance; False when it never holds.
        """
        match expression:
            case Constant(always):
                return always
            case And(parts):
                return all(self._choose(part, literals) for part in parts)
            case Or(parts):
                return self._choose(self._random.choice(parts), literals)
            case Not(Constant() | And() | Or() | Not()):
                raise AssertionError("normalized expressions negate atoms only")
            case _:
                literals.append(expression)
                return True

    def _satisfying(self, literals: Literals) -> Row:
        row = self._any_row()
        for name, pool in self._pools.items():
            own = [literal for literal in literals if _field(literal) == name]
            fitting = [
                value for value in pool if all(holds(literal, {**row, name: value}) for literal in own)
            ]
            if own and fitting:
                row[name] = self._random.choice(fitting)
        return row

    def _changed(self, base: Row) -> Iterator[Row]:
        for name, pool in self._pools.items():
            for value in [*pool, *_ODD]:
                yield {**base, name: value}
            yield {other: value for other, value in base.items() if other != name}


def _field(literal: Atom | Not) -> str:
    match literal:
        case Not(part):
            return _field(part)  # type: ignore[arg-type]  # a normalized expression negates atoms only
        case CompareFields(_, left, _):
            return left[0]
        case _:
            return literal.field[0]


def _constants(expression: Expression) -> Iterator[tuple[str, list[Any]]]:
    """Yield each field of the filter with all values that it is compared with."""
    found: dict[str, list[Any]] = {}
    waiting: list[Expression] = [expression]
    while waiting:
        match waiting.pop():
            case And(parts) | Or(parts):
                waiting.extend(parts)
            case Not(part):
                waiting.append(part)
            case Compare(_, (name, *_), value) | Text(_, (name, *_), value):
                found.setdefault(name, []).append(value)
            case In((name, *_), values) | Overlaps((name, *_), values):
                # Of a long list its ends are enough: membership treats all elements alike.
                found.setdefault(name, []).extend([*values[:_LISTED], *values[-1:]])
            case _:
                pass
    yield from found.items()


def _candidates(kind: FieldType, constants: Sequence[Any]) -> list[Any]:
    """Return values of the type at and beside each constant."""
    numbers = [
        value
        for value in constants
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _ROOM
    ]
    texts = [value for value in constants if isinstance(value, str)]
    match kind:
        case "number":
            return [near for value in numbers for near in (value - 1, value, value + 1)]
        case "string":
            return [near for value in texts for near in (value, f"{value}x", f"x{value}", value.upper())]
        case "list":
            return [near for value in texts for near in ([value], ["zz-other", value])]
        case _:
            return []


def _distinct(values: Sequence[Any]) -> list[Any]:
    """Return the values without repetition; as JSON, so that 1 and true are two."""
    return list({json.dumps(value, sort_keys=True): value for value in values}.values())
