"""How `/metrics` shows what is counted (`regate_orchestrator.metrics`), in Prometheus' text format.

The Prometheus library takes 70 ms to import. It is imported at the first scrape, in a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, assert_never

from regate_orchestrator.metrics import Counter, Histogram, Metric, Metrics, Reading

if TYPE_CHECKING:
    from prometheus_client.core import Metric as Family


async def exposition(metrics: Metrics) -> tuple[bytes, str]:
    """Return the figures of this moment, with those of the process, and the content type."""
    await asyncio.to_thread(import_module, "prometheus_client")  # no request waits for that
    from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(metrics))
    return generate_latest(registry) + generate_latest(REGISTRY), CONTENT_TYPE_LATEST


class _Collector:
    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterator[Family]:
        """Name nothing beforehand: the registry is made for one reading."""
        return iter(())

    def collect(self) -> Iterator[Family]:
        """Yield the figures as the Prometheus library wants them."""
        return map(_family, list(self._metrics.all.values()))


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
