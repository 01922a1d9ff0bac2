"""The whole gateway on PostgreSQL: state and vectors in one database, which its plain user may not see
past the walls of.
"""

from __future__ import annotations

import httpx
from tests.deployments import Deployment, only_on
from tests.e2e.conftest import World
from tests.e2e.test_retrieval import ACME, GLOBEX, found, ingest, shared_store

pytestmark = only_on("postgres")


async def test_tenants_share_a_store_in_one_database_and_each_finds_its_own(
    world: World, deployment: Deployment
) -> None:
    store = await shared_store(world)
    alice, gita = world.client("alice", "acme", teams=["hr"]), world.client("gita", "globex", teams=["hr"])
    await ingest(alice, store, "leave.md", ACME)
    file = await ingest(gita, store, "leave.md", GLOBEX)
    seen = [
        [("blue-heron" in hit, "red-kite" in hit) for hit in await found(client, store)]
        for client in (alice, gita)
    ]
    await gita.vector_stores.files.delete(vector_store_id=store, file_id=file)

    past_the_wall = deployment.query("SELECT count(*) FROM regate_vectors.chunks_256")
    assert (seen, await found(gita, store), past_the_wall) == ([[(True, False)], [(False, True)]], [], [(0,)])


async def test_the_gateway_is_ready_while_its_database_is(world: World) -> None:
    async with httpx.AsyncClient(base_url=world.url, timeout=120) as anyone:
        ready = await anyone.get("/readyz")

    assert (ready.status_code, ready.json()["vector_stores"]) == (200, {"main": "ok"})
