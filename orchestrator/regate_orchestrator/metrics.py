"""What a gateway counts: counters, histograms and readings, each defined where it is counted.

Plain numbers: one addition costs a tenth of one in the Prometheus library, which takes 70 ms to import
besides and is only needed at a scrape. Not how they are shown; `regate_gateway.telemetry.exposition` does
that.

Every label comes from a closed set: names in code and of upstreams, route templates, statuses. Never a
tenant, a person, a store, a model or a path that a client chose (I11). One `Metrics` belongs to one gateway.
It is counted in by one event loop, so nothing here takes a lock, and counting never raises.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, TypeAlias

Across: TypeAlias = Literal["sum", "highest", "lowest"]
"""What a reading of several processes of one gateway is together."""

Labels: TypeAlias = tuple[str, ...]
"""The values of a metric's labels, in the order of their names."""


class Counter:
    """A number for each value of the labels, that only grows."""

    __slots__ = ("values",)

    def __init__(self, rows: Iterable[Labels]) -> None:
        self.values: dict[Labels, int] = dict.fromkeys(rows, 0)

    def add(self, *labels: str, count: int = 1) -> None:
        """Add to the number."""
        self.values[labels] = self.values.get(labels, 0) + count

    def now(self) -> Mapping[Labels, float]:
        """Return the numbers of this moment."""
        return self.values


class Durations:
    """How many durations fell into each bucket, the last being without bound, and their sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def buckets(self) -> list[tuple[str, float]]:
        """Return each bound as text, with how many are not above it."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self.counts)), strict=True))


class Histogram:
    """Durations for each value of the labels."""

    __slots__ = ("_bounds", "values")

    def __init__(self, bounds: tuple[float, ...], rows: Iterable[Labels]) -> None:
        self._bounds = bounds
        self.values = {labels: Durations(bounds) for labels in rows}

    def observe(self, seconds: float, *labels: str) -> None:
        """Note a duration."""
        durations = self.values.get(labels)
        if durations is None:
            durations = self.values[labels] = Durations(self._bounds)
        durations.counts[bisect_left(self._bounds, seconds)] += 1
        durations.total += seconds


@dataclass(frozen=True, slots=True)
class Reading:
    """Numbers that something else keeps, read at a scrape."""

    kind: Literal["counter", "gauge"]
    across: Across
    now: Callable[[], Mapping[Labels, float]]


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. The name is without the `_total` that a counter is shown with."""

    name: str
    says: str
    labels: tuple[str, ...]
    numbers: Counter | Histogram | Reading


class Metrics:
    """The metrics of one gateway. A name must be defined once."""

    def __init__(self) -> None:
        self.all: dict[str, Metric] = {}

    def counter(
        self, name: str, says: str, labels: tuple[str, ...] = (), *, rows: Iterable[Labels] = ()
    ) -> Counter:
        """Define a counter. The rows are there before they are first counted in, so that an alert sees each
        from 0 on.
        """
        counter = Counter(rows)
        self._define(Metric(name, says, labels, counter))
        return counter

    def histogram(
        self,
        name: str,
        says: str,
        labels: tuple[str, ...],
        *,
        bounds: tuple[float, ...],
        rows: Iterable[Labels] = (),
    ) -> Histogram:
        """Define a histogram of durations in seconds."""
        histogram = Histogram(bounds, rows)
        self._define(Metric(name, says, labels, histogram))
        return histogram

    def reading(
        self,
        kind: Literal["counter", "gauge"],
        name: str,
        says: str,
        read: Callable[[], Mapping[Labels, float]],
        labels: tuple[str, ...] = (),
        *,
        across: Across = "sum",
    ) -> None:
        """Define what is read at each scrape. `across` says what it is of several processes together."""
        self._define(Metric(name, says, labels, Reading(kind, across, read)))

    def _define(self, metric: Metric) -> None:
        if metric.name in self.all:
            raise ValueError(f"the metric {metric.name} is defined twice")
        self.all[metric.name] = metric
