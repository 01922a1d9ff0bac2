"""Prompts and their versions."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import JSON, BigInteger, Column, ForeignKey, Integer, PrimaryKeyConstraint

from regate_adapters.state.column_types import EXACT, QUERIED

revision = "prompts"
down_revision = "conversations"


def upgrade(op: Operations) -> None:
    """Add the tables."""
    op.create_table(
        "prompts",
        Column("id", EXACT, primary_key=True),
        Column("tenant", EXACT, nullable=False),
        Column("owner", EXACT, nullable=False),
        Column("name", EXACT, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("metadata", JSON, nullable=False),
        Column("default_version", Integer, nullable=False),
        Column("latest_version", Integer, nullable=False),
        Column("stamp", QUERIED, nullable=False),
    )
    op.create_index(None, "prompts", ["tenant", "created_at", "id"])
    op.create_table(
        "prompt_versions",
        Column("prompt_id", EXACT, ForeignKey("prompts.id", ondelete="CASCADE"), nullable=False),
        Column("version", Integer, nullable=False),
        Column("created_at", BigInteger, nullable=False),
        Column("created_by", EXACT, nullable=False),
        Column("template", JSON, nullable=False),
        Column("variables", JSON, nullable=False),
        PrimaryKeyConstraint("prompt_id", "version"),
    )
