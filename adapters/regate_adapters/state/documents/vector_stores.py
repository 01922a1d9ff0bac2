"""Vector stores in the state store. Their vectors are elsewhere (`regate_adapters.vector`); what is in
them, in `attachments.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from sqlalchemy import ColumnElement, Select, and_, delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.database import Database
from regate_adapters.state.documents.orphaned_chunks import commit, leave_behind, place_of, reserve
from regate_adapters.state.encoding import SECONDS_A_DAY, store_changes, store_columns, store_row
from regate_adapters.state.filters.row_filter import RowShape
from regate_adapters.state.listing import Listing, page_of
from regate_adapters.state.ordinals import next_ordinal
from regate_adapters.state.tables import attachments, store_activity, vector_stores
from regate_adapters.state.visibility import deletable_store, has_expired, named, visible_store, within
from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import ExpiredStore, Page, Rows, StoreChanges, StoreContents, StoreRow
from regate_orchestrator.values import StoreId

_SHAPE = RowShape(
    texts={
        "id": vector_stores.c.id,
        "name": vector_stores.c.name,
        "tenant": vector_stores.c.tenant,
        "owner": vector_stores.c.owner,
    },
    numbers={},
    document=vector_stores.c.stamp,
)
"""A vector store as `regate.store` sees it: its id and name, and its stamp."""


class VectorStoreState:
    """The part of the state store that keeps vector stores."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, row: StoreRow) -> None:
        """Store a new vector store row, whose place counts from now on; raises `InvalidRequest` for a
        name that no database can hold.
        """
        columns = store_columns(row)
        active = {
            "store_id": row.id,
            "tenant": columns["tenant"],
            **_active(row.last_active_at, row.expires_after_days),
        }
        async with self._database.writing(str(columns["tenant"])) as connection:
            ordinal = await next_ordinal(self._database, connection, vector_stores)
            await connection.execute(insert(vector_stores).values(**columns, ordinal=ordinal))
            await connection.execute(insert(store_activity).values(active))
            await commit(connection, place_of(row.id))

    async def get(self, principal: Principal, store: StoreId) -> StoreRow | None:
        """Return the vector store's row, with the activity of the principal's tenant."""
        async with self._database.reading(principal.tenant) as connection:
            row = (
                await connection.execute(_stores_for(principal).where(*_visible(principal, store)))
            ).one_or_none()
        return None if row is None else store_row(row)

    async def engine_of(self, store: StoreId) -> str | None:
        """Return the vector engine that the store is in, of whatever tenant; None for a store that is
        absent.
        """
        async with self._database.maintenance.reading() as connection:
            found = await connection.scalar(
                select(vector_stores.c.engine).where(named(vector_stores.c.id, store))
            )
        return None if found is None else str(found)

    async def engines(self) -> Mapping[str, int]:
        """Return how many stores are in each vector engine, of all tenants."""
        counted = select(vector_stores.c.engine, func.count().label("stores")).group_by(
            vector_stores.c.engine
        )
        async with self._database.maintenance.reading() as connection:
            return {row.engine: row.stores for row in await connection.execute(counted)}

    async def next_after(self, store: StoreId) -> StoreId | None:
        """Return the store, of whatever tenant, that comes next in the order of ids; None after the last."""
        following = (
            select(vector_stores.c.id).where(vector_stores.c.id > store).order_by(vector_stores.c.id).limit(1)
        )
        async with self._database.maintenance.reading() as connection:
            found = await connection.scalar(following)
        return None if found is None else StoreId(found)

    async def place(self, *, engine: str) -> int:
        """Record this engine for all stores that an earlier version made, which had but one; return
        how many.
        """
        async with self._database.maintenance.writing() as connection:
            placed = await connection.execute(
                update(vector_stores).where(vector_stores.c.engine.is_(None)).values(engine=engine)
            )
        return placed.rowcount

    async def contents(self, store: StoreId) -> StoreContents | None:
        """Return what the store holds, of all tenants; None for one that is absent."""
        async with self._database.maintenance.reading() as connection:
            return await _contents(connection, store)

    async def move(self, store: StoreId, *, expected: StoreContents, engine: str) -> bool:
        """Record that the store is in this engine; return False when it holds anything else than was
        expected.
        """
        row = named(vector_stores.c.id, store)
        async with self._database.maintenance.writing() as connection:
            await connection.execute(select(vector_stores.c.id).where(row).with_for_update())
            if await _contents(connection, store) != expected:
                return False
            await connection.execute(update(vector_stores).where(row).values(engine=engine))
        return True

    async def page(self, principal: Principal, plan: FilterPlan, page: Page) -> Rows[StoreRow]:
        """Return a page of the vector store rows that the plan permits."""
        listing = Listing(
            principal.tenant,
            vector_stores.c.id,
            vector_stores.c.ordinal,
            floor=visible_store(principal.tenant),
            shape=_SHAPE,
        )
        return await page_of(
            self._database, listing, _stores_for(principal), plan=plan, page=page, read=store_row
        )

    async def touch(self, principal: Principal, store: StoreId, *, at: int) -> None:
        """Record that this tenant used the store. Time never goes back, and a second in which it was used
        already costs no write.

        Nothing brings a store back that has expired.
        """
        async with self._database.reading(principal.tenant) as connection:
            known = (
                await connection.execute(_stores_for(principal).where(*_visible(principal, store)))
            ).one_or_none()
        if known is None or (
            known.used_at is not None and (known.used_at >= at or store_row(known).has_expired(at))
        ):
            return
        own = (store_activity.c.store_id == store, within(store_activity.c.tenant, principal.tenant))
        async with self._database.writing(principal.tenant) as connection:
            # The store is locked first, by every use: so that of two first uses the second sees the first
            # one's row, and neither waits in turn.
            locked = (
                select(vector_stores.c.expires_after_days)
                .where(vector_stores.c.id == store)
                .with_for_update(key_share=True)
            )
            row = (await connection.execute(locked)).one_or_none()
            if row is None:
                return
            active = _active(at, row.expires_after_days)
            if await connection.scalar(select(store_activity.c.last_active_at).where(*own)) is None:
                await connection.execute(
                    insert(store_activity).values(store_id=store, tenant=principal.tenant, **active)
                )
            else:
                await connection.execute(
                    update(store_activity).where(*own, store_activity.c.last_active_at < at).values(active)
                )

    async def update(self, principal: Principal, store: StoreId, changes: StoreChanges) -> bool:
        """Change the store; return False when there is none that the principal's tenant made. Raises
        `InvalidRequest` as `vector_stores.add` does.
        """
        columns = store_changes(changes)
        own = (named(vector_stores.c.id, store), deletable_store(principal))
        async with self._database.writing(principal.tenant) as connection:
            if not columns:
                return await connection.scalar(select(vector_stores.c.id).where(*own)) is not None
            changed = (
                await connection.execute(update(vector_stores).where(*own).values(columns))
            ).rowcount > 0
            if changed and "expires_after_days" in columns:
                every = update(store_activity).where(store_activity.c.store_id == store)
                days = cast("int | None", columns["expires_after_days"])
                # Of a shared store other tenants have activities, too, which no tenant may reach.
                async with self._database.maintenance.within(connection):
                    await connection.execute(every.values(_active(store_activity.c.last_active_at, days)))
        return changed

    async def delete(self, principal: Principal, store: StoreId) -> bool:
        """Delete the store's row and, by their foreign keys, all its attachments, of whatever tenant.
        Its place in the engine is orphaned.
        """
        async with self._database.writing(principal.tenant) as connection:
            own = (named(vector_stores.c.id, store), deletable_store(principal))
            if await connection.scalar(select(vector_stores.c.id).where(*own).with_for_update()) is None:
                return False
            # While the row is there, which says whose place it is.
            await reserve(connection, place_of(store), due_at=self._database.now())
            await connection.execute(delete(vector_stores).where(*own))
        return True

    async def expired(self, *, limit: int) -> list[ExpiredStore]:
        """Return stores that have expired for a tenant and were not emptied of what it has there
        since, the longest expired first.
        """
        expired = (
            select(store_activity.c.store_id, store_activity.c.tenant)
            .where(store_activity.c.empties_at <= self._database.now())
            .order_by(store_activity.c.empties_at, store_activity.c.store_id, store_activity.c.tenant)
            .limit(limit)
        )
        async with self._database.maintenance.reading() as connection:
            return [
                ExpiredStore(StoreId(row.store_id), row.tenant) for row in await connection.execute(expired)
            ]

    async def empty_expired(self, expired: ExpiredStore) -> int:
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
        async with self._database.maintenance.writing() as connection:
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


async def _contents(connection: AsyncConnection, store: StoreId) -> StoreContents | None:
    row = (
        await connection.execute(
            select(vector_stores.c.engine, vector_stores.c.dimensions).where(named(vector_stores.c.id, store))
        )
    ).one_or_none()
    if row is None:
        return None
    own = attachments.c.store_id == store
    counting = select(attachments.c.generation, attachments.c.chunks).where(
        own, attachments.c.status == "completed"
    )
    running = select(func.count()).where(own, attachments.c.status == "in_progress")
    return StoreContents(
        row.engine or "",
        row.dimensions,
        {one.generation: one.chunks for one in await connection.execute(counting)},
        await connection.scalar(running) or 0,
    )


def _active(at: Any, days: int | None) -> dict[str, Any]:
    """Return the columns of an activity at that time, in a store that expires after so many days."""
    return {"last_active_at": at, "empties_at": None if days is None else at + days * SECONDS_A_DAY}


def _visible(principal: Principal, store: StoreId) -> tuple[ColumnElement[bool], ...]:
    return named(vector_stores.c.id, store), visible_store(principal.tenant)


def _stores_for(principal: Principal) -> Select[Any]:
    """Return the stores' columns, `last_active_at` being this tenant's own: a tenant that never used a store
    sees when it was made.

    `used_at` is the same, and NULL for a tenant that never used it: nothing of that tenant's can expire.
    """
    own = and_(
        store_activity.c.store_id == vector_stores.c.id, within(store_activity.c.tenant, principal.tenant)
    )
    active = func.coalesce(store_activity.c.last_active_at, vector_stores.c.created_at).label(
        "last_active_at"
    )
    return select(vector_stores, active, store_activity.c.last_active_at.label("used_at")).select_from(
        vector_stores.outerjoin(store_activity, own)
    )
