"""What sweeps look for is found by an index, and in the order in which they take it."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column

revision = "sweeps"
down_revision = "lineages"


def upgrade(op: Operations) -> None:
    """Add the column and the indexes. Stores that expired before are emptied once more, which does
    nothing where nothing is left.
    """
    op.add_column("store_activity", Column("empties_at", BigInteger))
    op.execute(
        "UPDATE store_activity SET empties_at = last_active_at + 86400 * "
        "(SELECT expires_after_days FROM vector_stores WHERE vector_stores.id = store_activity.store_id)"
    )
    op.create_index(None, "store_activity", ["empties_at", "store_id", "tenant"])
    op.drop_index("ix_vector_stores_expires_after_days")
    op.create_index(None, "vector_stores", ["engine"])
    op.drop_index("ix_files_expires_at")
    op.create_index(None, "files", ["expires_at", "id"])
    op.drop_index("ix_loose_blobs_due_at")
    op.create_index(None, "loose_blobs", ["due_at", "file_id"])
    op.drop_index("ix_attachments_status")
    op.create_index(None, "attachments", ["status", "tenant", "created_at", "store_id", "file_id"])
    op.create_index(None, "idempotency_keys", ["created", "created_at"])
