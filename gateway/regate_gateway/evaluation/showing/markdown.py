"""A report as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from regate_gateway.evaluation.figures import Report
from regate_gateway.evaluation.showing.tables import Table, tables, verdict


def markdown(report: Report) -> str:
    """Return the report as Markdown."""
    parts = [
        "# Evaluation",
        f"{report.url}, {report.at}, by regate {report.regate}. Tenants: {_cell(', '.join(report.tenants))}.",
        f"**{verdict(report)}**",
    ]
    if report.regressions:
        parts += ["## Worse than the baseline", _list(report.regressions)]
    parts += [_section(table) for table in tables(report)]
    if report.notes:
        parts += ["## Not measured, and notes", _list(report.notes)]
    return "\n\n".join(parts) + "\n"


def _section(table: Table) -> str:
    lines = [_row(table.head), _row(["---"] * len(table.head)), *map(_row, table.rows)]
    return f"## {table.title}\n\n" + "\n".join(lines) + f"\n\n{table.says}"


def _list(texts: Sequence[str]) -> str:
    return "\n".join(f"- {_cell(text)}" for text in texts)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(map(_cell, cells))} |"


def _cell(text: str) -> str:
    """Return a text of others so that it stays what it is, in one line."""
    return (
        " ".join(text.split())
        .replace("\\", "\\\\")
        .replace("|", "\\|")
        .replace("<", "&lt;")
        .replace("[", "\\[")
    )
