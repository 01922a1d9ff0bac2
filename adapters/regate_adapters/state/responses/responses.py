"""Responses and their items in the state store. What of them may be used or shown again is decided
elsewhere, each time (I9).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import CTE, ColumnElement, Update, and_, delete, exists, insert, literal, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.encoding import (
    AnyRow,
    encode,
    item_columns,
    item_row,
    response_columns,
    response_row,
)
from regate_adapters.state.filters.row_filter import RowShape
from regate_adapters.state.listing import Listing, page_of
from regate_adapters.state.membership import is_another
from regate_adapters.state.ordinals import next_ordinal
from regate_adapters.state.responses.lineages import Lineages, forget_lineages, keep, lineage_in, lineages_of
from regate_adapters.state.responses.turns import settle_turn
from regate_adapters.state.tables import conversations, response_items, responses
from regate_adapters.state.visibility import named, within
from regate_orchestrator.errors import GatewayStopped, InvalidRequest, NotFound, RegateError, StateUnavailable
from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import MAX_HISTORY_ITEMS, UNFINISHED, Page, ResponseRow, Rows, too_many_items
from regate_orchestrator.values import ResponseId

MAX_CHAIN: Final = 10_000

_SHAPE = RowShape(
    texts={
        "id": responses.c.id,
        "tenant": responses.c.tenant,
        "owner": responses.c.owner,
        "policy_revision": responses.c.policy_revision,
    },
    numbers={"created": responses.c.created_at},
    document=literal(encode({"kind": "response", "labels": []})),
)
"""A response as `regate.history` sees it (`ResponseRow.view`): two of its fields are the same for all."""


class ResponseState:
    """The part of the state store that keeps responses."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, row: ResponseRow, *, is_update: bool = False) -> None:
        """Store the response and its items, replacing an earlier state of it, and settle its conversation
        (`turns.py`). On the disk at return.

        Tenant, owner and gateway are written once: an id that is another's is refused by the primary key.
        What is not this gateway's any more stays as it is, and `GatewayStopped` is raised. Saved `again`, it
        must still be there: `NotFound` is raised for what was deleted.
        """
        items = [
            {"response_id": row.id} | item_columns(position, item) for position, item in enumerate(row.items)
        ]
        known = {"id": row.id, "tenant": row.tenant, "owner": row.owner, "gateway": self._database.gateway}
        async with self._database.writing(row.tenant) as connection:
            thread = await _thread_of(connection, row)
            columns = response_columns(row) | {"thread": thread}
            is_new = not is_update and await self._inserted(connection, {**columns, **known})
            if not is_new:
                ours = responses.c.gateway == self._database.gateway
                if not await _changed(connection, update(responses).where(_same(row), ours).values(columns)):
                    raise await _refusal(connection, row, is_update=is_update)
                await connection.execute(delete(response_items).where(response_items.c.response_id == row.id))
            await keep(connection, thread, row.tenant, row.items)
            if items:
                await connection.execute(insert(response_items), items)
            if row.conversation_id is not None:
                await settle_turn(connection, row, row.conversation_id)

    async def _inserted(self, connection: AsyncConnection, columns: Mapping[str, object]) -> bool:
        ordinal = await next_ordinal(self._database, connection, responses)
        try:
            async with connection.begin_nested():
                await connection.execute(insert(responses), {**columns, "ordinal": ordinal})
        except IntegrityError:
            return False
        return True

    async def get(self, principal: Principal, response: ResponseId) -> ResponseRow | None:
        """Return the response with its items."""
        own = (named(responses.c.id, response), within(responses.c.tenant, principal.tenant))
        of_it = (
            select(response_items).join(responses, responses.c.id == response_items.c.response_id).where(*own)
        )
        async with self._database.reading(principal.tenant) as connection:
            row = (await connection.execute(select(responses).where(*own))).one_or_none()
            if row is None:
                return None
            items = (await connection.execute(of_it.order_by(response_items.c.position))).all()
            found = await lineages_of(connection, [row.thread])
        return response_row(
            row, [item_row(item, lineage_in(found, row.thread, item.lineage_id)) for item in items]
        )

    async def chain(self, principal: Principal, response: ResponseId) -> list[ResponseRow] | None:
        """Return the response and all it continues from, oldest first; None when any link is absent or
        invisible.

        Raises `InvalidRequest` for a chain longer than `MAX_CHAIN`, or of more items than a conversation can
        have.
        """
        links = _links(principal, response)
        oldest_first = (select(responses).join(links, links.c.id == responses.c.id)).order_by(
            links.c.back.desc()
        )
        of_them = select(response_items).join(links, links.c.id == response_items.c.response_id)
        async with self._database.reading(principal.tenant) as connection:
            rows = (await connection.execute(oldest_first)).all()
            if len(rows) > MAX_CHAIN:
                raise InvalidRequest(
                    f"A conversation can be at most {MAX_CHAIN} responses long.", param="previous_response_id"
                )
            if not rows or rows[0].previous_response_id is not None:
                return None
            in_order = of_them.order_by(response_items.c.response_id, response_items.c.position).limit(
                MAX_HISTORY_ITEMS + 1
            )
            items = (await connection.execute(in_order)).all()
            if len(items) > MAX_HISTORY_ITEMS:
                raise too_many_items(param="previous_response_id")
            found = await lineages_of(connection, [row.thread for row in rows])
        return _with_items(rows, items, found)

    async def status(self, principal: Principal, response: ResponseId) -> str | None:
        """Return the status alone, for whoever waits for it to change."""
        own = (named(responses.c.id, response), within(responses.c.tenant, principal.tenant))
        async with self._database.reading(principal.tenant) as connection:
            status: str | None = await connection.scalar(select(responses.c.status).where(*own))
        return status

    async def request_cancel(self, principal: Principal, response: ResponseId) -> bool:
        """Write the wish into the row, where another gateway that is present will find it."""
        own = (named(responses.c.id, response), within(responses.c.tenant, principal.tenant))
        running = (responses.c.background, responses.c.status.in_(UNFINISHED))
        elsewhere = is_another(responses.c.gateway, self._database.gateway, now=self._database.now())
        async with self._database.writing(principal.tenant) as connection:
            asked = await connection.execute(
                update(responses).where(*own, *running, elsewhere).values(cancel_requested=True)
            )
        return asked.rowcount > 0

    async def cancel_requests(self) -> list[ResponseId]:
        """Return the responses of this gateway that others want cancelled."""
        ours = (responses.c.status.in_(UNFINISHED), responses.c.gateway == self._database.gateway)
        async with self._database.maintenance.reading() as connection:
            return list(
                await connection.scalars(select(responses.c.id).where(*ours, responses.c.cancel_requested))
            )

    async def delete(self, principal: Principal, response: ResponseId) -> bool:
        """Delete the response and, by their foreign keys, its items."""
        own = (named(responses.c.id, response), within(responses.c.tenant, principal.tenant))
        async with self._database.writing(principal.tenant) as connection:
            thread = await connection.scalar(select(responses.c.thread).where(*own).with_for_update())
            if thread is None:
                return False
            await connection.execute(delete(responses).where(*own))
            await forget_lineages(connection, thread)
        return True

    async def page(self, principal: Principal, plan: FilterPlan, page: Page) -> Rows[ResponseRow]:
        """Return a page of the response rows (without items) that the plan permits."""
        listing = Listing(
            principal.tenant,
            responses.c.id,
            responses.c.ordinal,
            floor=within(responses.c.tenant, principal.tenant),
            shape=_SHAPE,
            owner=responses.c.owner,
        )
        return await page_of(
            self._database, listing, select(responses), plan=plan, page=page, read=response_row
        )


def _same(row: ResponseRow) -> ColumnElement[bool]:
    return and_(responses.c.id == row.id, responses.c.tenant == row.tenant, responses.c.owner == row.owner)


async def _changed(connection: AsyncConnection, change: Update) -> bool:
    return (await connection.execute(change)).rowcount > 0


async def _refusal(connection: AsyncConnection, row: ResponseRow, *, is_update: bool) -> RegateError:
    """Return why no row could be replaced or made. Another tenant's row is not seen here, only met."""
    if await connection.scalar(select(exists().where(_same(row)))):
        return GatewayStopped("the response was ended by another gateway")
    if not is_update:
        return StateUnavailable("the id is that of another's response")
    return NotFound(f"Response with id '{row.id}' not found.", code="not_found")


def _links(principal: Principal, response: ResponseId) -> CTE:
    """Return the ids of a chain, `back` counting from the newest; one more than the longest chain, so
    that too long is noticed.
    """
    own = within(responses.c.tenant, principal.tenant)
    newest = select(responses.c.id, responses.c.previous_response_id, literal(0).label("back")).where(
        named(responses.c.id, response), own
    )
    links = newest.cte("links", recursive=True)
    earlier = (
        select(responses.c.id, responses.c.previous_response_id, links.c.back + 1)
        .join(links, links.c.previous_response_id == responses.c.id)
        .where(own, links.c.back < MAX_CHAIN)
    )
    return links.union_all(earlier)


async def _thread_of(connection: AsyncConnection, row: ResponseRow) -> str:
    """Return the thread that the response is in, which what it goes on with says, kept where it is
    until the transaction ends.
    """
    if row.conversation_id is not None:
        of_it = select(conversations.c.id).where(
            conversations.c.id == row.conversation_id, conversations.c.tenant == row.tenant
        )
    elif row.previous_response_id is not None:
        of_it = select(responses.c.thread).where(
            responses.c.id == row.previous_response_id, responses.c.tenant == row.tenant
        )
    else:
        return row.id
    thread: str | None = await connection.scalar(of_it.with_for_update(read=True, key_share=True))
    return thread or row.id


def _with_items(rows: Sequence[AnyRow], items: Sequence[AnyRow], found: Lineages) -> list[ResponseRow]:
    grouped = {
        response: list(some) for response, some in itertools.groupby(items, key=lambda item: item.response_id)
    }
    return [
        response_row(
            row,
            [
                item_row(item, lineage_in(found, row.thread, item.lineage_id))
                for item in grouped.get(row.id, ())
            ],
        )
        for row in rows
    ]
