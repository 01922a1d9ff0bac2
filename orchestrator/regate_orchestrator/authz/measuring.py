"""What is counted of decisions. Not who decides: `enforcer.py`, the counterpart."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Literal

from regate_orchestrator.authz.batches import Admitted, Batch, outcomes_of
from regate_orchestrator.authz.decisions import Allow, Decision, Question
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.metrics import Metrics

_BOUNDS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class DecisionMetrics:
    """Counts decisions, and the exchanges with the policy engine that they took."""

    def __init__(self, metrics: Metrics) -> None:
        self._decisions = metrics.counter(
            "regate_decisions", "Decisions by decision point.", ("point", "allowed")
        )
        self._waits = metrics.histogram(
            "regate_decision_seconds",
            "Time that the policy engine was waited for.",
            ("kind",),
            bounds=_BOUNDS,
            rows=[("ask",), ("plan",), ("batch",)],
        )
        self._unanswered = metrics.counter(
            "regate_policy_unavailable",
            "Questions without a usable answer; each was a refusal.",
            ("cause",),
            rows=[("timeout",), ("unreachable",), ("answer",)],
        )

    def decided(self, point: str, *, allowed: bool, count: int = 1) -> None:
        """Count decisions of a decision point, by its short name."""
        self._decisions.add(point, "true" if allowed else "false", count=count)

    def all_decided(self, questions: Sequence[Question], decisions: Sequence[Decision]) -> None:
        """Count the decisions on these questions."""
        for question, decision in zip(questions, decisions, strict=True):
            self.decided(question.point.short, allowed=isinstance(decision, Allow))

    def batch_decided(self, batch: Batch, admitted: Admitted) -> None:
        """Count the decisions of a batch."""
        for point, allowed, denied in outcomes_of(batch, admitted):
            self.decided(point.short, allowed=True, count=allowed)
            self.decided(point.short, allowed=False, count=denied)

    @contextmanager
    def waiting(self, kind: Literal["ask", "plan", "batch"]) -> Iterator[None]:
        """Measure an exchange with the policy engine, the reading of its answer included, and count it
        when the answer was of no use.
        """
        began = time.perf_counter()
        try:
            yield
        except PolicyUnavailable as error:
            self._unanswered.add(_cause(error))
            raise
        finally:
            self._waits.observe(time.perf_counter() - began, kind)


def milliseconds_since(began: float) -> float:
    """Return how long it is since a reading of `time.perf_counter`, as records have it."""
    return round((time.perf_counter() - began) * 1000, 3)


def _cause(error: PolicyUnavailable) -> str:
    """Return what kept the engine from answering: late, not reached, or there with something that is
    no answer.
    """
    match error.__cause__:
        case TimeoutError():
            return "timeout"
        case None | ValueError() | TypeError():
            return "answer"
        case _:
            return "unreachable"
