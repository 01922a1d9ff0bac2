"""What gateways that are gone had in flight: responses, locks of conversations, idempotency keys.
Found by who is present (`state/membership.py`).
"""

from __future__ import annotations

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.membership import is_gone
from regate_adapters.state.tables import (
    conversations,
    gateways,
    idempotency_keys,
    response_events,
    response_items,
    responses,
    schema_revision,
)
from regate_orchestrator.rows import UNFINISHED
from regate_orchestrator.values import JsonObject


class InterruptedState:
    """The part of the state store that ends what was interrupted, of all tenants."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def end_interrupted(self, *, error: JsonObject) -> int:
        """Fail the responses in the row, the stored Response and its log alike, and take them from
        their gateways; let locks and keys go.
        """
        ours = self._database.gateway
        lapsed = (gateways.c.present_until <= self._database.now(), gateways.c.id != ours)
        of_gone = (responses.c.status.in_(UNFINISHED), is_gone(responses.c.gateway, ours))
        async with self._database.writing() as connection:
            # One gateway does this at a time: two that lock the same rows in another order would wait for
            # each other.
            await connection.execute(select(schema_revision.c.revision).with_for_update())
            # Whoever comes back from here on waits for the end of this, so that all of it is decided by the
            # same gateways.
            await connection.execute(delete(gateways).where(*lapsed))
            wanted = (
                select(responses.c.id, responses.c.body, responses.c.background)
                .where(*of_gone)
                .with_for_update()
            )
            rows = (await connection.execute(wanted)).all()
            for row in rows:
                body = {**row.body, "status": "failed", "error": error}
                ended = {"status": "failed", "body": body, "gateway": None}
                await connection.execute(update(responses).where(responses.c.id == row.id).values(ended))
                if row.background:
                    await _end_log(connection, row.id, body)
            # Also locks for responses that were never stored. The comparison is one that an index answers.
            held = (conversations.c.locked_by > "", is_gone(conversations.c.gateway, ours))
            await connection.execute(update(conversations).where(*held).values(locked_by=None, gateway=None))
            unfinished = (idempotency_keys.c.created.is_(None), is_gone(idempotency_keys.c.gateway, ours))
            await connection.execute(delete(idempotency_keys).where(*unfinished))
        return len(rows)


async def _end_log(connection: AsyncConnection, response: str, body: JsonObject) -> None:
    """Log that the response failed, if it has a log at all, with the Response as it is retrieved."""
    of_it = response_events.c.response_id == response
    last = await connection.scalar(select(func.max(response_events.c.sequence)).where(of_it))
    if last is None:
        return
    output = (response_items.c.response_id == response, response_items.c.direction == "output")
    items = await connection.scalars(
        select(response_items.c.body).where(*output).order_by(response_items.c.position)
    )
    event = {
        "type": "response.failed",
        "sequence_number": last + 1,
        "response": {**body, "output": list(items)},
    }
    await connection.execute(
        insert(response_events).values(response_id=response, sequence=last + 1, event=event)
    )
