"""API keys that the gateway makes itself."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import JSON, BigInteger, Column

from regate_adapters.state.column_types import EXACT

revision = "api_keys"
down_revision = "walls"


def upgrade(op: Operations) -> None:
    """Add the table."""
    op.create_table(
        "api_keys",
        Column("id", EXACT, primary_key=True),
        Column("digest", EXACT, nullable=False),
        Column("tenant", EXACT, nullable=False),
        Column("name", EXACT, nullable=False),
        Column("claims", JSON, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger),
        Column("revoked_at", BigInteger),
    )
    op.create_index(None, "api_keys", ["tenant"])
