"""The text of OpenDocument files (text, spreadsheets, presentations) and of EPUB books. A part of
`formats.py`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import BinaryIO, Final
from urllib.parse import unquote

from regate_adapters.files.text.html_text import html_text
from regate_adapters.files.text.packages import Package, trimmed
from regate_adapters.files.text.plain_text import decode
from regate_adapters.files.text.unreadable import protected

_UNSEEN: Final = frozenset({"tracked-changes", "scripts", "forms", "settings", "note-citation"})
_ASIDE: Final = frozenset({"note-body", "annotation", "text-box"})
"""What stands in a paragraph and is shown beside it: notes, comments, boxes."""
_PARAGRAPHS: Final = frozenset({"p", "h", "math"})
_SHOWN: Final = frozenset({"body", "math"})
_PRINTED: Final = frozenset(
    {"header", "header-left", "header-first", "footer", "footer-left", "footer-first"}
)
_FILLED_IN: Final = _UNSEEN | {
    "sheet-name",
    "file-name",
    "title",
    "date",
    "time",
    "page-number",
    "page-count",
}
"""What is printed in their place differs from page to page."""
_MAX_SPACES: Final = 100


def opendocument_text(file: BinaryIO) -> Iterator[str]:
    """Yield the document's text, that of the objects in it (charts and equations), and what is printed
    above and below its pages.
    """
    package = Package(file)
    if b"encryption-data" in package.read("META-INF/manifest.xml"):
        raise protected()
    for name in ("content.xml", *package.named(r".+/content\.xml")):
        yield _text(package, name, _Content(within=_SHOWN, unseen=_UNSEEN))
    yield _text(package, "styles.xml", _Content(within=_PRINTED, unseen=_FILLED_IN))


def _text(package: Package, name: str, content: _Content) -> str:
    package.parse(name, content)
    return trimmed(content.written)


def epub_text(file: BinaryIO) -> Iterator[str]:
    """Yield the text of the book's chapters, in the order in which they are read."""
    package = Package(file)
    container = _Found("rootfile", "full-path")
    package.parse("META-INF/container.xml", container)
    book = container.values[0] if container.values else ""
    items, spine = _Items(), _Found("itemref", "idref")
    package.parse(book, items)
    package.parse(book, spine)
    chapters = [items.places[item] for item in spine.values if item in items.places] or package.named(
        r".*\.x?html?"
    )
    for chapter in dict.fromkeys(chapters):
        place = (
            posixpath.normpath(posixpath.join(posixpath.dirname(book), chapter)) if spine.values else chapter
        )
        if place not in package:  # it is written as in the address of a page
            place = unquote(place.partition("#")[0])
        yield html_text(decode(package.read(place)))


@dataclass(slots=True)
class _Level:
    """What is read of the text itself, or of one thing beside it. `aside` is what stands beside the paragraph
    that is read.
    """

    parts: list[str] = field(default_factory=list)
    paragraphs: int = 0
    aside: list[str] = field(default_factory=list)


class _Content:
    """The text of paragraphs and formulas within elements of some names, and not within others. What is shown
    beside a paragraph comes after it.
    """

    def __init__(self, *, within: AbstractSet[str], unseen: AbstractSet[str]) -> None:
        self._wanted = within
        self._unwanted = unseen
        self._levels = [_Level()]
        self._formulas = 0
        self._within = 0
        self._unseen = 0
        self._cells = 0

    @property
    def written(self) -> str:
        """Return the text, as far as the document was read."""
        return "".join(piece for level in self._levels for piece in (*level.parts, *level.aside))

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._within += name in self._wanted
        self._formulas += name == "semantics"
        if self._unseen or name in self._unwanted or (self._formulas and name == "annotation"):
            self._unseen += 1
        elif name in _ASIDE:
            self._levels.append(_Level())
        elif name in _PARAGRAPHS:
            self._levels[-1].paragraphs += 1
        elif name == "s":
            count = attributes.get("c", "1")
            self._levels[-1].parts.append(" " * min(int(count) if count.isdigit() else 1, _MAX_SPACES))
        elif name in ("tab", "line-break"):
            self._levels[-1].parts.append("\t" if name == "tab" else "\n")
        self._cells += name == "table-cell" and not self._unseen

    def end(self, name: str) -> None:
        self._within -= name in self._wanted
        self._formulas -= name == "semantics"
        if self._unseen:
            self._unseen -= 1
        elif name in _ASIDE:
            self._end_aside()
        elif name in _PARAGRAPHS:
            self._end_paragraph(self._levels[-1])
        elif name == "table-cell":
            self._cells -= 1
            self._levels[-1].parts.append("\t")
        elif name == "table-row":
            self._levels[-1].parts.append("\n")

    def text(self, text: str) -> None:
        if self._levels[-1].paragraphs and self._within and not self._unseen:
            self._levels[-1].parts.append(text)

    def _end_aside(self) -> None:
        text = "".join(self._levels.pop().parts)
        around = self._levels[-1]
        (around.aside if around.paragraphs else around.parts).append(text)

    def _end_paragraph(self, level: _Level) -> None:
        level.paragraphs -= 1
        level.parts.append(" " if self._cells else "\n\n")
        if not level.paragraphs:
            level.parts += [" ".join(one.split()) + " " if self._cells else one for one in level.aside]
            level.aside.clear()


class _Found:
    """The values of an attribute of all elements of a name."""

    def __init__(self, element: str, attribute: str) -> None:
        self.values: list[str] = []
        self._element = element
        self._attribute = attribute

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == self._element and self._attribute in attributes:
            self.values.append(attributes[self._attribute])

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...


class _Items:
    """Where the pages of a book are, by their ids."""

    def __init__(self) -> None:
        self.places: dict[str, str] = {}

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        if name == "item" and "html" in attributes.get("media-type", ""):
            self.places[attributes.get("id", "")] = attributes.get("href", "")

    def end(self, name: str) -> None: ...

    def text(self, text: str) -> None: ...
