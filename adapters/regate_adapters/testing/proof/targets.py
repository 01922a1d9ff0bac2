"""What is proven: everything that is given a filter plan and must find exactly the rows that the policy
admits.

A target loads rows once and then answers many plans. Each one of these is the product's own code on a real
engine: the interpreter, the state store's SQL on a SQLite file and on PostgreSQL, and the vector stores. The
counterpart, which knows what they should find, is `oracle.py`.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

from sqlalchemy import Engine, create_engine, delete, event, insert, make_url, select
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from regate_adapters.state.encoding import encode, file_columns
from regate_adapters.state.filters.json_sql import JsonSql
from regate_adapters.state.filters.row_filter import RowShape, render
from regate_adapters.state.filters.sqlite_json import SqliteJson
from regate_adapters.state.tables import files
from regate_adapters.testing.proof.oracle import UNIVERSES, Rows, UniverseName
from regate_adapters.testing.proof.rows import SCHEMA
from regate_adapters.vector.kind import Configured
from regate_adapters.vector.registry import KINDS
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import FilterPlan, expression_of
from regate_orchestrator.ports import Chunk, Query, VectorStore
from regate_orchestrator.rows import FileRow
from regate_orchestrator.values import FileId, StoreId

_VECTOR: Final = (1.0, 0.0)
_POSTGRES: Final = "postgres"
_POSTGRES_VERSION: Final = 18


class Target(Protocol):
    """One thing that applies filter plans to rows of one universe."""

    name: str
    universe: UniverseName

    async def load(self, rows: Rows) -> None:
        """Hold exactly these rows from now on."""
        ...

    async def matching(self, plan: FilterPlan) -> frozenset[str]:
        """Return which of the loaded rows the plan permits. Must raise `FilterNotExpressible` for what
        it cannot apply exactly.
        """
        ...


class InterpreterTarget:
    """`regate_orchestrator.filters.evaluate`: what the filter algebra means."""

    name = "interpreter"

    def __init__(self, universe: UniverseName) -> None:
        self.universe = universe
        self._rows: Rows = {}

    async def load(self, rows: Rows) -> None:
        """Hold the rows as they are."""
        self._rows = rows

    async def matching(self, plan: FilterPlan) -> frozenset[str]:
        """Return the rows for which the plan's expression holds."""
        expression = expression_of(plan)
        return frozenset(identifier for identifier, row in self._rows.items() if holds(expression, row))


class RowsTarget:
    """The state store's row filter on its own table of files; a row is a stamp. Tenant and owner are
    columns where rows are typed.
    """

    def __init__(self, name: str, universe: UniverseName, engine: Engine, json: JsonSql) -> None:
        self.name = name
        self.universe = universe
        self._engine = engine
        self._json = json
        columns = {"tenant": files.c.tenant, "owner": files.c.owner} if universe == "typed" else {}
        self._shape = RowShape(texts=columns, numbers={}, document=files.c.stamp)
        files.create(engine, checkfirst=False)

    async def load(self, rows: Rows) -> None:
        """Replace the table's rows. A dirty row may have no tenant, so its columns say nothing of it."""
        typed = self.universe == "typed"
        with self._engine.begin() as connection:
            connection.execute(delete(files))
            for identifier, row in rows.items():
                stamp = row if typed else {"tenant": "-", "owner": "-"}
                columns = file_columns(FileRow(FileId(identifier), "name", 0, "assistants", 0, stamp))
                connection.execute(insert(files), [{**columns, "stamp": row}])

    async def matching(self, plan: FilterPlan) -> frozenset[str]:
        """Return the rows that the rendered condition selects."""
        condition = render(expression_of(plan), self._shape, self._json)
        with self._engine.connect() as connection:
            return frozenset(connection.scalars(select(files.c.id).where(condition)))


class StoreTarget:
    """A vector store of typed rows, asked through its own `search` for more than it holds."""

    def __init__(self, name: str, store: VectorStore) -> None:
        self.name = name
        self.universe: UniverseName = "typed"
        self._store = store
        self._place = StoreId("vs_proof0")
        self._loads = 0
        self._limit = 1

    async def load(self, rows: Rows) -> None:
        """Put the rows into a new store, and drop the one before."""
        await self._store.drop(self._place)
        self._loads += 1
        self._place = StoreId(f"vs_proof{self._loads}")
        self._limit = len(rows) + 1
        await self._store.create(self._place, dimensions=len(_VECTOR))
        await self._store.add(
            self._place, [_chunk(identifier, number, rows) for number, identifier in enumerate(rows)]
        )

    async def matching(self, plan: FilterPlan) -> frozenset[str]:
        """Return the rows that a search with the plan finds."""
        found = await self._store.search(self._place, Query(_VECTOR, limit=self._limit), plan=plan)
        return frozenset(candidate.id for candidate in found.candidates)


def _chunk(identifier: str, number: int, rows: Rows) -> Chunk:
    return Chunk(
        identifier, FileId("file-proof"), number, "text", _VECTOR, stamp=rows[identifier], attributes={}
    )


@dataclass(frozen=True, slots=True)
class Targets:
    """The targets that are there, and why others are not."""

    opened: Sequence[Target]
    absent: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Engines:
    """The vector engines that can be had on this machine, as a proof opens them, and why others cannot be."""

    configured: Mapping[str, Configured[Any]]
    absent: Mapping[str, str]
    postgres: str | None
    """The URL of the database that pgvector is in."""


@asynccontextmanager
async def open_targets(folder: Path, *, servers: Collection[str] | None = None) -> AsyncIterator[Targets]:
    """Yield every target that can be had on this machine, with its files below the folder; of engines that
    need a server, those of these servers alone where some are named.
    """
    async with AsyncExitStack() as stack:
        targets: list[Target] = [InterpreterTarget(universe) for universe in UNIVERSES]
        targets += [_sqlite(universe, folder, stack) for universe in UNIVERSES]
        engines = engines_here(folder, stack, servers=servers)
        if engines.postgres is not None:
            targets += _on_postgres(engines.postgres, stack)
        for name, configured in engines.configured.items():
            store = await stack.enter_async_context(KINDS[name].open(configured, SCHEMA))
            targets.append(StoreTarget(name, store))
        yield Targets(targets, engines.absent)


def engines_here(folder: Path, stack: AsyncExitStack, *, servers: Collection[str] | None = None) -> Engines:
    """Return the engines that can be had, with their files below the folder; see `open_targets`. Servers
    that are started are stopped by the stack.
    """
    urls: dict[str, str] = {}
    absent: dict[str, str] = {}
    configured: dict[str, Configured[Any]] = {}
    try:
        urls[_POSTGRES] = _postgres_url(stack)
    except ImportError as error:
        absent[_POSTGRES] = f"{error}; name a server in {_variable(_POSTGRES)}"
    for name, kind in KINDS.items():
        server = kind.server
        if not kind.is_installed:
            absent[name] = f"its client is not installed: {kind.extra}"
            continue
        if server is not None and servers is not None and server not in servers:
            absent[name] = "it is not wanted"
            continue
        url = "" if server is None else urls.get(server) or _server_url(server, folder, stack)
        if url is None:
            absent[name] = absent.get(str(server), f"name a server in {_variable(str(server))}")
        elif (one := kind.proof(folder, url)) is not None:
            configured[name] = one
    return Engines(configured, absent, urls.get(_POSTGRES))


def _server_url(server: str, folder: Path, stack: AsyncExitStack) -> str | None:
    """Return the server that its variable names, or one that is started for this run, with its files
    below the folder; None where neither can be.
    """
    if (named := os.environ.get(_variable(server))) is not None:
        return named
    with suppress(ImportError):  # as for PostgreSQL
        engines = importlib.import_module(f"tests.engines.{server}")
        (folder / server).mkdir()
        return str(stack.enter_context(engines.serving(folder / server)))
    return None


def _variable(server: str) -> str:
    """Return the variable that may hold the URL of a server of this kind."""
    return f"REGATE_PROOF_{server.upper()}"


def _sqlite(universe: UniverseName, folder: Path, stack: AsyncExitStack) -> Target:
    engine = create_engine(f"sqlite:///{folder / universe}.db", json_serializer=encode)
    stack.callback(engine.dispose)
    event.listen(engine, "connect", _in_no_hurry)
    return RowsTarget("sqlite", universe, engine, SqliteJson())


def _postgres_url(stack: AsyncExitStack) -> str:
    """Return an empty database of the server that its variable names, or of one that is started for this run.
    Raises `ImportError` where none can be.
    """
    if (named := os.environ.get(_variable(_POSTGRES))) is not None:
        return named
    # The development tree's own way of starting one; an installed package has no such module.
    servers = importlib.import_module("tests.postgres")
    server = stack.enter_context(servers.running_postgres(_POSTGRES_VERSION))
    return str(server.url(stack.enter_context(server.database())))


def _on_postgres(url: str, stack: AsyncExitStack) -> list[Target]:
    from regate_adapters.state.filters.postgres_json import PostgresJson

    engines = {universe: _temporary_tables(url, stack) for universe in UNIVERSES}
    return [RowsTarget(_POSTGRES, universe, engine, PostgresJson()) for universe, engine in engines.items()]


def _temporary_tables(url: str, stack: AsyncExitStack) -> Engine:
    """Return an engine of one connection whose tables are gone with it, so that a server that was
    given is left as it was.
    """
    engine = create_engine(
        make_url(url).set(drivername="postgresql+psycopg"),
        connect_args={"options": "-c search_path=pg_temp -c jit=off"},
        json_serializer=encode,
        pool_size=1,
        max_overflow=0,
    )
    stack.callback(engine.dispose)
    return engine


def _in_no_hurry(connection: DBAPIConnection, _entry: ConnectionPoolEntry) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=OFF")  # nothing here must outlive a loss of power
    cursor.close()
