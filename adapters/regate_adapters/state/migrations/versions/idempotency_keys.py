"""The keys by which a create that is sent again is told from a new one."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint

from regate_adapters.state.column_types import EXACT

revision = "idempotency_keys"
down_revision = "prompts"


def upgrade(op: Operations) -> None:
    """Add the table."""
    op.create_table(
        "idempotency_keys",
        Column("tenant", EXACT, nullable=False),
        Column("owner", EXACT, nullable=False),
        Column("key", EXACT, nullable=False),
        Column("fingerprint", EXACT, nullable=False),
        Column("claim", EXACT, nullable=False),
        Column("created", EXACT),
        Column("created_at", BigInteger, nullable=False),
        PrimaryKeyConstraint("tenant", "owner", "key"),
    )
    op.create_index(None, "idempotency_keys", ["created_at"])
