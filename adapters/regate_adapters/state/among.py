"""Rows that are named by several columns together, many at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, column, select, tuple_, values


def among(columns: Sequence[Column[Any]], rows: Sequence[tuple[Any, ...]]) -> ColumnElement[bool]:
    """Return the condition that the columns together are one of these rows, which must not be none.

    SQLite reads the whole table for a list of several rows, however it is indexed. For the same rows as a common table expression it does not.
    That is inside the condition, since Python's driver counts no changed rows of a statement that begins with it.
    """
    named = values(*[column(f"{one.name}_", one.type) for one in columns], name="wanted").data(list(rows)).cte("wanted", nesting=True)
    return tuple_(*columns).in_(select(named))
