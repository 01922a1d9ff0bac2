"""Files that are split into their sections or pages."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import Column, Integer

from regate_adapters.state.column_types import EXACT

revision = "sections"
down_revision = "own_responses"


def upgrade(op: Operations) -> None:
    """Add the columns. What is attached was split by size alone."""
    op.add_column("attachments", Column("section_kind", EXACT))
    op.add_column("attachments", Column("section_tokens", Integer))
