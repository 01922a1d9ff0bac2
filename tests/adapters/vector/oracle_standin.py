"""What stands in for an Oracle database, which cannot be had here: SQLite behind the few methods of the
driver that are used, for the few forms of statement that are used, each refused unless it keeps Oracle's
rules on binds, lists, lengths and empty strings.

It shows that the statements mean what they should and that their binds fit. Whether Oracle reads them so,
only Oracle can show.
"""

from __future__ import annotations

import array
import re
import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import oracledb

_FORMS: Final = (
    r"CREATE TABLE IF NOT EXISTS \w+ \(.+\)(\s+ORGANIZATION INDEX)?",
    r"CREATE INDEX IF NOT EXISTS \w+ ON \w+ \([\w, ]+\)",
    r"SELECT dimensions FROM regate_stores WHERE store_key = :b_store( FOR UPDATE)?",
    (
        r"SELECT c\.chunk_id, c\.document, c\.embedding FROM regate_chunks c WHERE .+ "
        r"ORDER BY VECTOR_DISTANCE\(c\.embedding, :b_query, DOT\) FETCH EXACT FIRST \d+ ROWS ONLY"
    ),
    (
        r"SELECT c\.row_key, c\.chunk_id, c\.document(, c\.embedding)? FROM regate_chunks c WHERE .+ "
        r"AND c\.row_key > :b_after ORDER BY c\.row_key FETCH FIRST \d+ ROWS ONLY"
    ),
    r"SELECT COUNT\(\*\) FROM regate_chunks c WHERE .+",
    r"INSERT INTO \w+ \([\w, ]+\) VALUES \([:\w, ]+\)",
    r"DELETE FROM regate_chunks c WHERE .+",
    r"DELETE FROM \w+ WHERE store_key = :b_store( AND row_key = :b_row)?",
)
_OURS: Final = (
    (r"VARCHAR2\((\d+)\)", "TEXT"),
    (r"CLOB", "TEXT"),
    (r"NUMBER\(5\)", "INTEGER"),
    (r"VECTOR\(\*, FLOAT32\)", "BLOB"),
    (r"ORGANIZATION INDEX", "WITHOUT ROWID"),
    (r" FOR UPDATE$", ""),
    (r"VECTOR_DISTANCE\((.+), DOT\)", r"vector_distance(\1)"),
    (r"FETCH (EXACT )?FIRST (\d+) ROWS ONLY", r"LIMIT \2"),
    (r"DELETE FROM regate_chunks c", "DELETE FROM regate_chunks AS c"),
)
_LENGTHS: Final = {"b_id": 4_000, "b_name": 1_000, "b_mark": 400, "b_store": 30, "b_tenant": 30, "b_row": 40}


@dataclass
class Said:
    """What the driver hangs on its errors."""

    full_code: str


@dataclass
class Standin:
    """A database in a file; `connect` is what an engine is given."""

    path: Path
    wall: bool = True
    """Whether no session may ask for what its client identifier does not name."""

    def __post_init__(self) -> None:
        self.connections: list[Connection] = []
        self.statements: list[str] = []

    async def connect(self) -> Connection:
        self.connections.append(Connection(self))
        return self.connections[-1]


class Connection:
    """A session."""

    def __init__(self, standin: Standin) -> None:
        self.standin = standin
        self.lite = sqlite3.connect(standin.path, timeout=60, isolation_level=None)
        self.lite.execute("PRAGMA foreign_keys = ON")
        self.lite.execute("PRAGMA synchronous = OFF")
        self.lite.create_function("vector_distance", 2, _negated_product, deterministic=True)
        self.lite.execute("BEGIN")
        self.call_timeout = 0
        self.client_identifier = ""
        self.is_ended = False

    def cursor(self) -> Cursor:
        return Cursor(self)

    async def commit(self) -> None:
        self.lite.execute("COMMIT")
        self.lite.execute("BEGIN")

    async def ping(self) -> None:
        """Answer."""

    async def close(self) -> None:
        self.terminate()

    def is_healthy(self) -> bool:
        return not self.is_ended

    def terminate(self) -> None:
        self.is_ended = True
        self.lite.close()


class Cursor:
    """A cursor."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._found: list[tuple[Any, ...]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""

    async def execute(
        self, statement: str, parameters: Mapping[str, Any] | None = None, *, fetch_lobs: bool = True
    ) -> None:
        self._run(statement, [parameters or {}])
        if "c.document" in statement:
            assert not fetch_lobs, "a CLOB would come back as a locator"

    async def executemany(self, statement: str, parameters: Sequence[Mapping[str, Any]]) -> None:
        assert parameters
        self._run(statement, parameters)

    async def fetchone(self) -> tuple[Any, ...] | None:
        return self._found.pop(0) if self._found else None

    async def fetchall(self) -> list[tuple[Any, ...]]:
        found, self._found = self._found, []
        return found

    def _run(self, statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
        connection = self._connection
        assert connection.call_timeout > 0
        connection.standin.statements.append(statement)
        _require_oracles_rules(statement, rows)
        if connection.standin.wall:
            _require_reach(statement, rows, connection.client_identifier)
        for pattern, ours in _OURS:
            statement = re.sub(pattern, ours, statement)
        try:
            for row in rows:
                cursor = connection.lite.execute(statement, {key: _stored(one) for key, one in row.items()})
                self._found = [tuple(map(_read, found)) for found in cursor.fetchall()]
        except sqlite3.IntegrityError as error:
            raise oracledb.IntegrityError(Said("ORA-00001")) from error
        except sqlite3.OperationalError as error:
            code = "ORA-00942" if "no such table" in str(error) else "ORA-00900"
            raise oracledb.DatabaseError(Said(code)) from error


def _require_oracles_rules(statement: str, rows: Sequence[Mapping[str, Any]]) -> None:
    assert any(re.fullmatch(form, statement, re.DOTALL) for form in _FORMS), statement
    assert ";" not in statement
    named = set(re.findall(r":(\w+)", statement))
    for name in named:
        assert re.fullmatch(r"b_[a-z]+|m\d+", name), f"{name} might be a reserved word"
    assert len(re.findall(r":\w+", statement)) <= 65_535
    for listed in re.findall(r"IN \(([^)]*)\)", statement):
        assert listed.count(",") < 1_000
    for row in rows:
        assert set(row) == named, "ORA-01036 or DPY-4008"
        for name, value in row.items():
            assert type(value) in (str, int, array.array), (name, type(value))
            assert value != "", f"{name} would be NULL"
            if isinstance(value, str):
                assert len(value.encode()) <= _LENGTHS.get(name, 1 << 30 if name == "b_document" else 400)
            if isinstance(value, array.array):
                assert value.typecode == "f"


def _require_reach(statement: str, rows: Sequence[Mapping[str, Any]], reach: str) -> None:
    """Do what the policy of `wall.sql` does, where it would show."""
    store, _, tenant = reach.partition(":")
    assert len(reach.encode()) <= 64
    for row in rows:
        if "regate_chunks" in statement and "CREATE" not in statement:
            assert row["b_store"] == store
            assert not tenant or row["b_tenant"] == tenant


def _stored(value: Any) -> Any:
    return value.tobytes() if isinstance(value, array.array) else value


def _read(value: Any) -> Any:
    return array.array("f", value) if isinstance(value, bytes) else value


def _negated_product(one: bytes, other: bytes) -> float:
    left, right = array.array("f", one), array.array("f", other)
    return -sum(a * b for a, b in zip(left, right, strict=True))
