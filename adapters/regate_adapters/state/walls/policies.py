"""Which rows of the state store a transaction may reach in PostgreSQL, whatever its statements say: the
policy of each table that holds tenants' rows.

A transaction says whose rows it is about (`sessions.py`): one tenant's in `regate.tenant`, or all of them
with `regate.scope` = `maintenance`. One that says neither reaches none. The policies are made with the
tables, and made anew after each upgrade; they do nothing until the wall is raised (`raising.py`).

Every table is here or in `GLOBAL`, with the reason; a test holds both to `tables.py`.

Conditions are such that an index serves them: what leaks nothing (equality of texts) may be looked up before
they are. Foreign keys are beyond them: the rows that a deletion takes with it go, of whatever tenant.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from sqlalchemy import Column, Connection, text

from regate_adapters.state.tables import (
    api_keys,
    approvals,
    attachments,
    chunk_contexts,
    conversation_items,
    conversations,
    file_batches,
    files,
    gateways,
    idempotency_keys,
    lineages,
    metadata,
    orphaned_blobs,
    orphaned_generations,
    prompt_versions,
    prompts,
    response_events,
    response_items,
    responses,
    schema_revision,
    store_activity,
    tool_uses,
    upload_parts,
    uploads,
    usage,
    vector_stores,
)

TENANT_SETTING: Final = "regate.tenant"
SCOPE_SETTING: Final = "regate.scope"
MAINTENANCE_SCOPE: Final = "maintenance"

_TENANT: Final = f"nullif(pg_catalog.current_setting('{TENANT_SETTING}', true), '')"
"""A setting that was local to a transaction is an empty text after it, which is nobody's name."""
_EVERYBODYS: Final = f"pg_catalog.current_setting('{SCOPE_SETTING}', true) = '{MAINTENANCE_SCOPE}'"
_OWN: Final = f"tenant = {_TENANT}"


def _in(column: Column[str]) -> str:
    """Return the condition that the row which this column names is the tenant's."""
    (key,) = column.foreign_keys
    holder, name = key.column.table.name, key.column.name
    return _whose(holder, f"holder.{name} = {column.table.name}.{column.name}")


def _whose(holder: str, which: str) -> str:
    """Return the condition that the one row of that table is the tenant's. Not as EXISTS: PostgreSQL may
    answer that by reading all rows of the tenant first.
    """
    return f"(SELECT holder.tenant FROM {holder} AS holder WHERE {which}) = {_TENANT}"  # noqa: S608 — constants


_ORPHANED: Final = (
    f"CASE WHEN generation <> '' THEN pg_catalog.starts_with(generation, {_TENANT} || '/' || file_id) ELSE "
    + _whose(vector_stores.name, "holder.id = orphaned_generations.store_id")
    + " OR "
    + _whose(
        attachments.name,
        "holder.store_id = orphaned_generations.store_id AND holder.file_id = orphaned_generations.file_id",
    )
    + " END"
)
"""The name of a generation begins with its tenant and file. Without one it is the place of a store, which is
whose the store is, or of a file of an earlier version, which is whose the attachment is.
"""

WALLED: Final[dict[str, str]] = {
    **{
        table.name: _OWN
        for table in (
            files,
            orphaned_blobs,
            uploads,
            vector_stores,
            store_activity,
            attachments,
            chunk_contexts,
            file_batches,
            responses,
            lineages,
            conversations,
            prompts,
            idempotency_keys,
            approvals,
            tool_uses,
            api_keys,
            usage,
        )
    },
    upload_parts.name: _in(upload_parts.c.upload_id),
    response_items.name: _in(response_items.c.response_id),
    response_events.name: _in(response_events.c.response_id),
    conversation_items.name: _in(conversation_items.c.conversation_id),
    prompt_versions.name: _in(prompt_versions.c.prompt_id),
    orphaned_generations.name: _ORPHANED,
}
"""The condition that a row is the tenant's, by table."""

GLOBAL: Final[dict[str, str]] = {
    schema_revision.name: "says which version the tables are of; holds one row, of nobody",
    gateways.name: "says which gateways are present; holds nothing of any tenant",
}
"""The tables that hold no tenant's rows, and why."""

_SHARED: Final = f"shared AND {_TENANT} IS NOT NULL"
"""A store that is shared is seen by all tenants, and kept where it is while one attaches to it. For that the
database wants the right to change it, but no row may become, or stay, another tenant's by a change.
"""
_POLICIES: Final[dict[str, str]] = {
    **{
        f"regate_tenant ON {table}": f"USING ({_EVERYBODYS} OR {own}) WITH CHECK ({_EVERYBODYS} OR {own})"
        for table, own in WALLED.items()
    },
    f"regate_shared ON {vector_stores.name}": f"FOR SELECT USING ({_SHARED})",
    f"regate_shared_kept ON {vector_stores.name}": f"FOR UPDATE USING ({_SHARED}) WITH CHECK ({_OWN})",
}

NEXT_ORDINAL: Final = "regate_next_ordinal"
_NEXT_ORDINAL: Final = f"""CREATE OR REPLACE FUNCTION {NEXT_ORDINAL}(counted text, kind integer, turn integer)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  scope text := coalesce(pg_catalog.current_setting('{SCOPE_SETTING}', true), '');
  last bigint;
BEGIN
  PERFORM pg_catalog.pg_advisory_xact_lock(kind, turn);
  PERFORM pg_catalog.set_config('{SCOPE_SETTING}', '{MAINTENANCE_SCOPE}', true);
  EXECUTE pg_catalog.format('SELECT max(ordinal) FROM %I', counted) INTO last;
  PERFORM pg_catalog.set_config('{SCOPE_SETTING}', scope, true);
  RETURN coalesce(last, 0) + 1;
END $$"""  # noqa: S608 — of constants alone
"""Numbers are given across tenants (`state/ordinals.py`): this tells the next one and nothing else. A
function because it is one round trip, and because what it reads after the lock is as it is then.
"""


_RAISED: Final = text(
    """SELECT relname FROM pg_catalog.pg_class
       WHERE relnamespace = current_schema()::regnamespace AND relrowsecurity AND relforcerowsecurity"""
)
_DRAWN: Final = text(
    """SELECT quote_ident(policyname) || ' ON ' || quote_ident(tablename) FROM pg_catalog.pg_policies
       WHERE schemaname = current_schema() AND policyname LIKE 'regate\\_%'"""
)


def lower(connection: Connection) -> list[str]:
    """Take the wall down within this transaction, so that tables can be altered and all their rows be seen;
    return the tables on which it was raised.
    """
    raised = list(connection.scalars(_RAISED))
    for policy in list(connection.scalars(_DRAWN)):
        connection.execute(text(f"DROP POLICY {policy}"))
    for table in raised:
        connection.execute(
            text(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY")
        )
    return raised


def draw(connection: Connection, raised: Collection[str]) -> None:
    """Make every policy what it is here, and raise the wall where it was. Elsewhere they do nothing yet."""
    assert set(metadata.tables) == {*WALLED, *GLOBAL}  # noqa: S101 — INVARIANT: no table is without a decision
    connection.execute(text(_NEXT_ORDINAL))
    for policy, rule in _POLICIES.items():
        connection.execute(text(f"CREATE POLICY {policy} {rule}"))
    for table in sorted({*raised} & {*WALLED}):
        connection.execute(text(raising(table)))


def raising(table: str) -> str:
    """Return the statement that has the policies of a table count for everybody, its owner included."""
    return f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY"
