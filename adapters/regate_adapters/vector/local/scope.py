"""Which chunks a search looks at, and the distinct stamps that these have."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from regate_adapters.vector.local.schema import Connection, stored
from regate_adapters.vector.local.writing import Place
from regate_adapters.vector.partition.columns import Row
from regate_adapters.vector.partition.partition import Changes, KeptRow
from regate_orchestrator.filters.schema import RowSchema


@dataclass(frozen=True, slots=True)
class Scope:
    """Which chunks: those of a partition of the file, or of all partitions of a store."""

    number: int
    is_store: bool = False

    @property
    def of_chunks(self) -> str:
        """Return the condition on chunks in SQL, with a slot for the number."""
        return "store = ?" if self.is_store else "partition = ?"

    @property
    def of_stamps(self) -> str:
        """Return the condition on stamps, likewise."""
        whole = "partition IN (SELECT number FROM partitions WHERE store = ?)"
        return whole if self.is_store else "partition = ?"


def scope_of(connection: Connection, place: Place, tenant: str | None) -> tuple[Scope, Changes] | None:
    """Return where the chunks of the tenant are, or of the whole store, and how they were changed until now;
    None where there was never one.
    """
    if tenant is None:
        query = "SELECT ?1, sum(added), sum(removed) FROM partitions WHERE store = ?1"
        row = connection.execute(query, [place.number]).fetchone()
    else:
        query = "SELECT number, added, removed FROM partitions WHERE store = ? AND tenant = ?"
        row = connection.execute(query, [place.number, stored(tenant)]).fetchone()
    if row is None or row[1] is None:
        return None
    number, added, removed = row
    return Scope(number, is_store=tenant is None), Changes(added, removed)


def stamps_of(
    connection: Connection, scope: Scope, schema: RowSchema, *, after: int = 0
) -> tuple[list[int], list[Row]]:
    """Return the numbers of the scope's stamps under this schema, ascending from the one after this, and
    the rows that filters see for them.
    """
    found = connection.execute(
        f"SELECT number, stamp, attributes FROM stamps WHERE {scope.of_stamps} "  # noqa: S608 — one of two
        "AND number > ? AND version = ? ORDER BY number",
        [scope.number, after, schema.digest],
    ).fetchall()
    rows: list[Row] = [
        {**schema.canonical(json.loads(stamp)), "attributes": json.loads(attributes)}
        for _, stamp, attributes in found
    ]
    return [number for number, _, _ in found], rows


@dataclass(frozen=True, slots=True)
class ScopeReader:
    """Reads a scope through a connection (`partition.Reader`)."""

    connection: Connection
    scope: Scope
    schema: RowSchema

    def numbers(self) -> Sequence[int]:
        """Return the numbers of all chunks that are there, ascending."""
        query = f"SELECT number FROM chunks WHERE {self.scope.of_chunks} ORDER BY number"  # noqa: S608 — one of two
        return [number for (number,) in self.connection.execute(query, [self.scope.number])]

    def stamps(self, *, after: int) -> tuple[Sequence[int], Sequence[Row]]:
        """Return the stamps after this one."""
        return stamps_of(self.connection, self.scope, self.schema, after=after)

    def chunks(self, *, after: int) -> Iterator[KeptRow]:
        """Yield the chunks after this one."""
        return iter(
            self.connection.execute(
                "SELECT number, stamp, vector, words, counts FROM chunks "  # noqa: S608 — one of two
                f"WHERE {self.scope.of_chunks} AND number > ? ORDER BY number",
                [self.scope.number, after],
            )
        )
