"""What items rest on is kept once for a thread of turns, in a table of its own; logs of events say
what the model had read.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import orjson
from alembic.operations import Operations
from sqlalchemy import JSON, Column, PrimaryKeyConstraint, text

from regate_adapters.state.column_types import EXACT

revision = "lineages"
down_revision = "gateways"

_ROWS_AT_ONCE = 1_000
_HOLDERS = (
    ("response_items", "response_id", "responses"),
    ("conversation_items", "conversation_id", "conversations"),
)


def upgrade(op: Operations) -> None:
    """Take the database over. Each response that is there is a thread of its own; each source is kept
    once in it.
    """
    op.create_table(
        "lineages",
        Column("thread", EXACT, nullable=False),
        Column("id", EXACT, nullable=False),
        Column("tenant", EXACT, nullable=False),
        Column("grown_from", EXACT, nullable=False),
        Column("added", JSON, nullable=False),
        PrimaryKeyConstraint("thread", "id"),
    )
    op.add_column("responses", Column("thread", EXACT, nullable=False, server_default=""))
    op.execute("UPDATE responses SET thread = COALESCE(conversation_id, id)")
    op.create_index(None, "responses", ["thread"])
    op.add_column("response_events", Column("sources", JSON))
    for table, held_by, holders in _HOLDERS:
        op.add_column(table, Column("lineage_id", EXACT, nullable=False, server_default=""))
        _move(op, table, held_by, holders)
        op.drop_column(table, "lineage")


def _move(op: Operations, table: str, held_by: str, holders: str) -> None:
    """Give each item of the table the id of what it rests on."""
    connection = op.get_bind()
    thread = "h.thread" if holders == "responses" else "h.id"
    wanted = text(
        # Names of ours
        f"SELECT i.{held_by} AS holder, i.position, i.lineage, {thread} AS thread, h.tenant FROM "
        f"{table} i"
        f" JOIN {holders} h ON h.id = i.{held_by}"
        f" WHERE CAST(i.lineage AS TEXT) <> '[]' AND (i.{held_by} > :holder OR (i.{held_by} = :holder "
        "AND i.position > :position))"
        f" ORDER BY i.{held_by}, i.position LIMIT {_ROWS_AT_ONCE}"
    )
    keep = text(
        "INSERT INTO lineages (thread, id, tenant, grown_from, added) VALUES (:thread, :id, :tenant, "
        ":grown_from, :added)"
    )
    # As above
    name = text(f"UPDATE {table} SET lineage_id = :id WHERE {held_by} = :holder AND position = :position")
    after = {"holder": "", "position": -1}
    last_holder, last_id = "", ""
    last_refs: list[list[object]] = []
    while rows := connection.execute(wanted, after).all():
        for row in rows:
            refs = row.lineage if isinstance(row.lineage, list) else orjson.loads(row.lineage)
            if row.holder != last_holder:
                last_holder, last_id, last_refs = row.holder, "", []
            grows = refs[: len(last_refs)] == last_refs
            if not (grows and len(refs) == len(last_refs)):
                identifier = "lin_" + secrets.token_hex(24)
                added = orjson.dumps(list(_grouped(refs[len(last_refs) :] if grows else refs))).decode()
                grown_from = last_id if grows else ""
                kept = {
                    "thread": row.thread,
                    "id": identifier,
                    "tenant": row.tenant,
                    "grown_from": grown_from,
                    "added": added,
                }
                connection.execute(keep, kept)
                last_id, last_refs = identifier, refs
            connection.execute(name, {"id": last_id, "holder": row.holder, "position": row.position})
        after = {"holder": rows[-1].holder, "position": rows[-1].position}


def _grouped(refs: list[list[object]]) -> Iterator[list[object]]:
    """Yield the chunks as sources are written: those of one file that follow each other together."""
    group: list[object] = []
    chunks: list[object] = []
    for store, file, chunk, stamp in refs:
        if group[1:4] == [store, file, stamp]:
            chunks.append(chunk)
            continue
        if group:
            yield group
        chunks = [chunk]
        group = ["chunk", store, file, stamp, chunks]
    if group:
        yield group
