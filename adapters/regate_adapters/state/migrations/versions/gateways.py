"""Gateways that share a database: which of them are present, and whose is what is in flight."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Boolean, Column, false

from regate_adapters.state.column_types import EXACT

revision = "gateways"
down_revision = "editions"


def upgrade(op: Operations) -> None:
    """Add the table and the columns. What an earlier program left in flight is nobody's, and is ended
    at this start.
    """
    op.create_table(
        "gateways",
        Column("id", EXACT, primary_key=True),
        Column("present_until", BigInteger, nullable=False),
    )
    op.add_column("responses", Column("gateway", EXACT))
    op.add_column("responses", Column("cancel_requested", Boolean, nullable=False, server_default=false()))
    op.add_column("conversations", Column("gateway", EXACT))
    op.create_index(None, "conversations", ["locked_by"])
    op.add_column("idempotency_keys", Column("gateway", EXACT))
