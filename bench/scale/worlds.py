"""A gateway with so many tenants of 100 persons, each tenant with files, responses, a vector store of its own
and chunks in one that all tenants share. Filled fast: one tenant's things are made over the API, and their
rows are written for every other tenant as that gateway wrote them, straight into the database and the vector
engine, since uploads of a million would take days. What operators say of tenants is said of each. Part of
`tenants.py`.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import shutil
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import aiohttp
from sqlalchemy import Engine, Table, create_engine, insert, select
from tests.deployments import VARIABLE, Deployment

from bench.corpus import DIMENSIONS, make_vectors
from bench.gateway import RunningGateway, running_gateway
from bench.scale.clients import Client
from regate_adapters.state.encoding import encode
from regate_adapters.state.tables import attachments, files, responses, store_activity, vector_stores
from regate_adapters.vector.chroma.store import ChromaVectorStore
from regate_adapters.vector.pgvector.store import PgVectorStore
from regate_gateway.workbench.directory import shipped_policies
from regate_orchestrator.documents.generations import chunk_id
from regate_orchestrator.filters.schema import load_schema
from regate_orchestrator.ports import Chunk, VectorStore
from regate_orchestrator.values import FileId, StoreId

PERSONS: Final = 100
FILES: Final = 20
FOUND: Final = 3
"""Files of a tenant that are in its own store, and in the shared one."""

_AT_ONCE: Final = 8
_ROWS_AT_ONCE: Final = 5_000
_FIRST_ORDINAL: Final = 1_000
_MODEL: Final = "bench"
_VECTORS: Final = make_vectors(10_000, seed=1)
_SAID_OF_TENANTS: Final[dict[tuple[str, ...], dict[str, Any]]] = {
    ("tenants",): {"suspended": False, "admins": []},
    ("quotas", "tenants"): {"rpm": 100_000},
    ("scoped_quotas", "persons", "tenants"): {"rpm": 10_000},
    ("file_limits", "tenants"): {"max_files": 1_000},
    ("storage_limits", "tenants"): {"max_bytes": 2**30},
}
Row = dict[str, Any]


def tenant_name(number: int) -> str:
    """Return the name of a tenant."""
    return f"t{number:06}"


@dataclass(frozen=True, slots=True)
class Person:
    """One of a tenant, and what is asked for on their behalf."""

    tenant: str
    subject: str
    file: str
    own_store: str
    shared_store: str


@dataclass(frozen=True)
class World:
    """Where so many tenants are kept, and the settings of a gateway before it."""

    tenants: int
    deployment: Deployment
    data_dir: Path

    @asynccontextmanager
    async def gateway(self, backend: str) -> AsyncIterator[RunningGateway]:
        """Enter with a gateway before it."""
        async with running_gateway(
            backend,
            data_dir=self.data_dir,
            more=(self.deployment.settings if self.deployment.url else {})
            | {"opa": {"bundle": str(self._policies()), "timeout_ms": 60_000}},
            environment={VARIABLE: self.deployment.url},
        ) as gateway:
            yield gateway

    def _policies(self) -> Path:
        """Return the shipped policies, with what operators may say of a tenant said of each."""
        folder = self.data_dir / "rego"
        if not folder.exists():
            shutil.copytree(shipped_policies(), folder)
            said = json.loads((folder / "data.json").read_text(encoding="utf-8"))
            for path, row in _SAID_OF_TENANTS.items():
                document = said["regate"]
                for name in path:
                    document = document[name]
                document |= {tenant_name(number): row for number in range(self.tenants)}
            (folder / "data.json").write_text(json.dumps(said), encoding="utf-8")
        return folder

    async def fill(self, backend: str) -> str:
        """Make all tenants; return in words how long that took."""
        made = await self._first_tenant(backend)
        began = time.perf_counter()
        await asyncio.to_thread(self._write_rows, made)
        rows_s, began = time.perf_counter() - began, time.perf_counter()
        await self._write_chunks(made)
        return f"rows in {rows_s:.0f} s, chunks in {time.perf_counter() - began:.0f} s"

    def persons(self, count: int, *, first: int = 0) -> list[Person]:
        """Return so many persons, no two alike as long as there are as many; of as many tenants as there are."""
        return [self._person(number) for number in range(first, first + count)]

    def _person(self, number: int) -> Person:
        tenant = number * 7_919 % self.tenants
        name = tenant_name(tenant)
        person = number // self.tenants % PERSONS if self.tenants < PERSONS else number % PERSONS
        return Person(
            name, f"p{person}", _file(name, person % FOUND), f"vs_{name}", self._template["shared"]["id"]
        )

    # ------------------------------------------------------------ the first tenant

    async def _first_tenant(self, backend: str) -> Mapping[str, Row]:
        """Return the rows of what one tenant made over the API."""
        async with self.gateway(backend) as gateway, aiohttp.ClientSession() as session:
            maker = Client(session, gateway, subject="p0", tenant="first", roles=("store_admin",))
            file, to_all = await maker.upload(), {"regate.visibility": "tenant"}
            await maker.store("own", file, metadata=to_all)
            await maker.store("shared", file, metadata={"regate.share": "all_tenants"})
            status, made = await maker.post("/responses", model=_MODEL, input="May I have leave?")
            if status != 200:
                raise RuntimeError(made)
        return self._template

    @cached_property
    def _template(self) -> Mapping[str, Row]:
        with self._engine().connect() as connection:

            def one(table: Table, **named: str) -> Row:
                wanted = select(table).where(
                    table.c.tenant == "first", *(table.c[name] == value for name, value in named.items())
                )
                return dict(zip(table.c.keys(), connection.execute(wanted.limit(1)).one(), strict=True))

            own, shared = one(vector_stores, name="own"), one(vector_stores, name="shared")
            return {
                "file": one(files),
                "own": own,
                "shared": shared,
                "activity": one(store_activity, store_id=own["id"]),
                "attachment": one(attachments, store_id=own["id"]),
                "response": one(responses),
            }

    # ------------------------------------------------------------ all others

    def _engine(self) -> Engine:
        if not self.deployment.url:
            return create_engine(f"sqlite:///{self.data_dir / 'regate.db'}", json_serializer=encode)
        return create_engine(
            self.deployment.url.replace("postgresql://", "postgresql+psycopg://"),
            json_serializer=encode,
            connect_args={"options": "-c regate.scope=maintenance"},
        )

    def _write_rows(self, made: Mapping[str, Row]) -> None:
        makers = (
            (files, _files),
            (vector_stores, _stores),
            (store_activity, _activities),
            (attachments, _attachments),
            (responses, _responses),
        )
        engine = self._engine()
        for table, rows in makers:
            numbered: Iterator[Row] = rows(made, range(self.tenants))
            if "ordinal" in table.c:
                numbered = (
                    {**row, "ordinal": ordinal} for ordinal, row in enumerate(numbered, start=_FIRST_ORDINAL)
                )
            while part := list(itertools.islice(numbered, _ROWS_AT_ONCE)):
                with engine.begin() as connection:
                    connection.execute(insert(table), part)
        engine.dispose()

    def _vectors(self) -> AbstractAsyncContextManager[VectorStore]:
        schema = load_schema(shipped_policies() / "schemas" / "chunk.json")
        if self.deployment.url:
            return PgVectorStore(self.deployment.url, schema, deadline_s=600)
        return ChromaVectorStore(self.data_dir / "vector" / "main", schema)

    async def _write_chunks(self, made: Mapping[str, Row]) -> None:
        shared, left = StoreId(made["shared"]["id"]), iter(range(self.tenants))
        async with self._vectors() as vectors:

            async def own() -> None:
                for number in left:
                    store = StoreId(f"vs_{tenant_name(number)}")
                    await vectors.create(store, dimensions=DIMENSIONS)
                    await vectors.add(store, _chunks(made, [number], store))

            async with asyncio.TaskGroup() as group:
                for _ in range(_AT_ONCE):
                    group.create_task(own())
            # A write to pgvector is of one tenant, or is not held to any.
            for start in range(0, self.tenants, 100):
                part = range(start, min(start + 100, self.tenants))
                await vectors.add(shared, _chunks(made, part, shared))


def _file(tenant: str, number: int) -> str:
    return f"file-{tenant}-{number:02}"


def _generation(tenant: str, file: str, store: str) -> str:
    return f"{tenant}/{file}/{'own' if store.endswith(tenant) else 'all'}"


def _owned(row: Row, tenant: str, owner: str, **more: object) -> Row:
    stamp = {**row["stamp"], "tenant": tenant, "owner": owner, "visibility": "tenant"}
    return {**row, "tenant": tenant, "owner": owner, "stamp": stamp, **more}


def _files(made: Mapping[str, Row], tenants: Sequence[int]) -> Iterator[Row]:
    for name in map(tenant_name, tenants):
        for number in range(FILES):
            yield _owned(made["file"], name, f"p{number}", id=_file(name, number))


def _stores(made: Mapping[str, Row], tenants: Sequence[int]) -> Iterator[Row]:
    for name in map(tenant_name, tenants):
        yield _owned(made["own"], name, "p0", id=f"vs_{name}", shared=False)


def _activities(made: Mapping[str, Row], tenants: Sequence[int]) -> Iterator[Row]:
    for name in map(tenant_name, tenants):
        for store in (f"vs_{name}", made["shared"]["id"]):
            yield {**made["activity"], "store_id": store, "tenant": name}


def _attachments(made: Mapping[str, Row], tenants: Sequence[int]) -> Iterator[Row]:
    for name in map(tenant_name, tenants):
        for store, number in itertools.product((f"vs_{name}", made["shared"]["id"]), range(FOUND)):
            file = _file(name, number)
            yield _owned(
                made["attachment"],
                name,
                f"p{number}",
                store_id=store,
                file_id=file,
                generation=_generation(name, file, store),
            )


def _responses(made: Mapping[str, Row], tenants: Sequence[int]) -> Iterator[Row]:
    row = made["response"]
    for name in map(tenant_name, tenants):
        for number in range(PERSONS):
            one = f"resp_{name}{number:03}"
            yield {
                **row,
                "id": one,
                "thread": one,
                "tenant": name,
                "owner": f"p{number}",
                "body": {**row["body"], "id": one},
            }


def _chunks(made: Mapping[str, Row], tenants: Sequence[int], store: str) -> list[Chunk]:
    found = []
    for tenant, number in itertools.product(tenants, range(FOUND)):
        name = tenant_name(tenant)
        file = _file(name, number)
        stamp = _owned(made["attachment"], name, f"p{number}")["stamp"]
        vector = _VECTORS[(tenant * FOUND + number) % len(_VECTORS)].tolist()
        one = chunk_id(_generation(name, file, store), 0)
        found.append(Chunk(one, FileId(file), 0, "Staff have 28 days of annual leave.", vector, stamp, {}))
    return found
