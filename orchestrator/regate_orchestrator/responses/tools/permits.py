"""Permits: what a call must have beside the policy's allow, or is counted by: the client's approval, and the
tools that its caller used within a day.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import InvalidRequest, NotFound
from regate_orchestrator.ports import StateStore
from regate_orchestrator.responses.tools.approvals import (
    REQUEST,
    RESPONSE,
    SECONDS,
    approval_id,
    called_name,
    shown_digest,
)
from regate_orchestrator.responses.tools.kinds.table import KINDS
from regate_orchestrator.responses.tools.tool import ApprovedCall, ToolCall
from regate_orchestrator.responses.tools.visible import policy_name
from regate_orchestrator.rows import ApprovalRow
from regate_orchestrator.values import Clock, Json, JsonObject, mint, wall_clock

_ID_PREFIX: Final = "mcpr_"


@dataclass(frozen=True, slots=True)
class Permits:
    """Asks for approvals, has them used, and counts calls. All of it is in the audit log."""

    enforcer: Enforcer
    state: StateStore
    clock: Clock = wall_clock

    async def ask(self, context: Context, call: ToolCall) -> str:
        """Return the id by which the client can approve the call."""
        row = self._row(call, mint(_ID_PREFIX), context.response_id or "")
        await self._record(context, row, "asked")
        await self.state.approvals.add(context.principal, row)
        return row.id

    async def use(self, context: Context, call: ToolCall) -> bool:
        """Return whether the call's approval was there to be used, which it is from now on."""
        row = self._row(call, call.approval, "")
        used = await self.state.approvals.use(context.principal, row, at=int(self.clock()))
        await self._record(context, row, "used" if used else "refused")
        return used

    async def reserve(self, context: Context, call: ToolCall) -> int:
        """Count the call; return how many others of its tool its caller made within a day."""
        if not call.tool.kind.is_counted:
            return 0
        tool = policy_name(call.tool.called(call.name))
        return await self.state.tool_uses.reserve(context.principal, tool, call.item_id, at=int(self.clock()))

    async def release(self, context: Context, call: ToolCall) -> None:
        """Count the call no more."""
        if call.tool.kind.is_counted:
            await self.state.tool_uses.release(context.principal, call.item_id)

    async def approved(
        self, context: Context, items: Sequence[JsonObject], earlier: Sequence[JsonObject]
    ) -> tuple[ApprovedCall, ...]:
        """Return the calls that these items of a request approve, whose requests are among them or the
        earlier ones. What is sent again as history approves nothing (`_unsettled`).

        Raises `NotFound` for a request that is absent or another's, and `InvalidRequest` for one that was
        answered, has expired, or was altered.
        """
        answers = _unsettled(items)
        if not answers:
            return ()
        ids = [str(item["approval_request_id"]) for item in answers]
        if len(set(ids)) < len(ids):
            raise InvalidRequest("An approval request can be answered once.", param="input")
        rows = await self.state.approvals.named(context.principal, ids)
        requests = {approval_id(item): item for item in (*earlier, *items) if item["type"] == REQUEST}
        calls: list[ApprovedCall] = []
        for answer, identifier in zip(answers, ids, strict=True):
            request = self._checked(identifier, rows.get(identifier), requests.get(identifier))
            if answer["approve"] is True:
                calls.append(_call(identifier, request))
        return tuple(calls)

    def _checked(self, identifier: str, row: ApprovalRow | None, request: JsonObject | None) -> JsonObject:
        if row is None:
            raise NotFound(f"Approval request '{identifier}' not found.", param="input", code="not_found")
        if request is None:
            message = (
                f"Approval request '{identifier}' is not among the items: send the 'mcp_approval_request' "
                "item before its answer, or continue from the response that asked."
            )
            raise InvalidRequest(message, param="input")
        if row.used_at is not None:
            raise InvalidRequest(f"Approval request '{identifier}' was answered already.", param="input")
        if row.expires_at <= self.clock():
            raise InvalidRequest(f"Approval request '{identifier}' has expired.", param="input")
        if shown_digest(request) != row.digest:
            message = f"Approval request '{identifier}' is not the one that was made: send it unchanged."
            raise InvalidRequest(message, param="input")
        return request

    def _row(self, call: ToolCall, identifier: str, response: str) -> ApprovalRow:
        tool = policy_name(call.tool.called(call.name))
        expires = int(self.clock()) + SECONDS
        return ApprovalRow(identifier, tool, shown_digest(call.item("in_progress")), expires, response)

    async def _record(self, context: Context, row: ApprovalRow, what: str) -> None:
        notes: dict[str, Json] = {"kind": "approval", "about": row.id, "what": what, "tool": row.tool}
        await self.enforcer.record(context, "tool.approval", {**notes, "digest": row.digest})


def _unsettled(items: Sequence[JsonObject]) -> list[JsonObject]:
    """Return the answers among the items that may have an effect: neither those with the call that was made
    of them, nor denials with the request that they deny.
    """
    made = {item.get("approval_request_id") for item in items if item["type"] in KINDS}
    asked = {approval_id(item) for item in items if item["type"] == REQUEST}
    return [
        item
        for item in items
        if item["type"] == RESPONSE
        and item["approval_request_id"] not in made
        and (item["approve"] is True or item["approval_request_id"] not in asked)
    ]


def _call(identifier: str, request: JsonObject) -> ApprovedCall:
    name = called_name(str(request["server_label"]), str(request["name"]))
    return ApprovedCall(identifier, name, str(request["arguments"]))
