"""The distinct stamps of some chunks as columns, and for which of them a filter holds.

Chunks of a file share a stamp, and files share most of theirs. So a filter is evaluated once for each
distinct value of a field it names, by `filters.evaluate` itself, and is exact by construction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import (
    And,
    Atom,
    Compare,
    CompareFields,
    Constant,
    Expression,
    Field,
    In,
    Not,
    Or,
)

Row: TypeAlias = Mapping[str, object]
Truth: TypeAlias = NDArray[np.bool_]

_ABSENT = 0


@dataclass(slots=True)
class _Column:
    """The values of one field: for each row the number of its value, 0 where the field is absent.

    Values and their numbers only ever grow, so columns of fewer rows share them.
    """

    codes: NDArray[np.int32]
    values: list[object]
    numbers: dict[object, int]

    def extended(self, path: Field, rows: Sequence[Row]) -> _Column:
        """Return the column with further rows."""
        codes = np.empty(len(rows), dtype=np.int32)
        for place, row in enumerate(rows):
            codes[place] = self._number(_at(row, path))
        return _Column(np.concatenate([self.codes, codes]), self.values, self.numbers)

    def _number(self, found: tuple[object] | None) -> int:
        if found is None:
            return _ABSENT
        key = _key(found[0])
        number = self.numbers.get(key)
        if number is None:
            self.values.append(found[0])
            number = self.numbers[key] = len(self.values)
        return number

    def matching(self, atom: Atom, path: Field) -> Truth:
        """Return for which rows the test of this field holds."""
        count = len(self.values)
        truth = np.zeros(count + 1, dtype=np.bool_)
        wanted = _texts_wanted(atom)
        if wanted is None:
            for number in range(count):
                truth[number + 1] = holds(atom, _row(path, self.values[number]))
        else:
            numbers = [self.numbers.get(_key(text), _ABSENT) for text in wanted]
            truth[[number for number in numbers if _ABSENT < number <= count]] = True
        return np.asarray(truth[self.codes], dtype=np.bool_)


@dataclass(slots=True)
class Columns:
    """Rows as filters see them, each stamp once; columns are made when a filter first names their field."""

    rows: list[Row]
    _made: dict[Field, _Column] = field(default_factory=dict)

    def extended(self, rows: Sequence[Row]) -> Columns:
        """Return the columns with further rows after those there are."""
        made = {path: column.extended(path, rows) for path, column in dict(self._made).items()}
        return Columns([*self.rows, *rows], made)

    def matching(self, expression: Expression) -> Truth:
        """Return for which rows the expression holds."""
        match expression:
            case Constant(always):
                return np.full(len(self.rows), always)
            case And(parts):
                return np.asarray(np.all([self.matching(part) for part in parts], axis=0), dtype=np.bool_)
            case Or(parts):
                return np.asarray(np.any([self.matching(part) for part in parts], axis=0), dtype=np.bool_)
            case Not(part):
                return ~self.matching(part)
            case CompareFields():
                return np.array([holds(expression, row) for row in self.rows], dtype=np.bool_)
            case _:
                return self._column(expression.field).matching(expression, expression.field)

    def _column(self, path: Field) -> _Column:
        column = self._made.get(path)
        if column is None:
            empty = _Column(np.empty(0, dtype=np.int32), [], {})
            column = self._made[path] = empty.extended(path, self.rows)
        return column


def _texts_wanted(atom: Atom) -> Sequence[str] | None:
    """Return the texts of which the field must equal one, if that is what is tested."""
    match atom:
        case Compare("eq", _, str() as text):
            return [text]
        case In(_, values):
            texts = [value for value in values if isinstance(value, str)]
            return texts if len(texts) == len(values) else None
        case _:
            return None


def _key(value: object) -> object:
    """Return what is equal for equal values only: in Python 1 equals true."""
    match value:
        case bool():
            return ("boolean", value)
        case list() | tuple():
            return ("list", tuple(value))
        case _:
            return value


def _at(row: Row, path: Field) -> tuple[object] | None:
    value: object = row
    for name in path:
        if not isinstance(value, Mapping) or name not in value:
            return None
        value = value[name]
    return (value,)


def _row(path: Field, value: object) -> Row:
    for name in reversed(path):
        value = {name: value}
    assert isinstance(value, Mapping)  # noqa: S101 — a path has a name at least
    return value
