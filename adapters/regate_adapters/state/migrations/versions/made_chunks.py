"""Files that are attached again and not read again."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import JSON, Column

revision = "made_chunks"
down_revision = "contexts"


def upgrade(op: Operations) -> None:
    """Add the column. How the present chunks were made is not known: they are read again."""
    op.add_column("attachments", Column("made", JSON(none_as_null=True)))
