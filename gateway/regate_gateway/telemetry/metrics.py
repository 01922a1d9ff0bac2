"""What the process counts, and how `/metrics` shows it. Plain numbers while requests run; the Prometheus
library only reads them at a scrape.

Every label comes from a closed set: names in code and of upstreams, route templates, statuses. Never a
tenant, a person, a store, a model or a path that a client chose (I11). One object belongs to one gateway; it
is counted in by one event loop, so nothing here takes a lock.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from itertools import accumulate
from typing import TYPE_CHECKING, Final, Literal, Protocol

from regate_orchestrator.errors import PolicyUnavailable

if TYPE_CHECKING:  # the library takes 70 ms to import: `exposition` does so, at the first scrape, in a thread
    from prometheus_client.core import Metric

_CAUSES: Final = ("timeout", "unreachable", "answer")
_OUTCOMES: Final = ("admitted", "denied", "gone")
_LIMITS: Final = ("requests", "tokens")
_METHODS: Final = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "HEAD", "OPTIONS"})
_UNLISTED: Final = "unlisted"
_NO_ANSWER: Final = 499

_DECISION_BOUNDS: Final = (0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_REQUEST_BOUNDS: Final = (
    0.002,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
)


class Plans(Protocol):
    """Whoever remembers filter plans."""

    hits: int
    misses: int
    revision_seen: str


class Admission(Protocol):
    """Whoever decides again what a filter let through."""

    @property
    def mismatches(self) -> int:
        """Return how much of that was denied, under the very policy that the filter was made by."""
        ...


class Admissions:
    """All who do, as one."""

    def __init__(self, *parts: Admission) -> None:
        self._parts = parts

    @property
    def mismatches(self) -> int:
        """Return their sum."""
        return sum(part.mismatches for part in self._parts)


class Losing(Protocol):
    """Whoever may lose a record."""

    lost: int


class Reaching(Protocol):
    """Whoever knows which upstreams can be reached."""

    def reach(self) -> Mapping[str, str]:
        """Return for every upstream `ok`, `unreachable`, `denied`, `no_models` or `unknown`."""
        ...


class Sweeping(Protocol):
    """Whoever removes what is of no more use."""

    @property
    def removed(self) -> Mapping[str, int]:
        """Return how much each collector has removed."""
        ...


class Waiting(Protocol):
    """Whoever knows what waits to be removed."""

    waiting: int


@dataclass(frozen=True, slots=True)
class Watched:
    """What counts for itself and is read at a scrape."""

    plans: Plans
    admission: Admission
    audit: Losing
    upstreams: Reaching
    garbage_collector: Sweeping
    loose: Waiting


@dataclass(slots=True)
class _Durations:
    """A histogram's numbers: how many fell into each bucket, the last being without bound, and their sum."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(self.bounds, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


class Metrics:
    """All counts of one gateway. Is `ports.Meter` for the core, and is told of requests by the edge."""

    def __init__(self) -> None:
        self._decisions: Counter[tuple[str, bool]] = Counter()
        self._waits = {kind: _Durations(_DECISION_BOUNDS) for kind in ("ask", "plan", "batch")}
        self._unanswered: Counter[str] = Counter()
        self._candidates: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._served: defaultdict[tuple[str, str], _Durations] = defaultdict(
            lambda: _Durations(_REQUEST_BOUNDS)
        )
        self._watched: Watched | None = None

    # ------------------------------------------------------------ ports.Meter

    def asked(self, kind: Literal["ask", "plan", "batch"], *, seconds: float) -> None:
        """Note how long the policy engine was waited for."""
        self._waits[kind].add(seconds)

    def unanswered(self, error: PolicyUnavailable) -> None:
        """Note that the policy engine gave no usable answer, by what kept it from that."""
        self._unanswered[_cause(error)] += 1

    def decided(self, point: str, *, allowed: bool, count: int = 1) -> None:
        """Note decisions of a decision point."""
        self._decisions[point, allowed] += count

    def examined(self, *, admitted: int, denied: int, gone: int) -> None:
        """Note what became of the candidates of one search."""
        self._candidates.update(admitted=admitted, denied=denied, gone=gone)

    # ------------------------------------------------------------ the gateway's own

    def served(self, route: str | None, method: str, status: int, *, seconds: float) -> None:
        """Note a request that has ended. `route` is its template, None when no route was reached;
        `status` is 0 when nothing was answered.
        """
        name, verb = route or _UNLISTED, method if method in _METHODS else "other"
        self._requests[name, verb, status or _NO_ANSWER] += 1
        self._served[name, verb].add(seconds)

    def refused(self, limit: Literal["requests", "tokens"]) -> None:
        """Note a request that would have passed its caller's limit."""
        self._refused[limit] += 1

    def watch(self, watched: Watched) -> None:
        """Read these too from now on. Must be called once, before the first scrape can come."""
        self._watched = watched

    async def exposition(self) -> tuple[bytes, str]:
        """Return the figures of this moment in Prometheus' text format, with those of the process, and
        the content type.
        """
        await asyncio.to_thread(
            import_module, "prometheus_client"
        )  # 70 ms the first time: no request waits for that
        from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry) + generate_latest(REGISTRY), CONTENT_TYPE_LATEST

    def describe(self) -> Iterator[Metric]:
        """Name nothing beforehand: the registry is made for one reading."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the figures as the Prometheus library wants them."""
        decisions = {
            (point, str(allowed).lower()): count for (point, allowed), count in self._decisions.items()
        }
        yield _counter(
            "regate_decisions", "Decisions by decision point.", ("point", "allowed"), decisions.items()
        )
        waits = {(kind,): durations for kind, durations in self._waits.items()}
        yield _histogram(
            "regate_decision_seconds", "Time that the policy engine was waited for.", ("kind",), waits.items()
        )
        unanswered = {(cause,): self._unanswered[cause] for cause in _CAUSES}
        yield _counter(
            "regate_policy_unavailable",
            "Questions without a usable answer; each was a refusal.",
            ("cause",),
            unanswered.items(),
        )
        candidates = {(outcome,): self._candidates[outcome] for outcome in _OUTCOMES}
        yield _counter(
            "regate_retrieval_candidates",
            "Chunks that vector stores returned.",
            ("outcome",),
            candidates.items(),
        )
        refused = {(limit,): self._refused[limit] for limit in _LIMITS}
        yield _counter(
            "regate_quota_refused",
            "Requests that would have passed their caller's limit.",
            ("limit",),
            refused.items(),
        )
        requests = {
            (route, method, str(status)): count for (route, method, status), count in self._requests.items()
        }
        yield _counter(
            "regate_requests", "Requests that have ended.", ("route", "method", "status"), requests.items()
        )
        served = "Time until a request's answer was sent whole."
        yield _histogram("regate_request_seconds", served, ("route", "method"), self._served.items())
        if self._watched is not None:
            yield from _collect_watched(self._watched)


def _collect_watched(watched: Watched) -> Iterator[Metric]:
    from prometheus_client.core import GaugeMetricFamily

    plans = {("hit",): watched.plans.hits, ("miss",): watched.plans.misses}
    yield _counter(
        "regate_plan_cache", "Filter plans taken from memory, or compiled.", ("outcome",), plans.items()
    )
    mismatch = (
        "Chunks and listed rows that a filter admitted and the decision denied under the same policy. Must "
        "stay 0."
    )
    yield _counter("regate_pushdown_mismatch", mismatch, (), [((), watched.admission.mismatches)])
    yield _counter(
        "regate_audit_lost",
        "Audit records lost although their effect happened.",
        (),
        [((), watched.audit.lost)],
    )
    info = GaugeMetricFamily(
        "regate_policy_info", "The policy revision that the last answer came from.", labels=("revision",)
    )
    if watched.plans.revision_seen:
        info.add_metric((watched.plans.revision_seen,), 1)
    yield info
    swept = {(name,): count for name, count in watched.garbage_collector.removed.items()}
    yield _counter(
        "regate_garbage_collected",
        "Things that garbage collection has removed.",
        ("collector",),
        swept.items(),
    )
    waiting = GaugeMetricFamily(
        "regate_orphaned_chunks",
        "Generations of chunks, and stores, that wait to be removed from a vector engine.",
    )
    waiting.add_metric((), watched.loose.waiting)
    yield waiting
    reachable = GaugeMetricFamily(
        "regate_upstream_reachable",
        "Whether the latest connection to an upstream came about.",
        labels=("upstream",),
    )
    denied = GaugeMetricFamily(
        "regate_upstream_denied", "Whether an upstream refuses the gateway's key.", labels=("upstream",)
    )
    for name, reach in watched.upstreams.reach().items():
        if reach != "unknown":
            reachable.add_metric((name,), float(reach != "unreachable"))
            denied.add_metric((name,), float(reach == "denied"))
    yield from (reachable, denied)


def _counter(
    name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], int]]
) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    family = CounterMetricFamily(name, text, labels=labels)
    for values, count in sorted(rows):
        family.add_metric(values, count)
    return family


def _histogram(
    name: str, text: str, labels: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], _Durations]]
) -> Metric:
    from prometheus_client.core import HistogramMetricFamily

    family = HistogramMetricFamily(name, text, labels=labels)
    for values, durations in rows:
        family.add_metric(values, durations.buckets(), durations.total)
    return family


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
