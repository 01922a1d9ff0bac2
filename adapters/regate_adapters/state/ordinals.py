"""Ordinals: the order in which rows of a table become visible, so that whoever pages through a list meets
every row that is made meanwhile.

Creation times do not say it: many rows are made in a second, and some are stored long after the time that
they bear.
"""

from __future__ import annotations

from sqlalchemy import Table, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database


async def next_ordinal(database: Database, connection: AsyncConnection, table: Table) -> int:
    """Return the number of the next row of the table. Nobody else gets one until this transaction has
    ended, so that numbers follow commits.
    """
    await database.in_turn(connection, table.name)
    last: int | None = await connection.scalar(select(func.max(table.c.ordinal)))
    return 1 if last is None else last + 1
