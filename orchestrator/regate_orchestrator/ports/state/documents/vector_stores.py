"""Vector stores in the state store. Their vectors are in the vector engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from regate_orchestrator.filters.expression import FilterPlan
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import ExpiredStore, Page, Rows, StoreChanges, StoreContents, StoreRow
from regate_orchestrator.values import StoreId


class VectorStoreState(Protocol):
    """Keeps vector stores."""

    async def add(self, row: StoreRow) -> None:
        """Store a new vector store row."""
        ...

    async def get(self, principal: Principal, store: StoreId) -> StoreRow | None:
        """Return the vector store's row."""
        ...

    async def engine_of(self, store: StoreId) -> str | None:
        """Return the vector engine that the store is in, of whatever tenant; None when there is no
        such row. For `VectorEngines`, nothing else.
        """
        ...

    async def engines(self) -> Mapping[str, int]:
        """Return how many stores are in each vector engine, of all tenants. At start only."""
        ...

    async def place(self, *, engine: str) -> int:
        """Record this engine for all stores of which none is recorded, and return how many: those of
        an earlier version. At start only.
        """
        ...

    async def contents(self, store: StoreId) -> StoreContents | None:
        """Return what the store holds, of all tenants; None when there is no such row."""
        ...

    async def move(self, store: StoreId, *, expected: StoreContents, engine: str) -> bool:
        """Record that the store is in this engine. In one transaction; must return False and change nothing
        when it holds anything else than was expected.
        """
        ...

    async def page(self, principal: Principal, plan: FilterPlan, page: Page) -> Rows[StoreRow]:
        """Return a page of the vector store rows that the plan permits."""
        ...

    async def touch(self, principal: Principal, store: StoreId, *, at: int) -> None:
        """Record that this tenant used the store: `last_active_at` is kept per tenant, so that no tenant sees
        another's activity.

        Must not bring a store back that has expired for the tenant.
        """
        ...

    async def update(self, principal: Principal, store: StoreId, changes: StoreChanges) -> bool:
        """Change the store; return False when the principal's tenant made no such store. Tenant and
        owner must never change.
        """
        ...

    async def delete(self, principal: Principal, store: StoreId) -> bool:
        """Delete the store's row and all its attachments. Its place in the vector engine is orphaned."""
        ...

    async def next_after(self, store: StoreId) -> StoreId | None:
        """Return the store that comes next in the order of ids; None after the last."""
        ...

    async def expired(self, *, limit: int) -> list[ExpiredStore]:
        """Return stores that have expired for a tenant and were not emptied since. One that is emptied
        must not be returned again.
        """
        ...

    async def empty_expired(self, expired: ExpiredStore) -> int:
        """Delete what the tenant has in the store, and return how many files. Must leave a store alone
        that is in use again.
        """
        ...
