"""Which gateways are present in the state store. A gateway is while its row has not lapsed; what it has in
flight is its own for that long.

Who is gone left things behind, which are ended elsewhere (`state/responses/interrupted.py`). Opening a store
makes nobody present.
"""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, and_, delete, func, insert, or_, select, update

from regate_adapters.state.database import Database
from regate_adapters.state.tables import gateways
from regate_orchestrator.values import GatewayId


class MembershipState:
    """The part of the state store that knows which gateways are present."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def heartbeat(self, *, ttl_s: int) -> None:
        """Be present for so long from now, whether this gateway was until now or not."""
        mine, until = gateways.c.id == self._database.gateway, self._database.now() + ttl_s
        async with self._database.writing() as connection:
            if not (
                await connection.execute(update(gateways).where(mine).values(present_until=until))
            ).rowcount:
                await connection.execute(
                    insert(gateways).values(id=self._database.gateway, present_until=until)
                )

    async def others_present(self) -> int:
        """Return how many other gateways are present."""
        others = select(func.count()).where(
            gateways.c.id != self._database.gateway, gateways.c.present_until > self._database.now()
        )
        async with self._database.reading() as connection:
            return await connection.scalar(others) or 0

    async def leave(self) -> None:
        """Be present no longer."""
        async with self._database.writing() as connection:
            await connection.execute(delete(gateways).where(gateways.c.id == self._database.gateway))

    async def forget_other_gateways(self) -> None:
        """Let no gateway but this one be present. Must be called at start and only where no other
        program can be one.
        """
        async with self._database.writing() as connection:
            await connection.execute(delete(gateways).where(gateways.c.id != self._database.gateway))


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
