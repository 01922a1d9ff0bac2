"""The metrics that are read at a scrape, of what counts for itself. What is counted as it happens is defined
where that is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from regate_adapters.audit.export.exporter import Exporter
from regate_adapters.audit.log import SegmentedAuditLog
from regate_adapters.opa.caching import CachingEngine
from regate_orchestrator.authz.lists import Listings
from regate_orchestrator.maintenance.garbage_collection import GarbageCollector
from regate_orchestrator.maintenance.vector_garbage import VectorGarbage
from regate_orchestrator.metrics import Labels, Metrics
from regate_orchestrator.retrieval.search import Retrieval


def read_decisions(
    metrics: Metrics,
    plans: CachingEngine,
    retrieval: Retrieval,
    listings: Listings,
) -> None:
    """Define what is read of decisions."""
    metrics.reading(
        "counter",
        "regate_plan_cache",
        "Filter plans taken from memory, or compiled.",
        lambda: {("hit",): plans.hits, ("miss",): plans.misses},
        ("outcome",),
    )
    metrics.reading(
        "counter",
        "regate_answers_remembered",
        "Answers of the policy on identity, route and quota that were taken from memory.",
        lambda: {(): plans.recalled},
    )
    metrics.reading(
        "counter",
        "regate_pushdown_mismatch",
        "Chunks and listed rows that a filter admitted and the decision denied under the same policy. Must "
        "stay 0.",
        lambda: {(): retrieval.mismatches + listings.mismatches},
    )
    metrics.reading(
        "gauge",
        "regate_policy_info",
        "The policy revision that the last answer came from.",
        lambda: {(plans.revision_seen,): 1} if plans.revision_seen else {},
        ("revision",),
        across="highest",
    )


def read_audit(metrics: Metrics, audit: SegmentedAuditLog, exporters: Sequence[Exporter]) -> None:
    """Define what is read of the audit log and of its exports."""
    metrics.reading(
        "counter",
        "regate_audit_lost",
        "Audit records lost although their effect happened.",
        lambda: {(): audit.lost},
    )
    metrics.reading(
        "counter",
        "regate_audit_copies_failed",
        "Copies of checkpoints (audit.checkpoints) that could not be written.",
        lambda: {(): audit.copies_failed},
    )

    def each(number: Callable[[Exporter], int]) -> Callable[[], dict[Labels, float]]:
        return lambda: {(one.name,): number(one) for one in exporters}

    label = ("destination",)
    metrics.reading(
        "gauge",
        "regate_audit_export_behind",
        "Records that a destination does not have yet.",
        each(lambda one: one.behind),
        label,
    )
    for name, says, number in (
        ("exported", "Records that a destination has taken.", each(lambda one: one.exported)),
        ("export_failures", "Batches that a destination did not take.", each(lambda one: one.failures)),
        ("export_rejected", "Records that a destination refused for good.", each(lambda one: one.refused)),
        ("export_missed", "Records deleted before they were exported.", each(lambda one: one.skipped)),
    ):
        metrics.reading("counter", f"regate_audit_{name}", says, number, label)


def read_garbage(metrics: Metrics, collector: GarbageCollector, vectors: VectorGarbage) -> None:
    """Define what is read of what is removed, and of what waits to be."""
    metrics.reading(
        "counter",
        "regate_garbage_collected",
        "Things that garbage collection has removed.",
        lambda: {(name,): count for name, count in collector.removed.items()},
        ("collector",),
    )
    metrics.reading(
        "gauge",
        "regate_orphaned_chunks",
        "Generations of chunks, and stores, that wait to be removed from a vector engine.",
        lambda: {(): vectors.waiting},
        across="highest",
    )


def read_databases(metrics: Metrics, pools: Mapping[str, Callable[[], Mapping[str, int]]]) -> None:
    """Define what is read of the connections to databases. A file has none that are worth a number."""
    metrics.reading(
        "gauge",
        "regate_database_connections",
        "Connections to PostgreSQL in use and idle, and calls that wait for one.",
        lambda: {(name, what): number for name, use in pools.items() for what, number in use().items()},
        ("pool", "state"),
    )


def read_upstreams(metrics: Metrics, reach: Callable[[], Mapping[str, str]]) -> None:
    """Define what is read of the upstreams. Of one that was never connected to nothing is known."""

    def known(shows: Callable[[str], bool]) -> dict[Labels, float]:
        return {(name,): float(shows(how)) for name, how in reach().items() if how != "unknown"}

    metrics.reading(
        "gauge",
        "regate_upstream_reachable",
        "Whether the latest connection to an upstream came about.",
        lambda: known(lambda how: how != "unreachable"),
        ("upstream",),
        across="lowest",
    )
    metrics.reading(
        "gauge",
        "regate_upstream_denied",
        "Whether an upstream refuses the gateway's key.",
        lambda: known(lambda how: how == "denied"),
        ("upstream",),
        across="highest",
    )
