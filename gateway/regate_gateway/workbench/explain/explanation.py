"""Why a decision was made: asked again of a policy, with the rules that held, the conditions that did not,
and the reasons.

Nothing here decides anything. Inputs hold metadata only; of a tool's arguments, which may quote a document,
only the lengths are shown. The counterparts are `trace.py` (rules and lines), `filter.py` (plans) and
`command.py` (what is printed).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

from regate_gateway.workbench.explain.trace import EVAL, Attempt
from regate_gateway.workbench.replay.recorded import Origin, RecordedDecision, RecordedPlan
from regate_gateway.workbench.replay.replaying import reasons_for
from regate_orchestrator.authz.answers import permits
from regate_orchestrator.authz.decisions import Point
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.ports import PolicyEngine
from regate_orchestrator.values import Json, JsonObject

HERE: Final = "POLICY_DIRECTORY"
"""Stands for the directory in a command that is shown to somebody who is elsewhere."""


class Tracing(Protocol):
    """Whoever can say which rules held (`explain_trace.Tracer`)."""

    async def attempts(self, rule: str, document: JsonObject, *, shown: JsonObject) -> tuple[Attempt, ...]:
        """Return how each body of the rule fared; raises `PolicyUnavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class Explanation:
    """One decision, explained under the policy of now. `recorded` is what was decided then; None for a
    question that nobody asked yet.
    """

    id: str
    point: str
    rule: str
    action: str
    about: str
    allowed: bool
    recorded: bool | None
    reasons: tuple[str, ...]
    recorded_reasons: tuple[str, ...]
    attempts: tuple[Attempt, ...]
    trace_problem: str
    revision: str
    recorded_revision: str
    origin: Origin
    document: JsonObject
    command: str


async def explain(
    asked: RecordedDecision,
    engine: PolicyEngine,
    tracing: Tracing | None,
    *,
    was_asked: bool,
    directory: str = HERE,
) -> Explanation:
    """Return why the engine's policy allows or denies this. Without `tracing` the rules and lines are left
    out.

    Raises `PolicyUnavailable` when the policy gives no answer; a trace that cannot be made is told of in
    `trace_problem`.
    """
    answer = await engine.ask(asked.point.value, asked.document)
    # A batch admits no chunk of a store that it was not told of; the record then has none to ask about
    # either.
    storeless = asked.point is Point.CHUNK and asked.document.get("store") is None
    allowed = answer.defined and permits(asked.point, answer.value) and not storeless
    shown = shown_input(asked.document)
    attempts: tuple[Attempt, ...] = ()
    problem = ""
    if tracing is not None:
        try:
            attempts = await tracing.attempts(asked.point.value, asked.document, shown=shown)
        except PolicyUnavailable as error:
            problem = error.detail
    return Explanation(
        id=asked.id,
        point=asked.point.short,
        rule=asked.point.value,
        action=asked.action,
        about=asked.about,
        allowed=allowed,
        recorded=asked.allowed if was_asked else None,
        reasons=() if allowed else ("unknown_store",) if storeless else await reasons_for(asked, engine),
        recorded_reasons=asked.reasons,
        attempts=tuple(attempt for attempt in attempts if attempt.held == allowed),
        trace_problem=problem,
        revision=answer.revision or await engine.revision(),
        recorded_revision=asked.origin.revision,
        origin=asked.origin,
        document=shown,
        command=eval_command(asked.point.value, shown, directory),
    )


def relevant(attempts: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """Return the bodies worth showing: of a denied rule not those for other actions, as long as there
    is one for this.
    """
    for_this = tuple(
        one for one in attempts if one.condition is None or not one.condition.text.startswith("input.action")
    )
    return for_this or attempts


def shown_input(document: JsonObject) -> JsonObject:
    """Return the input as it may be printed: the strings in a tool's arguments are replaced by their
    lengths.
    """
    tool = document.get("tool")
    if not isinstance(tool, Mapping) or not tool.get("arguments"):
        return document
    return {**document, "tool": {**tool, "arguments": _measured(tool["arguments"])}}


def _measured(value: Json) -> Json:
    match value:
        case str():
            return f"({len(value)} characters)"
        case Mapping():
            return {name: _measured(inner) for name, inner in value.items()}
        case list() | tuple():
            return [_measured(inner) for inner in value]
        case _:
            return value


def eval_command(rule: str, shown: JsonObject, directory: str) -> str:
    """Return a shell command that asks the policies the same, with the failing conditions in its output."""
    arguments = [
        "opa",
        *EVAL,
        "--bundle",
        directory,
        "--explain",
        "fails",
        "--format",
        "pretty",
        f"data.{rule.replace('/', '.')}",
    ]
    return f"echo {shlex.quote(json.dumps(shown, ensure_ascii=False))} | {shlex.join(arguments)}"


def as_document(explanation: Explanation) -> dict[str, Any]:
    """Return the explanation as JSON."""
    document = asdict(explanation)
    origin = document.pop("origin")
    document["attempts"] = [attempt_document(attempt) for attempt in relevant(explanation.attempts)]
    document["input"] = document.pop("document")
    if explanation.recorded is None:
        del document["recorded"], document["recorded_reasons"], document["recorded_revision"]
        return document
    return {
        "record": origin["record"],
        "at": origin["at"],
        "request_id": origin["request_id"],
        "response_id": origin["response_id"],
        **document,
    }


def attempt_document(attempt: Attempt) -> dict[str, Any]:
    """Return one tried body of a rule as JSON."""
    document: dict[str, Any] = {"rule": shown_rule(attempt.rule), "at": attempt.at, "held": attempt.held}
    if attempt.values:
        document["values"] = dict(attempt.values)
    if attempt.condition is not None:
        condition = attempt.condition
        document["condition"] = {"at": condition.at, "text": condition.text, "values": dict(condition.values)}
        document["condition"]["because"] = [attempt_document(one) for one in condition.because]
    if attempt.because:
        document["because"] = [attempt_document(one) for one in attempt.because]
    return document


def shown_rule(name: str) -> str:
    """Return the rule's name without `data.`."""
    return name.removeprefix("data.")


def plan_document(plan: RecordedPlan) -> dict[str, Any]:
    """Return a recorded filter as JSON: how it was asked for and how large it was, never its values."""
    return {
        "record": plan.origin.record,
        "rule": plan.rule,
        "action": plan.action,
        "unknown": plan.unknown,
        "plan": plan.plan,
        "input": shown_input(plan.document),
    }
