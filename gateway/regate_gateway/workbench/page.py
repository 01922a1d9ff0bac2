"""A page to look at, of whatever a policy command reports: one file, which loads nothing and runs nothing.

Not what is on it; each command says that. Everything that is shown is escaped, since policies and records are
others' texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from regate_orchestrator.errors import ConfigurationError

_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 "
    "1rem;color-scheme:light dark}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:left;vertical-align:top;padding:.3rem "
    ".7rem;border-bottom:1px solid #8885}"
    "td{overflow-wrap:anywhere}td:first-child{font-family:ui-monospace,monospace}"
)
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of texts, as many in each as there are columns."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Section:
    """A heading, and what stands below it. One whose table is empty is left out."""

    heading: str
    table: Table


def page(title: str, introduction: Sequence[str], sections: Sequence[Section]) -> str:
    """Return the page as HTML."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        *(f"<p>{escape(line)}</p>" for line in introduction if line),
    ]
    for section in sections:
        if section.table.rows:
            parts += [f"<h2>{escape(section.heading)}</h2>", *_table(section.table)]
    return "\n".join([*parts, "</body></html>", ""])


def write_page(place: Path, text: str) -> None:
    """Write the page. Raises `ConfigurationError` where that is not possible."""
    try:
        place.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"--html {place}: cannot be written: {error.strerror}") from error


def _table(table: Table) -> list[str]:
    heads = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    return [
        f"<table><thead><tr>{heads}</tr></thead><tbody>",
        *(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>" for row in table.rows),
        "</tbody></table>",
    ]
