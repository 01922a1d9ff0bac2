"""The statements that write chunks, with slots for the table and the values."""

from __future__ import annotations

from typing import Final

from psycopg import sql

INSERT: Final = sql.SQL(
    """INSERT INTO {table}
         (store, id, file, index, text, version, stamp, attributes, embedding, words, counts)
       SELECT {store}::text, n.id, n.file, n.index, n.text, {version}::text,
         n.stamp::jsonb, n.attributes::jsonb, n.embedding::vector, n.words, n.counts
       FROM unnest({ids}::text[], {files}::text[], {indexes}::bigint[], {texts}::text[],
         {stamps}::text[], {attributes}::text[], {vectors}::text[], {words}::bytea[], {counts}::bytea[])
         AS n (id, file, index, text, stamp, attributes, embedding, words, counts)"""
)

RESTAMP: Final = sql.SQL(
    """INSERT INTO {table}
         (store, id, file, index, text, version, stamp, attributes, embedding, words, counts)
       SELECT store, {into}::text || '/' || regexp_replace(id, '^.*/', ''), file, index, text, version,
              {stamp}::jsonb, {attributes}::jsonb, embedding, words, counts
       FROM {table}
       WHERE store = {store}::text AND file = {file}::text AND version = {version}::text
         AND regexp_replace(id, '/[^/]*$', '') = {generation}::text"""
)
