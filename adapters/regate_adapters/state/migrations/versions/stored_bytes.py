"""How many bytes of responses, conversations and versions of prompts each person has: kept with each,
so that it can be added up at once.
"""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import BigInteger, Column

revision = "stored_bytes"
down_revision = "ordinals"

_OF_ITEMS = (
    "COALESCE((SELECT SUM(LENGTH(CAST(i.body AS TEXT)) + LENGTH(CAST(i.results AS TEXT))) FROM {items} i"
    " WHERE i.{held_by} = {holders}.id), 0)"
)


def upgrade(op: Operations) -> None:
    """Add the columns. What is there already is counted by characters, which is near enough."""
    for table in ("responses", "conversations", "prompt_versions"):
        op.add_column(table, Column("bytes", BigInteger, nullable=False, server_default="0"))
    of_responses = _OF_ITEMS.format(items="response_items", held_by="response_id", holders="responses")
    of_conversations = _OF_ITEMS.format(
        items="conversation_items", held_by="conversation_id", holders="conversations"
    )
    # Names of ours
    op.execute(f"UPDATE responses SET bytes = LENGTH(CAST(body AS TEXT)) + {of_responses}")
    op.execute(f"UPDATE conversations SET bytes = {of_conversations}")
    op.execute("UPDATE prompt_versions SET bytes = LENGTH(CAST(template AS TEXT))")
    op.create_index(None, "responses", ["owner", "tenant", "bytes"])
    op.create_index(None, "conversations", ["owner", "tenant", "bytes"])
    op.create_index(None, "prompt_versions", ["created_by", "bytes"])
