"""SQLite's own spelling of what `row_filter.py` needs: its JSON functions. The counterpart is
`postgres_json.py`.
"""

from __future__ import annotations

import re
from typing import Any, Final

from sqlalchemy import ColumnElement, Integer, ScalarSelect, String, column, func, literal, select

from regate_adapters.state.encoding import encode
from regate_adapters.state.filters.json_sql import Elements, Kind, Value
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.expression import Field, TextOperator

_NAME: Final = re.compile(r'[^"\\\x00-\x1f\x7f\ud800-\udfff]+')
_VALUE: Final = "value"
_KIND: Final = "type"


class SqliteJson:
    """SQLite's JSON functions, as of 3.38. Text compares by UTF-8 bytes there (BINARY), which is the
    order of code points.
    """

    def kind(self, document: Value, field: Field) -> Kind:
        """Return the type of the value at the path."""
        return func.json_type(document, _path(field), type_=String)

    def text(self, document: Value, field: Field) -> Value:
        """Return the scalar at the path: SQLite's values carry their types with them."""
        return func.json_extract(document, _path(field))

    def number(self, document: Value, field: Field) -> Value:
        """Return the scalar at the path."""
        return func.json_extract(document, _path(field))

    def elements(self, document: Value, field: Field) -> Elements:
        """Return the elements at the path as rows. Of a scalar it would be the scalar itself, so the
        caller must have looked at the kind.
        """
        rows = (
            func.json_each(document, _path(field)).table_valued(column(_KIND, String), column(_VALUE)).alias()
        )
        return Elements(rows, rows.c[_KIND], rows.c[_VALUE], rows.c[_VALUE])

    def listed(self, values: list[str] | list[int | float]) -> ScalarSelect[Any]:
        """Return known values as a set for IN."""
        rows = func.json_each(literal(encode(values), String)).table_valued(column(_VALUE)).alias()
        return select(rows.c[_VALUE]).scalar_subquery()

    def fraction(self, value: float) -> Value:
        """Return a known fraction read from its JSON text: both sides then come from one parser,
        whatever its last digit does.
        """
        return func.json_extract(literal(encode(value), String), literal("$", String))

    def matches(self, operator: TextOperator, value: Value, known: str) -> ColumnElement[bool]:
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
    """Return the path as a bound parameter. SQLite compares a key's raw JSON spelling, so a name that
    JSON would escape is refused.
    """
    for name in field:
        if not _NAME.fullmatch(name):
            raise FilterNotExpressible(
                f"field {'.'.join(field)!r}: a quote, backslash or control character in a name has no "
                "exact JSON path"
            )
    return literal("$" + "".join(f'."{name}"' for name in field), String)
