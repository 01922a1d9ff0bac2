"""Calls of tools that run here: several of one turn, in their order, with the caller's authority."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from tests.orchestrator.responses.playbook import Playbook, check_stream, passage, searchable
from tests.orchestrator.scripted import CONTEXT, Policy, Records

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import VectorStoreUnavailable
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.model_events import ArgumentsWritten, CallOpened, ModelEnded, TextWritten, Usage
from regate_orchestrator.ports import StateStore
from regate_orchestrator.responses.commands import CallModel, DecideTool, Finish, RunTool
from regate_orchestrator.responses.events import Event, Failed, ModelOpened, ToolDecided, ToolRan
from regate_orchestrator.responses.tools.calls import MAX_CONCURRENT, ToolCalls
from regate_orchestrator.responses.tools.kinds.file_search import FILE_SEARCH
from regate_orchestrator.responses.tools.permits import Permits
from regate_orchestrator.responses.tools.tool import ToolCall, ToolResult
from regate_orchestrator.retrieval.stores import OpenStore
from regate_orchestrator.values import StoreId

SAID: list[Event] = [TextWritten("Done."), ModelEnded("stop", Usage())]


def called(*queries: str | None, ids: str = "abcdef") -> Playbook:
    """As far as a turn that searches for each of these; None is a call whose arguments nobody understands."""
    book = Playbook(searchable()).begin()
    for slot, query in enumerate(queries):
        written = "nonsense" if query is None else json.dumps({"query": query})
        book.tell(CallOpened(slot, ids[slot], "file_search"), ArgumentsWritten(slot, written))
    return book.tell(ModelEnded("tool_calls", Usage()))


def results(book: Playbook) -> list[tuple[str, str]]:
    """The tool messages of the last model call, in order, each by its first word."""
    sent = book.of(CallModel)[-1].payload["messages"]
    return [(one["tool_call_id"], one["content"].split()[0]) for one in sent if one["role"] == "tool"]


def test_calls_of_a_turn_are_all_decided_before_any_runs() -> None:
    book = called("one", "two", "three")
    assert [(one.call.call_id, one.calls_so_far) for one in book.of(DecideTool)] == [
        ("a", 0),
        ("b", 1),
        ("c", 2),
    ]
    book.tell(ToolDecided("a", "allow"), ToolDecided("b", "allow"))
    assert book.of(RunTool) == []
    book.tell(ToolDecided("c", "allow"))
    assert [one.call.call_id for one in book.of(RunTool)] == ["a", "b", "c"]


@pytest.mark.parametrize("verdict", ["deny", "needs_approval"])
@pytest.mark.parametrize("refused", ["a", "b", "c"])
def test_refused_call_keeps_its_place_among_those_that_ran(refused: str, verdict: Any) -> None:
    book = called("one", "two", "three")
    book.tell(*(ToolDecided(call, verdict if call == refused else "allow") for call in "abc"))
    book.tell(*(ToolRan(call, ToolResult((passage(),))) for call in "abc" if call != refused), ModelOpened())
    assert results(book) == [(call, "The" if call == refused else "Passages") for call in "abc"]
    book.tell(*SAID)
    check_stream(book.events)
    statuses = [item["status"] for item in book.of(Finish)[0].response["output"]]
    assert statuses == ["failed" if call == refused else "completed" for call in "abc"] + ["completed"]


def test_call_that_was_not_understood_is_not_decided_and_keeps_its_place() -> None:
    book = called("one", None, "three")
    assert [one.call.call_id for one in book.of(DecideTool)] == ["a", "c"]
    book.tell(ToolDecided("a", "allow"), ToolDecided("c", "allow"))
    book.tell(ToolRan("a", ToolResult((passage(),))), ToolRan("c", ToolResult()), ModelOpened())
    assert results(book) == [("a", "Passages"), ("b", "The"), ("c", "No")]


def test_decision_on_one_of_two_calls_with_the_same_id_is_not_the_others() -> None:
    book = called("one", "two", ids="xx")
    book.tell(ToolDecided("x", "deny"), ToolDecided("x", "allow"))
    assert [one.call.arguments for one in book.of(RunTool)] == [{"query": "two"}]


def test_all_refused_is_told_to_the_model() -> None:
    book = called("one", "two").tell(ToolDecided("a", "deny"), ToolDecided("b", "deny"), ModelOpened())
    assert (book.of(RunTool), results(book)) == ([], [("a", "The"), ("b", "The")])


def test_failure_of_a_run_closes_every_call() -> None:
    book = called("one", "two").tell(ToolDecided("a", "allow"), ToolDecided("b", "allow"))
    book.tell(ToolRan("a", ToolResult((passage(),))), Failed(VectorStoreUnavailable("gone")))
    check_stream(book.events)
    assert [item["status"] for item in book.of(Finish)[0].response["output"]] == ["completed", "incomplete"]


# ---------------------------------------------------------------- decided and run


@dataclass
class Runner:
    """Runs calls as the test says: each waits until so many run at once."""

    meeting: asyncio.Barrier | None = None
    failing: frozenset[str] = frozenset()
    size: int = 3
    running: int = 0
    most: int = 0
    ended: list[str] = field(default_factory=list)

    async def run(self, context: Context, call: ToolCall, stores: Mapping[StoreId, OpenStore]) -> ToolResult:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            if self.meeting is not None:
                await self.meeting.wait()
            if call.call_id in self.failing:
                raise VectorStoreUnavailable("gone")
            await asyncio.sleep(0)
        finally:
            self.running -= 1
            self.ended.append(call.call_id)
        return ToolResult((passage(),), self.size)


ALLOWED = {
    "regate/tool/allow": True,
    "regate/tool/admit_result": True,
    "regate/tool/needs_approval": False,
    "regate/tool/obligations": {"max_result_bytes": 3},
}


def decider(runner: Runner | None = None, **answers: Any) -> tuple[ToolCalls, Records]:
    trail = Records()
    enforcer = Enforcer(Policy(answers={**ALLOWED, **answers}), trail, schemas={})
    permits = Permits(enforcer, cast("StateStore", None))  # a search is neither approved nor counted
    return ToolCalls(enforcer, {FILE_SEARCH.type: runner or Runner()}, permits, Guards(enforcer)), trail


async def permitted(tools: ToolCalls, count: int) -> list[ToolCall]:
    """So many calls, as decided."""
    asked = commands(count)
    decided = await tools.decide(CONTEXT, asked)
    assert [one.verdict for one in decided] == ["allow"] * count
    return [replace(one.call, terms=said.terms) for one, said in zip(asked, decided, strict=True)]


def commands(count: int) -> list[DecideTool]:
    return called(*map(str, range(count)), ids="abcdefghijkl").of(DecideTool)


async def test_calls_of_a_turn_run_at_the_same_time_and_are_told_in_their_order() -> None:
    runner = Runner(meeting=asyncio.Barrier(MAX_CONCURRENT))
    tools, _ = decider(runner)
    async with asyncio.timeout(60):  # each waits for all the others: one after the other never ends
        ran = await tools.run(CONTEXT, await permitted(tools, MAX_CONCURRENT), {})
    assert [one.call_id for one in ran] == list("abcd")


async def test_no_more_calls_run_at_once_than_the_bound() -> None:
    runner = Runner()
    tools, _ = decider(runner)
    ran = await tools.run(CONTEXT, await permitted(tools, 3 * MAX_CONCURRENT), {})
    assert (runner.most, [one.call_id for one in ran]) == (MAX_CONCURRENT, list("abcdefghijkl"))


async def test_first_failure_ends_the_others_and_is_raised() -> None:
    runner = Runner(failing=frozenset("b"))
    tools, _ = decider(runner)
    with pytest.raises(VectorStoreUnavailable):
        await tools.run(CONTEXT, await permitted(tools, 3 * MAX_CONCURRENT), {})
    assert (runner.running, len(runner.ended) < 3 * MAX_CONCURRENT) == (0, True)


@pytest.mark.parametrize(
    ("answers", "verdict", "reason"),
    [
        ({"regate/tool/allow": False}, "deny", None),
        ({"regate/tool/needs_approval": True}, "needs_approval", "approval_needed"),
        ({"regate/tool/needs_approval": "no"}, "deny", "needs_approval"),
        ({"regate/tool/obligations": {"max_result_bytes": 3, "keep_s": 1}}, "deny", "keep_s"),
        ({"regate/tool/needs_approval": True, "regate/tool/obligations": {}}, "deny", "max_result_bytes"),
    ],
)
async def test_call_is_decided_with_what_must_be_met_of_it(
    answers: dict[str, Any], verdict: str, reason: str | None
) -> None:
    tools, trail = decider(**answers)
    (decided,) = await tools.decide(CONTEXT, commands(1))
    told = [str(record) for record in trail.written if record.get("phase") == "tool.refused"]
    assert (decided.verdict, bool(told), reason is None or reason in told[0]) == (verdict, bool(reason), True)


@pytest.mark.parametrize(
    ("answers", "size", "used"),
    [({}, 3, True), ({}, 4, False), ({"regate/tool/admit_result": False}, 3, False)],
)
async def test_result_is_decided_as_a_whole_and_bounded(
    answers: dict[str, Any], size: int, used: bool
) -> None:
    tools, _ = decider(Runner(size=size), **answers)
    (ran,) = await tools.run(CONTEXT, await permitted(tools, 1), {})
    assert (ran.result is not None) is used
