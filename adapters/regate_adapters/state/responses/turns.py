"""Turns of conversations: how a response's items become a conversation's, and how its lock is let go.
Within the caller's transaction.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.encoding import item_columns, item_size
from regate_adapters.state.listing import in_parts
from regate_adapters.state.tables import conversation_items, conversations
from regate_orchestrator.errors import StateUnavailable
from regate_orchestrator.rows import UNFINISHED, ResponseRow, StoredItem
from regate_orchestrator.values import ConversationId, ResponseId, wall_clock


async def append(
    connection: AsyncConnection,
    conversation: ConversationId,
    items: Sequence[StoredItem],
    *,
    response: ResponseId | None = None,
) -> None:
    """Append the items but those whose ids are there already. The conversation's row must be locked,
    or made, in this transaction.
    """
    of_it = conversation_items.c.conversation_id == conversation
    new = {item.id: item for item in items}
    for part in in_parts(list(new)):
        for present in await connection.scalars(
            select(conversation_items.c.id).where(of_it, conversation_items.c.id.in_(part))
        ):
            del new[present]
    if not new:
        return
    last = await connection.scalar(
        select(func.coalesce(func.max(conversation_items.c.position), -1)).where(of_it)
    )
    first = 0 if last is None else last + 1
    about = {"conversation_id": conversation, "created_at": int(wall_clock()), "response_id": response}
    rows = [about | item_columns(position, item) for position, item in enumerate(new.values(), start=first)]
    await connection.execute(insert(conversation_items), rows)
    grown = conversations.c.bytes + sum(item_size(item) for item in new.values())
    await connection.execute(
        update(conversations).where(conversations.c.id == conversation).values(bytes=grown)
    )


async def settle_turn(connection: AsyncConnection, row: ResponseRow, conversation: ConversationId) -> None:
    """Make the conversation what this state of one of its responses says. Raises `StateUnavailable` for a
    turn that holds no lock.

    One that goes on must hold it as well: the lock of a gateway that was taken for gone is let go, and may be
    another's.
    """
    of_it = (conversations.c.id == conversation, conversations.c.tenant == row.tenant)
    if row.status not in ("failed", "cancelled"):
        holder = await connection.scalar(select(conversations.c.locked_by).where(*of_it).with_for_update())
        if holder != row.id:
            raise StateUnavailable("the response does not hold the lock of its conversation")
    if row.status in UNFINISHED:
        return
    if row.status in ("completed", "incomplete"):
        await append(connection, conversation, row.items, response=row.id)
    held = (*of_it, conversations.c.locked_by == row.id)
    await connection.execute(update(conversations).where(*held).values(locked_by=None, gateway=None))
