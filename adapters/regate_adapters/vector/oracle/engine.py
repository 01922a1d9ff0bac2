"""Marked rows in an Oracle database (23ai or later): a table of rows, and one of their marks.

Every search is `FETCH EXACT`: the database compares all rows for which the condition holds, whatever
indexes of vectors it may have. Each statement names its store, and its tenant where there is one; where
`wall.sql` was run, a policy of the database keeps the session to the same.
"""

from __future__ import annotations

import array
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from importlib import resources
from types import TracebackType
from typing import Final, Self

import oracledb

from regate_adapters.vector.marked.engine import MarkedRow, RankedRow
from regate_adapters.vector.marked.tree import Tree
from regate_adapters.vector.oracle.filter import Binds, key_of, reach_of, row_key_of, where_clause
from regate_adapters.vector.oracle.pool import Connect, Cursor, Pool
from regate_orchestrator.errors import ConfigurationError, VectorStoreUnavailable
from regate_orchestrator.ports import Vector
from regate_orchestrator.values import StoreId

_WRITE_FACTOR: Final = 8
_CHECK_S: Final = 2.0
_PAGE_ROWS: Final = 500
_WRITE_ROWS: Final = 200
_PRESENT: Final = "SELECT dimensions FROM regate_stores WHERE store_key = :b_store"
_INSERT_STORE: Final = (
    "INSERT INTO regate_stores (store_key, store, dimensions) VALUES (:b_store, :b_name, :b_dimensions)"
)
_DELETE_ROW: Final = "DELETE FROM regate_chunks WHERE store_key = :b_store AND row_key = :b_row"
_INSERT_ROW: Final = (
    "INSERT INTO regate_chunks (store_key, row_key, tenant_key, chunk_id, document, embedding) "
    "VALUES (:b_store, :b_row, :b_tenant, :b_id, :b_document, :b_vector)"
)
_INSERT_MARK: Final = "INSERT INTO regate_marks (store_key, row_key, mark) VALUES (:b_store, :b_row, :b_mark)"
_NO_TABLE: Final = "ORA-00942"
_MEANINGS: Final = {
    "ORA-01017": " (user or password is refused)",
    "DPY-6005": " (no connection)",
}
_NOT_UNIQUE: Final = "ORA-00001"


class OracleEngine:
    """Marked rows in the tables of `schema.sql`. Must be entered, which makes them where they are missing.
    Raises `ConfigurationError`, naming the setting, when the database cannot serve.

    Any number of processes may share it.
    """

    def __init__(self, connect: Connect, *, setting: str, connections: int, timeout_s: float) -> None:
        self._pool = Pool(connect, size=connections)
        self._setting = setting
        self._timeout_s = timeout_s

    async def __aenter__(self) -> Self:
        try:
            await self._prepare()
        except VectorStoreUnavailable as error:
            await self._pool.aclose()
            raise ConfigurationError(f"{self._setting}: {error.detail}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._pool.aclose()

    # ------------------------------------------------------------ the port

    async def dimensions(self, store: StoreId) -> int | None:
        """Return the length of the store's vectors; None for a store that was not made."""
        async with self._transaction("look up", store) as cursor:
            return await _present(cursor, store)

    async def make(self, store: StoreId, dimensions: int) -> None:
        """Note the store; whoever else notes it at the same time does it no harm."""
        async with self._transaction("make", store, write=True) as cursor:
            if await _present(cursor, store) is None:
                values = {"b_store": key_of(store), "b_name": store, "b_dimensions": dimensions}
                try:
                    await cursor.execute(_INSERT_STORE, values)
                except oracledb.IntegrityError as error:
                    if _code(error) != _NOT_UNIQUE:
                        raise

    async def put(self, store: StoreId, rows: Sequence[MarkedRow]) -> None:
        """Store the rows in one transaction. Writers of one store wait for each other."""
        if not all(map(math.isfinite, (number for row in rows for number in row.vector))):
            raise VectorStoreUnavailable("a vector holds a number that is not finite")
        async with self._transaction("add", store, write=True) as cursor:
            if await _present(cursor, store, lock=True) is None:
                raise VectorStoreUnavailable(f"store {store} has no place here")
            for start in range(0, len(rows), _WRITE_ROWS):
                await _insert(cursor, key_of(store), rows[start : start + _WRITE_ROWS])

    async def nearest(
        self, store: StoreId, vector: Vector, where: Tree, *, tenant: str | None, limit: int
    ) -> list[RankedRow]:
        """Return the nearest rows. Of vectors of unit length the product is the cosine, and it is a number
        for a vector of zeros too.
        """
        binds = Binds()
        condition = where_clause(where, binds, store=store, tenant=tenant)
        query = binds.named("b_query", array.array("f", vector))
        statement = (
            f"SELECT c.chunk_id, c.document, c.embedding FROM regate_chunks c WHERE {condition} "  # noqa: S608
            f"ORDER BY VECTOR_DISTANCE(c.embedding, {query}, DOT) FETCH EXACT FIRST {int(limit)} ROWS ONLY"
        )
        async with self._transaction("search", store, tenant) as cursor:
            await cursor.execute(statement, binds.values, fetch_lobs=False)
            return [_shown(found) for found in await cursor.fetchall()]

    async def rows(self, store: StoreId, where: Tree, *, vectors: bool) -> AsyncIterator[list[RankedRow]]:
        """Yield all rows for which the condition holds, in the order of their keys; each page is a
        transaction of its own.
        """
        after = "-"  # before every digest, where an empty string would be NULL
        while True:
            binds = Binds()
            condition = where_clause(where, binds, store=store)
            columns = "c.row_key, c.chunk_id, c.document" + (", c.embedding" if vectors else "")
            statement = (
                f"SELECT {columns} FROM regate_chunks c WHERE {condition} "  # noqa: S608
                f"AND c.row_key > {binds.named('b_after', after)} "
                f"ORDER BY c.row_key FETCH FIRST {_PAGE_ROWS} ROWS ONLY"
            )
            async with self._transaction("read", store) as cursor:
                await cursor.execute(statement, binds.values, fetch_lobs=False)
                found = await cursor.fetchall()
            if found:
                yield [_shown(one[1:]) for one in found]
            if len(found) < _PAGE_ROWS:
                return
            after = found[-1][0]

    async def count(self, store: StoreId, where: Tree, *, tenant: str | None) -> int:
        """Return for how many rows the condition holds."""
        binds = Binds()
        condition = where_clause(where, binds, store=store, tenant=tenant)
        async with self._transaction("count", store, tenant) as cursor:
            await cursor.execute(f"SELECT COUNT(*) FROM regate_chunks c WHERE {condition}", binds.values)  # noqa: S608
            (count,) = await cursor.fetchone()
            return int(count)

    async def delete(self, store: StoreId, where: Tree) -> None:
        """Remove the rows for which the condition holds; their marks go with them."""
        binds = Binds()
        condition = where_clause(where, binds, store=store)
        async with self._transaction("remove", store, write=True) as cursor:
            await cursor.execute(f"DELETE FROM regate_chunks c WHERE {condition}", binds.values)  # noqa: S608

    async def drop(self, store: StoreId) -> None:
        """Remove the store and all its rows."""
        async with self._transaction("drop", store, write=True) as cursor:
            if await _present(cursor, store, lock=True) is not None:
                for table in ("regate_chunks", "regate_stores"):
                    await cursor.execute(
                        f"DELETE FROM {table} WHERE store_key = :b_store",  # noqa: S608
                        {"b_store": key_of(store)},
                    )

    async def check(self) -> None:
        """Raise `VectorStoreUnavailable` when the database does not answer, or lacks its tables."""
        async with self._transaction("check", StoreId(""), within_s=min(_CHECK_S, self._timeout_s)) as cursor:
            await _present(cursor, StoreId(""))

    # ------------------------------------------------------------ the database

    async def _prepare(self) -> None:
        """Make the tables where the first look at them finds none."""
        try:
            await self.check()
            return
        except VectorStoreUnavailable as error:
            if _NO_TABLE not in (error.detail or ""):
                raise
        async with self._transaction("make the tables", StoreId(""), write=True) as cursor:
            for statement in statements("schema.sql"):
                await cursor.execute(statement)

    @asynccontextmanager
    async def _transaction(
        self,
        what: str,
        store: StoreId,
        tenant: str | None = None,
        *,
        write: bool = False,
        within_s: float | None = None,
    ) -> AsyncIterator[Cursor]:
        """Yield a cursor in a transaction. Of what the database says only the code is told: the rest may
        quote what was to be written.
        """
        limit = within_s or self._timeout_s * (_WRITE_FACTOR if write else 1)
        with failing(what, limit):
            async with self._pool.transaction(reach_of(store, tenant), within_s=limit) as cursor:
                yield cursor


@contextmanager
def failing(what: str, limit_s: float) -> Iterator[None]:
    """Have each failure be `VectorStoreUnavailable`, with nothing of the database's own words."""
    try:
        yield
    except TimeoutError as error:
        raise VectorStoreUnavailable(f"Oracle: {what} took longer than {limit_s:g} s") from error
    except oracledb.Error as error:
        raise VectorStoreUnavailable(f"Oracle: {what} failed with {told(error)}") from error
    except (OSError, ValueError, TypeError) as error:
        raise VectorStoreUnavailable(f"Oracle: {what} failed with {type(error).__name__}") from error


def statements(name: str) -> list[str]:
    """Return the statements of a file beside this one."""
    text = (resources.files(__package__) / name).read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("--")]
    return [part.strip() for part in "\n".join(lines).split("\n/") if part.strip()]


async def _present(cursor: Cursor, store: StoreId, *, lock: bool = False) -> int | None:
    """Return the length of the store's vectors; with `lock`, nobody else writes to it until the end."""
    await cursor.execute(f"{_PRESENT} FOR UPDATE" if lock else _PRESENT, {"b_store": key_of(store)})
    found = await cursor.fetchone()
    return None if found is None else int(found[0])


async def _insert(cursor: Cursor, store: str, rows: Sequence[MarkedRow]) -> None:
    keys = [{"b_store": store, "b_row": row_key_of(row.id)} for row in rows]
    written = [
        {
            **key,
            "b_tenant": key_of(row.tenant),
            "b_id": row.id,
            "b_document": row.document,
            "b_vector": array.array("f", row.vector),
        }
        for key, row in zip(keys, rows, strict=True)
    ]
    marks = [
        {**key, "b_mark": mark}
        for key, row in zip(keys, rows, strict=True)
        for mark in dict.fromkeys(row.marks)
    ]
    await cursor.executemany(_DELETE_ROW, keys)
    await cursor.executemany(_INSERT_ROW, written)
    if marks:
        await cursor.executemany(_INSERT_MARK, marks)


def _shown(found: Sequence[object]) -> RankedRow:
    identifier, document, *vector = found
    numbers: Vector = list(vector[0]) if vector else ()  # type: ignore[call-overload]  # of the database's array
    return RankedRow(str(identifier), str(document), numbers)


def told(error: oracledb.Error) -> str:
    """Return an error by its code, and what the code means where it says what to look at."""
    code = _code(error)
    return code + _MEANINGS.get(code, "")


def _code(error: oracledb.Error) -> str:
    """Return the code of what the database or the driver said, as `ORA-00942`."""
    code = getattr(error.args[0], "full_code", None) if error.args else None
    return str(code or type(error).__name__)
