"""The engine on Oracle. No Oracle can be had here, so a stand-in shows what the statements mean
(`oracle_standin.py`), and sockets how the driver fails. With REGATE_TEST_ORACLE=user@host:port/service, and
the password in REGATE_ORACLE_PASSWORD, a real database is asked.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path
from typing import Any, Final

import pytest

from regate_adapters.testing.vector.suite import SCHEMA, Check, hostile_chunks, vector_store_conformance
from regate_adapters.vector.kind import MARKED_REFUSES, Configured
from regate_adapters.vector.marked.engine import MarkedRow
from regate_adapters.vector.marked.store import MarkedVectorStore
from regate_adapters.vector.marked.tree import Has, Lacks, Tree
from regate_adapters.vector.oracle.kind import Oracle
from regate_adapters.vector.oracle.settings import OracleSettings
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Query
from regate_orchestrator.values import StoreId

pytest.importorskip("oracledb", reason="Oracle's driver is not installed: pip install 'regate[oracle]'")

import oracledb
from tests.adapters.vector.oracle_standin import Connection, Standin

from regate_adapters.vector.oracle.engine import OracleEngine, statements, told

STORE: Final = StoreId("vs_1")
EVERY_ROW: Final[Tree] = True
REAL: Final = os.environ.get("REGATE_TEST_ORACLE", "")
CHECKS: Final = vector_store_conformance()


def engine_on(standin: Standin, *, timeout_s: float = 120, connections: int = 4) -> OracleEngine:
    return OracleEngine(standin.connect, setting="here", connections=connections, timeout_s=timeout_s)


@pytest.fixture
def standin(tmp_path: Path) -> Standin:
    return Standin(tmp_path / "oracle.db")


@pytest.fixture
async def engine(standin: Standin) -> AsyncIterator[OracleEngine]:
    async with engine_on(standin) as found:
        yield found


def row(identifier: str, *marks: str, tenant: str = "acme") -> MarkedRow:
    return MarkedRow(identifier, tenant, marks, f'["{identifier}"]', (1, 0, 0, 0))


async def ids(engine: OracleEngine, where: Tree = EVERY_ROW) -> list[str]:
    return sorted([one.id async for page in engine.rows(STORE, where, vectors=False) for one in page])


async def refusal(asked: Awaitable[object]) -> str:
    with pytest.raises(VectorStoreUnavailable) as refused:
        await asked
    return refused.value.detail or ""


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_the_statements_keep_the_contract(check: Check, engine: OracleEngine) -> None:
    await check(MarkedVectorStore(engine, SCHEMA, shared=True), exempt=MARKED_REFUSES)


@pytest.mark.skipif(not REAL, reason="name a database in REGATE_TEST_ORACLE to ask a real one")
@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_a_real_database_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    async with Oracle().open(Oracle().proof(tmp_path, REAL), SCHEMA) as store:
        for name in ("vs_conformance", "vs_conformance_other", "vs_conformance_clients", "vs_modes"):
            await store.drop(StoreId(name))
        await check(store, exempt=MARKED_REFUSES)


@pytest.mark.skipif(not REAL, reason="name a database in REGATE_TEST_ORACLE to ask a real one")
async def test_a_real_database_takes_a_long_text(tmp_path: Path) -> None:
    store = StoreId("vs_long")
    async with Oracle().open(Oracle().proof(tmp_path, REAL), SCHEMA) as found:
        chunk = hostile_chunks(count=1)[0]
        long = type(chunk)(
            chunk.id, chunk.file_id, 0, "\u00e9" * 50_000, chunk.vector, chunk.stamp, chunk.attributes
        )
        await found.drop(store)
        await found.create(store, dimensions=len(chunk.vector))
        await found.add(store, [chunk, long])
        (candidate,) = (await found.search(store, Query(chunk.vector, limit=2), plan=Everything())).candidates
        await found.drop(store)

    assert candidate.text == long.text


async def test_the_tables_are_made_once(standin: Standin) -> None:
    for _ in range(2):
        async with engine_on(standin) as engine:
            await engine.make(STORE, 4)
    made = [one for one in standin.statements if one.startswith("CREATE")]

    assert made == statements("schema.sql")
    assert len(made) == 5


async def test_a_search_is_the_statement_that_oracle_documents(
    standin: Standin, engine: OracleEngine
) -> None:
    await engine.make(STORE, 4)
    await engine.nearest(STORE, (1, 0, 0, 0), Has(("a",)), tenant="acme", limit=7)

    assert standin.statements[-1] == (
        "SELECT c.chunk_id, c.document, c.embedding FROM regate_chunks c WHERE c.store_key = :b_store "
        "AND c.tenant_key = :b_tenant AND (EXISTS (SELECT 1 FROM regate_marks m "
        "WHERE m.store_key = c.store_key AND m.row_key = c.row_key AND (m.mark IN (:m1)))) "
        "ORDER BY VECTOR_DISTANCE(c.embedding, :b_query, DOT) FETCH EXACT FIRST 7 ROWS ONLY"
    )


def test_the_wall_is_of_both_tables_and_of_all_that_may_be_done_to_them() -> None:
    function, policies = statements("wall.sql")

    assert re.findall(r"'(REGATE_\w+)'", policies)[:2] == ["REGATE_CHUNKS", "REGATE_MARKS"]
    assert "'SELECT, INSERT, UPDATE, DELETE'" in policies
    assert function.count("CLIENT_IDENTIFIER") == 3
    assert "1, 30)" in function
    assert "32)" in function


async def test_a_tenant_is_a_second_condition(engine: OracleEngine) -> None:
    await engine.make(STORE, 4)
    await engine.put(STORE, [row("one", "a"), row("two", "a", tenant="")])
    found = [
        [one.id for one in await engine.nearest(STORE, (1, 0, 0, 0), Has(("a",)), tenant=tenant, limit=9)]
        for tenant in ("acme", "", "other")
    ]

    assert found == [["one"], ["two"], []]
    assert [await engine.count(STORE, Lacks(("b",)), tenant=one) for one in ("acme", "other", None)] == [
        1,
        0,
        2,
    ]


async def test_marks_go_with_their_rows(engine: OracleEngine, standin: Standin) -> None:
    await engine.make(STORE, 4)
    await engine.put(STORE, [row("one", "a", "b"), row("two", "b")])
    await engine.put(STORE, [row("one", "c")])
    assert (await ids(engine, Has(("a",))), await ids(engine, Has(("c",)))) == ([], ["one"])
    await engine.drop(STORE)
    left = [
        (await standin.connect()).lite.execute(f"SELECT COUNT(*) FROM {table}").fetchone()
        for table in ("regate_chunks", "regate_marks", "regate_stores")
    ]

    assert left == [(0,), (0,), (0,)]


async def test_many_rows_come_in_pages(engine: OracleEngine) -> None:
    await engine.make(STORE, 4)
    await engine.put(STORE, [row(f"id{number}", "a") for number in range(1_201)])
    pages = [len(page) async for page in engine.rows(STORE, Has(("a",)), vectors=True)]

    assert pages == [500, 500, 201]


async def test_a_failed_write_leaves_nothing(engine: OracleEngine, standin: Standin) -> None:
    await engine.make(STORE, 4)
    await engine.put(STORE, [row("old", "a")])
    broken = MarkedRow("bad", "acme", ("a",), "[]", (1, 0, 0, float("nan")))
    assert "not finite" in await refusal(engine.put(STORE, [row("new"), broken]))
    standin.connections[-1].lite.execute("COMMIT")
    standin.connections[-1].lite.execute(
        "CREATE TRIGGER full BEFORE INSERT ON regate_marks WHEN NEW.mark = 'full' "
        "BEGIN SELECT RAISE(ABORT, 'x'); END"
    )
    standin.connections[-1].lite.execute("BEGIN")
    said = await refusal(engine.put(STORE, [row("old", "b"), row("new", "full")]))

    assert said == "Oracle: add failed with ORA-00001"
    assert await ids(engine) == await ids(engine, Has(("a",))) == ["old"]


async def test_a_store_that_is_not_there_takes_no_rows(engine: OracleEngine) -> None:
    assert await engine.dimensions(STORE) is None
    assert "has no place here" in await refusal(engine.put(STORE, [row("one")]))
    await engine.delete(STORE, Has(("a",)))
    await engine.drop(STORE)


async def test_connections_are_used_again_and_no_more_than_there_may_be(standin: Standin) -> None:
    async with engine_on(standin, connections=2) as engine:
        await engine.make(STORE, 4)
        await asyncio.gather(*(engine.count(STORE, EVERY_ROW, tenant=None) for _ in range(20)))
        assert len(standin.connections) <= 2
        standin.connections[0].terminate()
        await asyncio.gather(*(engine.count(STORE, EVERY_ROW, tenant=None) for _ in range(20)))

    assert all(one.is_ended for one in standin.connections)


async def test_a_server_that_hangs_is_given_up_and_its_connection_ended(standin: Standin) -> None:
    """As the driver does it: a cancellation is not heeded until the connection ends."""

    class Hanging(Connection):
        async def commit(self) -> None:
            ended = asyncio.Event()
            self.terminate = ended.set  # type: ignore[method-assign]
            while not ended.is_set():
                try:
                    await ended.wait()
                except asyncio.CancelledError:
                    continue
            raise OSError("closed")

    async def connect() -> Any:
        return Hanging(standin)

    async with engine_on(standin):
        pass
    began = time.monotonic()
    engine = OracleEngine(connect, setting="here", connections=1, timeout_s=0.2)
    assert "count" in await refusal(engine.count(STORE, EVERY_ROW, tenant=None))
    assert time.monotonic() - began < 60


async def answer_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    writer.close()


async def answer_nonsense(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(10)
    writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await writer.drain()
    writer.close()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (answer_nothing, "took longer than 0.5 s"),
        (answer_nonsense, "failed with DPY-"),
        (None, "failed with DPY-6005 (no connection)"),
    ],
    ids=["silent", "nonsense", "dead"],
)
async def test_a_server_that_is_none_is_told_without_secrets(answer: Any, why: str) -> None:
    server = await asyncio.start_server(answer or answer_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if answer is None:
        server.close()
    settings = OracleSettings(dsn=f"127.0.0.1:{port}/X", user="regate", password_env="V", timeout_s=0.5)
    configured = Configured(settings, "vector.stores.main", {"password_env": "very-secret"})
    with pytest.raises(ConfigurationError) as refused:
        async with Oracle().open(configured, SCHEMA):
            pass
    server.close()

    assert refused.value.message.startswith("vector.stores.main.dsn: Oracle: check ")
    assert why in refused.value.message
    assert "very-secret" not in refused.value.message
    with pytest.raises(ConfigurationError) as examined:
        await Oracle().examine(configured)
    assert examined.value.message.startswith(
        f"vector.stores.main.dsn: Oracle cannot be used at 127.0.0.1:{port}/X: Oracle: the first question "
    )
    assert re.search(r"(took longer than 0.5 s|failed with DPY-\d+)", examined.value.message)
    assert "very-secret" not in examined.value.message


def test_a_password_that_is_refused_is_told_so() -> None:
    class Refusal:
        full_code = "ORA-01017"
        message = "very-secret"

    error = oracledb.DatabaseError(Refusal())

    assert told(error) == "ORA-01017 (user or password is refused)"


def test_a_wallet_must_be_a_directory(tmp_path: Path) -> None:
    def configured(wallet: Path) -> Configured[OracleSettings]:
        settings = OracleSettings(dsn="d", user="u", password_env="V", wallet=wallet)
        return Configured(settings, "vector.stores.main")

    Oracle().check(configured(tmp_path))
    with pytest.raises(ConfigurationError, match=r"vector.stores.main.wallet: .* is not a directory"):
        Oracle().check(configured(tmp_path / "absent"))
