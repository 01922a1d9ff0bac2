"""The text of Word documents and PowerPoint presentations, as somebody reads it who opens them, and what
stands on workbooks' sheets beside their cells. A part of `formats.py`.

Each part of the package is read once, in the order in which the others name it: a document with its notes,
charts, diagrams, headers and footers; a slide with its own. Measured against the libraries for these formats,
in `docs/documents.md`: each leaves out some of it.
"""

from __future__ import annotations

import html
import io
import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO, Final

from regate_adapters.files.text.marks import HEADING_END, PAGE, heading_mark
from regate_adapters.files.text.packages import Package, trimmed
from regate_adapters.files.text.unreadable import Unreadable, damaged

_READ: Final = frozenset(
    {
        *(
            "officeDocument",
            "header",
            "footer",
            "footnotes",
            "endnotes",
            "comments",
            "chart",
            "chartEx",
            "diagramData",
        ),
        *("slide", "notesSlide", "aFChunk", "worksheet", "chartsheet", "drawing"),
    }
)
"""The kinds of relationship that lead to what is read; others lead to pictures, styles and templates."""
_WITHOUT_RELATIONS: Final = (
    r"(word|ppt)/((document|header|footer|footnotes|endnotes|comments)\d*"
    r"|slides/slide\d+|notesslides/notesslide\d+|charts/chart\d+|diagrams/data\d+)\.xml"
)
_SLIDES: Final = re.compile(r"ppt/slides/[^/]*\.xml", re.IGNORECASE)
_STYLES: Final = "styles.xml"
"""The part, beside a document, that says which of its styles are those of headings."""
_HEADING_NAME: Final = re.compile(r"heading ([1-9])", re.IGNORECASE)
_MOST_BASES: Final = 10
_IN_ANOTHER_FORMAT: Final = "aFChunk"
_SHEETS: Final = re.compile(r"xl/(workbook|worksheets/[^/]*|chartsheets/[^/]*)\.(xml|bin)", re.IGNORECASE)
"""Parts of which `other_text.py` reads the cells, and here what is printed above and below them."""
_PRINTED: Final = re.compile(rb"<(?:\w+:)?(?:odd|even|first)(?:Header|Footer)>([^<]+)<")
_LAYOUT: Final = re.compile(r'&(?:"[^"]*"|K[0-9A-F]{6}|K\d\d[+-]\d{3}|\d+|[A-Z])')
_UNSEEN: Final = frozenset({"del", "moveFrom", "Fallback"})
_BREAKS: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
_TEXT: Final = frozenset({"t", "v"})
_BOX: Final = "txbxContent"
_DEEPEST: Final = 40


Attached = Callable[[BinaryIO, str], str]
"""Returns the text of a file that stands in another, by its name."""


def office_text(file: BinaryIO, *, attached: Attached) -> Iterator[str]:
    """Yield the text of each part. Raises `Unreadable` for what cannot be opened; a part that is
    damaged is read as far as it goes.
    """
    reading = _Reading(Package(file), attached)
    yield from reading.following("")
    if not reading.seen:
        yield from reading.by_their_names()
    if not reading.seen:
        raise damaged()


def beside_cells(package: Package) -> Iterator[str]:
    """Yield what a workbook shows beside its cells: text boxes, charts, diagrams, comments, what is
    printed above and below a sheet.
    """
    yield from _Reading(package, lambda _, __: "").following("")


class _Reading:
    """One package as it is read: `seen` are the parts that were."""

    def __init__(self, package: Package, attached: Attached) -> None:
        self.seen: set[str] = set()
        self._package = package
        self._attached = attached

    def following(self, name: str, *, depth: int = 0) -> Iterator[str]:
        """Yield the text of the part, and of those that it names."""
        text, mentioned = self._text(name) if name else ("", [])
        yield text
        related = self._related(name)
        for identifier in (*mentioned, *related):
            kind, target = related.get(identifier, ("", ""))
            if (
                not target
                or target.casefold() in self.seen
                or target not in self._package
                or depth >= _DEEPEST
            ):
                continue
            self.seen.add(target.casefold())
            if kind == _IN_ANOTHER_FORMAT:
                yield self._in_another_format(target)
            else:
                yield from self.following(target, depth=depth + 1)

    def by_their_names(self) -> Iterator[str]:
        """Yield the text of the parts that have such names as those that are read."""
        for name in self._package.named(_WITHOUT_RELATIONS):
            self.seen.add(name)
            yield self._text(name)[0]

    def _related(self, name: str) -> dict[str, tuple[str, str]]:
        """Return the parts that are read of those that this one names, each with its kind, by the
        identifiers under which it does.
        """
        folder, _, last = name.rpartition("/")
        relations = _Relations()
        self._package.parse(posixpath.join(folder, "_rels", f"{last}.rels"), relations)
        return {
            identifier: (kind, posixpath.normpath(posixpath.join("/", folder, target))[1:])
            for identifier, (kind, target) in relations.targets.items()
        }

    def _text(self, name: str) -> tuple[str, list[str]]:
        if sheet := _SHEETS.fullmatch(name):
            return ("" if sheet[1].lower() == "workbook" else _printed(self._package.read(name))), []
        read = _Part(self._heading_styles(name))
        self._package.parse(name, read)
        text = trimmed(read.written)
        return (PAGE + text.strip() if _SLIDES.fullmatch(name) else text), read.mentioned

    def _heading_styles(self, name: str) -> Mapping[str, int]:
        """Return the levels of the headings that the styles beside this part make, by the styles' ids."""
        folder, _, part = name.rpartition("/")
        styles = _Styles()
        if part.startswith("document"):
            self._package.parse(posixpath.join(folder, _STYLES), styles)
        return {style: level for style in styles.known if (level := styles.level(style))}

    def _in_another_format(self, name: str) -> str:
        try:
            return self._attached(io.BytesIO(self._package.read(name)), name)
        except Unreadable:
            return ""


def printed(text: str) -> str:
    """Return what is printed above or below a sheet without the codes for its place and its font."""
    return _LAYOUT.sub(" ", text).strip()


def _printed(sheet: bytes) -> str:
    texts = (html.unescape(found[1].decode(errors="replace")) for found in _PRINTED.finditer(sheet))
    return "\n".join(dict.fromkeys(map(printed, texts)))


class _Relations:
    def __init__(self) -> None:
        self.targets: dict[str, tuple[str, str]] = {}

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        kind = attributes.get("Type", "").rpartition("/")[2]
        if name == "Relationship" and kind in _READ and attributes.get("TargetMode") != "External":
            self.targets[attributes.get("Id", "")] = kind, attributes.get("Target", "")

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


class _Styles:
    """The styles of a document: which make a heading, by their name or their outline level, and on which
    other each is based.
    """

    def __init__(self) -> None:
        self.known: dict[str, str] = {}
        self._levels: dict[str, int] = {}
        self._style = ""

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        value = attributes.get("val", "")
        if name == "style":
            self._style = attributes.get("styleId", "")
            self.known[self._style] = ""
        elif name == "basedOn":
            self.known[self._style] = value
        elif name == "name" and (named := _HEADING_NAME.fullmatch(value)):
            self._levels[self._style] = int(named[1])
        elif name == "outlineLvl" and (level := _outline_level(value)):
            self._levels[self._style] = level

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...

    def level(self, style: str) -> int:
        """Return the level of the headings that the style makes; 0 when it makes none."""
        for _ in range(_MOST_BASES):
            if style in self._levels:
                return self._levels[style]
            style = self.known.get(style, "")
        return 0


def _outline_level(value: str) -> int:
    """Return the level of an outline as that of a heading: the ninth there is plain text."""
    return int(value) + 1 if value in tuple("012345678") else 0


class _Part:
    """The text of one part: a line for each paragraph, the cells of a row with tabs between them, headings
    marked. A box that stands in a paragraph comes after it.
    """

    def __init__(self, heading_styles: Mapping[str, int]) -> None:
        self._heading_styles = heading_styles
        self._headings: list[int] = []
        self.mentioned: list[str] = []
        self._parts: list[str] = []
        self._boxes: list[str] = []
        self._around: list[tuple[list[str], list[str]]] = []
        self._open: list[str] = []
        self._unseen = 0
        self._cells = 0

    @property
    def written(self) -> str:
        """Return the text, as far as the part was read."""
        levels = (*self._around, (self._parts, self._boxes))
        return "".join(piece for parts, boxes in levels for piece in (*parts, *boxes))

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        within = self._open[-1] if self._open else ""
        self._open.append(name)
        if self._unseen or name in _UNSEEN:
            self._unseen += 1
            return
        self.mentioned += [value for key, value in attributes.items() if key.startswith("related:")]
        if name in _BREAKS and within in ("r", "p"):
            self._parts.append(_BREAKS[name])
        self._cells += name == "tc"
        if name == _BOX:
            self._around.append((self._parts, self._boxes))
            self._parts, self._boxes = [], []
        if self._open[-3:-1] == ["p", "pPr"]:
            self._begin_heading(name, attributes.get("val", ""))

    def _begin_heading(self, property_: str, value: str) -> None:
        """Mark the paragraph as a heading if this property makes it one. Those in tables are cells."""
        depth = len(self._open) - 2
        level = self._heading_styles.get(value, 0) if property_ == "pStyle" else 0
        level = _outline_level(value) if property_ == "outlineLvl" else level
        if level and not self._cells and self._headings[-1:] != [depth]:
            self._headings.append(depth)
            self._parts.append(heading_mark(level))

    def end(self, name: str) -> None:
        self._open.pop()
        if self._unseen:
            self._unseen -= 1
        elif name == "p":
            self._end_paragraph()
        elif name == _BOX:
            box = "".join(self._parts)
            self._parts, self._boxes = self._around.pop()
            (self._boxes if "p" in self._open else self._parts).append(box)
        elif name == "tc":
            self._cells -= 1
            self._parts.append("\t")
        elif name == "tr":
            self._parts.append(" " if self._cells else "\n\n")
        elif name in ("v", "comment"):
            self._parts.append("\n")

    def _end_paragraph(self) -> None:
        if self._headings[-1:] == [len(self._open) + 1]:
            self._headings.pop()
            self._parts.append(HEADING_END)
        self._parts.append(" " if self._cells else "\n\n")
        self._parts += [" ".join(box.split()) + " " if self._cells else box for box in self._boxes]
        self._boxes.clear()

    def text(self, text: str) -> None:
        if not self._unseen and self._open[-1] in _TEXT:
            self._parts.append(text)
