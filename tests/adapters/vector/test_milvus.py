"""Milvus keeps the contract, as Milvus Lite with Milvus's own client. A server that fails is a failure in
time, and nothing that it says is told.
"""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing, suppress
from typing import Any, Final

import pytest
from pydantic import ValidationError
from tests.adapters.vector.drivers import (
    DRIVER_CHECKS,
    QUERY,
    STORE,
    fill_to_be_killed,
    gateways_of_one_server_see_the_same_rows,
    ids,
    row,
)
from tests.link import Link, State
from tests.patience import PATIENT_SECONDS, until

from regate_adapters.testing.ports import free_port
from regate_adapters.testing.vector.suite import (
    DIMENSIONS,
    SCHEMA,
    Check,
    hostile_chunks,
    vector_store_conformance,
)
from regate_adapters.vector.kind import MARKED_REFUSES, Configured
from regate_adapters.vector.marked.engine import MarkedRow
from regate_adapters.vector.marked.store import MarkedVectorStore
from regate_adapters.vector.marked.tree import Has
from regate_adapters.vector.milvus.engine import MilvusEngine
from regate_adapters.vector.milvus.filter import key_of
from regate_adapters.vector.milvus.kind import Milvus
from regate_adapters.vector.milvus.settings import MilvusSettings
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.ports import Query
from regate_orchestrator.values import StoreId

pytest.importorskip("pymilvus", reason="install pymilvus")
pytest.importorskip("milvus_lite", reason="install milvus-lite")

from pymilvus import DataType, MilvusClient, MilvusException
from tests.engines.milvus import MilvusRun, running_milvus

from regate_adapters.vector.milvus.connecting import client_of

pytestmark = pytest.mark.engines

CHECKS: Final = vector_store_conformance()
USED: Final = (
    STORE,
    *map(StoreId, ("vs_conformance", "vs_conformance_other", "vs_conformance_clients", "vs_modes")),
)
TOKEN: Final = "root:a-word-that-nobody-may-see"
SECRET: Final = "what-a-chunk-says"
SHORT: Final = 1.0
_ENDLESS: Final = 20


def engine_at(port: int, *, timeout_s: float = PATIENT_SECONDS) -> MilvusEngine:
    connect = client_of(f"http://127.0.0.1:{port}", TOKEN, database="default")
    return MilvusEngine(connect, timeout_s=timeout_s, collections="tests")


def store_of(engine: MilvusEngine) -> MarkedVectorStore:
    return MarkedVectorStore(engine, SCHEMA, shared=True)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusRun]:
    with running_milvus(tmp_path_factory.mktemp("milvus")) as started:
        yield started


@pytest.fixture
async def engine(server: MilvusRun) -> AsyncIterator[MilvusEngine]:
    opened = engine_at(server.port)
    yield opened
    for name in USED:
        await opened.drop(name)
    await opened.aclose()


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_milvus_keeps_the_contract(check: Check, engine: MilvusEngine) -> None:
    await check(store_of(engine), exempt=MARKED_REFUSES)


async def _answers(engine: MilvusEngine) -> bool:
    """Return whether it does again: the first question after a restart finds nothing loaded."""
    with suppress(VectorStoreUnavailable):
        await ids(engine, True)
        return True
    return False


@pytest.mark.parametrize("check", DRIVER_CHECKS)
async def test_milvus_does_what_a_driver_must(check: str, engine: MilvusEngine) -> None:
    await DRIVER_CHECKS[check](engine)


async def test_gateways_of_one_server_see_the_same_rows(engine: MilvusEngine, server: MilvusRun) -> None:
    async with aclosing(engine_at(server.port)) as other:
        await gateways_of_one_server_see_the_same_rows(engine, other)


async def test_a_server_that_was_killed_has_kept_what_it_took(
    engine: MilvusEngine, server: MilvusRun
) -> None:
    kept = await fill_to_be_killed(engine)
    server.stop()
    async with aclosing(engine_at(server.port, timeout_s=SHORT)) as other:
        with pytest.raises(VectorStoreUnavailable):
            await other.check()
    server.start()
    await until(lambda: _answers(engine))

    assert await ids(engine, True) == kept


async def test_a_collection_of_others_is_left_alone(engine: MilvusEngine, server: MilvusRun) -> None:
    foreign = MilvusClient(uri=server.url, dedicated=True)
    schema = foreign.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=9)
    foreign.create_collection("tests_9", schema=schema)
    with pytest.raises(VectorStoreUnavailable) as refused:
        await engine.make(STORE, 9)
    indexes = foreign.list_indexes("tests_9")
    foreign.close()

    assert "tests_9 is not one that Regate made" in (refused.value.detail or "")
    assert indexes == []
    assert await engine.dimensions(STORE) is None


async def test_more_rows_are_ranked_than_milvus_returns_at_once(
    engine: MilvusEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    chunks = hostile_chunks()
    await engine.make(STORE, DIMENSIONS)
    await engine.put(STORE, [MarkedRow(one.id, "acme", ("m",), "{}", one.vector) for one in chunks])
    usual = await engine.nearest(STORE, QUERY, Has(("m",)), tenant="acme", limit=20)
    monkeypatch.setattr("regate_adapters.vector.milvus.engine._MOST_RANKED", 7)
    read = await engine.nearest(STORE, QUERY, Has(("m",)), tenant="acme", limit=20)
    none = await engine.nearest(STORE, QUERY, Has(("m",)), tenant="globex", limit=20)

    assert [one.id for one in read] == [one.id for one in usual]
    assert (len(read), none) == (20, [])


async def test_a_row_with_more_marks_than_milvus_holds_is_refused(engine: MilvusEngine) -> None:
    await engine.make(STORE, DIMENSIONS)
    with pytest.raises(VectorStoreUnavailable):
        await engine.put(STORE, [row("1", *(f"m{number}" for number in range(4_097)))])

    assert await ids(engine, True) == []


# ---------------------------------------------------------------- a server that fails

OPERATIONS: Final[dict[str, Callable[[MarkedVectorStore], Awaitable[object]]]] = {
    "create": lambda store: store.create(STORE, dimensions=DIMENSIONS),
    "add": lambda store: store.add(STORE, hostile_chunks()),
    "search": lambda store: store.search(STORE, Query(QUERY, limit=1), plan=Everything()),
    "texts": lambda store: store.texts(STORE, [hostile_chunks(count=1)[0].id], tenant="acme"),
    "restamp": lambda store: store.restamp(
        STORE, hostile_chunks()[0].file_id, generation="g", target="h", stamp={}, attributes={}
    ),
    "remove": lambda store: store.remove(STORE, hostile_chunks()[0].file_id),
    "generations": lambda store: store.generations(STORE),
    "drop": lambda store: store.drop(STORE),
    "check": lambda store: store.check(),
}


@pytest.mark.parametrize("state", ["swallow", "drip", "half_close", "reset", "cut"])
async def test_no_operation_waits_longer_for_a_server_than_the_setting_says(
    state: State, engine: MilvusEngine, server: MilvusRun
) -> None:
    await engine.make(STORE, DIMENSIONS)
    async with (
        Link(server.port, delay_s=SHORT / 5) as link,
        aclosing(engine_at(link.port, timeout_s=SHORT)) as broken,
    ):
        link.become(state)
        began = time.monotonic()
        refused = await asyncio.gather(
            *[ask(store_of(broken)) for _ in range(4) for ask in OPERATIONS.values()], return_exceptions=True
        )
        took = time.monotonic() - began
        link.become("pass")
        await engine.put(STORE, [row("1", "m")])

    assert {type(one) for one in refused} == {VectorStoreUnavailable}
    assert took < _ENDLESS
    assert await ids(engine, True) == ["1"]


@pytest.mark.parametrize("name", OPERATIONS)
async def test_a_server_that_is_not_there_is_a_failure(name: str) -> None:
    async with aclosing(engine_at(free_port(), timeout_s=SHORT)) as engine:
        with pytest.raises(VectorStoreUnavailable) as refused:
            await OPERATIONS[name](store_of(engine))

    _says_nothing(refused.value)


async def test_examination_names_the_version_and_what_is_wrong(server: MilvusRun) -> None:
    def configured(url: str) -> Configured[MilvusSettings]:
        settings = MilvusSettings(url=url, token_env="MILVUS_TOKEN", timeout_s=SHORT)
        return Configured(settings, "vector.stores.main", {"token_env": TOKEN})

    told = await Milvus().examine(configured(server.url))
    nowhere = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(ConfigurationError) as refused:
        await Milvus().examine(configured(nowhere))

    assert told.startswith("Milvus milvus_lite-3.")
    assert told.endswith(f" answers at {server.url}")
    assert refused.value.message.startswith(
        f"Milvus cannot be used at {nowhere}: Milvus: the first question "
    )
    assert TOKEN not in refused.value.message


@pytest.mark.parametrize(
    "url", ["", "localhost:19530", "ftp://host", "http://", "http://user:word@host:19530", "http://h?x=1"]
)
def test_an_address_that_cannot_be_a_server_is_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        MilvusSettings(url=url)


async def test_it_is_opened_with_its_settings_and_closed(server: MilvusRun) -> None:
    configured = Configured(
        MilvusSettings(url=server.url, token_env="V", collections="other", timeout_s=60),
        "p",
        {"token_env": TOKEN},
    )
    async with Milvus().open(configured, SCHEMA) as store:
        await store.create(STORE, dimensions=DIMENSIONS)
        await store.add(STORE, hostile_chunks())
        found = await store.search(STORE, Query(QUERY, limit=3), plan=Everything())
        await store.drop(STORE)

    assert (len(found.candidates), found.total, await store.is_shared(STORE)) == (3, 60, True)


# ---------------------------------------------------------------- answers that are no good


class Tampered(MilvusClient):
    """Milvus's client at a real server, whose answers are changed on the way."""

    change: Callable[[Any], Any] = staticmethod(lambda answer: answer)

    def query(self, *args: Any, **kwargs: Any) -> Any:
        return self.change(super().query(*args, **kwargs))

    def search(self, *args: Any, **kwargs: Any) -> Any:
        return self.change(super().search(*args, **kwargs))

    def upsert(self, *args: Any, **kwargs: Any) -> Any:
        return self.change(super().upsert(*args, **kwargs))

    def delete(self, *args: Any, **kwargs: Any) -> Any:
        return self.change(super().delete(*args, **kwargs))


def _with(**wrong: Any) -> Callable[[Any], Any]:
    def change(answer: Any) -> Any:
        if isinstance(answer, dict):
            return {**answer, **wrong}
        if isinstance(answer[0], dict):
            return [{**one, **wrong} for one in answer]
        return [[{**hit, "entity": {**hit["entity"], **wrong}} for hit in answer[0]]]

    return change


def _without(name: str) -> Callable[[Any], Any]:
    def change(answer: Any) -> Any:
        if isinstance(answer[0], dict):
            return [{key: value for key, value in one.items() if key != name} for one in answer]
        return [
            [
                {**hit, "entity": {key: value for key, value in hit["entity"].items() if key != name}}
                for hit in answer[0]
            ]
        ]

    return change


def _fail(_: Any) -> Any:
    raise MilvusException(code=65535, message=f"{SECRET} {TOKEN}")


async def _read(engine: MilvusEngine) -> object:
    return [page async for page in engine.rows(STORE, True, vectors=True)]


READS: Final[dict[str, Callable[[MilvusEngine], Awaitable[object]]]] = {
    "search": lambda engine: engine.nearest(STORE, QUERY, True, tenant="acme", limit=3),
    "read": _read,
}
WRONG: Final[dict[str, Callable[[Any], Any]]] = {
    "another store": _with(store=key_of("vs_2")),
    "no store": _without("store"),
    "no document": _without("document"),
    "no vector": _without("vector"),
    "a short vector": _with(vector=[1.0]),
    "no name": _with(name=None),
    "a failure": _fail,
    "nothing": lambda _: None,
    "something else": lambda _: [SECRET],
}


@pytest.fixture
async def tampered(engine: MilvusEngine, server: MilvusRun) -> AsyncIterator[MilvusEngine]:
    """An engine that has a store with one row, and whose answers can be changed."""
    await engine.make(STORE, DIMENSIONS)
    await engine.put(STORE, [row("1", "m")])
    connect = lambda _: Tampered(uri=server.url, token=TOKEN, dedicated=True)  # noqa: E731
    async with aclosing(MilvusEngine(connect, timeout_s=PATIENT_SECONDS, collections="tests")) as opened:
        await opened.dimensions(STORE)
        yield opened


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("what", READS)
async def test_an_entity_that_was_not_asked_for_is_a_failure(
    what: str, wrong: str, tampered: MilvusEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tampered, "change", staticmethod(WRONG[wrong]))
    with pytest.raises(VectorStoreUnavailable) as refused:
        await READS[what](tampered)

    _says_nothing(refused.value)


async def test_an_entity_of_another_tenant_is_a_failure(
    tampered: MilvusEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tampered, "change", staticmethod(_with(tenant=key_of("globex"))))
    with pytest.raises(VectorStoreUnavailable):
        await READS["search"](tampered)


@pytest.mark.parametrize("wrong", [{"id": "x"}, {"dimensions": 0}, {"dimensions": "8"}])
async def test_a_store_that_is_noted_wrongly_is_a_failure(
    wrong: dict[str, Any], tampered: MilvusEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tampered, "change", staticmethod(_with(**wrong)))
    with pytest.raises(VectorStoreUnavailable):
        await tampered.dimensions(STORE)


async def test_rows_that_are_not_all_taken_are_a_failure(
    tampered: MilvusEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tampered, "change", staticmethod(_with(upsert_count=0)))
    with pytest.raises(VectorStoreUnavailable):
        await tampered.put(STORE, [row("2", "m")])


async def test_what_the_server_says_of_a_failure_is_not_told(
    tampered: MilvusEngine, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(VectorStoreUnavailable) as refused:
        await tampered.put(STORE, [MarkedRow(SECRET, "acme", ("m",), SECRET, (1.0,) * (DIMENSIONS + 1))])
    monkeypatch.setattr(Tampered, "change", staticmethod(_fail))
    with pytest.raises(VectorStoreUnavailable) as failed:
        await tampered.delete(STORE, True)

    _says_nothing(refused.value)
    _says_nothing(failed.value)
    assert "failed with MilvusException 65535" in (failed.value.detail or "")
    assert SECRET not in "".join(capfd.readouterr())


def _says_nothing(error: VectorStoreUnavailable) -> None:
    told = f"{error.detail} {''.join(traceback.format_exception(error))}"
    assert (TOKEN in told, SECRET in told, "127.0.0.1" in told) == (False, False, False)
