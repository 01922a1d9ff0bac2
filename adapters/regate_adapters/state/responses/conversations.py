"""Conversations in the state store: their items in order, and the lock by which one response at a time goes
on with one (`turns.py`).

Every change to the items locks the conversation's row first, so that positions are given once and no change
slips past the lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import ColumnElement, delete, func, insert, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.encoding import (
    AnyRow,
    conversation_columns,
    conversation_row,
    encode,
    item_row,
    stored_size,
)
from regate_adapters.state.filters.row_filter import RowShape
from regate_adapters.state.listing import Listing, page_of
from regate_adapters.state.responses.lineages import Lineages, forget_lineages, keep, lineage_in, lineages_of
from regate_adapters.state.responses.turns import append
from regate_adapters.state.tables import conversation_items, conversations
from regate_adapters.state.visibility import named, within
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import (
    MAX_HISTORY_ITEMS,
    ConversationRow,
    Page,
    Rows,
    StoredItem,
    too_many_items,
)
from regate_orchestrator.values import ConversationId, ResponseId

_NO_FIELDS: Final = RowShape(texts={}, numbers={}, document=literal(encode({})))
"""Items of a conversation are decided on one by one, after they were read: no filter looks into them."""


class ConversationState:
    """The part of the state store that keeps conversations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: ConversationRow, items: Sequence[StoredItem]) -> None:
        """Store a new conversation with its first items."""
        async with self._database.writing(row.tenant) as connection:
            await connection.execute(insert(conversations).values(conversation_columns(row)))
            await keep(connection, row.id, row.tenant, items)
            await append(connection, row.id, items)

    async def get(self, principal: Principal, conversation: ConversationId) -> ConversationRow | None:
        """Return the conversation's row."""
        async with self._database.reading(principal.tenant) as connection:
            row = (
                await connection.execute(select(conversations).where(_own(principal, conversation)))
            ).one_or_none()
        return None if row is None else conversation_row(row)

    async def update(
        self, principal: Principal, conversation: ConversationId, *, metadata: Mapping[str, str]
    ) -> bool:
        """Replace the conversation's metadata, whoever holds its lock: the items are not touched."""
        change = (
            update(conversations).where(_own(principal, conversation)).values(client_metadata=dict(metadata))
        )
        async with self._database.writing(principal.tenant) as connection:
            changed = await connection.execute(change)
        return changed.rowcount > 0

    async def delete(self, principal: Principal, conversation: ConversationId) -> bool:
        """Delete the conversation and, by their foreign key, its items."""
        async with self._database.writing(principal.tenant) as connection:
            if not await _held_still(connection, principal, conversation):
                return False
            await connection.execute(delete(conversations).where(conversations.c.id == conversation))
            await forget_lineages(connection, conversation)
        return True

    async def items(self, principal: Principal, conversation: ConversationId) -> list[StoredItem] | None:
        """Return all items of the conversation, oldest first."""
        async with self._database.reading(principal.tenant) as connection:
            if (
                await connection.scalar(select(conversations.c.id).where(_own(principal, conversation)))
                is None
            ):
                return None
            return await _items_of(connection, conversation)

    async def item_page(
        self, principal: Principal, conversation: ConversationId, page: Page
    ) -> Rows[StoredItem] | None:
        """Return a page of the conversation's items in their order."""
        if await self.get(principal, conversation) is None:
            return None
        items = conversation_items
        listing = Listing(
            principal.tenant,
            items.c.id,
            items.c.position,
            floor=items.c.conversation_id == conversation,
            shape=_NO_FIELDS,
        )
        found = await page_of(
            self._database, listing, select(items), plan=Everything(), page=page, read=lambda row: row
        )
        async with self._database.reading(principal.tenant) as connection:
            kept = await lineages_of(connection, [conversation])
        return Rows(tuple(_item(row, kept) for row in found.rows), found.has_more)

    async def item(self, principal: Principal, conversation: ConversationId, item: str) -> StoredItem | None:
        """Return one item of the conversation."""
        of_it = select(conversation_items).join(
            conversations, conversations.c.id == conversation_items.c.conversation_id
        )
        wanted = of_it.where(_own(principal, conversation), named(conversation_items.c.id, item))
        async with self._database.reading(principal.tenant) as connection:
            row = (await connection.execute(wanted)).one_or_none()
            return None if row is None else _item(row, await lineages_of(connection, [conversation]))

    async def append(
        self, principal: Principal, conversation: ConversationId, items: Sequence[StoredItem]
    ) -> bool:
        """Append the items, unless a response is going on with the conversation."""
        async with self._database.writing(principal.tenant) as connection:
            if not await _held_still(connection, principal, conversation):
                return False
            await _require_room(connection, conversation, len(items))
            await keep(connection, conversation, principal.tenant, items)
            await append(connection, conversation, items)
        return True

    async def delete_item(self, principal: Principal, conversation: ConversationId, item: str) -> bool:
        """Delete one item, unless a response is going on with the conversation."""
        items = conversation_items
        of_it = (items.c.conversation_id == conversation, named(items.c.id, item))
        async with self._database.writing(principal.tenant) as connection:
            if not await _held_still(connection, principal, conversation):
                return False
            found = (
                await connection.execute(select(items.c.body, items.c.results).where(*of_it))
            ).one_or_none()
            if found is None:
                return False
            await connection.execute(delete(items).where(*of_it))
            less = conversations.c.bytes - stored_size(found.body, found.results)
            await connection.execute(
                update(conversations).where(conversations.c.id == conversation).values(bytes=less)
            )
        return True

    async def lock(
        self, principal: Principal, conversation: ConversationId, holder: ResponseId
    ) -> list[StoredItem] | None:
        """Take the lock and return all items, in one transaction. One statement takes it, so of many
        takers one wins.
        """
        free = or_(conversations.c.locked_by.is_(None), conversations.c.locked_by == holder)
        take = (
            update(conversations)
            .where(_own(principal, conversation), free)
            .values(locked_by=holder, gateway=self._database.gateway)
        )
        async with self._database.writing(principal.tenant) as connection:
            if (await connection.execute(take)).rowcount:
                return await _items_of(connection, conversation)
            if (
                await connection.scalar(select(conversations.c.id).where(_own(principal, conversation)))
                is None
            ):
                return None
        raise _locked()

    async def unlock(self, principal: Principal, conversation: ConversationId, holder: ResponseId) -> None:
        """Release the lock if this response holds it."""
        held = (_own(principal, conversation), conversations.c.locked_by == holder)
        async with self._database.writing(principal.tenant) as connection:
            await connection.execute(update(conversations).where(*held).values(locked_by=None, gateway=None))


def _own(principal: Principal, conversation: ConversationId) -> ColumnElement[bool]:
    return named(conversations.c.id, conversation) & within(conversations.c.tenant, principal.tenant)


async def _held_still(
    connection: AsyncConnection, principal: Principal, conversation: ConversationId
) -> bool:
    """Keep the conversation's row until the transaction ends; return whether it is there. Raises
    `InvalidRequest` while a response has it.
    """
    mine = select(conversations.c.locked_by).where(_own(principal, conversation)).with_for_update()
    row = (await connection.execute(mine)).one_or_none()
    if row is not None and row.locked_by is not None:
        raise _locked()
    return row is not None


async def _items_of(connection: AsyncConnection, conversation: ConversationId) -> list[StoredItem]:
    of_it = select(conversation_items).where(conversation_items.c.conversation_id == conversation)
    rows = (await connection.execute(of_it.order_by(conversation_items.c.position))).all()
    found = await lineages_of(connection, [conversation])
    return [_item(row, found) for row in rows]


def _item(row: AnyRow, found: Lineages) -> StoredItem:
    return item_row(row, lineage_in(found, row.conversation_id, row.lineage_id))


async def _require_room(connection: AsyncConnection, conversation: ConversationId, new: int) -> None:
    """Raise `InvalidRequest` when the conversation would have more items than one can go on with."""
    of_it = conversation_items.c.conversation_id == conversation
    present = await connection.scalar(select(func.count()).select_from(conversation_items).where(of_it))
    if (present or 0) + new > MAX_HISTORY_ITEMS:
        raise too_many_items(param="items")


def _locked() -> InvalidRequest:
    return InvalidRequest(
        "Another process is currently operating on this conversation. Please retry in a few seconds.",
        param="conversation",
        code="conversation_locked",
    )
