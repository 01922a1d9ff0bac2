"""What a model wrote of the surroundings of chunks."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import Column, ForeignKeyConstraint, PrimaryKeyConstraint

from regate_adapters.state.column_types import EXACT

revision = "contexts"
down_revision = "sections"


def upgrade(op: Operations) -> None:
    """Add the table."""
    op.create_table(
        "chunk_contexts",
        Column("file_id", EXACT, nullable=False),
        Column("tenant", EXACT, nullable=False),
        Column("digest", EXACT, nullable=False),
        Column("text", EXACT, nullable=False),
        PrimaryKeyConstraint("file_id", "digest"),
        ForeignKeyConstraint(["file_id", "tenant"], ["files.id", "files.tenant"], ondelete="CASCADE"),
    )
