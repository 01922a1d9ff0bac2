"""The whole gateway on PostgreSQL: state and vectors in one database, which its plain user may not see past the walls of."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from psycopg import sql
from tests.e2e.conftest import ScriptedUpstream, World
from tests.e2e.test_retrieval import ACME, GLOBEX, found, ingest, shared_store
from tests.postgres import Postgres, running_postgres

from regate_gateway.server import Running
from regate_gateway.settings import Settings
from regate_gateway.wiring import gateway_app


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    with running_postgres(18) as server:
        server.execute(sql.SQL("CREATE ROLE gateway LOGIN"))
        yield server


@pytest.fixture
def database(postgres: Postgres) -> Iterator[str]:
    """A database as an operator prepares it: the extension is there, and it is the gateway's own."""
    with postgres.database() as name:
        postgres.execute(sql.SQL("CREATE EXTENSION vector"), database=name)
        postgres.execute(sql.SQL("ALTER DATABASE {} OWNER TO gateway").format(sql.Identifier(name)))
        yield name


@pytest.fixture
async def world(
    configure: Callable[..., Settings],
    upstream: ScriptedUpstream,
    policies: Path,
    postgres: Postgres,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[World]:
    monkeypatch.setenv("DATABASE_URL", postgres.url(database, user="gateway"))
    settings = configure(state={"url_env": "DATABASE_URL"}, vector={"stores": {"main": {"kind": "pgvector", "url_env": "DATABASE_URL"}}})
    app, gateway = gateway_app(settings)
    async with Running(app, settings.listen) as server:
        running = World(server.url, settings, gateway, upstream, policies)
        yield running
        for client in running.clients:
            await client.close()


async def test_tenants_share_a_store_in_one_database_and_each_finds_its_own(world: World, postgres: Postgres, database: str) -> None:
    store = await shared_store(world)
    alice, gita = world.client("alice", "acme", teams=["hr"]), world.client("gita", "globex", teams=["hr"])
    await ingest(alice, store, "leave.md", ACME)
    file = await ingest(gita, store, "leave.md", GLOBEX)
    seen = [[("blue-heron" in hit, "red-kite" in hit) for hit in await found(client, store)] for client in (alice, gita)]
    await gita.vector_stores.files.delete(vector_store_id=store, file_id=file)

    past_the_wall = postgres.execute(sql.SQL("SELECT count(*) FROM regate_vectors.chunks_256"), database=database, user="gateway")
    assert (seen, await found(gita, store), past_the_wall) == ([[(True, False)], [(False, True)]], [], [(0,)])


async def test_the_gateway_is_ready_while_its_database_is(world: World) -> None:
    async with world.http() as client:
        assert (await client.get(f"{world.url}/readyz")).status_code == 200


async def test_a_conversation_goes_on_from_what_the_database_kept(world: World) -> None:
    alice = world.client("alice", "acme")
    first = await alice.responses.create(model="small", input="Remember the number 41.")
    second = await alice.responses.create(model="small", input="Which number?", previous_response_id=first.id)
    async with world.http("gita", "globex") as client:
        foreign = await client.get(f"/responses/{first.id}")
    assert (second.status, "41" in world.upstream.prompt, foreign.status_code) == ("completed", True, 404)
