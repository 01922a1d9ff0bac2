"""How the databases go about the statements of the state store, for tests of what grows: none may read a
table whole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Engine, event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from regate_adapters.state.tables import gateways, metadata, schema_revision

GROWING = sorted(set(metadata.tables) - {gateways.name, schema_revision.name})

Said = tuple[str, Any]


@contextmanager
def overheard() -> Iterator[list[Said]]:
    """Collect every statement that the store sends, with values for it."""
    said: dict[str, Said] = {}

    def hear(
        _connection: Any, _cursor: Any, statement: str, parameters: Any, _context: Any, many: bool
    ) -> None:
        said.setdefault(statement, (statement, parameters[0] if many else parameters))

    event.listen(Engine, "before_cursor_execute", hear)
    found: list[Said] = []
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", hear)
        found.extend(one for one in said.values() if re.match("SELECT|WITH|UPDATE|DELETE", one[0]))


async def plan_of(connection: AsyncConnection, said: Said) -> str:
    """Return in the database's own words how it goes about the statement."""
    statement, parameters = said
    if connection.dialect.name == "sqlite":
        return "\n".join(str(step) for *_, step in await _explained_by_sqlite(connection, said))
    rows = await connection.exec_driver_sql(f"EXPLAIN {statement}", parameters)
    return "\n".join(str(line) for (line,) in rows)


async def _explained_by_sqlite(connection: AsyncConnection, said: Said) -> list[Any]:
    statement, parameters = said
    session: Any = connection
    found: list[Any] = await session._do(
        lambda: session._connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all()
    )
    return found


async def reads_all_of(connection: AsyncConnection, said: Said) -> list[str]:
    """Return what of the statement's plan reads a whole table, or a whole index, of those that grow."""
    statement, parameters = said
    if connection.dialect.name == "sqlite":
        plan = await _explained_by_sqlite(connection, said)
        return [
            step for *_, step in plan if any(re.match(rf"SCAN {table}(_\d+)?\b", step) for table in GROWING)
        ]
    for way in ("seqscan", "mergejoin", "hashjoin"):  # which tables of a few rows invite
        await connection.execute(text(f"SET LOCAL enable_{way} = off"))
    (rows,) = (await connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", parameters)).one()
    plans = [json.loads(rows)[0]["Plan"]] if isinstance(rows, str) else [rows[0]["Plan"]]
    whole = []
    while plans:
        node = plans.pop()
        plans += node.get("Plans", [])
        if (
            "Scan" in node["Node Type"]
            and node.get("Relation Name") in GROWING
            and not {"Index Cond", "Recheck Cond"} & node.keys()
        ):
            whole.append(f"{node['Node Type']} on {node['Relation Name']}")
    return whole


def pretend_much_is_stored(url: str) -> None:
    """Have PostgreSQL plan as for a million rows in each table that grows."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        connection.execute(
            "UPDATE pg_class SET reltuples = 1000000, relpages = 1 WHERE relname = ANY (%s)", [list(GROWING)]
        )
