"""What `row_filter.py` needs of a database's JSON functions. Its two implementations are `sqlite_json.py` and
`postgres_json.py`.

Not what a filter means (`regate_orchestrator.filters.evaluate`), and not how a tree becomes SQL
(`row_filter.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from sqlalchemy import ColumnElement, FromClause, ScalarSelect

from regate_orchestrator.filters.expression import Field, TextOperator

Value = ColumnElement[Any]  # an SQL value of whatever type the document holds there
Kind = ColumnElement[str]
"""The JSON type of a value, in this vocabulary: null, true, false, integer, real, text, array, object.
SQL NULL where there is no value.
"""


@dataclass(frozen=True, slots=True)
class Elements:
    """The elements of an array or an object as rows, with each one's type, and its value read as a
    text and as a number.
    """

    rows: FromClause
    kind: Kind
    text: Value
    number: Value


class JsonSql(Protocol):
    """How one database looks into a JSON document. Every name and value must be a bound parameter, and no row
    may make an expression fail.

    What `text` and `number` give for a value of another type means nothing: the renderer looks at the kind
    beside them.
    """

    def kind(self, document: Value, field: Field) -> Kind:
        """Return the type of the value at the path; raises `FilterNotExpressible` for a path that this
        database cannot name exactly.
        """
        ...

    def text(self, document: Value, field: Field) -> Value:
        """Return the text at the path, comparing by code point."""
        ...

    def number(self, document: Value, field: Field) -> Value:
        """Return the number at the path, comparing exactly."""
        ...

    def elements(self, document: Value, field: Field) -> Elements:
        """Return the elements of the array or object at the path. Of a scalar they mean nothing."""
        ...

    def listed(self, values: list[str] | list[int | float]) -> ScalarSelect[Any]:
        """Return known values as a set for IN, in one parameter however many they are."""
        ...

    def fraction(self, value: float) -> Value:
        """Return a known fraction so that it compares exactly with a number in a document."""
        ...

    def matches(self, operator: TextOperator, value: Value, known: str) -> ColumnElement[bool]:
        """Return whether a text starts with, ends with or holds a known text that is not empty; case
        matters and no character is special.
        """
        ...
