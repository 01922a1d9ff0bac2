-- The tables of Regate's vectors in Oracle Database 23ai or later. The gateway runs these statements at its
-- first start, or whoever owns the tables runs them before. Each ends with a line that holds a slash.

CREATE TABLE IF NOT EXISTS regate_stores (
  store_key  VARCHAR2(30)   NOT NULL,
  store      VARCHAR2(1000) NOT NULL,
  dimensions NUMBER(5)      NOT NULL,
  CONSTRAINT regate_stores_pk PRIMARY KEY (store_key)
)
/

CREATE TABLE IF NOT EXISTS regate_chunks (
  store_key  VARCHAR2(30)        NOT NULL,
  row_key    VARCHAR2(40)        NOT NULL,
  tenant_key VARCHAR2(30)        NOT NULL,
  chunk_id   VARCHAR2(4000)      NOT NULL,
  document   CLOB                NOT NULL,
  embedding  VECTOR(*, FLOAT32)  NOT NULL,
  CONSTRAINT regate_chunks_pk PRIMARY KEY (store_key, row_key),
  CONSTRAINT regate_chunks_store FOREIGN KEY (store_key) REFERENCES regate_stores (store_key)
)
/

CREATE INDEX IF NOT EXISTS regate_chunks_tenant ON regate_chunks (store_key, tenant_key)
/

CREATE TABLE IF NOT EXISTS regate_marks (
  store_key  VARCHAR2(30)  NOT NULL,
  row_key    VARCHAR2(40)  NOT NULL,
  mark       VARCHAR2(400) NOT NULL,
  CONSTRAINT regate_marks_pk PRIMARY KEY (store_key, row_key, mark),
  CONSTRAINT regate_marks_row FOREIGN KEY (store_key, row_key)
    REFERENCES regate_chunks (store_key, row_key) ON DELETE CASCADE
)
ORGANIZATION INDEX
/

CREATE INDEX IF NOT EXISTS regate_marks_mark ON regate_marks (store_key, mark, row_key)
/
