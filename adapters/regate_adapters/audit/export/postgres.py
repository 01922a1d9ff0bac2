"""PostgreSQL as a destination: a table with a row for each record, by its writer and number.

A record that comes again is the same row. One of the same writer and number that is another record is never
written over: two logs would be under one name, and neither is to be lost unseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, Final

from psycopg import Error as PostgresError
from psycopg import sql

from regate_adapters.audit.export.exporter import ExportFailed
from regate_adapters.audit.export.source import Exported
from regate_adapters.postgres import PromptConnection, cause, connection_parameters, in_words

_DEADLINE_SECONDS: Final = 30.0
_COLUMNS: Final = ("kind", "phase", "tenant", "subject", "request_id", "response_id")

_CREATE: Final = sql.SQL(
    """CREATE TABLE {table} (
         writer text NOT NULL, seq bigint NOT NULL, at timestamptz NOT NULL, digest text NOT NULL,
         kind text, phase text, tenant text, subject text, request_id text, response_id text,
         record json NOT NULL, PRIMARY KEY (writer, seq))"""
)
_INSERT: Final = sql.SQL(
    """INSERT INTO {table}
         (writer, seq, at, digest, kind, phase, tenant, subject, request_id, response_id, record)
       VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s::json)
       ON CONFLICT (writer, seq) DO NOTHING"""
)
_OTHERS: Final = sql.SQL(
    """SELECT 1 FROM {table}
       WHERE writer = %s AND seq BETWEEN %s AND %s AND digest <> ALL(%s) LIMIT 1"""
)


class PostgresDestination:
    """A table, which is made when it is not there. `record` is of type `json`, which holds every text that
    JSON can spell.
    """

    def __init__(self, url: str, *, table: str, writer: str) -> None:
        self._parameters = connection_parameters(url)
        self._table = sql.Identifier(*table.split("."))
        self._writer = writer
        self._connection: PromptConnection | None = None

    async def send(self, batch: Sequence[Exported]) -> int:
        """Write the batch in one transaction. Raises `ExportFailed`."""
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                await self._write(batch)
        except (PostgresError, OSError) as error:  # TimeoutError is an OSError
            await self.close()
            raise ExportFailed(cause(error)) from error
        return 0

    async def examine(self) -> str:
        """Connect, and look for the table. Raises `ExportFailed`, in words for the operator."""
        try:
            connection = self._connection = await PromptConnection.connect(
                **self._parameters, autocommit=True
            )
            is_there = await self._is_there(connection)
        except (PostgresError, OSError) as error:
            raise ExportFailed(in_words(error, self._parameters)) from error
        return "the table is there" if is_there else "the table is not there yet, and will be made"

    async def close(self) -> None:
        """Close the connection."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _write(self, batch: Sequence[Exported]) -> None:
        connection = self._connection or await self._connect()
        async with connection.transaction(), connection.cursor() as cursor:
            await cursor.executemany(_INSERT.format(table=self._table), [self._row(one) for one in batch])
            await cursor.execute(
                _OTHERS.format(table=self._table),
                (self._writer, batch[0].seq, batch[-1].seq, [one.digest for one in batch]),
            )
            if await cursor.fetchone() is not None:
                raise ExportFailed("the table holds other records under this writer and these numbers")

    async def _connect(self) -> PromptConnection:
        self._connection = connection = await PromptConnection.connect(**self._parameters, autocommit=True)
        if not await self._is_there(connection):
            await connection.execute(_CREATE.format(table=self._table))
        return connection

    async def _is_there(self, connection: PromptConnection) -> bool:
        cursor = await connection.execute("SELECT to_regclass(%s)", (self._table.as_string(connection),))
        found = await cursor.fetchone()
        return found is not None and found[0] is not None

    def _row(self, exported: Exported) -> tuple[Any, ...]:
        columns = [_text(exported.record.get(name)) for name in _COLUMNS]
        return self._writer, exported.seq, exported.at, exported.digest, *columns, exported.text.decode()


def _text(value: object) -> str | None:
    """Return a column's text. NUL and lone surrogates, which PostgreSQL cannot hold, are replaced."""
    if value is None:
        return None
    return str(value).encode("utf-8", "replace").decode().replace("\x00", "\N{REPLACEMENT CHARACTER}")
