"""The tables as the program of schema version 1 made them, word for word, and a row in each of them."""

from __future__ import annotations

import json
import re
from typing import Final

_TABLES: Final = """
CREATE TABLE files (
    id {exact} NOT NULL, tenant {exact} NOT NULL, owner {exact} NOT NULL, filename {exact} NOT NULL, bytes BIGINT NOT NULL,
    purpose {exact} NOT NULL, created_at BIGINT NOT NULL, stamp {queried} NOT NULL,
    CONSTRAINT pk_files PRIMARY KEY (id), CONSTRAINT uq_files_id_tenant UNIQUE (id, tenant)
);
CREATE INDEX ix_files_tenant_created_at_id ON files (tenant, created_at, id);
CREATE TABLE responses (
    id {exact} NOT NULL, tenant {exact} NOT NULL, owner {exact} NOT NULL, created_at BIGINT NOT NULL, status {exact} NOT NULL,
    previous_response_id {exact}, model TEXT NOT NULL, policy_revision {exact} NOT NULL, body JSON NOT NULL,
    CONSTRAINT pk_responses PRIMARY KEY (id)
);
CREATE INDEX ix_responses_tenant_created_at_id ON responses (tenant, created_at, id);
CREATE TABLE schema_version (version INTEGER NOT NULL, CONSTRAINT pk_schema_version PRIMARY KEY (version));
CREATE TABLE vector_stores (
    id {exact} NOT NULL, tenant {exact} NOT NULL, owner {exact} NOT NULL, shared BOOLEAN NOT NULL, name {exact} NOT NULL,
    created_at BIGINT NOT NULL, metadata JSON NOT NULL, embedder {exact} NOT NULL, dimensions INTEGER NOT NULL, stamp {queried} NOT NULL,
    CONSTRAINT pk_vector_stores PRIMARY KEY (id)
);
CREATE INDEX ix_vector_stores_shared_created_at_id ON vector_stores (shared, created_at, id);
CREATE INDEX ix_vector_stores_tenant_created_at_id ON vector_stores (tenant, created_at, id);
CREATE TABLE attachments (
    store_id {exact} NOT NULL, file_id {exact} NOT NULL, tenant {exact} NOT NULL, owner {exact} NOT NULL, created_at BIGINT NOT NULL,
    status {exact} NOT NULL, stamp {queried} NOT NULL, requested JSON NOT NULL, attributes JSON NOT NULL,
    max_chunk_tokens INTEGER NOT NULL, overlap_tokens INTEGER NOT NULL, policy_revision TEXT NOT NULL, principal JSON NOT NULL,
    usage_bytes BIGINT NOT NULL, chunks INTEGER NOT NULL, error_code TEXT, error_message TEXT,
    CONSTRAINT pk_attachments PRIMARY KEY (store_id, file_id),
    FOREIGN KEY(file_id, tenant) REFERENCES files (id, tenant) ON DELETE CASCADE,
    FOREIGN KEY(store_id) REFERENCES vector_stores (id) ON DELETE CASCADE
);
CREATE INDEX ix_attachments_file_id_tenant ON attachments (file_id, tenant);
CREATE INDEX ix_attachments_status ON attachments (status);
CREATE INDEX ix_attachments_store_id_tenant_created_at_file_id ON attachments (store_id, tenant, created_at, file_id);
CREATE TABLE response_items (
    response_id {exact} NOT NULL, position INTEGER NOT NULL, id {exact} NOT NULL, direction {exact} NOT NULL, body JSON NOT NULL,
    lineage JSON NOT NULL, results JSON NOT NULL,
    CONSTRAINT pk_response_items PRIMARY KEY (response_id, position),
    FOREIGN KEY(response_id) REFERENCES responses (id) ON DELETE CASCADE
);
CREATE TABLE store_activity (
    store_id {exact} NOT NULL, tenant {exact} NOT NULL, last_active_at BIGINT NOT NULL,
    CONSTRAINT pk_store_activity PRIMARY KEY (store_id, tenant),
    FOREIGN KEY(store_id) REFERENCES vector_stores (id) ON DELETE CASCADE
);
"""

_STAMP: Final = json.dumps(
    {"tenant": "acme", "owner": "ann", "visibility": "tenant", "teams": ["sales"], "level": 0}
)
_ITEM: Final = json.dumps({"type": "message", "text": "x"})
_LINEAGE: Final = json.dumps([["vs_1", "file-1", "acme/file-1/000000", json.loads(_STAMP)]])
_RESULTS: Final = json.dumps([{"chunk_id": "acme/file-1/000000", "text": "found", "score": 0.25}])
_BODY: Final = json.dumps(
    {"id": "resp_1", "object": "response", "error": None, "temperature": 1.0, "text": "x"}
)
_REQUESTED: Final = json.dumps({"regate.teams": "sales", "colour": "blue"})
_ATTRIBUTES: Final = json.dumps({"colour": "blue", "size": 1.5, "new": True})
_PRINCIPAL: Final = json.dumps({"id": "ann", "tenant": "acme"})

_ROWS: Final = f"""
INSERT INTO schema_version VALUES (1);
INSERT INTO files VALUES ('file-1', 'acme', 'ann', 'a.txt', 3, 'assistants', 100, '{_STAMP}');
INSERT INTO vector_stores VALUES ('vs_1', 'acme', 'ann', FALSE, 'Handbook', 100, '{{"colour": "blue"}}', 'model-256', 256, '{_STAMP}');
INSERT INTO store_activity VALUES ('vs_1', 'acme', 170);
INSERT INTO attachments VALUES ('vs_1', 'file-1', 'acme', 'ann', 100, 'completed', '{_STAMP}', '{_REQUESTED}', '{_ATTRIBUTES}',
    800, 400, 'r1', '{_PRINCIPAL}', 10, 2, NULL, NULL);
INSERT INTO responses VALUES ('resp_1', 'acme', 'ann', 100, 'completed', NULL, 'small', 'r1', '{_BODY}');
INSERT INTO response_items VALUES ('resp_1', 0, 'msg_resp_1_0', 'input', '{_ITEM}', '[]', '{_RESULTS}');
INSERT INTO response_items VALUES ('resp_1', 1, 'msg_resp_1_1', 'output', '{_ITEM}', '{_LINEAGE}', '{_RESULTS}');
"""

_TYPES: Final = {
    "sqlite": {"exact": "VARCHAR", "queried": "JSON"},
    "postgresql": {"exact": 'VARCHAR COLLATE "C"', "queried": "JSONB"},
}


def statements(dialect: str) -> list[str]:
    """Return what makes a database of version 1 with a row in each table."""
    filled = _TABLES.format(**_TYPES[dialect]) + _ROWS
    return [part for part in re.split(r";\n", filled) if part.strip()]
