"""Stored items by their id, wherever they are: what an `item_reference` names. Each comes with the row
that it is decided on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Column, Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.encoding import AnyRow, conversation_row, is_identifier, item_row, response_row
from regate_adapters.state.listing import in_parts
from regate_adapters.state.responses.lineages import lineage_in, lineages_of
from regate_adapters.state.tables import conversation_items, conversations, response_items, responses
from regate_adapters.state.visibility import within
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import ConversationRow, ItemWithParent, ResponseRow


@dataclass(frozen=True, slots=True)
class _Place:
    """Where items are: their table, the column that says what holds them, the holders' table, and the
    column of the thread they are in.
    """

    items: Table
    held_by: Column[str]
    holders: Table
    thread: Column[str]
    read: Callable[[AnyRow], ResponseRow | ConversationRow]


_PLACES: Final = (
    _Place(response_items, response_items.c.response_id, responses, responses.c.thread, response_row),
    _Place(
        conversation_items,
        conversation_items.c.conversation_id,
        conversations,
        conversations.c.id,
        conversation_row,
    ),
)


class ItemState:
    """The part of the state store that finds items by id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def with_parents(self, principal: Principal, ids: Sequence[str]) -> Mapping[str, ItemWithParent]:
        """Return those of the items that are stored: from the oldest response that holds one, else
        from the oldest conversation.
        """
        known = [item for item in dict.fromkeys(ids) if is_identifier(item)]
        found: dict[str, ItemWithParent] = {}
        async with self._database.reading(principal.tenant) as connection:
            for place in _PLACES:
                for part in in_parts([item for item in known if item not in found]):
                    found |= await _found_at(connection, place, part, tenant=principal.tenant)
        return found


async def _found_at(
    connection: AsyncConnection, place: _Place, ids: Sequence[str], *, tenant: str
) -> dict[str, ItemWithParent]:
    holders = place.holders
    wanted = (place.items.c.id.in_(ids), within(holders.c.tenant, tenant))
    joined = place.items.join(holders, holders.c.id == place.held_by)
    newest_first = (holders.c.created_at.desc(), holders.c.id.desc())
    about = (place.held_by.label("holder_id"), place.thread.label("item_thread"))
    items = select(place.items, *about).select_from(joined).where(*wanted).order_by(*newest_first)
    rows = select(holders).where(holders.c.id.in_(select(holders.c.id).select_from(joined).where(*wanted)))
    views = {row.id: place.read(row).view() for row in await connection.execute(rows)}
    rows_of_items = (await connection.execute(items)).all()
    found = await lineages_of(connection, [item.item_thread for item in rows_of_items])
    # Newest first, so that of several holders the oldest has the last word.
    return {
        item.id: ItemWithParent(
            views[item.holder_id], item_row(item, lineage_in(found, item.item_thread, item.lineage_id))
        )
        for item in rows_of_items
    }
