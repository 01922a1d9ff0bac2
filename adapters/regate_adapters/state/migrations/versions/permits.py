"""What callers are asked to approve, and the tools that they used."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint

from regate_adapters.state.column_types import EXACT

revision = "permits"
down_revision = "generations"


def upgrade(op: Operations) -> None:
    """Add the tables."""
    op.create_table(
        "approvals",
        Column("id", EXACT, primary_key=True),
        Column("tenant", EXACT, nullable=False),
        Column("owner", EXACT, nullable=False),
        Column("tool", EXACT, nullable=False),
        Column("digest", EXACT, nullable=False),
        Column("response_id", EXACT, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
        Column("used_at", BigInteger),
    )
    op.create_index(None, "approvals", ["expires_at"])
    op.create_table(
        "tool_uses",
        Column("tenant", EXACT, nullable=False),
        Column("owner", EXACT, nullable=False),
        Column("call", EXACT, nullable=False),
        Column("tool", EXACT, nullable=False),
        Column("at", BigInteger, nullable=False),
        PrimaryKeyConstraint("tenant", "owner", "call"),
    )
    op.create_index(None, "tool_uses", ["at"])
