"""A person's own responses are found in the order in which they are listed, however many the tenant has."""

from __future__ import annotations

from alembic.operations import Operations

revision = "own_responses"
down_revision = "usage"


def upgrade(op: Operations) -> None:
    """Add the index."""
    op.create_index(None, "responses", ["tenant", "owner", "ordinal"])
