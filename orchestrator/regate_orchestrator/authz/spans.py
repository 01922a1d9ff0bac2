"""What traces are told of decisions: a span for each, and one for each kind of a batch. Made only where a
request is traced. The counterpart is `enforcer.py`, which asks.

A span bears the id of the decision's entry in the audit log, and the codes of reasons without their texts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

from regate_orchestrator.authz.batches import Admitted, Batch, outcomes_of
from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.points import Point
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.ports import Answer, Planned
from regate_orchestrator.tracing.spans import (
    ACTION,
    ADMITTED_COUNT,
    ALLOWED,
    DECISION_ID,
    DENIED_COUNT,
    PHASE,
    POINT,
    REASONS,
    REMEMBERED,
    REVISION,
    Attributes,
    TraceSpan,
    Value,
    codes,
    error_type,
    span_clock,
)
from regate_orchestrator.values import Json, JsonObject

_T = TypeVar("_T")


class PhaseSpans:
    """Tells of the decisions of one phase of a request that is traced."""

    def __init__(self, context: Context, phase: str) -> None:
        # INVARIANT: made only for a context with a span
        self._span = cast("TraceSpan", context.span)
        self._about: dict[str, Value] = {**context.ids, PHASE: phase, REMEMBERED: False}
        self._began = span_clock()
        self._times: list[tuple[float, float]] = []

    def timed(self, asking: Sequence[Callable[[], Awaitable[_T]]]) -> list[Callable[[], Awaitable[_T]]]:
        """Return the questions, each of which notes its times when it is asked."""
        self._times = [(self._began, self._began)] * len(asking)
        return [self._timed(place, ask) for place, ask in enumerate(asking)]

    async def watched(self, answer: Awaitable[_T]) -> _T:
        """Return the answer, after telling of it where there is none."""
        try:
            return await answer
        except PolicyUnavailable as error:
            self._span.tell("decide", self._about, began=self._began, error=error_type(error))
            raise

    def decided(self, entries: Sequence[JsonObject], *, revision: str) -> None:
        """Tell of decisions, by their entries in the audit record."""
        times = self._times or [(self._began, span_clock())] * len(entries)
        for entry, (began, ended) in zip(entries, times, strict=True):
            attributes = {**self._about, **_decision(entry), REVISION: revision}
            self._span.tell(f"decide {entry['point']}", attributes, began=began, ended=ended)

    def admitted(self, batch: Batch, admitted: Admitted) -> None:
        """Tell of a batch: a span for each kind in it, with how many were admitted and denied."""
        for point, allowed, denied in outcomes_of(batch, admitted):
            counts: dict[str, Value] = {ADMITTED_COUNT: allowed, DENIED_COUNT: denied}
            attributes = {**self._about, POINT: point.short, **counts, REVISION: admitted.revision}
            self._span.tell(f"decide {point.short}", attributes, began=self._began)

    def _timed(self, place: int, ask: Callable[[], Awaitable[_T]]) -> Callable[[], Awaitable[_T]]:
        async def timed() -> _T:
            began = span_clock()
            answer = await self.watched(ask())
            self._times[place] = (began, span_clock())
            return answer

        return timed


def tell_principal(span: TraceSpan, ids: Attributes, answer: Answer, *, began: float, allowed: bool) -> None:
    """Tell of the decision on who asks."""
    remembered = {REMEMBERED: answer.made_for is not None}
    attributes = {**ids, **remembered, POINT: "authn", ACTION: "authn.principal", ALLOWED: allowed}
    span.tell("decide authn", {**attributes, REVISION: answer.revision}, began=began)


def tell_plan(
    span: TraceSpan, ids: Attributes, point: Point, action: str, planned: Planned, *, began: float
) -> None:
    """Tell of a filter plan, which is compiled, or remembered."""
    attributes = {**ids, POINT: point.short, ACTION: action, REMEMBERED: planned.is_remembered}
    span.tell(f"plan {point.short}", {**attributes, REVISION: planned.revision}, began=began)


def _decision(entry: JsonObject) -> dict[str, Value]:
    reasons = cast("Sequence[str]", entry.get("reasons", ()))
    told: dict[str, Json] = {
        DECISION_ID: entry["id"],
        POINT: entry["point"],
        ACTION: entry["action"],
        ALLOWED: entry["allowed"],
        REMEMBERED: "remembered_from" in entry,
    }
    return cast("dict[str, Value]", told if not reasons else {**told, REASONS: codes(reasons)})
