"""Which chunks may be in a vector engine without an attachment."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint

from regate_adapters.state.column_types import EXACT

revision = "loose_chunks"
down_revision = "file_expiry"


def upgrade(op: Operations) -> None:
    """Add the table. Of what an earlier program left behind nothing is known."""
    op.create_table(
        "loose_chunks",
        Column("store_id", EXACT, nullable=False),
        Column("file_id", EXACT, nullable=False),
        Column("due_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("store_id", "file_id"),
    )
    op.create_index(None, "loose_chunks", ["due_at"])
