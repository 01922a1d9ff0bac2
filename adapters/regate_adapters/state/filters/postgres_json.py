"""PostgreSQL's own spelling of what `row_filter.py` needs: its JSON functions. The counterpart is
`sqlite_json.py`.

Every cast stands in a CASE that has looked at the type, since SQL promises no order of evaluation and a cast
that fails ends the query.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Integer,
    Numeric,
    ScalarSelect,
    String,
    Text,
    case,
    cast,
    column,
    func,
    literal,
    select,
)
from sqlalchemy.dialects.postgresql import JSONB, JSONPATH, array

from regate_adapters.state.encoding import encode
from regate_adapters.state.filters.json_sql import Elements, Kind, Value
from regate_orchestrator.errors import FilterNotExpressible
from regate_orchestrator.filters.expression import Field, TextOperator

_VALUE: Final = "value"


class PostgresJson:
    """PostgreSQL's functions on `jsonb`. Texts carry the collation C, which compares code points;
    numbers are `numeric`, which is exact.
    """

    def kind(self, document: Value, field: Field) -> Kind:
        """Return the type of the value at the path."""
        return _kind(_at(document, field))

    def text(self, document: Value, field: Field) -> Value:
        """Return the text at the path."""
        return _text(_at(document, field))

    def number(self, document: Value, field: Field) -> Value:
        """Return the number at the path, NULL for any other type."""
        return _number(_at(document, field))

    def elements(self, document: Value, field: Field) -> Elements:
        """Return the elements at the path as rows; a scalar has none."""
        value = _at(document, field)
        members = func.jsonb_path_query_array(value, cast(literal("$.*", Text), JSONPATH), type_=JSONB)
        kind = func.jsonb_typeof(value)
        listed = case((kind == "array", value), (kind == "object", members))
        rows = func.jsonb_array_elements(listed).table_valued(column(_VALUE, JSONB)).alias()
        each = rows.c[_VALUE]
        return Elements(rows, _kind(each), _text(each), _number(each))

    def listed(self, values: list[str] | list[int | float]) -> ScalarSelect[Any]:
        """Return known values as a set for IN."""
        known = cast(literal(encode(values), Text), JSONB)
        rows = func.jsonb_array_elements_text(known).table_valued(column(_VALUE, Text)).alias()
        are_texts = all(isinstance(value, str) for value in values)
        return select(rows.c[_VALUE] if are_texts else cast(rows.c[_VALUE], Numeric)).scalar_subquery()

    def fraction(self, value: float) -> Value:
        """Return a known fraction as the decimal that its JSON text is."""
        return cast(literal(encode(value), Text), Numeric)

    def matches(self, operator: TextOperator, value: Value, known: str) -> ColumnElement[bool]:
        """Return whether a text starts with, ends with or holds a known text that is not empty."""
        bound = literal(known, Text)
        match operator:
            case "startswith":
                return func.starts_with(value, bound)
            case "endswith":
                return func.right(value, literal(len(known), Integer), type_=Text) == bound
            case "contains":
                return func.strpos(value, bound, type_=Integer) > literal(0, Integer)


def _at(document: Value, field: Field) -> Value:
    """Return the value at the path. With a text on its right, `->` looks into objects alone; a path
    would take "0" for a place in a list.
    """
    value: Value = cast(document, JSONB)
    for name in field:
        if "\x00" in name or any("\ud800" <= character <= "\udfff" for character in name):
            raise FilterNotExpressible(
                f"field {'.'.join(field)!r}: a NUL or a lone surrogate has no exact form in SQL"
            )
        value = value.op("->", return_type=JSONB())(literal(name, Text))
    return value


def _kind(value: Value) -> Kind:
    kind = func.jsonb_typeof(value, type_=String)
    return case(
        (kind == "boolean", _text(value)),
        (kind == "number", "integer"),
        (kind == "string", "text"),
        else_=kind,
    )


def _text(value: Value) -> Value:
    whole = array([], type_=Text())  # the empty path: the value itself, without quotes
    return value.op("#>>", return_type=Text())(whole).collate("C")


def _number(value: Value) -> Value:
    return case((func.jsonb_typeof(value) == "number", cast(_text(value), Numeric)))
