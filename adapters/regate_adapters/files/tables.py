"""Tables within a text, so that each part of one that is split can begin with what its columns are called.

Readers write a row in a line, with tabs between the cells; in Markdown there are bars. What a line of a PDF
has between its cells is a space, so tables of those are not known.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_MARKDOWN: Final = frozenset({".md", ".markdown"})
_OF_CELLS: Final = frozenset(
    (
        *(".docx", ".docm", ".dotx", ".pptx", ".pptm", ".ppsx", ".xlsx", ".xlsm", ".xlsb", ".xls", ".doc"),
        *(".odt", ".ods", ".odp", ".epub", ".rtf", ".html", ".htm", ".xhtml", ".eml", ".tsv"),
    )
)
"""Kinds of which a tab within a line is between cells. In source code it is anything."""
_ROW: Final = r"[^\n\t]+\t[^\n]*"
_CELLS: Final = re.compile(rf"^({_ROW})(?:\n{{1,2}}{_ROW})+$", re.MULTILINE)
_BARS: Final = re.compile(r"^(\|[^\n]+\n\|[ \t:|-]+)(?:\n\|[^\n]*)+$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Table:
    """Where a table stands in its text, and its first row."""

    start: int
    end: int
    head: str


class Tables:
    """The tables of a text, by the ending of its name."""

    def __init__(self, text: str, *, filename: str) -> None:
        ending = Path(filename).suffix.lower()
        pattern = _BARS if ending in _MARKDOWN else _CELLS if ending in _OF_CELLS else None
        found = () if pattern is None else pattern.finditer(text)
        self._tables = [Table(one.start(), one.end(), one[1]) for one in found]
        self._starts = [one.start for one in self._tables]

    def head_at(self, place: int) -> str:
        """Return the first row of the table in whose later rows the place is; nothing elsewhere."""
        before = bisect_right(self._starts, place) - 1
        if before < 0:
            return ""
        table = self._tables[before]
        return table.head if table.start + len(table.head) < place < table.end else ""
