"""Lists: one page of rows by creation time, then id, with an id of the list as the cursor (OpenAI, "Pagination").

A cursor must be a row that the caller may see in this list; any other id is refused with one wording, whether it exists or not (I7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Column, ColumnElement, Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.encoding import AnyRow, is_identifier
from regate_adapters.state.row_filter import RowShape, render
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters import FilterPlan, Nothing, expression_of
from regate_orchestrator.ports import Rows
from regate_orchestrator.rows import Page

Member = TypeVar("Member")

_MOST_MEMBERS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Listing:
    """What is listed: the columns that make the order, the tenant floor, and where the policy finds a row's fields."""

    identifier: ColumnElement[str]
    created_at: Column[int]
    floor: ColumnElement[bool]
    shape: RowShape


def in_parts(members: Sequence[Member]) -> list[Sequence[Member]]:
    """Return the members in parts small enough for one statement's parameters, at two parameters a member."""
    return [members[start : start + _MOST_MEMBERS] for start in range(0, len(members), _MOST_MEMBERS)]


async def page_of(
    database: Database,
    listing: Listing,
    statement: Select[Any],
    *,
    plan: FilterPlan,
    page: Page,
    read: Callable[[AnyRow], Member],
) -> Rows[Member]:
    """Return the page of the statement's rows that the plan permits. `Nothing` does no IO.

    Raises `InvalidRequest` for a cursor that names no such row, and `FilterNotExpressible` before any IO.
    """
    if isinstance(plan, Nothing):
        _refuse_cursors(page)
        return Rows((), has_more=False)
    visible = listing.floor & render(expression_of(plan), listing.shape, database.json)
    # Back from `before` means the rows nearest to it: they are read in the opposite order and turned round.
    backwards = page.before is not None and page.after is None
    descending = (page.order == "desc") != backwards
    position = tuple_(listing.created_at, listing.identifier)
    order = [column.desc() if descending else column.asc() for column in (listing.created_at, listing.identifier)]
    async with database.reading() as connection:
        wanted = statement.where(visible)
        for param, cursor in (("after", page.after), ("before", page.before)):
            if cursor is not None:
                place = await _place_of(connection, listing, visible, cursor, param=param)
                beyond = position > tuple_(*place) if (param == "after") == (page.order == "asc") else position < tuple_(*place)
                wanted = wanted.where(beyond)
        rows = (await connection.execute(wanted.order_by(*order).limit(page.limit + 1))).all()
    members = [read(row) for row in rows[: page.limit]]
    return Rows(tuple(reversed(members) if backwards else members), has_more=len(rows) > page.limit)


async def _place_of(
    connection: AsyncConnection, listing: Listing, visible: ColumnElement[bool], cursor: str, *, param: str
) -> tuple[int, str]:
    if not is_identifier(cursor):
        raise _no_such_cursor(param)
    found = await connection.scalar(select(listing.created_at).where(listing.identifier == cursor, visible))
    if found is None:
        raise _no_such_cursor(param)
    return found, cursor


def _refuse_cursors(page: Page) -> None:
    for param, cursor in (("after", page.after), ("before", page.before)):
        if cursor is not None:
            raise _no_such_cursor(param)


def _no_such_cursor(param: str) -> InvalidRequest:
    return InvalidRequest(f"'{param}' must be the id of an object in this list.", param=param)
