"""A database of an earlier program becomes one of this program: the very same tables, every row kept,
all or nothing, by one gateway only.
"""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Connection, Engine, create_engine, inspect, make_url, update
from tests.adapters.state import version_1
from tests.adapters.state.samples import (
    ANN,
    EVE,
    PATIENT_SECONDS,
    attachment_of,
    file_of,
    response_of,
    store_of,
)

from regate_adapters.state.dialects import prepare
from regate_adapters.state.migrations import SCRIPTS
from regate_adapters.state.store import SqlStateStore
from regate_adapters.state.tables import REVISION, metadata, schema_revision
from regate_adapters.state.walls.policies import lower
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.rows import ExpiredStore, OrphanedChunks, Page
from regate_orchestrator.values import ConversationId, FileId, ResponseId, StoreId

FILE, STORE, RESPONSE = FileId("file-1"), StoreId("vs_1"), ResponseId("resp_1")


def engine_of(url: str) -> Engine:
    return create_engine(make_url(url))


def run(url: str, *statements: str) -> None:
    engine = engine_of(url)
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
    engine.dispose()


@pytest.fixture
def old(empty_url: str) -> str:
    """A database as the program of version 1 left it."""
    run(empty_url, *version_1.statements("sqlite" if empty_url.startswith("sqlite") else "postgresql"))
    return empty_url


def schema_of(connection: Connection) -> dict[str, Any]:
    """Everything the database says of its tables, in one order."""
    found = inspect(connection)
    return {
        table: {
            "columns": {
                column["name"]: (repr(column["type"]), column["nullable"], column["default"])
                for column in found.get_columns(table)
            },
            "order": [column["name"] for column in found.get_columns(table)],
            "primary key": found.get_pk_constraint(table),
            "unique": sorted(found.get_unique_constraints(table), key=repr),
            "foreign keys": sorted(found.get_foreign_keys(table), key=repr),
            "checks": sorted(found.get_check_constraints(table), key=repr),
            "indexes": sorted(found.get_indexes(table), key=repr),
        }
        for table in sorted(found.get_table_names())
    }


def read_schema(url: str) -> dict[str, Any]:
    engine = engine_of(url)
    with engine.connect() as connection:
        schema = schema_of(connection)
        schema["revision"] = [
            tuple(row) for row in connection.exec_driver_sql("SELECT * FROM schema_revision")
        ]
    engine.dispose()
    return schema


def new_schema(url: str) -> dict[str, Any]:
    """What a new database of this kind has: made in place of the one at the URL."""
    engine = engine_of(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE IF EXISTS schema_version")
        if connection.dialect.name == "postgresql":
            lower(connection)
        metadata.drop_all(connection)
        prepare(connection, "the database")
        schema = schema_of(connection)
    engine.dispose()
    assert set(schema) == set(metadata.tables)
    return schema | {"revision": [(REVISION,)]}


async def test_upgraded_database_has_the_very_same_tables_as_a_new_one(old: str) -> None:
    async with SqlStateStore.open(old, deadline_s=PATIENT_SECONDS):
        pass
    upgraded = read_schema(old)
    assert upgraded == new_schema(old)


async def test_upgraded_database_kept_every_row(old: str) -> None:
    async with SqlStateStore.open(old, deadline_s=PATIENT_SECONDS) as store:
        found = [
            await store.files.get(ANN, FILE),
            await store.vector_stores.get(EVE, STORE),
            await store.attachments.get(ANN, STORE, FILE),
            await store.responses.get(ANN, RESPONSE),
        ]
        activity = await store.vector_stores.get(ANN, STORE)
    attached = attachment_of(
        ANN,
        status="completed",
        usage_bytes=10,
        chunks=2,
        principal={"id": "ann", "tenant": "acme"},
        generation="acme/file-1",
    )
    kept = [file_of(ANN), None, attached, response_of(ANN)]
    stamp = {name: value for name, value in store_of(ANN).stamp.items() if name != "shared"}
    assert (found, activity and (activity.last_active_at, activity.stamp)) == (kept, (170, stamp))


def stop_at(url: str, revision: str) -> None:
    """Upgrade the database as far as the program of this revision did."""
    engine = engine_of(url)
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection, opts={"target_metadata": metadata}))
        for step in reversed(list(SCRIPTS.iterate_revisions(revision, "version_1"))):
            step.module.upgrade(operations)
        connection.execute(update(schema_revision).values(revision=revision))
    engine.dispose()


async def test_chunks_that_were_orphaned_or_half_written_before_there_were_generations_are_removed(
    old: str,
) -> None:
    stop_at(old, "loose_chunks")
    run(old, "INSERT INTO loose_chunks VALUES ('vs_0', '', 5), ('vs_1', 'file-0', 7), ('vs_1', 'file-1', 8)")
    run(old, "UPDATE attachments SET status = 'in_progress'")
    async with SqlStateStore.open(old, deadline_s=PATIENT_SECONDS) as store:
        await store.attachments.put(
            [attachment_of(ANN)]
        )  # what is attached again is not all orphaned any more
        taken = await store.orphaned_chunks.take(limit=10)

    assert set(taken) == {
        OrphanedChunks(StoreId("vs_0"), FileId(""), ""),
        OrphanedChunks(STORE, FileId("file-0"), ""),
        OrphanedChunks(STORE, FILE, "acme/file-1"),
    }


async def test_rows_of_an_earlier_version_are_listed_as_they_were_and_before_new_ones(old: str) -> None:
    stop_at(old, "lineages")
    columns = "id, tenant, owner, filename, bytes, purpose, created_at, stamp"
    stamp = """'{"tenant": "acme", "owner": "ann"}'"""
    older = [("file-3", 90), ("file-0", 100), ("file-2", 110)]
    for name, created in older:
        run(
            old,
            (
                f"INSERT INTO files ({columns}) VALUES ('{name}', 'acme', 'ann', 'x', 1, 'assistants', "
                f"{created}, {stamp})"
            ),
        )
    async with SqlStateStore.open(old, deadline_s=PATIENT_SECONDS) as store:
        await store.files.add(file_of(ANN, "file-00", created=50))
        rows = (await store.files.page(ANN, Everything(), Page(order="asc"), purpose=None)).rows

    assert [row.id for row in rows] == ["file-3", "file-0", "file-1", "file-2", "file-00"]


async def test_store_of_an_earlier_version_is_in_no_engine_until_it_is_placed(old: str) -> None:
    async with SqlStateStore.open(old, deadline_s=PATIENT_SECONDS) as store:
        before = await store.vector_stores.engine_of(STORE)
        placed = [
            await store.vector_stores.place(engine="main"),
            await store.vector_stores.place(engine="second"),
        ]
        assert (before, placed, await store.vector_stores.engine_of(STORE)) == (None, [1, 0], "main")


async def test_what_an_earlier_version_left_in_flight_is_nobodys_and_is_ended(old: str) -> None:
    stop_at(old, "editions")
    run(
        old,
        "UPDATE responses SET status = 'in_progress' WHERE id = 'resp_1'",
        "INSERT INTO conversations VALUES ('conv_1', 'acme', 'ann', 1, '{}', 'r1', 'resp_1')",
        "INSERT INTO idempotency_keys VALUES ('acme', 'ann', 'key', 'f', 'c1', NULL, 1)",
    )
    async with SqlStateStore.open(old, deadline_s=PATIENT_SECONDS) as store:
        await store.membership.heartbeat(ttl_s=60)
        ended = await store.membership.end_interrupted(error={"code": "server_error"})
        found = [
            await store.responses.status(ANN, RESPONSE),
            await store.conversations.lock(ANN, ConversationId("conv_1"), ResponseId("resp_2")),
            await store.idempotency_keys.claim(ANN, "key", fingerprint="f", claim="c2", at=2),
        ]
    assert (ended, found) == (1, ["failed", [], None])


async def test_store_of_an_earlier_version_is_emptied_when_it_expires(old: str) -> None:
    stop_at(old, "gateways")
    run(old, "UPDATE vector_stores SET expires_after_days = 1")
    told = []
    for now in (170 + 86_399, 170 + 86_400):
        # Bound at once
        async with SqlStateStore.open(old, deadline_s=PATIENT_SECONDS, clock=lambda now=now: now) as store:  # type: ignore[misc]
            told.append(await store.vector_stores.expired(limit=10))
    assert told == [[], [ExpiredStore(STORE, "acme")]]


async def test_gateways_that_start_at_once_upgrade_once(old: str) -> None:
    async def start(number: int) -> None:
        async with SqlStateStore.open(old, deadline_s=PATIENT_SECONDS) as store:
            await store.responses.save(response_of(ANN, f"resp_at_once_{number}"))

    async with asyncio.TaskGroup() as starting:
        for number in range(4):
            starting.create_task(start(number))
    async with SqlStateStore.open(old, deadline_s=PATIENT_SECONDS) as store:
        rows = [await store.responses.get(ANN, ResponseId(f"resp_at_once_{number}")) for number in range(4)]
    assert (None not in rows, read_schema(old)["revision"]) == (True, [(REVISION,)])


OLDER = sorted((Path(__file__).parents[2] / "fixtures" / "databases").glob("*.sql"))


@pytest.mark.parametrize("dump", OLDER, ids=[dump.stem for dump in OLDER])
async def test_database_that_an_earlier_version_wrote_keeps_every_row_and_gets_the_tables_of_a_new_one(
    tmp_path: Path, dump: Path
) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    connection = sqlite3.connect(tmp_path / "state.db")
    connection.executescript(dump.read_text())
    tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    before = {table: count for table in tables if (count := _rows_in(connection, table))}
    connection.close()
    async with SqlStateStore.open(url, deadline_s=PATIENT_SECONDS):
        pass
    connection = sqlite3.connect(tmp_path / "state.db")
    after = {table: _rows_in(connection, table) for table in before}
    connection.close()

    assert {"files", "attachments", "responses", "response_events", "conversations", "prompts"} <= set(before)
    assert after == before
    assert read_schema(url) == new_schema(url)


def _rows_in(connection: sqlite3.Connection, table: str) -> int:
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


_WAITING = (
    "SELECT count(*) FROM pg_locks WHERE NOT granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE "
    "datname = current_database())"
)


async def test_gateway_that_starts_amid_an_upgrade_waits_for_its_end(postgres_url: str) -> None:
    run(postgres_url, *version_1.statements("postgresql"))

    async def start() -> None:
        async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS):
            pass

    async def until_waiting(programs: int) -> None:
        async with asyncio.timeout(120):
            while watch.exec_driver_sql(_WAITING).scalar() != programs:
                await asyncio.sleep(0.01)

    engine = engine_of(postgres_url)
    with (
        engine.connect().execution_options(isolation_level="AUTOCOMMIT") as watch,
        engine.connect() as reader,
    ):
        reader.exec_driver_sql(
            "LOCK TABLE responses IN ACCESS SHARE MODE"
        )  # the upgrade stops at this table, some tables altered
        async with asyncio.TaskGroup() as starting:
            starting.create_task(start())
            await until_waiting(1)
            starting.create_task(start())
            await until_waiting(2)
            reader.rollback()
    engine.dispose()
    assert read_schema(postgres_url)["revision"] == [(REVISION,)]


async def test_upgrade_that_fails_leaves_the_database_as_it_was(old: str) -> None:
    run(
        old, "CREATE INDEX ix_response_items_id ON response_items (id)"
    )  # in the way of the migration that makes it
    engine = engine_of(old)
    with engine.connect() as connection:
        before = schema_of(connection)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        async with SqlStateStore.open(old, deadline_s=PATIENT_SECONDS):
            pass
    with engine.connect() as connection:
        after = schema_of(connection)
    engine.dispose()
    assert after == before


@pytest.mark.parametrize("version", [0, 2])
async def test_other_version_than_the_first_is_refused(old: str, version: int) -> None:
    run(old, f"UPDATE schema_version SET version = {version}")
    with pytest.raises(ConfigurationError, match="later version"):
        async with SqlStateStore.open(old, deadline_s=PATIENT_SECONDS):
            pass


async def test_database_of_a_later_program_is_refused_and_left_alone(url: str) -> None:
    async with SqlStateStore.open(url, deadline_s=PATIENT_SECONDS):
        pass
    run(url, "UPDATE schema_revision SET revision = 'of_tomorrow'")
    before = read_schema(url)
    with pytest.raises(ConfigurationError, match="later version"):
        async with SqlStateStore.open(url, deadline_s=PATIENT_SECONDS):
            pass
    assert read_schema(url) == before


def test_migrations_are_one_line_that_ends_at_the_tables_revision() -> None:
    assert (SCRIPTS.get_heads(), SCRIPTS.get_bases()) == ([REVISION], ["version_1"])


_ALEMBIC_AFTER_OPENING = """
import asyncio, sys
from regate_adapters.state.store import SqlStateStore

async def main():
    async with SqlStateStore.open(sys.argv[1]):
        print("alembic" in sys.modules)

asyncio.run(main())
"""


def test_opening_loads_alembic_for_an_upgrade_and_for_nothing_else(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'state.db'}"
    run(url, *version_1.statements("sqlite"))
    commands = [
        [sys.executable, "-c", _ALEMBIC_AFTER_OPENING, at]
        for at in (url, url, f"sqlite:///{tmp_path / 'new.db'}")
    ]
    said = [
        subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
        for command in commands
    ]
    assert said == ["True", "False", "False"]
