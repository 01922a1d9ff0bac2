"""What was used, by whom, of which model, on which day."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, PrimaryKeyConstraint

from regate_adapters.state.column_types import EXACT

revision = "usage"
down_revision = "api_keys"


def upgrade(op: Operations) -> None:
    """Add the table."""
    op.create_table(
        "usage",
        Column("tenant", EXACT, nullable=False),
        Column("principal", EXACT, nullable=False),
        Column("model", EXACT, nullable=False),
        Column("day", BigInteger, nullable=False),
        Column("requests", BigInteger, nullable=False),
        Column("input_tokens", BigInteger, nullable=False),
        Column("output_tokens", BigInteger, nullable=False),
        Column("cost", BigInteger, nullable=False),
        PrimaryKeyConstraint("tenant", "principal", "model", "day"),
    )
    op.create_index(None, "usage", ["day"])
