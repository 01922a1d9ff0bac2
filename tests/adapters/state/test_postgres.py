"""What is particular to PostgreSQL behind the state store: many gateways at once, which databases are
refused, and what holds when it breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import func, insert, select
from tests.adapters.state.samples import (
    ANN,
    BOB,
    EVE,
    PATIENT_SECONDS,
    attachment_of,
    file_of,
    response_of,
    store_of,
    waiting,
)
from tests.link import Link
from tests.postgres import Postgres, running_postgres

from regate_adapters.state.dialects import ServerOptions
from regate_adapters.state.store import SqlStateStore
from regate_adapters.state.tables import files, schema_revision
from regate_orchestrator.errors import ConfigurationError, NotFound, StateUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.rows import Page
from regate_orchestrator.values import FileId, GatewayId, ResponseId, StoreId

FILE, STORE, RESPONSE = FileId("file-1"), StoreId("vs_1"), ResponseId("resp_1")
_SAVE_UNTIL_KILLED = """
import asyncio, itertools, sys
from regate_adapters.state.store import SqlStateStore
from tests.adapters.state.samples import ANN, response_of

async def main():
    async with SqlStateStore.open(sys.argv[1], deadline_s=60) as store:
        for number in itertools.count():
            await store.responses.save(response_of(ANN, f"resp_{number}", items=20))
            print(number, flush=True)

asyncio.run(main())
"""


def change(url: str, statement: str) -> None:
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(sql.SQL(statement))  # type: ignore[arg-type]  # a test's own words


# ---------------------------------------------------------------- opening


async def test_gateways_that_start_at_once_make_the_tables_once(postgres_url: str) -> None:
    async def start(number: int) -> None:
        async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
            await store.responses.save(response_of(ANN, f"resp_{number}"))

    async with asyncio.TaskGroup() as starting:
        for number in range(5):
            starting.create_task(start(number))
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        assert len((await store.responses.page(ANN, Everything(), Page())).rows) == 5


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE schema_revision SET revision = 'of_tomorrow'",
        "DELETE FROM schema_revision",
        "DROP TABLE schema_revision",
    ],
)
async def test_database_of_a_later_program_is_refused(postgres_url: str, statement: str) -> None:
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS):
        pass
    change(postgres_url, statement)
    with pytest.raises(ConfigurationError, match=r"state\.url"):
        async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS):
            pass


async def test_database_of_something_else_is_refused_and_left_alone(postgres_url: str) -> None:
    change(postgres_url, "CREATE TABLE theirs (id integer)")
    with pytest.raises(ConfigurationError, match="something else"):
        async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS):
            pass


async def test_database_that_is_not_there_is_refused_without_the_password(postgres: Postgres) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        async with SqlStateStore.open(
            f"postgresql+psycopg://postgres:swordfish@127.0.0.1:{postgres.port}/nowhere",
            deadline_s=PATIENT_SECONDS,
        ):
            pass
    assert ("cannot be used" in refusal.value.message, "swordfish" in refusal.value.message) == (True, False)


async def test_server_that_swallows_everything_is_refused_in_time(postgres: Postgres) -> None:
    async with Link(postgres.port) as link:
        link.become("swallow")
        with pytest.raises(
            ConfigurationError, match="cannot be used: no answer in time"
        ):  # ours, not that of psycopg's longer limit
            async with SqlStateStore.open(postgres.url(port=link.port), deadline_s=0.3):
                pass


# ---------------------------------------------------------------- at once


async def test_first_uses_by_a_tenant_at_once_are_recorded_once(postgres_url: str) -> None:
    async with (
        SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as one,
        SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as other,
    ):
        for round_number in range(5):
            name = f"vs_{round_number}"
            await one.vector_stores.add(store_of(ANN, name, shared=True))
            await asyncio.gather(
                *(
                    (one, other)[number % 2].vector_stores.touch(EVE, StoreId(name), at=200 + number)
                    for number in range(10)
                )
            )
        seen = [await one.vector_stores.get(EVE, StoreId(f"vs_{number}")) for number in range(5)]
    assert [row.last_active_at for row in seen if row is not None] == [209] * 5


async def test_one_file_attached_many_times_at_once_is_attached_once(postgres_url: str) -> None:
    async with (
        SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as one,
        SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as other,
    ):
        await one.files.add(file_of(ANN))
        await one.vector_stores.add(store_of(ANN))
        await asyncio.gather(
            *((one, other)[number % 2].attachments.put([attachment_of(ANN)]) for number in range(20))
        )
        totals = await one.attachments.totals(ANN, [STORE])
    assert totals[STORE].in_progress == 1


async def test_file_deleted_while_it_is_attached_leaves_no_attachment_that_was_not_named(
    postgres_url: str,
) -> None:
    async def attach(store: SqlStateStore, name: str) -> str | None:
        try:
            await store.attachments.put([attachment_of(ANN, name)])
        except NotFound:
            return None
        return name

    async with (
        SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as one,
        SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as other,
    ):
        names = [f"vs_{number}" for number in range(8)]
        for name in names:
            await one.vector_stores.add(store_of(ANN, name))
        outcomes = []
        for _ in range(5):
            await one.files.add(file_of(ANN))
            *attached, deleted = await asyncio.gather(
                *(attach(other, name) for name in names), one.files.delete(ANN, FILE)
            )
            outcomes.append(set(deleted or []) == {name for name in attached if name is not None})
        left = await one.leases.take(ttl_s=60, after="")
    assert (outcomes, left) == ([True] * 5, None)


async def test_new_responses_saved_at_once_under_one_id_are_each_whole(postgres_url: str) -> None:
    gateway = GatewayId("gw_both")
    async with (
        SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS, gateway=gateway) as one,
        SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS, gateway=gateway) as other,
    ):
        await asyncio.gather(
            *(store.responses.page(ANN, Everything(), Page()) for store in (one, other) for _ in range(8))
        )
        rows = [response_of(ANN, items=3 + number % 3, text=f"version {number}") for number in range(16)]
        await asyncio.gather(
            *((one, other)[number % 2].responses.save(row) for number, row in enumerate(rows))
        )
        assert await one.responses.get(ANN, RESPONSE) in rows


async def test_response_id_of_another_tenant_is_refused_and_nothing_of_it_changed(postgres_url: str) -> None:
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        await store.responses.save(response_of(ANN))
        with pytest.raises(StateUnavailable):
            await store.responses.save(response_of(EVE))
        assert (await store.responses.get(ANN, RESPONSE), await store.responses.get(EVE, RESPONSE)) == (
            response_of(ANN),
            None,
        )


async def test_a_read_cannot_write(postgres_url: str) -> None:
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        with pytest.raises(StateUnavailable, match="Try again later") as refusal:
            async with store._database.maintenance.reading() as connection:
                await connection.execute(insert(schema_revision).values(revision="x"))
    assert refusal.value.detail.startswith("ReadOnlySqlTransaction (25006): the server takes no writes")


async def test_a_read_sees_one_state_though_another_writes_meanwhile(postgres_url: str) -> None:
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        counted = select(func.count()).select_from(files)
        async with store._database.maintenance.reading() as connection:
            before = await connection.scalar(counted)
            await store.files.add(file_of(ANN))
            after = await connection.scalar(counted)
        async with store._database.maintenance.reading() as connection:
            assert (before, after, await connection.scalar(counted)) == (0, 0, 1)


# ---------------------------------------------------------------- failures


async def test_server_that_ended_all_connections_is_not_noticed(
    postgres_url: str, postgres: Postgres
) -> None:
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        await asyncio.gather(
            *(store.responses.save(response_of(ANN, f"resp_{number}")) for number in range(8))
        )
        name = sql.Literal(postgres_url.rpartition("/")[2])
        others = sql.SQL(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {} AND pid <> "
            "pg_backend_pid()"
        )
        ended = postgres.execute(others.format(name))
        read = await asyncio.gather(
            *(store.responses.get(ANN, ResponseId(f"resp_{number}")) for number in range(8))
        )
    assert (len(ended) > 1, read) == (True, [response_of(ANN, f"resp_{number}") for number in range(8)])


@pytest.mark.parametrize("fault", ["swallow", "cut"])
async def test_broken_network_is_unavailable_in_time_and_mended_without_a_restart(
    fault: str, postgres_url: str, postgres: Postgres
) -> None:
    through = postgres_url.replace(f":{postgres.port}/", ":{}/")
    async with (
        Link(postgres.port) as link,
        SqlStateStore.open(through.format(link.port), deadline_s=PATIENT_SECONDS) as store,
    ):
        await store.responses.save(response_of(ANN))
        hasty = waiting(store, 0.4)
        link.become("swallow" if fault == "swallow" else "cut")
        refused = await asyncio.gather(
            hasty.responses.get(ANN, RESPONSE),
            hasty.responses.save(response_of(ANN, "resp_2")),
            hasty.responses.page(ANN, Everything(), Page()),
            hasty.responses.delete(ANN, RESPONSE),
            hasty.check(),
            return_exceptions=True,
        )
        link.become("pass")
        rows = await store.responses.page(BOB, Everything(), Page())
    details = {one.detail for one in refused if isinstance(one, StateUnavailable)}
    assert ([type(one) for one in refused], [row.id for row in rows.rows]) == (
        [StateUnavailable] * 5,
        [RESPONSE],
    )
    assert fault == "cut" or details == {"no answer within 0.4 s"}


async def test_write_that_waits_for_a_lock_ends_in_time_and_reads_go_on(postgres_url: str) -> None:
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        await store.responses.save(response_of(ANN))
        with psycopg.connect(postgres_url.replace("+psycopg", "")) as other:
            other.execute("SELECT * FROM responses FOR UPDATE")
            with pytest.raises(StateUnavailable) as refusal:
                await waiting(store, 0.5).responses.save(response_of(ANN, text="later"))
            read = await store.responses.get(ANN, RESPONSE)
        await store.responses.save(response_of(ANN, text="later"))
        after = await store.responses.get(ANN, RESPONSE)
    assert (refusal.value.detail, read, after) == (
        "no answer within 0.5 s",
        response_of(ANN),
        response_of(ANN, text="later"),
    )


async def test_cancelled_save_is_all_or_nothing_and_every_connection_is_given_back(postgres_url: str) -> None:
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        for number in range(30):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.0005 * number):
                    await store.responses.save(
                        response_of(ANN, f"resp_{number}", items=200, text="x" * 2_000)
                    )
        listed = (await store.responses.page(ANN, Everything(), Page(limit=100))).rows
        whole = [
            await store.responses.get(ANN, row.id) == response_of(ANN, row.id, items=200, text="x" * 2_000)
            for row in listed
        ]
        at_once = await asyncio.gather(*(store.responses.page(BOB, Everything(), Page()) for _ in range(20)))
    assert (all(whole), len(at_once)) == (True, 20)


@pytest.fixture
async def narrow(postgres_url: str) -> AsyncIterator[SqlStateStore]:
    """A store with one connection, whose statements may take half a second."""
    server = ServerOptions(pool_size=1, statement_s=0.5)
    async with SqlStateStore.open(postgres_url, server=server) as store:
        yield store


async def test_connections_that_are_used_up_are_counted_and_told(narrow: SqlStateStore) -> None:
    patient = waiting(narrow, PATIENT_SECONDS)
    before = narrow.pool_use()
    async with patient._database.reading("acme") as connection:
        await connection.execute(select(1))
        asked = asyncio.ensure_future(patient.responses.get(ANN, RESPONSE))  # noqa: TID251
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        meanwhile = narrow.pool_use()
        with pytest.raises(StateUnavailable) as refusal:
            await asked

    assert (before["waiting"], meanwhile["in_use"], meanwhile["waiting"]) == (0, 1, 1)
    assert refusal.value.detail == "all 1 connections were in use for too long: raise pool_size"
    assert narrow.pool_use() == {"in_use": 0, "idle": 1, "waiting": 0}


async def test_a_statement_that_takes_too_long_is_told_with_what_to_do(narrow: SqlStateStore) -> None:
    with pytest.raises(StateUnavailable) as refusal:
        async with waiting(narrow, PATIENT_SECONDS)._database.reading("acme") as connection:
            await connection.execute(select(func.pg_sleep(60)))

    assert refusal.value.detail == "QueryCanceled (57014): a statement took longer than statement_timeout_s"


async def test_a_connection_that_is_refused_is_told_with_place_and_without_the_password(
    postgres: Postgres, postgres_url: str
) -> None:
    async with Link(postgres.port) as link:
        url = postgres_url.replace("postgres@", "postgres:swordfish@").replace(
            f":{postgres.port}/", f":{link.port}/"
        )
        async with SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as store:
            link.become("cut")
            with pytest.raises(StateUnavailable) as refusal:
                await store.responses.get(ANN, RESPONSE)

    assert refusal.value.detail.startswith("no connection: ")
    assert (str(link.port) in refusal.value.detail, "swordfish" in refusal.value.detail) == (True, False)


async def test_a_server_that_takes_no_writes_is_refused_at_the_start(
    postgres: Postgres, postgres_url: str
) -> None:
    name = sql.Identifier(postgres_url.rpartition("/")[2])
    postgres.execute(sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = on").format(name))
    with pytest.raises(ConfigurationError, match="takes no writes: name the primary"):
        async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS):
            pass


async def test_a_replica_is_never_read_from() -> None:
    with running_postgres(18) as primary, running_postgres(18, is_replica=True) as replica:
        async with (
            Link(primary.port) as link,
            SqlStateStore.open(
                primary.url(port=link.port),
                deadline_s=PATIENT_SECONDS,
                server=ServerOptions(row_security=False),  # the other server has no such role
            ) as store,
        ):
            await store.responses.save(response_of(ANN))
            link.become("cut")
            link.target = replica.port
            link.become("pass")
            with pytest.raises(StateUnavailable) as refusal:
                await store.responses.get(ANN, RESPONSE)
            link.become("cut")
            link.target = primary.port
            link.become("pass")
            mended = await store.responses.get(ANN, RESPONSE)

    assert refusal.value.detail.startswith("the server is a replica")
    assert mended == response_of(ANN)


async def test_a_table_that_is_missing_is_told_with_what_to_do(postgres_url: str) -> None:
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        change(postgres_url, "DROP TABLE tool_uses")
        with pytest.raises(StateUnavailable) as refusal:
            await store.tool_uses.release(ANN, "call")

    assert refusal.value.detail.startswith("UndefinedTable (42P01): a table is missing")


async def test_failure_says_nothing_of_the_rows(postgres_url: str) -> None:
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        await store.files.add(file_of(ANN))
        with pytest.raises(StateUnavailable) as refusal:
            await store.files.add(file_of(ANN))
    assert refusal.value.detail == "UniqueViolation (23505)"


async def test_database_without_its_tables_fails_the_check(postgres_url: str) -> None:
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        await store.check()
        change(postgres_url, "DROP TABLE schema_revision")
        with pytest.raises(StateUnavailable):
            await store.check()


async def test_response_is_there_whole_after_the_process_was_killed(postgres_url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _SAVE_UNTIL_KILLED, postgres_url], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for _ in range(25):
            process.stdout.readline()
        process.kill()
        acknowledged = 25 + len(process.stdout.read().split())
    async with SqlStateStore.open(postgres_url, deadline_s=PATIENT_SECONDS) as store:
        listed = (await store.responses.page(ANN, Everything(), Page(limit=10_000))).rows
        rows = [await store.responses.get(ANN, row.id) for row in listed]
    whole = [row for row in rows if row is not None and row == response_of(ANN, row.id, items=20)]
    kept = {f"resp_{number}" for number in range(acknowledged)} <= {row.id for row in whole}
    assert (kept, len(whole)) == (True, len(listed))
