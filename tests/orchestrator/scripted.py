"""Ports with a script: a policy whose rules the test says, and places that keep what they are told.
They stand for what is outside of the core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.errors import RegateError
from regate_orchestrator.filters.evaluate import holds
from regate_orchestrator.filters.expression import ALWAYS, Expression, plan_of
from regate_orchestrator.metrics import Metrics, Reading
from regate_orchestrator.ports import Answer, Planned, Vector
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import Json, JsonObject, RequestId

ANN = Principal("ann", "acme", teams=("hr",))
CONTEXT = Context(ANN, RequestId("req_1"))
NOW = 1_800_000_000
LISTED = ("listed_files", "listed_prompts", "listed_responses", "listed_stores")


@dataclass
class Policy:
    """A policy engine that answers as the test says, and remembers what it was asked.

    `chunks` is the rule of chunks and of rows that are listed, for the plan and the decision alike; a test
    that tears the two apart sets `planned` as well.
    """

    answers: dict[str, Json] = field(default_factory=dict)
    chunks: Expression = ALWAYS
    planned: Expression | RegateError | None = None
    decides: Callable[[Mapping[str, Json], int], bool] | None = None
    rev: str = "r1"
    failing: RegateError | None = None
    asked: list[tuple[str, JsonObject]] = field(default_factory=list)
    compiled: int = 0

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        self.asked.append((rule, document))
        if self.failing is not None:
            raise self.failing
        if rule in self.answers:
            return Answer(defined=True, value=self.answers[rule], revision=self.rev)
        if rule == "regate/lib/batch/admitted":
            return Answer(defined=True, value=self._batch(document), revision=self.rev)
        return Answer(defined=False, value=None, revision=self.rev)

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        self.compiled += 1
        if isinstance(self.planned, RegateError):
            raise self.planned
        return Planned(plan_of(self.chunks if self.planned is None else self.planned), self.rev)

    async def revision(self) -> str:
        return self.rev

    def _batch(self, document: JsonObject) -> Json:
        chunks, stores, now = document["chunks"], document["stores"], document["now"]
        assert isinstance(chunks, list)
        assert isinstance(stores, dict)
        assert isinstance(now, int)
        decide = self.decides or (lambda row, _: holds(self.chunks, row))
        admitted: list[Json] = [
            position for position, entry in enumerate(chunks) if decide(entry["chunk"], now)
        ]
        known: list[Json] = [name for name, row in stores.items() if row.get("tenant")]
        listed: dict[str, Json] = {}
        for kind in LISTED:
            rows = document[kind]
            assert isinstance(rows, list)
            listed[kind] = [position for position, row in enumerate(rows) if decide(row, now)]
        return {"stores": known, "chunks": admitted, "items": [], "tool_results": [], "models": [], **listed}


@dataclass
class Records:
    """An audit log in memory; `failing` is what it raises instead of writing."""

    written: list[JsonObject] = field(default_factory=list)
    failing: RegateError | None = None

    async def record(self, record: JsonObject) -> None:
        if self.failing is not None:
            raise self.failing
        self.written.append(record)


def counted(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """What a metric shows, without what never happened: of a histogram, how many durations."""
    numbers = metrics.all[name].numbers
    assert not isinstance(numbers, Reading)
    shown = {
        labels: number if isinstance(number, int) else sum(number.counts)
        for labels, number in numbers.values.items()
    }
    return {labels: number for labels, number in shown.items() if number}


class Compass:
    """An embedder for texts that are angles in degrees: what is close on the circle is similar."""

    name = "compass-2"

    async def dimensions(self) -> int:
        return 2

    async def embed(self, texts: Sequence[str], *, tenant: str) -> list[Vector]:
        return [direction(float(text)) for text in texts]


def direction(degrees: float) -> tuple[float, float]:
    return math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
