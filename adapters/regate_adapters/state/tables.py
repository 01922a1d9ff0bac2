"""The tables of the state store. What a row means is said in `regate_orchestrator.rows`; how rows become
those values, in `encoding.py`.

Policy columns (`tenant`, `owner`) stand beside the stamp they were taken from, so that the tenant floor and
the list order are served by an index. They are write-once: no UPDATE in this package names them, nor
`ordinal`, which says in which order rows of a table became visible (`ordinals.py`). Whoever changes a table
adds a migration (`migrations/`).
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
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
    false,
)

from regate_adapters.state.callers.tables import api_keys, usage
from regate_adapters.state.column_types import EXACT, QUERIED, metadata

__all__ = ["api_keys", "metadata", "usage"]  # and all that is here

REVISION: Final = "made_chunks"
"""The newest migration (`migrations/`), which made the schema what it is here. A database of an older
one is upgraded when it is opened.
"""

schema_revision: Final = Table("schema_revision", metadata, Column("revision", EXACT, primary_key=True))

gateways: Final = Table(
    "gateways",
    metadata,
    Column("id", EXACT, primary_key=True),
    Column("present_until", BigInteger, nullable=False),
    # Whether it says in every transaction whose rows that is about, which earlier versions do not.
    Column("scoped", Boolean, nullable=False, server_default=false()),
)
"""The gateways that are present. What is in flight names one of them in its column `gateway`; what
names none of them is interrupted.
"""

files: Final = Table(
    "files",
    metadata,
    Column("id", EXACT, primary_key=True),
    Column("tenant", EXACT, nullable=False),
    Column("owner", EXACT, nullable=False),
    Column("filename", EXACT, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("purpose", EXACT, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("stamp", QUERIED, nullable=False),
    Column("expires_at", BigInteger),
    Column("ordinal", BigInteger),
    UniqueConstraint("id", "tenant"),
    Index(None, "tenant", "ordinal"),
    Index(None, "tenant", "owner"),
    Index(None, "expires_at", "id"),
    Index(None, "ordinal"),
)

orphaned_blobs: Final = Table(
    "orphaned_blobs",
    metadata,
    Column("file_id", EXACT, primary_key=True),
    # Whose upload it is; without an owner, it counts for nobody: the upload has ended, or the file is gone.
    Column("tenant", EXACT),
    Column("owner", EXACT),
    Column("bytes", BigInteger, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Index(None, "tenant", "owner"),
    Index(None, "due_at", "file_id"),
)
"""Bytes that may be in the blob store without a file: written down before an upload and with a
deletion, so that none is ever forgotten.
"""

uploads: Final = Table(
    "uploads",
    metadata,
    Column("id", EXACT, primary_key=True),
    Column("tenant", EXACT, nullable=False),
    Column("owner", EXACT, nullable=False),
    Column("filename", EXACT, nullable=False),
    Column("purpose", EXACT, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("expires_in_s", BigInteger),
    Column("status", EXACT, nullable=False),
    Index(None, "tenant", "owner"),
    Index(None, "expires_at"),
)

upload_parts: Final = Table(
    "upload_parts",
    metadata,
    Column("id", EXACT, primary_key=True),
    Column("upload_id", EXACT, ForeignKey("uploads.id", ondelete="CASCADE"), nullable=False),
    # Under which the bytes are stored, and orphaned: no foreign key, since they are removed before the part
    # is forgotten.
    Column("blob_id", EXACT, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "upload_id"),
    Index(None, "blob_id"),
)

vector_stores: Final = Table(
    "vector_stores",
    metadata,
    Column("id", EXACT, primary_key=True),
    Column("tenant", EXACT, nullable=False),
    Column("owner", EXACT, nullable=False),
    Column("shared", Boolean, nullable=False),
    Column("name", EXACT, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("metadata", JSON, nullable=False, key="client_metadata"),
    Column("embedder", EXACT, nullable=False),
    Column("dimensions", Integer, nullable=False),
    Column("stamp", QUERIED, nullable=False),
    Column("engine", EXACT),
    Column("description", EXACT),
    Column("expires_after_days", Integer),
    Column("ordinal", BigInteger),
    Index(None, "tenant", "ordinal"),
    Index(None, "shared", "ordinal"),
    Index(None, "engine"),
    Index(None, "ordinal"),
)

store_activity: Final = Table(
    "store_activity",
    metadata,
    Column("store_id", EXACT, ForeignKey("vector_stores.id", ondelete="CASCADE"), nullable=False),
    Column("tenant", EXACT, nullable=False),
    Column("last_active_at", BigInteger, nullable=False),
    # When what the tenant has in the store is let go of: follows from the other column and the store's own,
    # and is NULL once that was done.
    Column("empties_at", BigInteger),
    PrimaryKeyConstraint("store_id", "tenant"),
    Index(None, "empties_at", "store_id", "tenant"),
)

chunk_contexts: Final = Table(
    "chunk_contexts",
    metadata,
    Column("file_id", EXACT, nullable=False),
    Column("tenant", EXACT, nullable=False),
    Column("digest", EXACT, nullable=False),
    Column("text", EXACT, nullable=False),
    PrimaryKeyConstraint("file_id", "digest"),
    ForeignKeyConstraint(["file_id", "tenant"], ["files.id", "files.tenant"], ondelete="CASCADE"),
)

attachments: Final = Table(
    "attachments",
    metadata,
    Column("store_id", EXACT, ForeignKey("vector_stores.id", ondelete="CASCADE"), nullable=False),
    Column("file_id", EXACT, nullable=False),
    Column("tenant", EXACT, nullable=False),
    Column("owner", EXACT, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("status", EXACT, nullable=False),
    Column("stamp", QUERIED, nullable=False),
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
    Column("generation", EXACT, nullable=False, server_default=""),
    Column("attempts", Integer, nullable=False, server_default="0"),
    Column("leased_until", BigInteger, nullable=False, server_default="0"),
    Column("batch_id", EXACT),
    Column("ordinal", BigInteger),
    Column("section_kind", EXACT),
    Column("section_tokens", Integer),
    Column("made", JSON(none_as_null=True)),
    PrimaryKeyConstraint("store_id", "file_id"),
    # INVARIANT: the tenant is part of the key, so an attachment can never be of another tenant than its file.
    ForeignKeyConstraint(["file_id", "tenant"], ["files.id", "files.tenant"], ondelete="CASCADE"),
    Index(None, "store_id", "tenant", "ordinal"),
    Index(None, "file_id", "tenant"),
    Index(None, "status", "tenant", "created_at", "store_id", "file_id"),
    Index(None, "batch_id"),
    Index(None, "ordinal"),
)

file_batches: Final = Table(
    "file_batches",
    metadata,
    Column("id", EXACT, primary_key=True),
    Column("store_id", EXACT, ForeignKey("vector_stores.id", ondelete="CASCADE"), nullable=False),
    Column("tenant", EXACT, nullable=False),
    Column("owner", EXACT, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Index(None, "store_id"),
)

orphaned_generations: Final = Table(
    "orphaned_generations",
    metadata,
    # No foreign keys: what is to be removed from the vector engine outlives the rows that it came from.
    Column("store_id", EXACT, nullable=False),
    Column("file_id", EXACT, nullable=False),
    Column("generation", EXACT, nullable=False),
    Column("due_at", BigInteger, nullable=False),
    Column("tombstoned", Boolean, nullable=False),
    PrimaryKeyConstraint("store_id", "file_id", "generation"),
    Index(None, "due_at"),
)

responses: Final = Table(
    "responses",
    metadata,
    Column("id", EXACT, primary_key=True),
    Column("tenant", EXACT, nullable=False),
    Column("owner", EXACT, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("status", EXACT, nullable=False),
    Column("previous_response_id", EXACT),
    Column("model", Text, nullable=False),
    Column("policy_revision", EXACT, nullable=False),
    Column("body", JSON, nullable=False),
    Column("conversation_id", EXACT),
    Column("background", Boolean, nullable=False, server_default=false()),
    Column("gateway", EXACT),
    Column("cancel_requested", Boolean, nullable=False, server_default=false()),
    Column("thread", EXACT, nullable=False, server_default=""),
    Column("ordinal", BigInteger),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Index(None, "tenant", "ordinal"),
    Index(None, "tenant", "owner", "ordinal"),
    Index(None, "status"),
    Index(None, "thread"),
    Index(None, "ordinal"),
    Index(None, "owner", "tenant", "bytes"),
)

lineages: Final = Table(
    "lineages",
    metadata,
    Column("thread", EXACT, nullable=False),
    Column("id", EXACT, nullable=False),
    Column("tenant", EXACT, nullable=False),
    Column("grown_from", EXACT, nullable=False),
    Column("added", JSON, nullable=False),
    PrimaryKeyConstraint("thread", "id"),
)
"""What items rest on (`state/responses/lineages.py`). Never changed; each holds what is new since the
one it grew from.
"""

response_items: Final = Table(
    "response_items",
    metadata,
    Column("response_id", EXACT, ForeignKey("responses.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("id", EXACT, nullable=False),
    Column("direction", EXACT, nullable=False),
    Column("body", JSON, nullable=False),
    Column("results", JSON, nullable=False),
    Column("lineage_id", EXACT, nullable=False, server_default=""),
    PrimaryKeyConstraint("response_id", "position"),
    Index(None, "id"),
)

response_events: Final = Table(
    "response_events",
    metadata,
    Column("response_id", EXACT, ForeignKey("responses.id", ondelete="CASCADE"), nullable=False),
    Column("sequence", Integer, nullable=False),
    Column("event", JSON, nullable=False),
    Column("sources", JSON),
    PrimaryKeyConstraint("response_id", "sequence"),
)

conversations: Final = Table(
    "conversations",
    metadata,
    Column("id", EXACT, primary_key=True),
    Column("tenant", EXACT, nullable=False),
    Column("owner", EXACT, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("metadata", JSON, nullable=False, key="client_metadata"),
    Column("policy_revision", EXACT, nullable=False),
    Column("locked_by", EXACT),
    Column("gateway", EXACT),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    Index(None, "locked_by"),
    Index(None, "owner", "tenant", "bytes"),
)

conversation_items: Final = Table(
    "conversation_items",
    metadata,
    Column("conversation_id", EXACT, ForeignKey("conversations.id", ondelete="CASCADE"), nullable=False),
    Column("position", Integer, nullable=False),
    Column("id", EXACT, nullable=False),
    Column("direction", EXACT, nullable=False),
    Column("body", JSON, nullable=False),
    Column("results", JSON, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("response_id", EXACT),
    Column("lineage_id", EXACT, nullable=False, server_default=""),
    PrimaryKeyConstraint("conversation_id", "position"),
    UniqueConstraint("conversation_id", "id"),
    Index(None, "id"),
)

prompts: Final = Table(
    "prompts",
    metadata,
    Column("id", EXACT, primary_key=True),
    Column("tenant", EXACT, nullable=False),
    Column("owner", EXACT, nullable=False),
    Column("name", EXACT, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("metadata", JSON, nullable=False, key="client_metadata"),
    Column("default_version", Integer, nullable=False),
    Column("latest_version", Integer, nullable=False),
    Column("stamp", QUERIED, nullable=False),
    Column("ordinal", BigInteger),
    Index(None, "tenant", "ordinal"),
    Index(None, "ordinal"),
)

prompt_versions: Final = Table(
    "prompt_versions",
    metadata,
    Column("prompt_id", EXACT, ForeignKey("prompts.id", ondelete="CASCADE"), nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("created_by", EXACT, nullable=False),
    Column("template", JSON, nullable=False),
    Column("variables", JSON, nullable=False),
    Column("bytes", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("prompt_id", "version"),
    Index(None, "created_by", "bytes"),
)

idempotency_keys: Final = Table(
    "idempotency_keys",
    metadata,
    Column("tenant", EXACT, nullable=False),
    Column("owner", EXACT, nullable=False),
    Column("key", EXACT, nullable=False),
    Column("fingerprint", EXACT, nullable=False),
    Column("claim", EXACT, nullable=False),
    Column("created", EXACT),
    Column("created_at", BigInteger, nullable=False),
    Column("gateway", EXACT),
    PrimaryKeyConstraint("tenant", "owner", "key"),
    Index(None, "created_at"),
    Index(None, "created", "created_at"),
)

approvals: Final = Table(
    "approvals",
    metadata,
    Column("id", EXACT, primary_key=True),
    Column("tenant", EXACT, nullable=False),
    Column("owner", EXACT, nullable=False),
    Column("tool", EXACT, nullable=False),
    Column("digest", EXACT, nullable=False),
    Column("response_id", EXACT, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    Index(None, "expires_at"),
)

tool_uses: Final = Table(
    "tool_uses",
    metadata,
    Column("tenant", EXACT, nullable=False),
    Column("owner", EXACT, nullable=False),
    Column("call", EXACT, nullable=False),
    Column("tool", EXACT, nullable=False),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("tenant", "owner", "call"),
    Index(None, "at"),
)
