"""The column types that several tables share, and what holds the tables together. Migrations use them too, so
what one of them means must never change: a new meaning is a new type.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, MetaData, String
from sqlalchemy.dialects.postgresql import JSONB

EXACT: Final = String().with_variant(String(collation="C"), "postgresql")
"""A text that is compared by code point, never by a locale: identifiers, tenants, states."""

QUERIED: Final = JSON().with_variant(JSONB(), "postgresql")
"""A JSON document that filters look into."""

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
