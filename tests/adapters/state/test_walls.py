"""The second wall: what PostgreSQL shows of other tenants' rows to statements that name no tenant, or the
wrong one. Ours are run without their WHERE.
"""

from __future__ import annotations

import ast
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import JSON, Boolean, Engine, Integer, Table, create_engine, event, insert, select, update
from tests.adapters.state import version_1
from tests.adapters.state.samples import (
    ANN,
    EVE,
    PATIENT_SECONDS,
    attachment_of,
    conversation_of,
    event_of,
    file_of,
    items_of,
    response_of,
    store_of,
)
from tests.link import Link
from tests.postgres import Postgres

from regate_adapters.state.database import examine
from regate_adapters.state.store import SqlStateStore
from regate_adapters.state.tables import metadata, vector_stores
from regate_adapters.state.walls.policies import GLOBAL, WALLED, draw, lower
from regate_adapters.state.walls.raising import ROLE
from regate_orchestrator.errors import ConfigurationError, StateUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.rows import Page
from regate_orchestrator.values import ConversationId, FileId, ResponseId, StoreId

TABLES: Final = [table for table in metadata.sorted_tables if table.name in WALLED]
FILE, STORE, RESPONSE, CONVERSATION = (
    FileId("file-1"),
    StoreId("vs_1"),
    ResponseId("resp_1"),
    ConversationId("conv_1"),
)


def row_of(table: Table, tenant: str) -> dict[str, Any]:
    """A row of the tenant's. Every name in it is the tenant's own, so that rows refer to each other."""

    def value(name: str, kind: object) -> object:
        match kind:
            case Boolean():
                return False
            case Integer():
                return 1
            case JSON():
                return {"of": tenant}
            case _:
                return f"{tenant}/{tenant}/x" if name == "generation" else tenant

    return {column.key: value(column.name, column.type) for column in table.columns}


@pytest.fixture
async def filled(postgres_url: str) -> Any:
    """A store in which two tenants have one row in each table."""
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        async with store._database.maintenance.writing() as connection:
            for table in TABLES:
                await connection.execute(
                    insert(table), [row_of(table, tenant) for tenant in ("acme", "globex")]
                )
        yield store


# ---------------------------------------------------------------- a closed world


def test_every_table_is_behind_the_wall_or_says_why_not() -> None:
    tenants = {table.name for table in metadata.tables.values() if "tenant" in table.columns}

    assert ({*WALLED} | {*GLOBAL}, {*WALLED} & {*GLOBAL}, tenants - {*WALLED}) == (
        {*metadata.tables},
        set(),
        set(),
    )
    assert all(len(reason) > 20 for reason in GLOBAL.values())


MAINTENANCE: Final = {
    "store": {"check"},
    "membership": {"heartbeat", "others_present", "forget", "forget_others", "end_interrupted"},
    "attachments": set(),
    "files": {"expired", "drop_expired"},
    "leases": {"take", "release_all"},
    "orphaned_blobs": {"forget", "due"},
    "orphaned_chunks": {"reserve", "take", "forget", "waiting", "unknown_generations"},
    "uploads": {"forget"},
    # `update`: a store that its owner lets expire does so for all tenants that use it. `contents`, `move`: an
    # operator moves a store with what all tenants have in it.
    "vector_stores": {
        *("engine_of", "engines", "next_after", "place", "contents", "move"),
        *("update", "expired", "empty_expired"),
    },
    "events": {"forget", "_logged"},
    "idempotency_keys": {"forget"},
    "permits": {"forget"},
    "responses": {"cancel_requests"},
    # A key says whose it is, and is found before that is known; operators list and revoke all.
    "api_keys": {"find", "all", "revoke"},
    # What many callers used is added in one transaction; reports are an operator's; a model is all tenants'.
    "usage": {"add", "report", "spent", "forget"},
}
"""Who reaches the rows of all tenants: what the port gives no principal, for it is the program's own work."""


def test_only_the_programs_own_work_reaches_the_rows_of_all_tenants() -> None:
    folder = Path(__file__).parents[3] / "adapters" / "regate_adapters" / "state"
    found: dict[str, set[str]] = {}
    for path in folder.rglob("*.py"):
        for function in ast.walk(ast.parse(path.read_text())):
            if isinstance(function, ast.AsyncFunctionDef | ast.FunctionDef) and any(
                isinstance(node, ast.Attribute) and node.attr == "maintenance" for node in ast.walk(function)
            ):
                found.setdefault(path.stem, set()).add(function.name)

    assert found == {module: names for module, names in MAINTENANCE.items() if names}


# ---------------------------------------------------------------- rows


async def test_a_statement_without_a_where_sees_the_rows_of_its_tenant_alone(filled: SqlStateStore) -> None:
    seen: dict[str, list[list[str]]] = {}
    for tenant in ("acme", "globex", "", "\\'; SELECT set_config('regate.scope', 'maintenance', true) --"):
        async with filled._database.reading(tenant) as connection:
            for table in TABLES:
                rows = [dict(row._mapping) for row in await connection.execute(select(table))]
                seen.setdefault(table.name, []).append(
                    [row.get("tenant") or row.get("store_id") or next(iter(row.values())) for row in rows]
                )

    assert seen == {table.name: [["acme"], ["globex"], [], []] for table in TABLES}


async def test_a_connection_of_the_gateways_that_names_nobody_sees_nothing(
    filled: SqlStateStore, postgres_url: str
) -> None:
    with psycopg.connect(postgres_url.replace("+psycopg", "")) as connection:
        connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(ROLE)))
        counts = {
            table.name: connection.execute(
                sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table.name))
            ).fetchone()
            for table in TABLES
        }

    assert counts == {table.name: (0,) for table in TABLES}


async def test_a_row_of_another_tenant_is_never_written(filled: SqlStateStore) -> None:
    refused = {}
    for table in TABLES:
        try:
            async with filled._database.writing("globex") as connection:
                await connection.execute(insert(table).values(row_of(table, "acme")))
        except StateUnavailable as error:
            refused[table.name] = "InsufficientPrivilege (42501)" in error.detail

    assert refused == {table.name: True for table in TABLES}


async def test_no_row_is_given_to_another_tenant(filled: SqlStateStore) -> None:
    refused = []
    for table in (found for found in TABLES if "tenant" in found.columns):
        with pytest.raises(StateUnavailable, match="Try again later"):
            async with filled._database.writing("globex") as connection:
                await connection.execute(update(table).values(tenant="acme"))
        refused.append(table.name)

    assert len(refused) > 10


async def test_a_store_that_is_shared_is_seen_by_all_tenants_and_changed_by_its_own(
    filled: SqlStateStore,
) -> None:
    own = vector_stores.c.tenant == "acme"
    async with filled._database.writing("acme") as connection:
        await connection.execute(update(vector_stores).where(own).values(shared=True))
    async with filled._database.writing("globex") as connection:
        seen = list(await connection.scalars(select(vector_stores.c.id).order_by(vector_stores.c.id)))
        kept = await connection.scalar(select(vector_stores.c.id).where(own).with_for_update(key_share=True))
    with pytest.raises(StateUnavailable):
        async with filled._database.writing("globex") as connection:
            await connection.execute(update(vector_stores).where(own).values(name="mine"))
    async with filled._database.reading("") as connection:
        unseen = list(await connection.scalars(select(vector_stores.c.id)))

    assert (seen, kept, unseen) == (["acme", "globex"], "acme", [])


async def test_naming_the_tenant_costs_no_round_trip(postgres: Postgres, postgres_url: str) -> None:
    async with (
        Link(postgres.port) as link,
        SqlStateStore.open(
            postgres_url.replace(f":{postgres.port}/", f":{link.port}/"), deadline_s=PATIENT_SECONDS
        ) as store,
    ):
        await store.responses.status(ANN, RESPONSE)
        before = link.messages
        await store.responses.status(ANN, RESPONSE)

    assert link.messages - before == 3  # begin, the statement, end


async def test_the_wall_is_looked_up_row_by_row_and_reads_no_other_rows_of_the_tenant(
    filled: SqlStateStore,
) -> None:
    plans = {}
    async with filled._database.reading("acme") as connection:
        await connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for table in TABLES:
            rows = await connection.exec_driver_sql(f"EXPLAIN SELECT * FROM {table.name}")
            plans[table.name] = "\n".join(line for (line,) in rows)

    assert [name for name, plan in plans.items() if "hashed" in plan] == []
    assert [name for name, plan in plans.items() if "SubPlan" in plan] == sorted(
        {"upload_parts", "response_items", "response_events", "conversation_items", "prompt_versions"}
        | {"orphaned_generations"},
        key=list(plans).index,
    )


# ---------------------------------------------------------------- our own statements, without their WHERE


CANARY: Final = "canary"


async def fill(store: SqlStateStore) -> None:
    """Give one tenant something of everything, all of it with the canary in it."""
    await store.files.add(file_of(ANN, filename=CANARY))
    await store.vector_stores.add(store_of(ANN))
    await store.attachments.put([attachment_of(ANN)])
    await store.conversations.add(conversation_of(ANN), items_of("msg_1"))
    await store.responses.save(response_of(ANN, text=CANARY))
    await store.events.append(ANN, RESPONSE, [event_of(0)])


CALLS: Final[dict[str, Callable[[SqlStateStore], Awaitable[object]]]] = {
    "file": lambda store: store.files.get(EVE, FILE),
    "files": lambda store: store.files.page(EVE, Everything(), Page(), purpose=None),
    "named files": lambda store: store.files.named(EVE, [FILE]),
    "store": lambda store: store.vector_stores.get(EVE, STORE),
    "stores": lambda store: store.vector_stores.page(EVE, Everything(), Page()),
    "attachment": lambda store: store.attachments.get(EVE, STORE, FILE),
    "attachments": lambda store: store.attachments.page(EVE, STORE, Everything(), Page(), status=None),
    "live": lambda store: store.attachments.live(EVE, [(STORE, FILE)]),
    "response": lambda store: store.responses.get(EVE, RESPONSE),
    "responses": lambda store: store.responses.page(EVE, Everything(), Page()),
    "status": lambda store: store.responses.status(EVE, RESPONSE),
    "events": lambda store: store.events.read(EVE, RESPONSE, after=-1, limit=10),
    "conversation": lambda store: store.conversations.get(EVE, CONVERSATION),
    "items": lambda store: store.items.with_parents(EVE, ["msg_1"]),
    "bytes": lambda store: store.stored_bytes.of(EVE),
    "deletion of a response": lambda store: store.responses.delete(EVE, RESPONSE),
    "deletion of a conversation": lambda store: store.conversations.delete(EVE, CONVERSATION),
    "deletion of a file": lambda store: store.files.delete(EVE, FILE),
    "deletion of a store": lambda store: store.vector_stores.delete(EVE, STORE),
}
NOTHING: Final = ("None", "[]", "{}", "0", "False", "Rows(rows=(), has_more=False, cursors={})")


@contextmanager
def without_where() -> Iterator[None]:
    """Take the WHERE out of every statement meanwhile."""

    def strip(_connection: Any, statement: Any, many: Any, params: Any, _options: Any) -> Any:
        if getattr(statement, "_where_criteria", ()):
            statement = statement._clone()
            statement._where_criteria = ()
        return statement, many, params

    event.listen(Engine, "before_execute", strip, retval=True)
    try:
        yield
    finally:
        event.remove(Engine, "before_execute", strip)


async def found_by(store: SqlStateStore) -> dict[str, str]:
    """What each of our calls gives a tenant that has nothing, of those that give anything."""
    found = {}
    with without_where():
        for name, call in CALLS.items():
            try:
                answer = repr(await call(store))
            except StateUnavailable as error:
                answer = error.detail
            if answer not in NOTHING:
                found[name] = answer
    return found


async def test_our_own_statements_without_their_where_give_nothing_of_another_tenant(
    postgres_url: str,
) -> None:
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        await fill(store)
        behind_the_wall = await found_by(store)
        kept = await store.responses.get(ANN, RESPONSE)
        take_down(postgres_url)
        without_it = await found_by(store)

    assert (behind_the_wall, kept) == ({}, response_of(ANN, text=CANARY))
    assert len(without_it) > len(CALLS) / 2  # so the calls above are such that a wall is needed


def take_down(url: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        for table in TABLES:
            connection.execute(
                sql.SQL("ALTER TABLE {} DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY").format(
                    sql.Identifier(table.name)
                )
            )


# ---------------------------------------------------------------- when the wall goes up


async def test_the_wall_waits_for_the_last_gateway_of_an_earlier_version(
    postgres_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with psycopg.connect(postgres_url.replace("+psycopg", ""), autocommit=True) as earlier:
        for statement in version_1.statements("postgresql"):
            earlier.execute(statement)  # type: ignore[arg-type]  # a test's own words
        async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS):
            pass
        take_down(postgres_url)
        earlier.execute("INSERT INTO gateways (id, present_until) VALUES ('gw_old', 99999999999)")
        async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
            await store.membership.heartbeat(ttl_s=60)
            await store.responses.save(response_of(ANN, "resp_new"))
            meanwhile = earlier.execute("SELECT count(*) FROM responses").fetchone()
            said = await examine(postgres_url)
            earlier.execute("UPDATE gateways SET present_until = 1 WHERE id = 'gw_old'")
            await store.membership.end_interrupted(error={})
            after = await examine(postgres_url)

    assert meanwhile == (2,)
    assert ("waits until 1 gateways" in said, "row-level security on" in after) == (True, True)
    assert "row_security_waits" in caplog.text


async def test_an_upgrade_sees_all_rows_and_leaves_the_wall_up(open_url: Callable[[str], str]) -> None:
    url = open_url("owning").replace("postgresql:", "postgresql+psycopg:")
    async with SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as store:
        await store.responses.save(response_of(ANN))
    engine = create_engine(url)
    with engine.begin() as connection:
        counted = "SELECT count(*) FROM responses"
        before = connection.exec_driver_sql(counted).scalar()
        raised = lower(connection)
        amid = connection.exec_driver_sql(counted).scalar()
        draw(connection, raised)
        after = connection.exec_driver_sql(counted).scalar()
    engine.dispose()

    assert (before, amid, after, {*raised}) == (0, 1, 0, {*WALLED})


# ---------------------------------------------------------------- who the gateway is


@pytest.fixture
def users(postgres: Postgres) -> None:
    """The users `owning`, who may make tables and no roles, and `bypassing`, whom no wall stops."""
    for name, rights in (
        ("owning", "LOGIN"),
        ("bypassing", "LOGIN BYPASSRLS"),
        ("making", "LOGIN CREATEROLE"),
    ):
        if not postgres.execute(
            sql.SQL("SELECT 1 FROM pg_roles WHERE rolname = {}").format(sql.Literal(name))
        ):
            postgres.execute(sql.SQL("CREATE ROLE {} " + rights).format(sql.Identifier(name)))


@pytest.fixture
def open_url(postgres: Postgres, postgres_url: str, users: None) -> Callable[[str], str]:
    """The URL of a database in which everybody may make tables, for a user."""
    name = postgres_url.rpartition("/")[2]
    postgres.execute(sql.SQL("GRANT CREATE ON SCHEMA public TO PUBLIC"), database=name)
    return lambda user: postgres.url(name, user=user)


async def test_a_user_that_owns_the_tables_is_kept_behind_the_wall_and_told_of_the_role(
    open_url: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    url = open_url("owning")
    async with SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as store:
        await store.responses.save(response_of(ANN))
        async with store._database.reading("globex") as connection:
            rows = (await connection.execute(select(metadata.tables["responses"]))).all()
    with psycopg.connect(url) as connection_of_owner:
        unnamed = connection_of_owner.execute("SELECT count(*) FROM responses").fetchone()

    assert (rows, unnamed) == ([], (0,))
    assert "row_security_owner" in caplog.text
    assert f"GRANT {ROLE} TO owning" in await examine(url)


async def test_a_user_whom_no_wall_stops_is_refused(open_url: Callable[[str], str]) -> None:
    with pytest.raises(ConfigurationError, match="bypassing bypasses row-level security") as at_start:
        async with SqlStateStore.open(open_url("bypassing"), deadline_s=PATIENT_SECONDS):
            pass

    with pytest.raises(ConfigurationError, match="bypassing bypasses"):
        await examine(open_url("bypassing"))

    assert f"GRANT {ROLE} TO bypassing" in at_start.value.message


async def test_a_user_that_makes_roles_works_as_one_that_owns_nothing(
    postgres: Postgres, open_url: Callable[[str], str]
) -> None:
    if postgres.execute(sql.SQL("SELECT 1 FROM pg_roles WHERE rolname = {}").format(sql.Literal(ROLE))):
        # As an operator does where another database's gateway has made it before.
        postgres.execute(sql.SQL("GRANT {} TO making").format(sql.Identifier(ROLE)))
    async with SqlStateStore.open(open_url("making"), deadline_s=PATIENT_SECONDS) as store:
        await store.responses.save(response_of(ANN))
        async with store._database.reading("acme") as connection:
            who = await connection.exec_driver_sql("SELECT current_user, session_user")
            assert tuple(who.one()) == (ROLE, "making")
