"""The column types that several tables share. Migrations use them too, so what one of them means must
never change: a new meaning is a new type.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, String
from sqlalchemy.dialects.postgresql import JSONB

EXACT: Final = String().with_variant(String(collation="C"), "postgresql")
"""A text that is compared by code point, never by a locale: identifiers, tenants, states."""

QUERIED: Final = JSON().with_variant(JSONB(), "postgresql")
"""A JSON document that filters look into."""
