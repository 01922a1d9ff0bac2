"""The tenant floor: the conditions that every statement of the state store carries, whatever the policy says (I7, I8)."""

from __future__ import annotations

from sqlalchemy import Column, ColumnElement, false, or_

from regate_adapters.state.encoding import is_identifier
from regate_adapters.state.tables import vector_stores
from regate_orchestrator.principal import Principal


def named(column: Column[str], name: str) -> ColumnElement[bool]:
    """Return the condition that a column holds exactly this name. A text that can be no name holds for no row, and is never sent."""
    return column == name if is_identifier(name) else false()


def visible_store(tenant: str) -> ColumnElement[bool]:
    """Return the condition that a tenant may know of a vector store: its own, and those shared by all tenants."""
    return or_(vector_stores.c.tenant == tenant, vector_stores.c.shared.is_(True))


def deletable_store(principal: Principal) -> ColumnElement[bool]:
    """Return the condition that a principal's tenant made the vector store, shared or not."""
    return vector_stores.c.tenant == principal.tenant
