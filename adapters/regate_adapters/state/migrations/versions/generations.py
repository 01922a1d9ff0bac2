"""Tables and columns are named as the field names such things."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Boolean, Column, PrimaryKeyConstraint

from regate_adapters.state.column_types import EXACT

revision = "generations"
down_revision = "uploads"


def upgrade(op: Operations) -> None:
    """Make tables of the new names with the rows of the old ones: SQLite could rename a table, but not
    its primary key.
    """
    op.create_table(
        "orphaned_blobs",
        Column("file_id", EXACT, primary_key=True),
        Column("tenant", EXACT),
        Column("owner", EXACT),
        Column("bytes", BigInteger, nullable=False),
        Column("due_at", BigInteger, nullable=False),
    )
    op.execute(
        "INSERT INTO orphaned_blobs (file_id, tenant, owner, bytes, due_at)"
        " SELECT file_id, tenant, owner, bytes, due_at FROM loose_blobs"
    )
    op.create_table(
        "orphaned_generations",
        Column("store_id", EXACT, nullable=False),
        Column("file_id", EXACT, nullable=False),
        Column("generation", EXACT, nullable=False),
        Column("due_at", BigInteger, nullable=False),
        Column("tombstoned", Boolean, nullable=False),
        PrimaryKeyConstraint("store_id", "file_id", "generation"),
    )
    op.execute(
        "INSERT INTO orphaned_generations (store_id, file_id, generation, due_at, tombstoned)"
        " SELECT store_id, file_id, edition, due_at, doomed FROM loose_editions"
    )
    op.drop_table("loose_blobs")
    op.drop_table("loose_editions")
    op.create_index(None, "orphaned_blobs", ["tenant", "owner"])
    op.create_index(None, "orphaned_blobs", ["due_at", "file_id"])
    op.create_index(None, "orphaned_generations", ["due_at"])
    op.execute("ALTER TABLE attachments RENAME COLUMN edition TO generation")
    op.execute("ALTER TABLE attachments RENAME COLUMN claimed_until TO leased_until")
