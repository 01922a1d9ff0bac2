"""What `sqlite.py` and `postgres.py` have in common: what they open, the tables in it, and how a failure is told. No database is named here."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, inspect, select
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from regate_adapters.state.json_sql import JsonSql
from regate_adapters.state.tables import VERSION, metadata, schema_version
from regate_orchestrator.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Engines:
    """An open database: how to look into its JSON, what reads of it (one consistent state each), and what writes."""

    json: JsonSql
    reader: AsyncEngine
    writer: AsyncEngine


def make_tables(connection: Connection, place: str) -> None:
    """Make the tables if there are none, within the connection's transaction, which must exclude every other writer.

    Raises `ConfigurationError`, naming the place, when they are something else's or of another version: they are never altered in passing.
    """
    present = set(inspect(connection).get_table_names())
    if not present:
        metadata.create_all(connection)
        connection.execute(insert(schema_version).values(version=VERSION))
        return
    if schema_version.name not in present:
        raise ConfigurationError(f"state.url: {place} is a database of something else")
    versions = list(connection.scalars(select(schema_version.c.version)))
    if versions != [VERSION]:
        raise ConfigurationError(f"state.url: {place} has schema version {versions}, and this program needs {VERSION}")


def cause(error: BaseException) -> str:
    """Return what the database said, without the statement and its values; of PostgreSQL, whose words quote values, the code alone."""
    origin = error.orig if isinstance(error, DBAPIError) else None
    said = origin or error
    if hasattr(said, "sqlstate"):
        return f"{type(said).__name__} ({said.sqlstate or 'no code'})"
    return f"{type(said).__name__}: {origin}" if origin else type(said).__name__
