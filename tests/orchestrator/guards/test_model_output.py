"""A model's events as far as guards let them through: their order, their calls, and how a turn ends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from tests.orchestrator.scripted import CONTEXT, Policy, Records

from regate_adapters.guards.detector import found_in
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.guards.checking import Guard, Guards, Streaming
from regate_orchestrator.guards.model_output import OUTPUT_REFUSAL, GuardedOutput
from regate_orchestrator.model_events import (
    ArgumentsWritten,
    CallOpened,
    ModelEnded,
    ModelEvent,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
    Usage,
)
from regate_orchestrator.ports import Answer, Findings, GuardStep
from regate_orchestrator.values import JsonObject

KEY = "sk-proj-abcdefghijklmnopqrstuvwxyz"
USAGE = Usage(7, 0, 3, 0)
ENDED = ModelEnded("stop", USAGE)
REFUSED = [RefusalWritten(OUTPUT_REFUSAL), ModelEnded("content_filter", USAGE)]


class ByLabel(Policy):
    """Redacts secrets and blocks e-mail addresses."""

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        labels: Any = document["labels"]
        said: dict[str, Any] = {
            "action": "block" if "email" in labels else "redact" if "secret" in labels else "pass",
            "redact": ["secret"],
            "deny_reasons": [],
        }
        return Answer(defined=True, value=said[rule.rpartition("/")[2]], revision="r1")


class Looking:
    async def look(self, texts: Sequence[str], *, step: GuardStep) -> list[Findings]:
        return [found_in(text) for text in texts]


async def let_through(events: Sequence[ModelEvent], *steps: GuardStep) -> list[ModelEvent]:
    async def told() -> AsyncIterator[ModelEvent]:
        for event in events:
            yield event

    guard = Guard("here", Looking(), frozenset(steps), 5, may_be_missing=False)
    guards = Guards(Enforcer(ByLabel(), Records(), {}), [guard], streaming=Streaming(64, 64))
    return [event async for event in GuardedOutput(told(), guards, CONTEXT, unchecked={"search"}, types={})]


def call(slot: int, name: str, *pieces: str) -> list[ModelEvent]:
    return [CallOpened(slot, f"c{slot}", name), *(ArgumentsWritten(slot, piece) for piece in pieces)]


CASES: dict[str, tuple[list[ModelEvent], list[ModelEvent]]] = {
    "text": (
        [TextWritten("It is "), TextWritten(KEY), ENDED],
        [TextWritten("It is [redacted: secret]"), ENDED],
    ),
    "reasoning, then text": (
        [ReasoningWritten("So "), ReasoningWritten(KEY), TextWritten("Yes."), ENDED],
        [ReasoningWritten("So [redacted: secret]"), TextWritten("Yes."), ENDED],
    ),
    "a refusal": ([RefusalWritten(f"No {KEY}"), ENDED], [RefusalWritten("No [redacted: secret]"), ENDED]),
    "text before a call that runs here": (
        [TextWritten("Let me see."), *call(0, "search", '{"q":', '"x"}'), ENDED],
        [TextWritten("Let me see."), *call(0, "search", '{"q":', '"x"}'), ENDED],
    ),
    "calls of the client's in pieces, mixed": (
        [
            *call(0, "f", '{"k": "', KEY[:9]),
            *call(1, "g", "{"),
            ArgumentsWritten(0, KEY[9:] + '"}'),
            ArgumentsWritten(1, "}"),
            ENDED,
        ],
        [*call(0, "f", '{"k": "[redacted: secret]"}'), *call(1, "g", "{}"), ENDED],
    ),
    "what follows a call stays after it": (
        [*call(0, "f", "{}"), TextWritten(f"And {KEY}"), *call(1, "search", "{}"), ENDED],
        [*call(0, "f", "{}"), TextWritten("And [redacted: secret]"), *call(1, "search", "{}"), ENDED],
    ),
    "a blocked text": ([TextWritten("ann@example.org"), ENDED], REFUSED),
    "a blocked call, and all after it": (
        [TextWritten("Now."), *call(0, "f", '{"to": "ann@example.org"}'), TextWritten("Done."), ENDED],
        [TextWritten("Now."), *REFUSED],
    ),
    "blocked text before a call": (
        [TextWritten("ann@example.org"), *call(0, "f", "{}"), ENDED],
        [REFUSED[0], ModelEnded("content_filter", Usage())],
    ),
    "arguments that would be none any more": (
        [*call(0, "f", f'{{"{KEY}'), ENDED],
        [*call(0, "f", '{"[redacted: secret]'), ENDED],
    ),
}


@pytest.mark.parametrize("name", CASES)
async def test_events_leave_in_their_order_without_what_is_taken_out(name: str) -> None:
    events, expected = CASES[name]

    assert await let_through(events, "output", "tool_arguments") == expected


async def test_only_what_somebody_looks_at_is_held_back() -> None:
    events = [TextWritten(KEY), *call(0, "f", '{"k": "', KEY, '"}'), ENDED]

    assert await let_through(events, "output") == [TextWritten("[redacted: secret]"), *events[1:]]
    assert await let_through(events, "tool_arguments") == [
        TextWritten(KEY),
        *call(0, "f", '{"k": "[redacted: secret]"}'),
        ENDED,
    ]
