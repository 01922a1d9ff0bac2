"""The tables of what is kept of callers; they belong to `state/tables.py`."""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, BigInteger, Column, Index, PrimaryKeyConstraint, Table

from regate_adapters.state.column_types import EXACT, metadata

api_keys: Final = Table(
    "api_keys",
    metadata,
    Column("id", EXACT, primary_key=True),
    *(Column(name, EXACT, nullable=False) for name in ("digest", "tenant", "name")),
    Column("claims", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    *(Column(name, BigInteger) for name in ("expires_at", "revoked_at")),
    Index(None, "tenant"),
)
"""API keys. What is kept of a key is its digest, and what it stands for."""

usage: Final = Table(
    "usage",
    metadata,
    Column("tenant", EXACT, nullable=False),
    Column("principal", EXACT, nullable=False),
    Column("model", EXACT, nullable=False),
    Column("day", BigInteger, nullable=False),
    *(Column(of, BigInteger, nullable=False) for of in ("requests", "input_tokens", "output_tokens", "cost")),
    PrimaryKeyConstraint("tenant", "principal", "model", "day"),
    Index(None, "day"),
)
