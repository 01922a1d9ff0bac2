"""`regate policy replay`: asks every recorded question again of a candidate policy, and says what would
change before it ships.

Nothing is read but audit records, and nothing is written. What the records hold as questions is in
`recorded.py`; how a report looks is in `command.py`; live traffic is compared by
`regate_adapters.opa.shadowing`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from regate_gateway.workbench.replay.recorded import (
    Origin,
    Record,
    Recorded,
    RecordedBatch,
    RecordedDecision,
    RecordedPlan,
    RecordedQuestion,
    RecordedValue,
    questions_in,
)
from regate_orchestrator.authz.answers import permits
from regate_orchestrator.authz.batches import BATCH_RULE
from regate_orchestrator.authz.plan_records import describe, plan_digest
from regate_orchestrator.errors import FilterNotExpressible, PolicyUnavailable
from regate_orchestrator.ports import PolicyEngine
from regate_orchestrator.values import Json, JsonObject

Outcome: TypeAlias = Literal["same", "would_deny", "would_allow", "value_differs", "filter_differs", "error"]

MAX_EXAMPLES: Final = 5
_AT_ONCE: Final = 16


@dataclass(frozen=True, slots=True)
class Change:
    """One answer that the candidate gives differently, with the reasons that it gives."""

    outcome: Outcome
    point: str
    rule: str
    action: str
    origin: Origin
    id: str
    about: str
    reasons: tuple[str, ...]


@dataclass(slots=True)
class Tally:
    """The counts of one rule and action, and the first few changes of each kind."""

    point: str
    rule: str
    action: str
    asked: int = 0
    outcomes: dict[Outcome, int] = field(default_factory=dict)
    examples: list[Change] = field(default_factory=list)

    def count(self, outcome: Outcome) -> int:
        """Return how many answers turned out so."""
        return self.outcomes.get(outcome, 0)


@dataclass(slots=True)
class Replay:
    """What a replay found so far."""

    revision: str
    records: int = 0
    unreadable: int = 0
    tallies: dict[tuple[str, str, str], Tally] = field(default_factory=dict)

    @property
    def changes(self) -> int:
        """Return how many answers would change, those that the candidate could not give included."""
        return sum(tally.asked - tally.count("same") for tally in self.tallies.values())

    def note(self, change: Change) -> None:
        """Count one answer, and keep it as an example if it is among the first of its kind."""
        key = (change.rule, change.action, "filter" if change.point.endswith(" filter") else "decision")
        tally = self.tallies.setdefault(key, Tally(change.point, change.rule, change.action))
        tally.asked += 1
        seen = tally.outcomes[change.outcome] = tally.count(change.outcome) + 1
        if change.outcome != "same" and seen <= MAX_EXAMPLES:
            tally.examples.append(change)


async def replay(
    records: Iterable[Record], engine: PolicyEngine, *, limit: int | None, advance: Callable[[int], None]
) -> Replay:
    """Return what would change were these records' questions asked of the engine's policy. `advance` is told
    of every record read.

    At most the first `limit` records that hold questions are asked. Raises `PolicyUnavailable` only when
    there is no policy at all; a question that the candidate cannot answer is counted as an `error`.
    """
    found = Replay(await engine.revision())
    waiting: list[Recorded] = []
    for record in records:
        asked = questions_in(record)
        found.unreadable += asked.unreadable
        if not asked.is_empty:
            waiting.append(asked)
            found.records += 1
        advance(1)
        if found.records == limit:
            break
        if len(waiting) == _AT_ONCE:
            await _ask_all(waiting, engine, found)
            waiting = []
    await _ask_all(waiting, engine, found)
    return found


async def _ask_all(asked: list[Recorded], engine: PolicyEngine, found: Replay) -> None:
    async with asyncio.TaskGroup() as group:
        running = [group.create_task(_ask_again(one, engine)) for one in asked]
    for task in running:
        for change in task.result():
            found.note(change)


async def _ask_again(asked: Recorded, engine: PolicyEngine) -> list[Change]:
    changes = [await _decision(decision, engine) for decision in asked.decisions]
    for batch in asked.batches:
        changes += await _batch(batch, engine)
    changes += [await _value(one, engine) for one in asked.values]
    return changes + [await _plan(plan, engine) for plan in asked.plans]


async def _decision(asked: RecordedDecision, engine: PolicyEngine) -> Change:
    try:
        answer = await engine.ask(asked.point.value, asked.document)
    except PolicyUnavailable as error:
        return _change(asked, "error", (error.detail,))
    return await _compared(asked, engine, allowed=answer.defined and permits(asked.point, answer.value))


async def _batch(asked: RecordedBatch, engine: PolicyEngine) -> list[Change]:
    """Return every member of the batch, decided again in one query as it was then."""
    try:
        answer = await engine.ask(BATCH_RULE, asked.document)
        admitted = _admitted(answer.value)
    except (PolicyUnavailable, TypeError) as error:
        detail = error.detail if isinstance(error, PolicyUnavailable) else str(error)
        return [_change(member, "error", (detail,)) for member in asked.members.values()]
    return [await _compared(member, engine, allowed=key in admitted) for key, member in asked.members.items()]


def _admitted(value: Json) -> frozenset[tuple[str, str | int]]:
    """Return what a batch admits, as `RecordedBatch.members` is keyed. Raises `TypeError` when the
    answer has another shape.
    """
    if not isinstance(value, Mapping):
        raise TypeError(f"{BATCH_RULE} is not an object")
    pairs: set[tuple[str, str | int]] = set()
    for name, members in value.items():
        if not isinstance(members, list | tuple):
            raise TypeError(f"{BATCH_RULE}.{name} is not a list")
        pairs.update((name, member) for member in members if isinstance(member, str | int))
    return frozenset(pairs)


async def _compared(asked: RecordedDecision, engine: PolicyEngine, *, allowed: bool) -> Change:
    if allowed != asked.allowed:
        return (
            _change(asked, "would_allow", asked.reasons)
            if allowed
            else _change(asked, "would_deny", await reasons_for(asked, engine))
        )
    if not allowed:
        return _change(asked, "same", ())
    try:
        differing = [
            change
            for one in asked.values
            if (change := await _changed_value(one, asked.document, engine)) is not None
        ]
    except PolicyUnavailable as error:
        return _change(asked, "error", (error.detail,))
    return _change(asked, "value_differs" if differing else "same", tuple(differing))


async def _value(asked: RecordedQuestion, engine: PolicyEngine) -> Change:
    outcome: Outcome = "same"
    reasons: tuple[str, ...] = ()
    try:
        changed = await _changed_value(asked.value, asked.document, engine)
    except PolicyUnavailable as error:
        outcome, reasons = "error", (error.detail,)
    else:
        if changed is not None:
            outcome, reasons = "value_differs", (changed,)
    point = f"{asked.value.rule.split('/')[1]} {asked.value.name}"
    return Change(outcome, point, asked.value.rule, asked.action, asked.origin, asked.id, "", reasons)


async def _changed_value(asked: RecordedValue, document: JsonObject, engine: PolicyEngine) -> str | None:
    """Return what the rule said and would say instead; None where it would say the same. Raises
    `PolicyUnavailable`.
    """
    answer = await engine.ask(asked.rule, document)
    now = (answer.value,) if answer.defined else ()
    return None if now == asked.said else f"{asked.name}: {_spelt(asked.said)} → {_spelt(now)}"


def _spelt(said: tuple[Json, ...]) -> str:
    return json.dumps(said[0], sort_keys=True, ensure_ascii=False) if said else "nothing"


async def reasons_for(asked: RecordedDecision, engine: PolicyEngine) -> tuple[str, ...]:
    """Return why the engine's policy denies; none when it cannot say."""
    try:
        answer = await engine.ask(asked.point.reasons_rule, asked.document)
    except PolicyUnavailable:
        return ()
    return tuple(map(str, answer.value)) if answer.defined and isinstance(answer.value, list | tuple) else ()


async def _plan(asked: RecordedPlan, engine: PolicyEngine) -> Change:
    outcome: Outcome = "same"
    reasons: tuple[str, ...] = ()
    try:
        planned = await engine.plan(asked.rule, asked.document, unknown=asked.unknown)
    except (PolicyUnavailable, FilterNotExpressible) as error:
        outcome, reasons = "error", (error.detail,)
    else:
        now = describe(planned.plan)
        if now != asked.plan or (asked.digest and plan_digest(planned.plan) != asked.digest):
            outcome, reasons = "filter_differs", (f"{spelt_plan(asked.plan)} → {spelt_plan(now)}",)
    point = asked.rule.split("/")[1]
    return Change(
        outcome,
        f"{point} filter",
        asked.rule,
        asked.action,
        asked.origin,
        f"{asked.origin.record}/filter",
        asked.unknown,
        reasons,
    )


def spelt_plan(plan: JsonObject) -> str:
    """Return a described plan in words, e.g. `matching (size 12)`."""
    return f"{plan.get('kind')} (size {plan['size']})" if "size" in plan else str(plan.get("kind"))


def _change(asked: RecordedDecision, outcome: Outcome, reasons: tuple[str, ...]) -> Change:
    return Change(
        outcome,
        asked.point.short,
        asked.point.value,
        asked.action,
        asked.origin,
        asked.id,
        asked.about,
        reasons,
    )
