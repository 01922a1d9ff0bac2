"""Conversations with their items and their lock; what responses have to do with them; the log of a
response's events.
"""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Integer,
    PrimaryKeyConstraint,
    UniqueConstraint,
    false,
)

from regate_adapters.state.column_types import EXACT

revision = "conversations"
down_revision = "item_ids"


def upgrade(op: Operations) -> None:
    """Add the tables and columns."""
    op.add_column("responses", Column("conversation_id", EXACT))
    op.add_column("responses", Column("background", Boolean, nullable=False, server_default=false()))
    op.create_index(None, "responses", ["status"])
    op.create_table(
        "response_events",
        Column("response_id", EXACT, ForeignKey("responses.id", ondelete="CASCADE"), nullable=False),
        Column("sequence", Integer, nullable=False),
        Column("event", JSON, nullable=False),
        PrimaryKeyConstraint("response_id", "sequence"),
    )
    op.create_table(
        "conversations",
        Column("id", EXACT, primary_key=True),
        Column("tenant", EXACT, nullable=False),
        Column("owner", EXACT, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("metadata", JSON, nullable=False),
        Column("policy_revision", EXACT, nullable=False),
        Column("locked_by", EXACT),
    )
    op.create_table(
        "conversation_items",
        Column("conversation_id", EXACT, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
        Column("position", Integer, nullable=False),
        Column("id", EXACT, nullable=False),
        Column("direction", EXACT, nullable=False),
        Column("body", JSON, nullable=False),
        Column("lineage", JSON, nullable=False),
        Column("results", JSON, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("response_id", EXACT),
        PrimaryKeyConstraint("conversation_id", "position"),
        UniqueConstraint("conversation_id", "id"),
    )
    op.create_index(None, "conversation_items", ["id"])
