"""Lists: one page of rows in the order in which they were made, with an id of the list as the cursor (OpenAI,
"Pagination").

A cursor must be a row that the caller may see in this list; any other id is refused with one wording, whether
it exists or not (I7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import Column, ColumnElement, Select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.encoding import AnyRow, is_identifier
from regate_adapters.state.filters.row_filter import RowShape, render
from regate_adapters.state.visibility import within
from regate_orchestrator.filters.expression import (
    And,
    Compare,
    Expression,
    FilterPlan,
    Nothing,
    expression_of,
)
from regate_orchestrator.rows import Page, Rows, no_such_cursor

Member = TypeVar("Member")

_MAX_MEMBERS: Final = 5_000


@dataclass(frozen=True, slots=True)
class Listing:
    """What is listed: whose rows, the columns that make the order, the tenant floor, and where the policy
    finds a row's fields. `owner` is the column by which an index finds the rows of one owner, where there is
    such an index.
    """

    tenant: str
    identifier: ColumnElement[str]
    ordinal: Column[int]
    floor: ColumnElement[bool]
    shape: RowShape
    owner: Column[str] | None = None


def in_parts(members: Sequence[Member]) -> list[Sequence[Member]]:
    """Return the members in parts small enough for one statement's parameters, at two parameters a member."""
    return [members[start : start + _MAX_MEMBERS] for start in range(0, len(members), _MAX_MEMBERS)]


async def page_of(
    database: Database,
    listing: Listing,
    statement: Select[Any],
    *,
    plan: FilterPlan,
    page: Page,
    read: Callable[[AnyRow], Member],
    narrowing: ColumnElement[bool] | None = None,
) -> Rows[Member]:
    """Return the page of the statement's rows that the plan permits, and of these only what the client
    narrows the list to. `Nothing` does no IO.

    Raises `InvalidRequest` for a cursor that names no row which the plan permits, and `FilterNotExpressible`
    before any IO.
    """
    if isinstance(plan, Nothing):
        for param in page.cursors:
            raise no_such_cursor(param)
        return Rows((), has_more=False)
    expression = expression_of(plan)
    permitted = statement.where(listing.floor & render(expression, listing.shape, database.json))
    # Said once more, as an index can serve it: a condition as the plan's is rendered never is looked up.
    if listing.owner is not None and (owner := _only_owner(expression)) is not None:
        permitted = permitted.where(within(listing.owner, owner))
    # Back from `before` means the rows nearest to it: they are read in the opposite order and turned round.
    descending = (page.order == "desc") != page.is_backwards
    position = tuple_(listing.ordinal, listing.identifier)
    order = [
        column.desc() if descending else column.asc() for column in (listing.ordinal, listing.identifier)
    ]
    wanted = permitted if narrowing is None else permitted.where(narrowing)
    cursors: dict[str, Member] = {}
    async with database.reading(listing.tenant) as connection:
        for param, cursor in page.cursors.items():
            found = await _named(connection, listing, permitted, cursor, param=param)
            cursors[param] = read(found)
            place = tuple_(found.place, cursor)
            wanted = wanted.where(
                position > place if (param == "after") == (page.order == "asc") else position < place
            )
        rows = (await connection.execute(wanted.order_by(*order).limit(page.limit + 1))).all()
    members = [read(row) for row in rows[: page.limit]]
    return Rows(
        tuple(reversed(members) if page.is_backwards else members),
        has_more=len(rows) > page.limit,
        cursors=cursors,
    )


def _only_owner(expression: Expression) -> str | None:
    """Return whose rows alone the expression holds for, where it demands that of every row."""
    for part in expression.parts if isinstance(expression, And) else (expression,):
        if isinstance(part, Compare) and (part.operator, part.field) == ("eq", ("owner",)):
            return part.value if isinstance(part.value, str) else None
    return None


async def _named(
    connection: AsyncConnection, listing: Listing, permitted: Select[Any], cursor: str, *, param: str
) -> AnyRow:
    """Return the row that a cursor names, with its `place` in the list's order."""
    if is_identifier(cursor):
        named = permitted.add_columns(listing.ordinal.label("place")).where(listing.identifier == cursor)
        found: AnyRow | None = (await connection.execute(named)).one_or_none()
        if found is not None:
            return found
    raise no_such_cursor(param)
