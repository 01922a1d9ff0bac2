"""The text of Word documents and PowerPoint presentations, as somebody reads it who opens them. A part of `formats.py`.

Each part of the package is read once, in the order in which the others name it: a document with its notes, charts, diagrams, headers and
footers; a slide with its own. Measured against the libraries for these formats, in `docs/documents.md`: each leaves out some of it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from typing import BinaryIO, Final

from regate_adapters.files.packages import Package, trimmed
from regate_adapters.files.unreadable import damaged

_READ: Final = frozenset(
    {
        *("officeDocument", "header", "footer", "footnotes", "endnotes", "comments", "chart", "chartEx", "diagramData"),
        *("slide", "notesSlide", "aFChunk"),
    }
)
"""The kinds of relationship that lead to what is read; others lead to pictures, styles and templates."""
_WITHOUT_RELATIONS: Final = (
    r"(word|ppt)/((document|header|footer|footnotes|endnotes|comments)\d*"
    r"|slides/slide\d+|notesslides/notesslide\d+|charts/chart\d+|diagrams/data\d+)\.xml"
)
_UNSEEN: Final = frozenset({"del", "moveFrom", "Fallback", "instrText", "delText", "delInstrText", "f", "formatCode"})
_BREAKS: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
_TEXT: Final = frozenset({"t", "v"})
_DEEPEST: Final = 40


def office_text(file: BinaryIO) -> Iterator[str]:
    """Yield the text of each part. Raises `Unreadable` for what cannot be opened; a part that is damaged is read as far as it goes."""
    package = Package(file)
    seen: set[str] = set()
    yield from _following(package, "", seen, depth=0)
    if not seen:
        for name in package.named(_WITHOUT_RELATIONS):
            seen.add(name)
            yield _text(package, name)[0]
    if not seen:
        raise damaged()


def _following(package: Package, name: str, seen: set[str], *, depth: int) -> Iterator[str]:
    """Yield the text of the part, and of those that it names."""
    mentioned: list[str] = []
    if name:
        seen.add(name.casefold())
        text, mentioned = _text(package, name)
        yield text
    related = _related(package, name)
    for identifier in (*mentioned, *related):
        target = related.get(identifier, "")
        if target and target.casefold() not in seen and target in package and depth < _DEEPEST:
            yield from _following(package, target, seen, depth=depth + 1)


def _related(package: Package, name: str) -> dict[str, str]:
    """Return the parts that are read of those that this one names, by the identifiers under which it does."""
    folder, _, last = name.rpartition("/")
    relations = _Relations()
    package.parse(posixpath.join(folder, "_rels", f"{last}.rels"), relations)
    return {identifier: posixpath.normpath(posixpath.join("/", folder, target))[1:] for identifier, target in relations.targets.items()}


def _text(package: Package, name: str) -> tuple[str, list[str]]:
    read = _Part()
    package.parse(name, read)
    return trimmed("".join(read.parts)), read.mentioned


class _Relations:
    def __init__(self) -> None:
        self.targets: dict[str, str] = {}

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        kind = attributes.get("Type", "").rpartition("/")[2]
        if name == "Relationship" and kind in _READ and attributes.get("TargetMode") != "External":
            self.targets[attributes.get("Id", "")] = attributes.get("Target", "")

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


class _Part:
    """The text of one part: a line for each paragraph, the cells of a row with tabs between them."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.mentioned: list[str] = []
        self._open: list[str] = []
        self._unseen = 0
        self._cells = 0

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        within = self._open[-1] if self._open else ""
        self._open.append(name)
        if self._unseen or name in _UNSEEN:
            self._unseen += 1
            return
        self.mentioned += [value for key, value in attributes.items() if key.startswith("related:")]
        if name in _BREAKS and within in ("r", "p"):
            self.parts.append(_BREAKS[name])
        self._cells += name == "tc"

    def end(self, name: str) -> None:
        self._open.pop()
        if self._unseen:
            self._unseen -= 1
        elif name == "p":
            self.parts.append(" " if self._cells else "\n\n")
        elif name == "tc":
            self._cells -= 1
            self.parts.append("\t")
        elif name == "tr":
            self.parts.append(" " if self._cells else "\n\n")
        elif name == "v":
            self.parts.append("\n")

    def text(self, text: str) -> None:
        if not self._unseen and self._open[-1] in _TEXT:
            self.parts.append(text)
