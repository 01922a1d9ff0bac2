"""Vector stores that have expired, in the state store: what they held is let go of. Each tenant's part
of a shared store expires by itself.
"""

from __future__ import annotations

from sqlalchemy import and_, delete, exists, select, update

from regate_adapters.state.database import Database
from regate_adapters.state.documents.orphaned_chunks import leave_behind
from regate_adapters.state.tables import attachments, store_activity, vector_stores
from regate_adapters.state.visibility import has_expired
from regate_orchestrator.rows import ExpiredStore
from regate_orchestrator.values import StoreId


class StoreExpiryState:
    """The part of the state store that empties expired vector stores."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def expired_stores(self, *, limit: int) -> list[ExpiredStore]:
        """Return stores that have expired for a tenant and were not emptied of what it has there
        since, the longest expired first.
        """
        expired = (
            select(store_activity.c.store_id, store_activity.c.tenant)
            .where(store_activity.c.empties_at <= self._database.now())
            .order_by(store_activity.c.empties_at, store_activity.c.store_id, store_activity.c.tenant)
            .limit(limit)
        )
        async with self._database.reading() as connection:
            return [
                ExpiredStore(StoreId(row.store_id), row.tenant) for row in await connection.execute(expired)
            ]

    async def empty_expired_store(self, expired: ExpiredStore) -> int:
        """Delete what the tenant has in the store, and return how many files that were; does nothing when the
        store is in use again.

        A guest's activity is deleted as well: to a tenant that did not make the store it is as if it had
        never been used.
        """
        now = self._database.now()
        of_tenant = and_(attachments.c.store_id == expired.store_id, attachments.c.tenant == expired.tenant)
        activity = and_(
            store_activity.c.store_id == expired.store_id, store_activity.c.tenant == expired.tenant
        )
        async with self._database.writing() as connection:
            # Locked as every use locks it: what is used meanwhile has not expired.
            locked = (
                select(vector_stores.c.tenant)
                .where(vector_stores.c.id == expired.store_id)
                .with_for_update(key_share=True)
            )
            owner = await connection.scalar(locked)
            still = select(
                exists().where(
                    and_(activity, vector_stores.c.id == store_activity.c.store_id, has_expired(now))
                )
            )
            if owner is None or not await connection.scalar(still):
                return 0
            await leave_behind(connection, of_tenant, now=now)
            emptied = (await connection.execute(delete(attachments).where(of_tenant))).rowcount
            if owner != expired.tenant:
                await connection.execute(delete(store_activity).where(activity))
            else:
                await connection.execute(update(store_activity).where(activity).values(empties_at=None))
        return emptied
