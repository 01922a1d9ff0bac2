"""Uploads that come in parts."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column, ForeignKey

from regate_adapters.state.column_types import EXACT

revision = "uploads"
down_revision = "stored_bytes"


def upgrade(op: Operations) -> None:
    """Add the tables."""
    op.create_table(
        "uploads",
        Column("id", EXACT, primary_key=True),
        Column("tenant", EXACT, nullable=False),
        Column("owner", EXACT, nullable=False),
        Column("filename", EXACT, nullable=False),
        Column("purpose", EXACT, nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("expires_at", BigInteger, nullable=False),
        Column("expires_in_s", BigInteger),
        Column("status", EXACT, nullable=False),
    )
    op.create_index(None, "uploads", ["tenant", "owner"])
    op.create_index(None, "uploads", ["expires_at"])
    op.create_table(
        "upload_parts",
        Column("id", EXACT, primary_key=True),
        Column("upload_id", EXACT, ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
        Column("blob_id", EXACT, nullable=False),
        Column("bytes", BigInteger, nullable=False),
        Column("created_at", BigInteger, nullable=False),
    )
    op.create_index(None, "upload_parts", ["upload_id"])
    op.create_index(None, "upload_parts", ["blob_id"])
