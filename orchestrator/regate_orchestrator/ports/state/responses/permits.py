"""Approvals of tool calls, and how often tools were called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import ApprovalRow


class ApprovalState(Protocol):
    """Keeps what callers are asked to approve. Each is the principal's own."""

    async def add(self, principal: Principal, row: ApprovalRow) -> None:
        """Keep a request for approval."""

    async def named(self, principal: Principal, ids: Sequence[str]) -> Mapping[str, ApprovalRow]:
        """Return those of these that are the principal's."""

    async def use(self, principal: Principal, row: ApprovalRow, *, at: int) -> bool:
        """Use the approval. Return False unless it is the principal's, for exactly this tool and these
        arguments, not expired, and was not used yet. Of many uses one wins.
        """

    async def forget(self, *, at: int) -> int:
        """Forget all that expired, of all tenants; return how many."""


class ToolUseState(Protocol):
    """Counts the calls of tools by each principal."""

    async def reserve(self, principal: Principal, tool: str, call: str, *, at: int) -> int:
        """Count a call that is about to be made; return how many others there were within a day."""

    async def release(self, principal: Principal, call: str) -> None:
        """Count a call no more, since it was not made."""

    async def forget(self, *, at: int) -> int:
        """Forget all that is older than a day, of all tenants; return how many."""
