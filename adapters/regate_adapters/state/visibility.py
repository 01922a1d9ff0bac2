"""The tenant floor: the conditions that every statement of the state store carries, whatever the
policy says (I7, I8).
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, ColumnElement, and_, exists, false, literal, not_, or_, select

from regate_adapters.state.encoding import SECONDS_A_DAY, is_identifier, is_text
from regate_adapters.state.tables import attachments, files, store_activity, vector_stores
from regate_orchestrator.principal import Principal


def named(column: Column[str], name: str) -> ColumnElement[bool]:
    """Return the condition that a column holds exactly this name. A text that can be no name holds for
    no row, and is never sent.
    """
    return column == name if is_identifier(name) else false()


def within(column: Column[str], tenant: str) -> ColumnElement[bool]:
    """Return the condition that a row is this tenant's. A text that no database can hold is no row's
    tenant, and is never sent.
    """
    return column == tenant if is_text(tenant) else false()


def unexpired_file(now: int) -> ColumnElement[bool]:
    """Return the condition that a file has not expired. One that has is absent at once, and gone when
    it is collected.
    """
    return or_(files.c.expires_at.is_(None), files.c.expires_at > now)


def attached_file_unexpired(now: int) -> ColumnElement[bool]:
    """Return the condition that an attachment's file has not expired."""
    return not_(exists().where(and_(files.c.id == attachments.c.file_id, files.c.expires_at <= now)))


def has_expired(now: int) -> ColumnElement[bool]:
    """Return the condition that a store has expired for the tenant of the activity that it is joined with."""
    kept = vector_stores.c.expires_after_days * literal(
        SECONDS_A_DAY, BigInteger
    )  # days as seconds would outgrow the column's 32 bits
    return store_activity.c.last_active_at + kept <= now


def attached_store_unexpired(now: int) -> ColumnElement[bool]:
    """Return the condition that an attachment's store has not expired for the attachment's tenant."""
    of_it = and_(
        store_activity.c.store_id == attachments.c.store_id, store_activity.c.tenant == attachments.c.tenant
    )
    used = select(store_activity.c.store_id).join(
        vector_stores, vector_stores.c.id == store_activity.c.store_id
    )
    return not_(exists(used.where(of_it, has_expired(now)).correlate(attachments)))


def unexpired_store(tenant: str, now: int) -> ColumnElement[bool]:
    """Return the condition that a vector store has not expired for the tenant. One that has is emptied
    at once, and truly when it is collected.
    """
    used = and_(store_activity.c.store_id == vector_stores.c.id, within(store_activity.c.tenant, tenant))
    return not_(
        exists(select(store_activity.c.store_id).where(used, has_expired(now)).correlate(vector_stores))
    )


def visible_store(tenant: str) -> ColumnElement[bool]:
    """Return the condition that a tenant may know of a vector store: its own, and those shared by all
    tenants.
    """
    return or_(within(vector_stores.c.tenant, tenant), vector_stores.c.shared.is_(True))


def deletable_store(principal: Principal) -> ColumnElement[bool]:
    """Return the condition that a principal's tenant made the vector store, shared or not."""
    return within(vector_stores.c.tenant, principal.tenant)
