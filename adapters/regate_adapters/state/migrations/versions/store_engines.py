"""Which vector engine a store is in. Of stores made before, the first start says so
(`SqlStateStore.place_stores`): settings are not known here.
"""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import Column

from regate_adapters.state.column_types import EXACT

revision = "store_engines"
down_revision = "idempotency_keys"


def upgrade(op: Operations) -> None:
    """Add the column."""
    op.add_column("vector_stores", Column("engine", EXACT))
