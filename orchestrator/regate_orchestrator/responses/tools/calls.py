"""The calls of a turn: decided each by itself, run at the same time, and what each found decided as a whole
before it may enter the context. Results come in the order of the calls.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, cast

from regate_orchestrator.authz.decisions import Context, Deny, Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.obligations import QUALITIES, Demands, demands_of
from regate_orchestrator.concurrency import few_at_once
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.lineage import ToolSource
from regate_orchestrator.responses.commands import DecideTool
from regate_orchestrator.responses.events import ToolDecided, ToolRan, ToolsListed
from regate_orchestrator.responses.tools.approvals import arguments_digest
from regate_orchestrator.responses.tools.guarding import guarded_call, guarded_result
from regate_orchestrator.responses.tools.permits import Permits
from regate_orchestrator.responses.tools.redacting import Unreadable, redacted
from regate_orchestrator.responses.tools.spans import traced_call
from regate_orchestrator.responses.tools.tool import ServerTool, Terms, ToolCall, ToolResult, numbers_in
from regate_orchestrator.responses.tools.visible import hidden_tools
from regate_orchestrator.retrieval.stores import OpenStore
from regate_orchestrator.values import Clock, JsonObject, StoreId, wall_clock

MAX_CONCURRENT: Final = 4
"""Calls of one turn that run at a time."""
_NOBODY_TO_ASK: Final = "approval_needed: there is nobody to ask"
_TOO_LATE: Final = "The tool did not answer in time."
_FAILED: Final = "The tool failed."


class ToolRunner(Protocol):
    """Runs the calls of one kind, with the caller's authority."""

    async def run(self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]) -> ToolResult:
        """Return what the call found, all of it admitted. `stores` are those that the turn opened.

        Raises `RegateError`, which ends the response.
        """


class ToolLister(Protocol):
    """Lists what a tool offers whose functions a request does not name."""

    async def listed(self, context: Context, tool: ServerTool) -> tuple[ServerTool, JsonObject]:
        """Return the tool with what it offers, and the item that tells of it."""


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """Decides calls, and runs those that are permitted; guards look at what the model wrote and at what tools
    returned. `runners` and `listers` are by the tool's type.
    """

    enforcer: Enforcer
    runners: Mapping[str, ToolRunner]
    permits: Permits
    guards: Guards
    listers: Mapping[str, ToolLister] = field(default_factory=dict)
    clock: Clock = wall_clock

    async def list_tools(self, context: Context, tools: Sequence[ServerTool]) -> ToolsListed:
        """Return what the tools offer, and which of their functions the policy does not let the model see."""
        work = [functools.partial(self.listers[tool.kind.type].listed, context, tool) for tool in tools]
        found = await few_at_once(work, most=MAX_CONCURRENT)
        offered = {name: tool.called(name) for tool, _ in found for name in tool.functions}
        hidden = await hidden_tools(self.enforcer, context, offered)
        return ToolsListed(tuple(tool for tool, _ in found), tuple(item for _, item in found), hidden)

    async def decide(self, context: Context, commands: Sequence[DecideTool]) -> list[ToolDecided]:
        """Return the decision on each call. What cannot be met of an allow is a refusal."""
        work = [functools.partial(self._decide, context, command) for command in commands]
        return await few_at_once(work, most=MAX_CONCURRENT)

    async def run(
        self, context: Context, calls: Sequence[ToolCall], stores: Mapping[StoreId, OpenStore]
    ) -> list[ToolRan]:
        """Return what each call came to. The first that fails ends the others, and its error is raised."""
        run = self._run if context.span is None else self._run_traced
        work = [functools.partial(run, context, call, stores) for call in calls]
        return await few_at_once(work, most=MAX_CONCURRENT)

    async def _decide(self, context: Context, command: DecideTool) -> ToolDecided:
        checked = await guarded_call(self.guards, context, command.call)
        if checked is None:
            return ToolDecided(command.call.call_id, "deny", written="{}")
        call = checked
        called = call.tool.called(call.name)
        uses = await self.permits.reserve(context, call)
        turn: JsonObject = {
            "index": command.round,
            "calls_so_far": command.calls_so_far,
            "trace": list(command.trace),
            "labels": sorted(command.labels),
            "approved": bool(call.approval),
            "uses_today": uses,
        }
        arguments = call.tool.view(call.arguments or {})
        question = Question(
            Point.TOOL,
            "tool.call",
            {"tool": {**called, "arguments": arguments}, "turn": turn},
            about=cast("str", called["name"]),
            companions=QUALITIES,
            recorded={"tool": {**called, "arguments": _recorded(arguments, call)}, "turn": turn},
        )
        decision = await self.enforcer.decide(context, question)
        demands = None if isinstance(decision, Deny) else demands_of(decision.decision_attributes)
        decided = await self._verdict(context, call, demands)
        if decided.verdict != "allow":
            await self.permits.release(context, call)
        return replace(decided, written=call.written)

    async def _verdict(self, context: Context, call: ToolCall, demands: Demands | None) -> ToolDecided:
        about = cast("str", call.tool.called(call.name)["name"])
        if demands is None:
            return ToolDecided(call.call_id, "deny")
        unmet = demands.unmet
        if demands.needs_approval is True and not call.tool.kind.can_be_approved:
            unmet = (_NOBODY_TO_ASK, *unmet)
        if unmet:
            notes: JsonObject = {"kind": "refused", "about": about, "reasons": list(unmet)}
            await self.enforcer.record(context, "tool.refused", notes)
            return ToolDecided(call.call_id, "needs_approval" if unmet == (_NOBODY_TO_ASK,) else "deny")
        if call.approval:
            if not await self.permits.use(context, call):
                return ToolDecided(call.call_id, "deny")
        elif demands.needs_approval or call.tool.asks_first(call.name):
            return ToolDecided(call.call_id, "needs_approval", approval=await self.permits.ask(context, call))
        return ToolDecided(call.call_id, "allow", _terms(demands), demands.rewritten(call.arguments or {}))

    async def _run_traced(
        self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]
    ) -> ToolRan:
        # INVARIANT: only where the context is traced
        assert context.span is not None  # noqa: S101
        return await traced_call(context, context.span, call, lambda within: self._run(within, call, stores))

    async def _run(self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]) -> ToolRan:
        found = await self._result(context, call, stores)
        called = call.tool.called(call.name)
        labels = sorted(found.labels | call.terms.labels)
        result: JsonObject = {"mime": found.mime, "size": found.size, "labels": labels}
        about = cast("str", called["name"])
        question = Question(Point.TOOL_RESULT, "tool.result", {"tool": called, "result": result}, about=about)
        decision = await self.enforcer.decide(context, question)
        checked = None
        if not isinstance(decision, Deny) and found.size <= call.terms.max_result_bytes:
            checked = await guarded_result(self.guards, context, found, called)
        if checked is None:
            return ToolRan(call.call_id, None, self._made(call, found))
        found = checked
        if found.text or found.shown:
            source = ToolSource(call.item_id, called, result, self._call(call, found))
            found = replace(found, rests_on=(*found.rests_on, source))
        return ToolRan(call.call_id, found)

    def _made(self, call: ToolCall, found: ToolResult) -> ToolSource | None:
        """Return what later turns know of a call at a server of whose result nothing was read."""
        if not call.tool.kind.is_counted:
            return None
        nothing: JsonObject = {"mime": found.mime, "size": 0, "labels": []}
        return ToolSource(call.item_id, call.tool.called(call.name), nothing, self._call(call, found))

    async def _result(
        self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]
    ) -> ToolResult:
        """Return what the call found, on the terms of its decision, after recording how it ran."""
        runner = self.runners[call.tool.kind.type]
        try:
            async with asyncio.timeout(call.terms.deadline_s):
                found = await runner.run(context, call, stores)
        except TimeoutError:
            found = failure(call, _TOO_LATE)
        else:
            found = _redacted(call, found)
        if found.call or call.tool.kind.is_counted:
            notes: JsonObject = {
                "kind": "tool.ran",
                "about": call.item_id,
                "tool": call.tool.called(call.name),
                "size": found.size,
                "outcome": "failed" if found.failed else "completed",
                **self._call(call, found),
            }
            await self.enforcer.record(context, "tool.ran", notes)
        return found

    def _call(self, call: ToolCall, found: ToolResult) -> JsonObject:
        arguments = call.arguments or {}
        return {
            **found.call,
            "digest": arguments_digest(call.written),
            "numbers": numbers_in(arguments),
            "approved": bool(call.approval),
            "at": int(self.clock()),
        }


def _terms(demands: Demands) -> Terms:
    return Terms(demands.max_result_bytes, demands.deadline_s, demands.labels, demands.redact)


def failure(call: ToolCall, text: str) -> ToolResult:
    """Return the result of a call that failed, which the model is told in these words."""
    shown = call.tool.kind.failed(text)
    return ToolResult(size=len(text.encode()), text=text, shown=shown, failed=True)


def _redacted(call: ToolCall, found: ToolResult) -> ToolResult:
    """Return what a call found as its terms let it be read."""
    if not call.terms.redact:
        return found
    try:
        return redacted(found, call.terms.redact)
    except Unreadable:
        told = _FAILED if found.failed else call.tool.kind.notes.result_denied
        return replace(failure(call, told), call=found.call)


def _recorded(arguments: JsonObject, call: ToolCall) -> JsonObject:
    """Return arguments as records hold them: what they are called, and by what they are known again."""
    if arguments == (call.arguments or {}):
        return {"digest": arguments_digest(call.written), "names": sorted(arguments)}
    return arguments
