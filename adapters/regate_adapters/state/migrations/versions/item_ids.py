"""The schema's revision has a table of its own, and the items of responses are found by their id."""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import Column

from regate_adapters.state.column_types import EXACT

revision = "item_ids"
down_revision = "version_1"


def upgrade(op: Operations) -> None:
    """Take the database over from its first version."""
    op.create_table("schema_revision", Column("revision", EXACT, primary_key=True))
    op.execute("INSERT INTO schema_revision (revision) VALUES ('version_1')")
    op.drop_table("schema_version")
    op.create_index(None, "response_items", ["id"])
