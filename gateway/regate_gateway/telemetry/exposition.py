"""How `/metrics` shows what is counted (`regate_orchestrator.metrics`), in Prometheus' text format, and what
the figures of several workers are together.

The Prometheus library takes 70 ms to import. It is imported at the first scrape, in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, assert_never

from regate_orchestrator.metrics import Across, Counter, Histogram, Metric, Metrics, Reading

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family

Sample: TypeAlias = tuple[str, tuple[tuple[str, str], ...]]
"""The name of a number, and its labels with their values."""

_OF_PROCESSES: Final[Mapping[str, Across]] = {
    "process_start_time_seconds": "lowest",
    "process_max_fds": "highest",
    "python_info": "highest",
}
"""How gauges of the process combine that are no sums."""
_COMBINE: Final[Mapping[Across, Callable[[float, float], float]]] = {
    "sum": float.__add__,
    "highest": max,
    "lowest": min,
}


@dataclass(slots=True)
class Figure:
    """One metric with its numbers of a moment."""

    name: str
    kind: str
    says: str
    across: Across
    samples: dict[Sample, float] = field(default_factory=dict)

    @property
    def only_grows(self) -> bool:
        """Whether it goes on counting from where it is."""
        return self.kind in ("counter", "histogram")

    def document(self) -> dict[str, Any]:
        """Return it as JSON."""
        return asdict(self) | {"samples": [[*sample, number] for sample, number in self.samples.items()]}

    @classmethod
    def of_document(cls, document: Mapping[str, Any]) -> Self:
        """Return what `document` returned, read."""
        samples = {
            (name, tuple((label, value) for label, value in labels)): number
            for name, labels, number in document["samples"]
        }
        return cls(document["name"], document["kind"], document["says"], document["across"], samples)


Figures: TypeAlias = tuple[Figure, ...]


async def figures_of(metrics: Metrics, *, of_process: bool = True) -> Figures:
    """Return the figures of this moment, with those of the process."""
    await asyncio.to_thread(import_module, "prometheus_client")  # no request waits for that
    from prometheus_client import REGISTRY

    own = [_figure(_family(metric), _across(metric)) for metric in metrics.all.values()]
    process = REGISTRY.collect() if of_process else ()
    return (*own, *(_figure(family, _OF_PROCESSES.get(family.name, "sum")) for family in process))


def together(each: Sequence[Figures]) -> Figures:
    """Return the figures of several processes as those of one."""
    found: dict[str, Figure] = {}
    for figure in (figure for figures in each for figure in figures):
        known = found.setdefault(figure.name, Figure(figure.name, figure.kind, figure.says, figure.across))
        combine = _COMBINE[figure.across]
        for sample, number in figure.samples.items():
            earlier = known.samples.get(sample)
            known.samples[sample] = number if earlier is None else combine(earlier, number)
    return tuple(found.values())


def exposition(figures: Figures) -> tuple[bytes, str]:
    """Return the figures as Prometheus reads them, and the content type."""
    from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(figures))
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector:
    def __init__(self, figures: Figures) -> None:
        self._figures = figures

    def describe(self) -> Iterator[Family]:
        """Name nothing beforehand: the registry is made for one reading."""
        return iter(())

    def collect(self) -> Iterator[Family]:
        """Yield the figures as the Prometheus library wants them."""
        from prometheus_client.core import Metric as Family

        for figure in self._figures:
            family = Family(figure.name, figure.says, figure.kind)
            for (name, labels), number in figure.samples.items():
                family.add_sample(name, dict(labels), number)
            yield family


def _figure(family: Family, across: Across) -> Figure:
    samples = {(one.name, tuple(one.labels.items())): float(one.value) for one in family.samples}
    return Figure(family.name, family.type, family.documentation, across, samples)


def _across(metric: Metric) -> Across:
    return metric.numbers.across if isinstance(metric.numbers, Reading) else "sum"


def _family(metric: Metric) -> Family:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    family: CounterMetricFamily | GaugeMetricFamily
    match metric.numbers:
        case Histogram(values=series):
            histogram = HistogramMetricFamily(metric.name, metric.says, labels=metric.labels)
            for labels, durations in series.items():
                histogram.add_metric(labels, durations.buckets(), durations.total)
            return histogram
        case Reading(kind="gauge"):
            family = GaugeMetricFamily(metric.name, metric.says, labels=metric.labels)
        case Counter() | Reading():
            family = CounterMetricFamily(metric.name, metric.says, labels=metric.labels)
        case _:
            assert_never(metric.numbers)
    for labels, number in sorted(metric.numbers.now().items()):
        family.add_metric(labels, number)
    return family
