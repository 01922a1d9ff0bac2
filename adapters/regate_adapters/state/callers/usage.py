"""What was used, in the state store: one row for a person, model and day, to which every gateway adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import RowMapping, delete, func, select
from sqlalchemy.dialects.postgresql import insert as insert_in_postgres
from sqlalchemy.dialects.sqlite import insert as insert_in_sqlite

from regate_adapters.state.callers.tables import usage
from regate_adapters.state.database import Database
from regate_adapters.state.visibility import within
from regate_orchestrator.ports import UsageKey, UsageRow

_SUMS: Final = ("requests", "input_tokens", "output_tokens", "cost")
_KEYS: Final = ("tenant", "principal", "model", "day")


class UsageState:
    """The part of the state store that adds up what was used."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, rows: Sequence[UsageRow]) -> None:
        """Add to what is there, in one statement. In one order, so that two gateways never wait for each
        other's rows.
        """
        if not rows:
            return
        ordered = sorted(rows, key=lambda one: tuple(getattr(one, name) for name in _KEYS))
        values = [{name: getattr(row, name) for name in (*_KEYS, *_SUMS)} for row in ordered]
        async with self._database.maintenance.writing() as connection:
            is_postgres = connection.dialect.name == "postgresql"
            new = (insert_in_postgres if is_postgres else insert_in_sqlite)(usage)
            more = {name: usage.c[name] + new.excluded[name] for name in _SUMS}
            add = new.on_conflict_do_update(index_elements=[usage.c[name] for name in _KEYS], set_=more)
            await connection.execute(add, values)

    async def report(self, *, first: int, last: int, by: Sequence[UsageKey]) -> list[UsageRow]:
        """Return the sums for each value of the keys."""
        keys = [usage.c[name] for name in by]
        sums = [func.sum(usage.c[name]).label(name) for name in _SUMS]
        asked = select(*keys, *sums).where(usage.c.day.between(first, last)).group_by(*keys).order_by(*keys)
        async with self._database.maintenance.reading() as connection:
            found = (await connection.execute(asked)).mappings().all()
        return [_sum(one, {name: one[name] for name in by}, first) for one in found]

    async def spent(self, *, first: int, tenant: str, person: str, model: str) -> UsageRow:
        """Return the sum from this day on."""
        named = {"tenant": tenant, "principal": person, "model": model}
        own = [within(usage.c[name], value) for name, value in named.items() if value]
        sums = [func.coalesce(func.sum(usage.c[name]), 0).label(name) for name in _SUMS]
        reading = self._database.reading(tenant) if tenant else self._database.maintenance.reading()
        async with reading as connection:
            asked = select(*sums).where(usage.c.day >= first, *own)
            found = (await connection.execute(asked)).mappings().one()
        return _sum(found, named, first)

    async def forget(self, *, before: int) -> int:
        """Forget all days before this one."""
        async with self._database.maintenance.writing() as connection:
            gone = await connection.execute(delete(usage).where(usage.c.day < before))
        return gone.rowcount


def _sum(found: RowMapping, named: Mapping[str, str], day: int) -> UsageRow:
    tenant, principal, model = (named.get(name, "") for name in ("tenant", "principal", "model"))
    requests, sent, written, cost = (int(found[name]) for name in _SUMS)
    return UsageRow(tenant, principal, model, day, requests, sent, written, cost)
