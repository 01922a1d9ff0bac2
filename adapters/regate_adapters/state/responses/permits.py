"""Approvals of tool calls, and uses of tools, in the state store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import ColumnElement, Table, delete, func, insert, select, update

from regate_adapters.state.database import Database
from regate_adapters.state.listing import in_parts
from regate_adapters.state.tables import approvals, tool_uses
from regate_adapters.state.visibility import within
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import ApprovalRow

_DAY: Final = 24 * 3600


class ApprovalState:
    """The part of the state store that keeps what callers are asked to approve."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, principal: Principal, row: ApprovalRow) -> None:
        """Keep a request for approval."""
        values = {
            "id": row.id,
            "tenant": principal.tenant,
            "owner": principal.id,
            "tool": row.tool,
            "digest": row.digest,
            "response_id": row.response_id,
            "expires_at": row.expires_at,
            "used_at": None,
        }
        async with self._database.writing(principal.tenant) as connection:
            await connection.execute(insert(approvals).values(values))

    async def named(self, principal: Principal, ids: Sequence[str]) -> Mapping[str, ApprovalRow]:
        """Return those of these that are the principal's."""
        found: dict[str, ApprovalRow] = {}
        async with self._database.reading(principal.tenant) as connection:
            for part in in_parts(list(dict.fromkeys(ids))):
                rows = await connection.execute(
                    select(approvals).where(_own(approvals, principal), approvals.c.id.in_(part))
                )
                found |= {
                    row.id: ApprovalRow(
                        row.id, row.tool, row.digest, row.expires_at, row.response_id, row.used_at
                    )
                    for row in rows
                }
        return found

    async def use(self, principal: Principal, row: ApprovalRow, *, at: int) -> bool:
        """Use the approval; the row itself lets one of many uses win."""
        unused = (
            _own(approvals, principal),
            approvals.c.id == row.id,
            approvals.c.tool == row.tool,
            approvals.c.digest == row.digest,
            approvals.c.expires_at > at,
            approvals.c.used_at.is_(None),
        )
        async with self._database.writing(principal.tenant) as connection:
            result = await connection.execute(update(approvals).where(*unused).values(used_at=at))
        return result.rowcount == 1

    async def forget(self, *, at: int) -> int:
        """Forget all that expired, of all tenants."""
        async with self._database.maintenance.writing() as connection:
            gone = await connection.execute(delete(approvals).where(approvals.c.expires_at <= at))
        return gone.rowcount


class ToolUseState:
    """The part of the state store that counts the calls of tools."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def reserve(self, principal: Principal, tool: str, call: str, *, at: int) -> int:
        """Count a call; return how many others of the tool there were within a day. Of calls that are made at
        the same time, each counts the others.
        """
        row = {"tenant": principal.tenant, "owner": principal.id, "call": call, "tool": tool, "at": at}
        others = select(func.count()).where(
            _own(tool_uses, principal),
            tool_uses.c.tool == tool,
            tool_uses.c.call != call,
            tool_uses.c.at > at - _DAY,
        )
        async with self._database.writing(principal.tenant) as connection:
            await connection.execute(insert(tool_uses).values(row))
        async with self._database.reading(principal.tenant) as connection:
            return (await connection.scalar(others)) or 0

    async def release(self, principal: Principal, call: str) -> None:
        """Count a call no more."""
        async with self._database.writing(principal.tenant) as connection:
            await connection.execute(
                delete(tool_uses).where(_own(tool_uses, principal), tool_uses.c.call == call)
            )

    async def forget(self, *, at: int) -> int:
        """Forget all that is older than a day, of all tenants."""
        async with self._database.maintenance.writing() as connection:
            gone = await connection.execute(delete(tool_uses).where(tool_uses.c.at <= at - _DAY))
        return gone.rowcount


def _own(table: Table, principal: Principal) -> ColumnElement[bool]:
    return within(table.c.tenant, principal.tenant) & within(table.c.owner, principal.id)
