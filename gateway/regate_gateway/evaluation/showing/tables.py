"""A report as tables: what Markdown and the page show alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from regate_gateway.evaluation.figures import Report


@dataclass(frozen=True, slots=True)
class Table:
    """A part of the report: rows below a head, and a sentence that says how to read them."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    says: str


def tables(report: Report) -> list[Table]:
    """Return the parts of which there is something to show."""
    every = [
        _quality(report),
        _leaks(report),
        _leaked(report),
        _filtered(report),
        _revoked(report),
        _latency(report),
        _decisions(report),
    ]
    return [table for table in every if table.rows]


def verdict(report: Report) -> str:
    """Return the outcome in a sentence."""
    if report.has_leaked:
        return f"LEAK: {sum(one.leaks for one in report.probes)} searches found what is another tenant's."
    if report.stays:
        return f"NOT REVOKED: {report.stays} canaries are found although they were taken back."
    if report.regressions:
        return f"WORSE than the baseline in {len(report.regressions)} figures."
    probes = sum(one.probes for one in report.probes)
    return (
        f"No leak in {probes:,} searches."
        if len(report.tenants) > 1
        else "Measured; leaks were not looked for."
    )


def _quality(report: Report) -> Table:
    rows = [
        (
            one.tenant or "all",
            one.mode,
            f"{one.questions:,}",
            *(f"{value:.3f}" for value in (one.recall_1, one.recall_5, one.recall_10, one.mrr, one.ndcg_10)),
        )
        for one in report.quality
    ]
    head = ("tenant", "mode", "questions", "recall@1", "recall@5", "recall@10", "MRR", "nDCG@10")
    says = (
        f"Questions: {report.questions}. Each figure is a mean over the questions, among the first ten hits."
    )
    return Table("Retrieval quality", head, rows, says)


def _leaks(report: Report) -> Table:
    asked = {"others": "other tenants'", "own": "one's own"}
    rows = [
        (asked[one.kind], f"{one.probes:,}", f"{one.leaks:,}", f"{one.hits:,}", f"{one.upper_bound:.2%}")
        for one in report.probes
    ]
    says = (
        "A search with a hit that is another tenant's is a leak. The bound is the one-sided upper 95 % bound "
        "of Clopper and Pearson (1934) for the rate of leaks among searches like these; without a leak it is "
        "near 3 divided by the number of searches (the rule of three)."
    )
    return Table("Leaks", ("questions", "searches", "leaks", "hits", "rate below"), rows, says)


def _leaked(report: Report) -> Table:
    rows = [
        (one.searcher, ", ".join(one.owners), one.mode, one.filename, one.file_id, one.query)
        for one in report.leaks
    ]
    head = ("searcher", "owner", "mode", "file", "id", "question")
    return Table("What leaked", head, rows, "The first of them.")


def _filtered(report: Report) -> Table:
    rows = [
        (
            f"{one.percent:g} %",
            one.mode,
            f"{one.permitted:,} of {one.canaries:,}",
            f"{one.asked:,}",
            f"{one.recall_10:.3f}",
            f"{one.breaches:,}",
        )
        for one in report.filtered
    ]
    says = "Canaries that a client's filter permits are asked for. Breaches are hits that it does not permit."
    return Table(
        "Recall under a filter",
        ("permitted", "mode", "canaries", "asked", "recall@10", "breaches"),
        rows,
        says,
    )


def _revoked(report: Report) -> Table:
    rows = [
        (
            one.change,
            one.mode,
            f"{one.changes:,}",
            f"{one.answer_p50_ms:.1f} / {one.answer_p95_ms:.1f}",
            f"{one.effect_p50_ms:.1f} / {one.effect_p95_ms:.1f}",
            f"{one.late:,}",
            f"{one.never:,}",
        )
        for one in report.revoked
        if one.changes
    ]
    says = (
        "Times are p50 / p95 from the request. In effect is the end of the first search that does not find "
        "the canary; late are searches that began after the answer and found it, never are changes of which "
        "the last of them still knew nothing."
    )
    return Table(
        "Time to revoke",
        ("change", "mode", "changes", "answered, ms", "in effect, ms", "late searches", "never"),
        rows,
        says,
    )


def _latency(report: Report) -> Table:
    rows = [
        (one.mode, f"{one.searches:,}", f"{one.p50_ms:.1f}", f"{one.p95_ms:.1f}") for one in report.latency
    ]
    says = "One search at a time, as this client saw it."
    return Table("Searches", ("mode", "searches", "p50 ms", "p95 ms"), rows, says)


def _decisions(report: Report) -> Table:
    rows = [
        (
            one.kind,
            f"{one.exchanges:,}",
            f"{one.per_search:.2f}",
            f"{one.mean_ms:.2f}",
            f"{one.p50_ms:.2f}",
            f"{one.p95_ms:.2f}",
        )
        for one in report.decisions
    ]
    says = (
        "What the gateway waited for OPA meanwhile, from two scrapes of its metrics: what others asked then "
        "is in it, and the percentiles are estimated within buckets."
    )
    return Table("Decisions", ("kind", "exchanges", "per search", "mean ms", "p50 ms", "p95 ms"), rows, says)
