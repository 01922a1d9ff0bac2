"""Vector stores expire; files come in batches; chunks have editions, and those are loose rather than
all chunks of a file.
"""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Boolean, Column, ForeignKey, Integer, PrimaryKeyConstraint

from regate_adapters.state.column_types import EXACT

revision = "editions"
down_revision = "loose_chunks"


def upgrade(op: Operations) -> None:
    """Take the database over. The chunks that are there were named after their tenant and file alone:
    that is their edition.
    """
    op.add_column("vector_stores", Column("description", EXACT))
    op.add_column("vector_stores", Column("expires_after_days", Integer))
    op.create_index(None, "vector_stores", ["expires_after_days"])
    op.add_column("attachments", Column("edition", EXACT, nullable=False, server_default=""))
    op.add_column("attachments", Column("attempts", Integer, nullable=False, server_default="0"))
    op.add_column("attachments", Column("claimed_until", BigInteger, nullable=False, server_default="0"))
    op.add_column("attachments", Column("batch_id", EXACT))
    op.create_index(None, "attachments", ["batch_id"])
    op.execute("UPDATE attachments SET edition = tenant || '/' || file_id")
    op.create_table(
        "file_batches",
        Column("id", EXACT, primary_key=True),
        Column("store_id", EXACT, ForeignKey("vector_stores.id", ondelete="CASCADE"), nullable=False),
        Column("tenant", EXACT, nullable=False),
        Column("owner", EXACT, nullable=False),
        Column("created_at", BigInteger, nullable=False),
    )
    op.create_index(None, "file_batches", ["store_id"])
    op.create_table(
        "loose_editions",
        Column("store_id", EXACT, nullable=False),
        Column("file_id", EXACT, nullable=False),
        Column("edition", EXACT, nullable=False),
        Column("due_at", BigInteger, nullable=False),
        Column("doomed", Boolean, nullable=False),
        PrimaryKeyConstraint("store_id", "file_id", "edition"),
    )
    op.create_index(None, "loose_editions", ["due_at"])
    op.execute(
        "INSERT INTO loose_editions (store_id, file_id, edition, due_at, doomed) SELECT store_id, "
        "file_id, '', due_at, FALSE FROM loose_chunks"
    )
    op.drop_table("loose_chunks")
    # What was half-written when the earlier program ended is removed; it is written again under another
    # edition.
    op.execute(
        "INSERT INTO loose_editions (store_id, file_id, edition, due_at, doomed)"
        " SELECT store_id, file_id, edition, 0, FALSE FROM attachments WHERE status = 'in_progress'"
    )
