"""The tables of the state store. What a row means is said in `regate_orchestrator.rows`; how rows become those values, in `encoding.py`.

Policy columns (`tenant`, `owner`) stand beside the stamp they were taken from, so that the tenant floor and the list order are served by
an index. They are write-once: no UPDATE in this package names them. Identifiers and tenants compare by code point, never by a locale.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSONB

VERSION: Final = 1
"""Of the schema. A database of another version is refused at start, never altered in passing."""

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_exact = String().with_variant(String(collation="C"), "postgresql")
_queried = JSON().with_variant(JSONB(), "postgresql")

schema_version: Final = Table("schema_version", metadata, Column("version", Integer, primary_key=True, autoincrement=False))

files: Final = Table(
    "files",
    metadata,
    Column("id", _exact, primary_key=True),
    Column("tenant", _exact, nullable=False),
    Column("owner", _exact, nullable=False),
    Column("filename", _exact, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("purpose", _exact, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("stamp", _queried, nullable=False),
    UniqueConstraint("id", "tenant"),
    Index(None, "tenant", "created_at", "id"),
)

vector_stores: Final = Table(
    "vector_stores",
    metadata,
    Column("id", _exact, primary_key=True),
    Column("tenant", _exact, nullable=False),
    Column("owner", _exact, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("name", _exact, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("metadata", JSON, nullable=False, key="client_metadata"),
    Column("embedder", _exact, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("stamp", _queried, nullable=False),
    Index(None, "tenant", "created_at", "id"),
    Index(None, "shared", "created_at", "id"),
)

store_activity: Final = Table(
    "store_activity",
    metadata,
    Column("store_id", _exact, ForeignKey("vector_stores.id", ondelete="CASCADE"), nullable=False),
    Column("tenant", _exact, nullable=False),
    Column("last_active_at", BigInteger, nullable=False),
    PrimaryKeyConstraint("store_id", "tenant"),
)

attachments: Final = Table(
    "attachments",
    metadata,
    Column("store_id", _exact, ForeignKey("vector_stores.id", ondelete="CASCADE"), nullable=False),
    Column("file_id", _exact, nullable=False),
    Column("tenant", _exact, nullable=False),
    Column("owner", _exact, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("status", _exact, nullable=False),
    Column("stamp", _queried, nullable=False),
    Column("requested", JSON, nullable=False),
    Column("attributes", JSON, nullable=False),
    Column("max_chunk_tokens", Integer, nullable=False),
    Column("overlap_tokens", Integer, nullable=False),
    Column("policy_revision", Text, nullable=False),
    Column("principal", JSON, nullable=False),
    Column("usage_bytes", BigInteger, nullable=False),
    Column("chunks", Integer, nullable=False),
    Column("error_code", Text),
    Column("error_message", Text),
    PrimaryKeyConstraint("store_id", "file_id"),
    # INVARIANT: the tenant is part of the key, so an attachment can never be of another tenant than its file.
    ForeignKeyConstraint(["file_id", "tenant"], ["files.id", "files.tenant"], ondelete="CASCADE"),
    Index(None, "store_id", "tenant", "created_at", "file_id"),
    Index(None, "file_id", "tenant"),
    Index(None, "status"),
)

responses: Final = Table(
    "responses",
    metadata,
    Column("id", _exact, primary_key=True),
    Column("tenant", _exact, nullable=False),
    Column("owner", _exact, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("status", _exact, nullable=False),
    Column("previous_response_id", _exact),
    Column("model", Text, nullable=False),
    Column("policy_revision", _exact, nullable=False),
    Column("body", JSON, nullable=False),
    Index(None, "tenant", "created_at", "id"),
)

response_items: Final = Table(
    "response_items",
    metadata,
    Column("response_id", _exact, ForeignKey("responses.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("id", _exact, nullable=False),
    Column("direction", _exact, nullable=False),
    Column("body", JSON, nullable=False),
    Column("lineage", JSON, nullable=False),
    Column("results", JSON, nullable=False),
    PrimaryKeyConstraint("response_id", "position"),
)
