"""Which gateways are present in the state store. A gateway is while its row has not lapsed; what it has in
flight is its own for that long.

Who is gone left responses, locks of conversations and idempotency keys behind, which another ends. Opening
a store makes nobody present.
"""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, and_, delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
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
from regate_orchestrator.values import GatewayId, JsonObject


class MembershipState:
    """The part of the state store that knows which gateways are present, and ends what was interrupted."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @property
    def is_shared(self) -> bool:
        """Whether other programs may use this database at the same time."""
        return self._database.is_shared

    @property
    def gateway(self) -> GatewayId:
        """Who this gateway is."""
        return self._database.gateway

    async def heartbeat(self, *, ttl_s: int) -> None:
        """Be present for so long from now, whether this gateway was until now or not."""
        mine = gateways.c.id == self._database.gateway
        values = {"present_until": self._database.now() + ttl_s, "scoped": True}
        async with self._database.maintenance.writing() as connection:
            if not (await connection.execute(update(gateways).where(mine).values(values))).rowcount:
                await connection.execute(insert(gateways).values(id=self._database.gateway, **values))

    async def others_present(self) -> int:
        """Return how many other gateways are present."""
        others = select(func.count()).where(
            gateways.c.id != self._database.gateway, gateways.c.present_until > self._database.now()
        )
        async with self._database.maintenance.reading() as connection:
            return await connection.scalar(others) or 0

    async def leave(self) -> None:
        """Be present no longer."""
        await self.forget(self._database.gateway)

    async def forget(self, gateway: GatewayId) -> None:
        """Let that gateway be present no longer. Must be called only where it has certainly ended."""
        async with self._database.maintenance.writing() as connection:
            await connection.execute(delete(gateways).where(gateways.c.id == gateway))

    async def forget_others(self) -> None:
        """Let no gateway but this one be present. Must be called at start and only where no other
        program can be one.
        """
        async with self._database.maintenance.writing() as connection:
            await connection.execute(delete(gateways).where(gateways.c.id != self._database.gateway))

    async def end_interrupted(self, *, error: JsonObject) -> int:
        """Fail the responses in the row, the stored Response and its log alike, and take them from
        their gateways; let locks and keys go.
        """
        ours = self._database.gateway
        lapsed = (gateways.c.present_until <= self._database.now(), gateways.c.id != ours)
        of_gone = (responses.c.status.in_(UNFINISHED), is_gone(responses.c.gateway, ours))
        async with self._database.maintenance.writing() as connection:
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
        # Those that are gone may have been the last that the wall had to wait for.
        await self._database.raise_wall()
        return len(rows)


def is_gone(column: Column[str], ours: GatewayId) -> ColumnElement[bool]:
    """Return the condition that what names this gateway is of none that is present. Rows that have lapsed
    must be deleted before.

    Our own row may have lapsed as well, while the machine slept or the database did not answer: we are here
    all the same.
    """
    return or_(column.is_(None), and_(column != ours, column.not_in(select(gateways.c.id))))


def is_another(column: Column[str], ours: GatewayId, *, now: int) -> ColumnElement[bool]:
    """Return the condition that what names this gateway is of another one that is present."""
    return and_(column != ours, column.in_(select(gateways.c.id).where(gateways.c.present_until > now)))


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
