"""The calls of a turn: decided each by itself, run at the same time, and what each found decided as a whole
before it may enter the context. Results come in the order of the calls.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from regate_orchestrator.authz.decisions import Context, Deny, Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.obligations import QUALITIES, demands_of
from regate_orchestrator.concurrency import few_at_once
from regate_orchestrator.responses.commands import DecideTool
from regate_orchestrator.responses.events import ToolDecided, ToolRan
from regate_orchestrator.responses.tools.tool import ToolCall, ToolResult
from regate_orchestrator.responses.tools.view import tool_view
from regate_orchestrator.retrieval.stores import OpenStore
from regate_orchestrator.values import JsonObject, StoreId

MAX_CONCURRENT: Final = 4
"""Calls of one turn that run at a time."""


class ToolRunner(Protocol):
    """Runs the calls of one kind, with the caller's authority."""

    async def run(self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]) -> ToolResult:
        """Return what the call found, all of it admitted. `stores` are those that the turn opened.

        Raises `RegateError`, which ends the response.
        """


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Decides calls, and runs those that are permitted. `runners` are by the type of the tool."""

    enforcer: Enforcer
    runners: Mapping[str, ToolRunner]

    async def decide(self, context: Context, commands: Sequence[DecideTool]) -> list[ToolDecided]:
        """Return the decision on each call. What cannot be met of an allow is a refusal."""
        work = [functools.partial(self._decide, context, command) for command in commands]
        return await few_at_once(work, most=MAX_CONCURRENT)

    async def run(
        self, context: Context, calls: Sequence[ToolCall], stores: Mapping[StoreId, OpenStore]
    ) -> list[ToolRan]:
        """Return what each call came to. The first that fails ends the others, and its error is raised."""
        work = [functools.partial(self._run, context, call, stores) for call in calls]
        return await few_at_once(work, most=MAX_CONCURRENT)

    async def _decide(self, context: Context, command: DecideTool) -> ToolDecided:
        call = command.call
        arguments = call.tool.view(call.arguments or {})
        resource: JsonObject = {
            "tool": tool_view(call.tool.kind.type, call.name, arguments),
            "turn": {"index": command.round, "calls_so_far": command.calls_so_far},
        }
        question = Question(Point.TOOL, "tool.call", resource, about=call.name, companions=QUALITIES)
        decision = await self.enforcer.decide(context, question)
        if isinstance(decision, Deny):
            return ToolDecided(call.call_id, "deny")
        demands = demands_of(decision.decision_attributes)
        if demands.unmet:
            notes: JsonObject = {"kind": "refused", "about": call.name, "reasons": list(demands.unmet)}
            await self.enforcer.record(context, "tool.refused", notes)
            return ToolDecided(call.call_id, "needs_approval" if demands.needs_approval else "deny")
        return ToolDecided(call.call_id, "allow", demands.max_result_bytes)

    async def _run(self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]) -> ToolRan:
        kind = call.tool.kind
        found = await self.runners[kind.type].run(context, call, stores)
        result: JsonObject = {"mime": found.mime, "size": found.size, "labels": sorted(found.labels)}
        resource: JsonObject = {"tool": tool_view(kind.type, call.name), "result": result}
        question = Question(Point.TOOL_RESULT, "tool.result", resource, about=call.name)
        decision = await self.enforcer.decide(context, question)
        admitted = not isinstance(decision, Deny) and found.size <= call.max_result_bytes
        return ToolRan(call.call_id, found if admitted else None)
