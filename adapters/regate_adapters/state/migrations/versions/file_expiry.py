"""When a file expires, and which bytes may be in the blob store without a file."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column

from regate_adapters.state.column_types import EXACT

revision = "file_expiry"
down_revision = "store_engines"


def upgrade(op: Operations) -> None:
    """Add the column and the table. What was there does not expire."""
    op.add_column("files", Column("expires_at", BigInteger))
    op.create_index(None, "files", ["expires_at"])
    op.create_index(None, "files", ["tenant", "owner"])
    op.create_table(
        "loose_blobs",
        Column("file_id", EXACT, primary_key=True),
        Column("tenant", EXACT),
        Column("owner", EXACT),
        Column("bytes", BigInteger, nullable=False),
        Column("due_at", BigInteger, nullable=False),
    )
    op.create_index(None, "loose_blobs", ["tenant", "owner"])
    op.create_index(None, "loose_blobs", ["due_at"])
