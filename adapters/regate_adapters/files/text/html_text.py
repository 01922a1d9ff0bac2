"""The text that a reader of an HTML page sees, in one pass and without a tree: pages nest as deep as their
authors forgot to close elements.

A part of `formats.py`, and like it for the extraction worker alone.
"""

from __future__ import annotations

import codecs
import re
from html.parser import HTMLParser
from typing import Final

from regate_adapters.files.text.marks import HEADING_END, MARKS, heading_mark

_BLOCKS: Final = frozenset(
    (
        *(
            "address",
            "article",
            "aside",
            "blockquote",
            "br",
            "button",
            "caption",
            "center",
            "dd",
            "details",
            "dialog",
            "dir",
            "div",
            "dl",
            "dt",
            "fieldset",
            "figcaption",
            "figure",
            "footer",
            "form",
            "h1",
            "h2",
        ),
        *(
            "h3",
            "h4",
            "h5",
            "h6",
            "header",
            "hgroup",
            "hr",
            "legend",
            "li",
            "main",
            "menu",
            "nav",
            "ol",
            "optgroup",
            "option",
            "p",
            "pre",
            "section",
            "select",
            "summary",
            "table",
            "textarea",
            "title",
            "tr",
            "ul",
        ),
    )
)
_CELLS: Final = frozenset(("td", "th"))
_UNSEEN: Final = frozenset(("script", "style", "noscript", "template", "svg", "iframe", "object"))

_DECLARED: Final = re.compile(
    rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]{1,40})""", re.IGNORECASE
)
_HEAD_BYTES: Final = 256 * 1024
_LONGEST_CELL: Final = 500
_TABLE: Final = -1
"""Stands for a table among the places at which cells begin."""
_HEADINGS: Final = {f"h{level}": heading_mark(level) for level in range(1, 7)}
_AT_MARKS: Final = re.compile(rf"[ \t]*([{MARKS}])[ \t]*")


def declared_encoding(data: bytes) -> str | None:
    """Return the encoding that the page declares near its beginning, as browsers understand it; None
    when it declares none that is known.
    """
    declared = _DECLARED.search(data[:_HEAD_BYTES])
    if declared is None:
        return None
    try:
        name = codecs.lookup(declared[1].decode("ascii")).name
        "".encode(name)  # refuses what is no encoding of text, such as base64
    except LookupError:
        return None
    if name in {"iso8859-1", "ascii"}:
        return "cp1252"
    return (
        "utf-8" if name.startswith("utf-16") else name
    )  # that a page in UTF-16 declares it could not be read


def html_text(markup: str) -> str:
    """Return the text, a block on each line, the cells of a table's row with tabs between them, headings
    marked.
    """
    reader = _Reader()
    reader.feed(markup)
    reader.close()
    lines = (_trimmed(line) for line in "".join(reader.parts).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def _trimmed(line: str) -> str:
    return _AT_MARKS.sub(r"\1", re.sub(r"[ \t]*\t[ \t]*", "\t", line).strip())


def _cell(text: str) -> str:
    """Return a cell's text in one line. One that is long, or has cells or headings in it, is there for the
    page's layout, and stays as it is.
    """
    if len(text) > _LONGEST_CELL or "\t" in text or _AT_MARKS.search(text):
        return text
    return " ".join(line.strip() for line in text.split("\n") if line.strip())


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden_by = ""
        self._hidden = 0
        self._kept = 0
        self._cells: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if self._hidden:
            self._hidden += tag == self._hidden_by
        elif tag in _UNSEEN:
            self._hidden_by, self._hidden = tag, 1
        elif tag in _CELLS:
            if self._cells and self._cells[-1] != _TABLE:  # the end of a cell may be left out
                self._cells.pop()
                self.parts.append("\t")
            self._cells.append(len(self.parts))
        elif tag in _BLOCKS:
            if tag == "table":
                self._cells.append(_TABLE)
            self._kept += tag == "pre"
            self.parts.append("\n" + _HEADINGS.get(tag, ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _UNSEEN:  # one that is closed at once hides nothing
            self.handle_starttag(tag, attrs)
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._hidden:
            self._hidden -= tag == self._hidden_by
        elif tag in _CELLS:
            begin = self._leave_cell()
            self.parts[begin:] = [_cell("".join(self.parts[begin:])), "\t"]
        elif tag in _BLOCKS:
            if tag == "table" and _TABLE in self._cells:
                del self._cells[len(self._cells) - 1 - self._cells[::-1].index(_TABLE) :]
            self._kept -= tag == "pre" and self._kept > 0
            self.parts.append(HEADING_END * (tag in _HEADINGS) + "\n")

    def _leave_cell(self) -> int:
        """Return where the text of the cell begins that is open in this table; where it ends if none is."""
        is_open = self._cells and self._cells[-1] != _TABLE
        return self._cells.pop() if is_open else len(self.parts)

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data if self._kept else re.sub(r"\s+", " ", data))
