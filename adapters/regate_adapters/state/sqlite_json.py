"""SQLite's own spelling of what `row_filter.py` needs: the JSON functions and pragmas. The one place that another database replaces.

Not what a filter means (`regate_orchestrator.meaning`), and not how a tree becomes SQL (`row_filter.py`).
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from sqlalchemy import ColumnElement, FromClause, Integer, ScalarSelect, String, column, func, literal, select

from regate_adapters.state.encoding import encode
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters import Field, TextOperator

_NAME: Final = re.compile(r'[^"\\\x00-\x1f\x7f\ud800-\udfff]+')
_VALUE: Final = "value"
_KIND: Final = "type"

Value = ColumnElement[Any]  # an SQL value of whatever type the document holds there
Kind = ColumnElement[str]
"""The JSON type of a value, in this vocabulary: null, true, false, integer, real, text, array, object. SQL NULL where there is no value."""


class JsonSql(Protocol):
    """How one database looks into a JSON document. Every name and value must be a bound parameter."""

    def kind(self, document: Value, field: Field) -> Kind:
        """Return the type of the value at the path; raises `FilterNotExpressible` for a path that this database cannot name exactly."""
        ...

    def value(self, document: Value, field: Field) -> Value:
        """Return the scalar at the path, comparing as its type does: text by code point, numbers exactly."""
        ...

    def elements(self, document: Value, field: Field) -> tuple[FromClause, Kind, Value]:
        """Return the elements of the array or object at the path as rows, with each one's type and value."""
        ...

    def listed(self, values: list[str] | list[int | float]) -> ScalarSelect[Any]:
        """Return known values as a set for IN, in one parameter however many they are."""
        ...

    def number(self, value: float) -> Value:
        """Return a known fraction so that it compares exactly with one in a document."""
        ...

    def text(self, operator: TextOperator, value: Value, known: str) -> ColumnElement[bool]:
        """Return whether a text starts with, ends with or holds a known text that is not empty; case matters and no character is special."""
        ...


class SqliteJson:
    """SQLite's JSON functions, as of 3.38. Text compares by UTF-8 bytes there (BINARY), which is the order of code points."""

    def kind(self, document: Value, field: Field) -> Kind:
        """Return the type of the value at the path."""
        return func.json_type(document, _path(field), type_=String)

    def value(self, document: Value, field: Field) -> Value:
        """Return the scalar at the path."""
        return func.json_extract(document, _path(field))

    def elements(self, document: Value, field: Field) -> tuple[FromClause, Kind, Value]:
        """Return the elements at the path as rows. Of a scalar it would be the scalar itself, so the caller must have looked at the kind."""
        rows = func.json_each(document, _path(field)).table_valued(column(_KIND, String), column(_VALUE)).alias()
        return rows, rows.c[_KIND], rows.c[_VALUE]

    def listed(self, values: list[str] | list[int | float]) -> ScalarSelect[Any]:
        """Return known values as a set for IN."""
        rows = func.json_each(literal(encode(values), String)).table_valued(column(_VALUE)).alias()
        return select(rows.c[_VALUE]).scalar_subquery()

    def number(self, value: float) -> Value:
        """Return a known fraction read from its JSON text: both sides then come from one parser, whatever its last digit does."""
        return func.json_extract(literal(encode(value), String), literal("$", String))

    def text(self, operator: TextOperator, value: Value, known: str) -> ColumnElement[bool]:
        """Return whether a text starts with, ends with or holds a known text that is not empty."""
        bound = literal(known, String)
        match operator:
            case "startswith":
                return func.substr(value, literal(1, Integer), literal(len(known), Integer)) == bound
            case "endswith":
                return func.substr(value, literal(-len(known), Integer)) == bound
            case "contains":
                return func.instr(value, bound, type_=Integer) > literal(0, Integer)


def _path(field: Field) -> ColumnElement[str]:
    """Return the path as a bound parameter. SQLite compares a key's raw JSON spelling, so a name that JSON would escape is refused."""
    for name in field:
        if not _NAME.fullmatch(name):
            raise FilterNotExpressible(
                f"field {'.'.join(field)!r}: a quote, backslash or control character in a name has no exact JSON path"
            )
    return literal("$" + "".join(f'."{name}"' for name in field), String)
