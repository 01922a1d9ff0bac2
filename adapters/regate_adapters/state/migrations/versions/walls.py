"""Which gateways say in every transaction whose rows that is about. Until all do, PostgreSQL must not keep
tenants apart by itself; how it does then is in `state/walls/`, and is brought up to date after every upgrade.
"""

from __future__ import annotations

from alembic.operations import Operations
from sqlalchemy import Boolean, Column, false

revision = "walls"
down_revision = "permits"


def upgrade(op: Operations) -> None:
    """Add the column. Those that are present are of earlier versions."""
    op.add_column("gateways", Column("scoped", Boolean, nullable=False, server_default=false()))
