"""A report as one HTML page: tables and plots, without a script and without anything from elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from regate_gateway.evaluation.figures import Report
from regate_gateway.evaluation.showing.plots import bars
from regate_gateway.evaluation.showing.tables import Table, tables, verdict

_STYLE: Final = """
body { font: 15px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; color: #111827 }
table { border-collapse: collapse; margin: 1em 0 }
th, td { border-bottom: 1px solid #d1d5db; padding: .25em .75em; text-align: left; overflow-wrap: anywhere }
.verdict { padding: .75em 1em; background: #dcfce7; font-weight: bold }
.bad { background: #fee2e2 }
svg { max-width: 100%; height: auto }
"""


def page(report: Report) -> str:
    """Return the report as a page."""
    drawn = _plots(report)
    parts = [
        "<h1>Evaluation</h1>",
        f"<p>{escape(report.url)}, {escape(report.at)}, by regate {escape(report.regate)}.</p>",
        f"<p>Tenants: {escape(', '.join(report.tenants))}.</p>",
        f'<p class="verdict{"" if report.is_good else " bad"}">{escape(verdict(report))}</p>',
    ]
    if report.regressions:
        parts += ["<h2>Worse than the baseline</h2>", _list(report.regressions)]
    parts += [_section(table, drawn.get(table.title, "")) for table in tables(report)]
    if report.notes:
        parts += ["<h2>Not measured, and notes</h2>", _list(report.notes)]
    body = "\n".join(parts)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<title>Regate: evaluation</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def _plots(report: Report) -> dict[str, str]:
    """Return the plots, each by the title of the table that it stands before."""
    quality = [
        (f"{one.mode}, {name}", value)
        for one in report.quality
        if one.tenant is None
        for name, value in (
            ("recall@1", one.recall_1),
            ("recall@5", one.recall_5),
            ("recall@10", one.recall_10),
            ("MRR", one.mrr),
            ("nDCG@10", one.ndcg_10),
        )
    ]
    filtered = [(f"{one.percent:g} % permitted, {one.mode}", one.recall_10) for one in report.filtered]
    revoked = [
        (f"{one.change}, {name}", value)
        for one in report.revoked
        if one.changes
        for name, value in (("answered", one.answer_p50_ms), ("in effect", one.effect_p50_ms))
    ]
    latency = [
        (f"{one.mode}, {name}", value)
        for one in report.latency
        for name, value in (("p50", one.p50_ms), ("p95", one.p95_ms))
    ]
    decisions = [
        (f"{one.kind}, {name}", value)
        for one in report.decisions
        for name, value in (("p50", one.p50_ms), ("p95", one.p95_ms))
    ]
    return {
        "Retrieval quality": bars("All tenants, by mode", quality, most=1.0),
        "Recall under a filter": bars("recall@10, by share permitted", filtered, most=1.0),
        "Time to revoke": bars("p50, ms", revoked, digits=1),
        "Searches": bars("ms", latency, digits=1),
        "Decisions": bars("ms", decisions, digits=2),
    }


def _section(table: Table, plot: str) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in table.head)
    rows = "\n".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows)
    return (
        f"<h2>{escape(table.title)}</h2>\n{plot}<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table>\n"
        f"<p>{escape(table.says)}</p>"
    )


def _list(texts: Sequence[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"
