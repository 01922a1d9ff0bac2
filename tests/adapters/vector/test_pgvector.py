"""PostgreSQL as an engine of vectors: its walls, its indexes, its connections and its failures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql
from tests.link import Link
from tests.postgres import Postgres

from regate_adapters.testing.vector.suite import DIMENSIONS, SCHEMA, hostile_chunks
from regate_adapters.vector.pgvector.filter import Parameters, render
from regate_adapters.vector.pgvector.places import Place
from regate_adapters.vector.pgvector.store import PgVectorStore
from regate_adapters.vector.pgvector.ways import CountedAsMany
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Compare, Everything, Matching, all_of
from regate_orchestrator.filters.schema import FieldSpec, RowSchema
from regate_orchestrator.ports import Chunk, Found, Query
from regate_orchestrator.values import FileId, StoreId

STORE = StoreId("vs_0123456789abcdef")
OTHER = StoreId("vs_other")
QUERY = hostile_chunks(count=1)[0].vector
ACME = Matching(Compare("eq", ("tenant",), "acme"))


def of_tenant(tenant: str, *, count: int = 60, seed: int = 7) -> list[Chunk]:
    chunks = hostile_chunks(tenant=tenant, count=count, seed=seed)
    return [replace(chunk, stamp={**chunk.stamp, "tenant": tenant}) for chunk in chunks]


async def filled(store: PgVectorStore, chunks: Sequence[Chunk]) -> None:
    await store.create(STORE, dimensions=DIMENSIONS)
    await store.add(STORE, chunks)


async def everything(store: PgVectorStore, name: StoreId = STORE) -> Found:
    return await store.search(name, Query(QUERY, limit=1_000), plan=Everything())


# ---------------------------------------------------------------- the second wall


@pytest.mark.parametrize(
    ("settings", "seen"),
    [
        ({}, 0),
        ({"regate.store": STORE}, 0),
        ({"regate.reach": "store"}, 0),
        ({"regate.reach": "everything", "regate.store": STORE}, 0),
        ({"regate.reach": "tenant", "regate.store": STORE}, 0),
        ({"regate.reach": "tenant", "regate.store": STORE, "regate.tenant": "globex"}, 5),
        ({"regate.reach": "tenant", "regate.store": STORE, "regate.tenant": "acme"}, 60),
        ({"regate.reach": "store", "regate.store": STORE}, 65),
        ({"regate.reach": "store", "regate.store": "vs_none"}, 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("user", ["postgres", "plain"])
async def test_a_statement_without_any_filter_sees_only_what_its_transaction_names(
    settings: dict[str, str], seen: int, user: str, postgres: Postgres, plain_database: str
) -> None:
    async with PgVectorStore(postgres.url(plain_database, user=user), SCHEMA) as store:
        await filled(store, [*of_tenant("acme"), *of_tenant("globex", count=5)])
        await store.create(OTHER, dimensions=DIMENSIONS)
        await store.add(OTHER, of_tenant("acme", count=7))

    with psycopg.connect(postgres.url(plain_database, user=user)) as connection:
        if user == "postgres":
            connection.execute("SET ROLE regate_vectors")
        for name, value in settings.items():
            connection.execute("SELECT set_config(%s, %s, true)", [name, value])
        found = connection.execute("SELECT count(*) FROM regate_vectors.chunks_8").fetchone()

    assert found == (seen,)


async def test_our_transactions_without_any_where_see_their_tenant_and_their_store_alone(
    postgres: Postgres, plain_database: str
) -> None:
    async with PgVectorStore(postgres.url(plain_database, user="plain"), SCHEMA) as store:
        await filled(store, of_tenant("acme", count=6))
        await store.add(STORE, of_tenant("globex", count=4))
        await store.create(OTHER, dimensions=DIMENSIONS)
        seen = []
        for tenant in ("acme", "globex", "initech"):
            async with store._transaction("probe", STORE, tenant=tenant) as cursor:
                await cursor.execute(sql.SQL("SELECT count(*), min(tenant), max(tenant) FROM chunks_8"))
                rows = await cursor.fetchone()
                await cursor.execute(sql.SQL("SELECT array_agg(id) FROM stores"))
                seen.append((rows, await cursor.fetchone()))
        with pytest.raises(VectorStoreUnavailable):
            async with store._transaction("probe", STORE, write=True, tenant="acme") as cursor:
                await cursor.execute(sql.SQL("""UPDATE chunks_8 SET stamp = '{"tenant": "globex"}'"""))

    assert seen == [
        ((6, "acme", "acme"), ([STORE],)),
        ((4, "globex", "globex"), ([STORE],)),
        ((0, None, None), ([STORE],)),
    ]


async def test_a_row_of_another_tenant_cannot_be_written_past_the_wall(
    postgres: Postgres, plain_database: str
) -> None:
    async with PgVectorStore(postgres.url(plain_database, user="plain"), SCHEMA) as store:
        await filled(store, of_tenant("acme", count=1))

    with psycopg.connect(postgres.url(plain_database, user="plain")) as connection:
        for name, value in (("regate.store", STORE), ("regate.reach", "tenant"), ("regate.tenant", "acme")):
            connection.execute("SELECT set_config(%s, %s, true)", [name, value])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("""UPDATE regate_vectors.chunks_8 SET stamp = '{"tenant": "globex"}'""")


async def test_a_user_who_passes_walls_without_being_superuser_is_refused(
    postgres: Postgres, plain_database: str
) -> None:
    if not postgres.execute(sql.SQL("SELECT 1 FROM pg_roles WHERE rolname = 'passing'")):
        postgres.execute(sql.SQL("CREATE ROLE passing LOGIN BYPASSRLS"))

    with pytest.raises(ConfigurationError, match="bypasses row-level security"):
        async with PgVectorStore(postgres.url(plain_database, user="passing"), SCHEMA):
            pass


# ---------------------------------------------------------------- indexes


async def test_the_tenant_predicate_uses_its_index(postgres: Postgres, plain_database: str) -> None:
    async with PgVectorStore(postgres.url(plain_database, user="plain"), SCHEMA) as store:
        await filled(store, [*of_tenant("globex", count=1_500), *of_tenant("acme", count=15)])
    postgres.execute(sql.SQL("ANALYZE regate_vectors.chunks_8"), database=plain_database)
    parameters = Parameters()
    condition = render(all_of([ACME.expression, Compare("le", ("level",), 3)]), SCHEMA, parameters)
    explain = sql.SQL("EXPLAIN SELECT id FROM regate_vectors.chunks_8 WHERE store = {} AND {}")

    with psycopg.connect(postgres.url(plain_database, user="plain")) as connection:
        for name, value in (("regate.store", STORE), ("regate.reach", "tenant"), ("regate.tenant", "acme")):
            connection.execute("SELECT set_config(%s, %s, true)", [name, value])
        statement = explain.format(parameters.add(STORE), condition)
        plan = "\n".join(line for (line,) in connection.execute(statement, parameters.values))

    assert "chunks_8_store_tenant_idx" in plan


async def test_the_index_fills_the_limit_with_permitted_chunks_however_rare_they_are(
    postgres: Postgres, database: str
) -> None:
    async with PgVectorStore(postgres.url(database), SCHEMA, exact_below=0) as store:
        await filled(store, [*of_tenant("globex", count=1_500), *of_tenant("acme", count=15)])

        found = await store.search(STORE, Query(QUERY, limit=10), plan=ACME)

    assert [candidate.stamp["tenant"] for candidate in found.candidates] == ["acme"] * 10


async def test_where_the_index_has_no_more_the_ranking_is_exact_after_all(
    postgres: Postgres, database: str
) -> None:
    async with PgVectorStore(postgres.url(database), SCHEMA) as store:
        await filled(store, [*of_tenant("globex", count=300), *of_tenant("acme", count=15)])
        exact = await store.search(STORE, Query(QUERY, limit=20), plan=ACME)

    async with PgVectorStore(postgres.url(database), SCHEMA, exact_below=1) as store:
        found = await store.search(STORE, Query(QUERY, limit=20), plan=ACME)

    assert (found, len(found.candidates), found.exhausted) == (exact, 15, True)


@pytest.mark.parametrize("how", ["remove", "drop"])
async def test_many_are_counted_anew_once_any_are_gone(postgres: Postgres, database: str, how: str) -> None:
    async with PgVectorStore(postgres.url(database), SCHEMA, exact_below=1) as store:
        many = [replace(one, file_id=FileId(f"file-{n}")) for n, one in enumerate(of_tenant("acme", count=5))]
        await filled(store, many)
        first = [await store.search(STORE, Query(QUERY, limit=1), plan=ACME) for _ in range(2)]
        await store.add(STORE, of_tenant("globex", count=3, seed=9))
        beside_more = await store.search(STORE, Query(QUERY, limit=1), plan=ACME)
        if how == "remove":
            for chunk in many[1:]:
                await store.remove(STORE, chunk.file_id)
        else:
            await store.drop(STORE)
            await filled(store, many[:1])
        last = await store.search(STORE, Query(QUERY, limit=1), plan=ACME)

    assert [found.permitted for found in (*first, beside_more, last)] == [None, None, None, 1]
    assert [one.id for one in last.candidates] == [many[0].id]


def test_what_was_counted_is_known_of_that_search_alone() -> None:
    counted, place, mine = CountedAsMany(), Place(8, 10, 1, 0), Compare("eq", ("level",), 1)
    counted.note(STORE, place, mine)

    assert counted.holds(STORE, replace(place, chunks=12, added=2), mine)
    assert not counted.holds(STORE, replace(place, removed=1), mine)
    assert not counted.holds(StoreId("vs_other"), place, mine)
    assert not counted.holds(STORE, place, replace(mine, value=True))


def test_what_was_counted_first_is_forgotten_first() -> None:
    counted, place = CountedAsMany(entries=2), Place(8, 10, 1, 0)
    levels = [Compare("eq", ("level",), number) for number in range(3)]
    for level in levels:
        counted.note(STORE, place, level)

    assert [counted.holds(STORE, place, level) for level in levels] == [False, True, True]


async def test_vectors_too_long_for_the_index_are_searched_exactly(postgres: Postgres, database: str) -> None:
    vector = [0.0] * 2_999 + [1.0]
    (chunk,) = hostile_chunks(count=1)
    async with PgVectorStore(postgres.url(database), SCHEMA, exact_below=0) as store:
        await store.create(STORE, dimensions=3_000)
        await store.add(STORE, [replace(chunk, vector=vector)])

        found = await store.search(STORE, Query(vector, limit=1), plan=Everything())

    assert [(one.id, one.score) for one in found.candidates] == [(chunk.id, 1.0)]


async def test_a_vector_of_zeros_is_similar_to_nothing(pgvector: PgVectorStore) -> None:
    one, other = hostile_chunks(count=2)
    await filled(pgvector, [one, replace(other, vector=[0.0] * DIMENSIONS)])

    found = await everything(pgvector)

    assert [(candidate.id, round(candidate.score, 6)) for candidate in found.candidates] == [
        (one.id, 1.0),
        (other.id, 0.0),
    ]


# ---------------------------------------------------------------- the schema


async def test_chunks_survive_the_store_being_closed_and_opened(postgres: Postgres, database: str) -> None:
    async with PgVectorStore(postgres.url(database), SCHEMA) as store:
        await filled(store, hostile_chunks())
        before = await everything(store)

    async with PgVectorStore(postgres.url(database), SCHEMA) as store:
        assert await everything(store) == before


async def test_gateways_that_start_at_once_prepare_the_database_together(
    postgres: Postgres, database: str
) -> None:
    async def start() -> int:
        async with PgVectorStore(postgres.url(database), SCHEMA) as store:
            await store.create(STORE, dimensions=DIMENSIONS)
            return len((await everything(store)).candidates)

    async with asyncio.TaskGroup() as starting:
        tasks = [starting.create_task(start()) for _ in range(4)]

    assert [task.result() for task in tasks] == [0] * 4


async def test_tables_of_a_later_version_are_refused(postgres: Postgres, database: str) -> None:
    async with PgVectorStore(postgres.url(database), SCHEMA):
        pass
    postgres.execute(sql.SQL("INSERT INTO regate_vectors.schema_version VALUES (1000)"), database=database)

    with pytest.raises(ConfigurationError, match="version 1000"):
        async with PgVectorStore(postgres.url(database), SCHEMA):
            pass


async def test_a_user_who_may_prepare_nothing_is_told_what_is_missing(
    postgres: Postgres, plain_database: str
) -> None:
    postgres.execute(sql.SQL("DROP EXTENSION vector"), database=plain_database)

    with pytest.raises(ConfigurationError, match="CREATE EXTENSION vector"):
        async with PgVectorStore(postgres.url(plain_database, user="plain"), SCHEMA):
            pass


@pytest.mark.parametrize("url", ["", "sqlite:///x", "postgresql://[", "mysql://host/x"])
def test_a_url_that_is_not_postgresqls_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        PgVectorStore(url, SCHEMA)
    assert not url or url not in refusal.value.message


async def test_a_database_that_is_not_there_is_refused_without_the_password(postgres: Postgres) -> None:
    url = f"postgresql+psycopg://postgres:swordfish@127.0.0.1:{postgres.port}/nowhere"

    with pytest.raises(ConfigurationError) as refusal:
        async with PgVectorStore(url, SCHEMA):
            pass

    assert ("cannot be used" in refusal.value.message, "swordfish" in refusal.value.message) == (True, False)


async def test_a_server_that_swallows_everything_is_refused_in_time(postgres: Postgres) -> None:
    async with Link(postgres.port) as link:
        link.become("swallow")
        with pytest.raises(
            ConfigurationError, match="cannot be used: no answer in time"
        ):  # ours, not that of psycopg's longer limit
            async with PgVectorStore(postgres.url(port=link.port), SCHEMA, deadline_s=0.1):
                pass


async def test_chunks_stamped_under_other_required_fields_are_not_seen_but_removed(
    postgres: Postgres, database: str
) -> None:
    wider = RowSchema(
        "conformance", {**SCHEMA.fields, "embargo": FieldSpec("embargo", "number", required=True)}
    )
    async with PgVectorStore(postgres.url(database), SCHEMA) as store:
        await filled(store, hostile_chunks())

    async with PgVectorStore(postgres.url(database), wider) as store:
        found = await everything(store)
        texts = await store.texts(STORE, [chunk.id for chunk in hostile_chunks()], tenant="acme")
        await store.remove(STORE, FileId("file-00000001"))
        after = await everything(store)

    assert (found.candidates, found.total, texts, after.total) == ((), 60, {}, 55)


# ---------------------------------------------------------------- at once


async def test_writing_the_same_chunks_at_once_leaves_each_once(pgvector: PgVectorStore) -> None:
    chunks = hostile_chunks()
    await pgvector.create(STORE, dimensions=DIMENSIONS)
    async with asyncio.TaskGroup() as writing:
        for _ in range(4):
            writing.create_task(pgvector.add(STORE, chunks))

    found = await everything(pgvector)

    assert (found.total, sorted(one.id for one in found.candidates)) == (
        len(chunks),
        sorted(chunk.id for chunk in chunks),
    )


async def test_reading_and_writing_at_once_never_shows_a_chunk_that_the_plan_forbids(
    pgvector: PgVectorStore,
) -> None:
    chunks = hostile_chunks()
    held = [replace(one, stamp={**one.stamp, "legal_hold": True}) for one in chunks]
    free = [replace(one, stamp={**one.stamp, "legal_hold": False}) for one in chunks]
    await filled(pgvector, free)
    counts: list[int] = []
    seen: list[bool] = []

    async def search() -> None:
        for _ in range(15):
            found = await pgvector.search(
                STORE, Query(QUERY, limit=100), plan=Matching(Compare("eq", ("legal_hold",), value=False))
            )
            counts.append(len(found.candidates))
            seen.extend(candidate.stamp["legal_hold"] is False for candidate in found.candidates)

    async def write() -> None:
        for _ in range(4):
            await pgvector.add(STORE, held)
            await pgvector.add(STORE, free)

    async with asyncio.TaskGroup() as tasks:
        for work in (search, search, write, write):
            tasks.create_task(work())

    assert (all(seen), set(counts) <= {0, len(chunks)}) == (True, True)


async def test_a_cancelled_write_leaves_nothing_and_the_store_goes_on(pgvector: PgVectorStore) -> None:
    await pgvector.create(STORE, dimensions=DIMENSIONS)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await pgvector.add(STORE, hostile_chunks(count=3_000))

    found = await everything(pgvector)

    assert (found.candidates, found.total) == ((), 0)


async def test_more_searches_than_connections_are_all_answered(pgvector: PgVectorStore) -> None:
    await filled(pgvector, hostile_chunks())
    async with asyncio.TaskGroup() as searching:
        tasks = [searching.create_task(everything(pgvector)) for _ in range(40)]

    assert {len(task.result().candidates) for task in tasks} == {60}


# ---------------------------------------------------------------- failures


async def test_a_server_that_ended_all_connections_is_not_noticed(
    postgres: Postgres, pgvector: PgVectorStore, database: str
) -> None:
    await filled(pgvector, hostile_chunks())
    async with asyncio.TaskGroup() as searching:
        for _ in range(8):
            searching.create_task(everything(pgvector))
    ended = postgres.execute(
        sql.SQL(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = {} AND pid <> "
            "pg_backend_pid()"
        ).format(sql.Literal(database))
    )

    assert (len(ended) > 1, [len((await everything(pgvector)).candidates) for _ in range(8)]) == (
        True,
        [60] * 8,
    )


@pytest.mark.parametrize("fault", ["swallow", "cut"])
async def test_a_broken_network_is_unavailable_in_time_and_mended_without_a_restart(
    fault: str, postgres: Postgres, database: str
) -> None:
    async with (
        Link(postgres.port) as link,
        PgVectorStore(postgres.url(database, port=link.port), SCHEMA, deadline_s=30) as store,
    ):
        await filled(store, hostile_chunks())
        link.become("swallow" if fault == "swallow" else "cut")
        store._deadline_s = 0.1  # until it is mended; an addition has eight times as long
        refused = await asyncio.gather(
            everything(store),
            store.create(OTHER, dimensions=DIMENSIONS),
            store.texts(STORE, [chunk.id for chunk in hostile_chunks()], tenant="acme"),
            store.remove(STORE, FileId("file-00000001")),
            store.drop(STORE),
            store.check(),
            store.add(STORE, hostile_chunks()),
            return_exceptions=True,
        )
        store._deadline_s = 30
        link.become("pass")

        assert ([type(one) for one in refused], len((await everything(store)).candidates)) == (
            [VectorStoreUnavailable] * 7,
            60,
        )
    late = [
        isinstance(one, VectorStoreUnavailable) and " took longer than 0." in one.detail for one in refused
    ]
    assert fault == "cut" or all(late)


async def test_an_acknowledged_write_alone_is_there_when_the_network_breaks_in_the_middle(
    postgres: Postgres, database: str
) -> None:
    batches = [
        [replace(one, id=f"acme/{number}/{one.id}") for one in hostile_chunks(count=5)]
        for number in range(30)
    ]
    acknowledged: set[str] = set()
    async with (
        Link(postgres.port) as link,
        PgVectorStore(postgres.url(database, port=link.port), SCHEMA, deadline_s=30) as store,
    ):
        await store.create(STORE, dimensions=DIMENSIONS)

        async def write() -> None:
            for batch in batches:
                try:
                    await store.add(STORE, batch)
                except VectorStoreUnavailable:
                    continue
                acknowledged.update(chunk.id for chunk in batch)
                if len(acknowledged) % 20 == 0:
                    link.become("cut")
                    link.become("pass")

        async with asyncio.TaskGroup() as writing:
            writing.create_task(write())
            writing.create_task(write())
        found = await everything(store)

    ids = {candidate.id for candidate in found.candidates}
    whole = {chunk.id for batch in batches if any(chunk.id in ids for chunk in batch) for chunk in batch}
    assert (acknowledged <= ids, ids, found.total) == (True, whole, len(ids))


async def test_a_store_that_is_gone_is_a_failure_and_not_an_empty_answer(
    postgres: Postgres, pgvector: PgVectorStore, database: str
) -> None:
    await filled(pgvector, hostile_chunks())
    postgres.execute(sql.SQL("DROP SCHEMA regate_vectors CASCADE"), database=database)

    for attempt in (lambda: everything(pgvector), pgvector.check):
        with pytest.raises(VectorStoreUnavailable):
            await attempt()


async def test_what_cannot_be_stored_is_refused_without_being_quoted(pgvector: PgVectorStore) -> None:
    (chunk,) = hostile_chunks(count=1)
    await pgvector.create(STORE, dimensions=DIMENSIONS)
    details = []
    for bad in (
        replace(chunk, text="a secret \ud800"),
        replace(chunk, attributes={"a secret": "\udfff"}),
        replace(chunk, attributes={"size": float("inf")}),
        replace(chunk, vector=[float("nan")] * DIMENSIONS),
        replace(chunk, vector=[3e38 * 10] * DIMENSIONS),
        replace(chunk, index=2**64),
    ):
        with pytest.raises(VectorStoreUnavailable) as refusal:
            await pgvector.add(STORE, [bad])
        details.append(refusal.value.detail)

    assert (any("secret" in detail for detail in details), (await everything(pgvector)).total) == (False, 0)


async def test_rows_of_before_words_were_kept_are_searched_by_their_texts(
    postgres: Postgres, database: str
) -> None:
    chunks = [
        replace(one, text=f"storm {number} of the lamp") for number, one in enumerate(hostile_chunks(count=9))
    ]
    query = Query(chunks[0].vector, 20, "storm 7", "hybrid")
    async with PgVectorStore(postgres.url(database), SCHEMA) as store:
        await store.create(STORE, dimensions=DIMENSIONS)
        await store.add(STORE, chunks)
        expected = await store.search(STORE, query, plan=Everything())
    for statement in (
        sql.SQL(
            "ALTER TABLE regate_vectors.chunks_8 DROP COLUMN words, DROP COLUMN counts, DROP COLUMN number"
        ),
        sql.SQL("ALTER TABLE regate_vectors.stores DROP COLUMN added, DROP COLUMN removed"),
        sql.SQL("DELETE FROM regate_vectors.schema_version WHERE version = 3"),
    ):
        postgres.execute(statement, database=database)
    async with PgVectorStore(postgres.url(database), SCHEMA) as store:
        before = await store.search(STORE, query, plan=Everything())
        await store.add(STORE, chunks[:4])
        half = await store.search(STORE, query, plan=Everything())
        worded = await store.search(STORE, replace(query, mode="keyword", text="7"), plan=Everything())

    assert before == half == expected
    assert [one.id for one in worded.candidates] == [chunks[7].id]
