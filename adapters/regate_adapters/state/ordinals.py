"""Ordinals: the order in which rows of a table become visible, so that whoever pages through a list meets
every row that is made meanwhile.

Creation times do not say it: many rows are made in a second, and some are stored long after the time that
they bear.
"""

from __future__ import annotations

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database


async def next_ordinal(database: Database, connection: AsyncConnection, table: Table) -> int:
    """Return the number of the next row of the table, of whatever tenant: what is shared is listed among
    others' rows. Nobody else gets one until this transaction has ended, so that numbers follow commits.
    """
    return await database.next_ordinal(connection, table)
