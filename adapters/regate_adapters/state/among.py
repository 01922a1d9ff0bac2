"""Rows that are named by several columns together, many at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, and_, or_

_MAX_GROUPS: Final = 100
_MAX_MEMBERS: Final = 5_000


def among(columns: Sequence[Column[Any]], rows: Sequence[tuple[Any, ...]]) -> Iterator[ColumnElement[bool]]:
    """Yield conditions that hold, together, for the rows whose columns are one of these; each is small enough
    for one statement.

    Not as a list of rows: SQLite reads the whole table for that, however it is indexed. Rows that differ in
    the last column alone cost least.
    """
    groups: dict[tuple[Any, ...], list[Any]] = {}
    members = 0
    for *first, last in rows:
        groups.setdefault(tuple(first), []).append(last)
        members += 1
        if len(groups) >= _MAX_GROUPS or members >= _MAX_MEMBERS:
            yield _any_of(columns, groups)
            groups, members = {}, 0
    if groups:
        yield _any_of(columns, groups)


def _any_of(columns: Sequence[Column[Any]], groups: dict[tuple[Any, ...], list[Any]]) -> ColumnElement[bool]:
    *first, last = columns
    each = [
        and_(*(column == value for column, value in zip(first, values, strict=True)), last.in_(found))
        for values, found in groups.items()
    ]
    return or_(*each)
