"""What a reader could read of a document, found without any of our readers: the words that `bench.documents`
looks for in what was read.

Of archives of XML it is what stands in all their parts, however these hang together; of other kinds what
another library or program shows, where it is installed. A kind of which nothing else knows has no reference.
"""

from __future__ import annotations

import email
import email.policy
import importlib
import io
import json
import re
import shutil
import subprocess
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Final

import lxml.etree
import lxml.html
import pypdfium2

Words = frozenset[str]

_WORD: Final = re.compile(r"[^\W_]{2,}")
_NUMBER: Final = re.compile(r"\d+e\d*|0x[0-9a-f]+")
_MAX_PAGES: Final = 2_000
_SLOW_SECONDS: Final = 30

_ESCAPED: Final = re.compile(r"_x[0-9A-F]{4}_")
_DESIGN: Final = re.compile(
    r"docprops/|customxml/|.*/(theme|styles|settings|fonttable|numbering|websettings|stylesWithEffects"
    r"|tablestyles|presprops|viewprops|glossary"
    r"|slidelayouts|slidemasters|notesmasters|handoutmasters|style\d|colors\d|quickstyle"
    r"|drawing\d*\.xml\.rels|layout\d|people|persons)",
    re.IGNORECASE,
)
"""Parts that say how a document looks, and texts of which others are made; nobody reads them in it."""
_DELETED: Final = frozenset({"del", "moveFrom", "Fallback", "rPh", "tracked-changes"})
_WRITTEN: Final = frozenset({"t", "v", "oddHeader", "oddFooter"})
_ENDS: Final = frozenset(
    {
        "p",
        "si",
        "is",
        "comment",
        "c",
        "v",
        "pt",
        "h",
        "tab",
        "br",
        "cr",
        "line-break",
        "s",
        "oMath",
        "tc",
        "table-cell",
    }
)


def words(text: str) -> Words:
    """Return the different words of a text that have a letter, whatever their case and shape."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return frozenset(
        word for word in _WORD.findall(plain) if any(map(str.isalpha, word)) and not _NUMBER.fullmatch(word)
    )


def reference(path: Path) -> Words | None:
    """Return the words that a reader could read in the file; None when nothing but our readers can tell."""
    try:
        find = _REFERENCES[path.suffix.lower()]
        return words("\n".join(find(path)))
    # A library may raise anything on a broken file, and then it tells nothing
    except Exception:  # noqa: BLE001
        return None


# ---------------------------------------------------------------- archives of XML


def _parts(path: Path, wanted: str) -> Iterator[Any]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if re.fullmatch(wanted, name, re.IGNORECASE) and not _DESIGN.match(name):
                tree = lxml.etree.fromstring(
                    archive.read(name),
                    lxml.etree.XMLParser(recover=True, resolve_entities=False, huge_tree=True),
                )
                if tree is not None:
                    yield tree


def _written(element: Any, of: Callable[[str], bool]) -> Iterator[str]:
    """Yield the texts of the elements with such a name, those of one paragraph together."""
    if not isinstance(element.tag, str):
        return
    name = lxml.etree.QName(element).localname
    if name in _DELETED:
        return
    if of(name):
        yield element.text or ""
    for child in element:
        yield from _written(child, of)
        if of(name):
            yield child.tail or ""
    if name in _ENDS:
        yield "\n"


def _office(path: Path) -> Iterator[str]:
    for tree in _parts(path, r"(word|ppt)/.*\.xml"):
        yield "".join(_written(tree, _WRITTEN.__contains__))


def _workbook(path: Path) -> Iterator[str]:
    """Yield the texts of all parts, and of those that cells share the ones that a cell shows."""
    shared, shown = list[str](), set[int]()
    for tree in _parts(path, r"xl/sharedStrings\.xml"):
        shared = ["".join(_written(item, {"t"}.__contains__)) for item in tree]
    for tree in _parts(path, r"xl/worksheets/sheet\d+\.xml"):
        for cell in tree.iter("{*}c"):
            value = cell.findtext("{*}v")
            if cell.get("t") == "s" and value:
                shown.add(int(value))
            elif cell.get("t") == "str":
                yield value or ""
        yield "".join(_written(tree, {"t"}.__contains__))
    for tree in _parts(path, r"xl/(comments|threadedcomments|drawings|charts|diagrams).*\.xml"):
        yield "".join(_written(tree, {"t", "v", "text"}.__contains__))
    yield from (_ESCAPED.sub(" ", shared[number]) for number in shown)


def _opendocument(path: Path) -> Iterator[str]:
    for tree in _parts(path, r"(.*/)?content\.xml"):
        yield from _paragraphs(tree)
    with zipfile.ZipFile(path) as archive:
        styles = lxml.etree.fromstring(archive.read("styles.xml"))
    for masters in styles.iter("{*}master-styles"):
        for shown in masters.iter("{*}header", "{*}footer"):
            yield from _paragraphs(shown)


def _paragraphs(tree: Any) -> Iterator[str]:
    for paragraph in tree.iter("{*}p", "{*}h"):
        if not any(
            lxml.etree.QName(above).localname in {*_DELETED, "forms"} for above in paragraph.iterancestors()
        ):
            yield "".join(_written(paragraph, lambda _: True))


def _book(path: Path) -> Iterator[str]:
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.lower().endswith(("html", "htm")) and not name.endswith(("nav.xhtml", "toc.html")):
                yield _shown(archive.read(name))


# ---------------------------------------------------------------- other kinds


def _shown(page: bytes | str) -> str:
    """Return what a browser's algorithm makes of a page."""
    tree = importlib.import_module("html5lib").parse(page, treebuilder="lxml", namespaceHTMLElements=False)
    lxml.etree.strip_elements(
        tree,
        "script",
        "style",
        "noscript",
        "template",
        "svg",
        "iframe",
        "object",
        lxml.etree.Comment,
        lxml.etree.PI,
        with_tail=False,
    )
    return " ".join(tree.xpath("//text()"))


def _pdf(path: Path) -> Iterator[str]:
    with pypdfium2.PdfDocument(path) as document:
        for number in range(min(len(document), _MAX_PAGES)):
            try:
                yield (
                    document[number]
                    .get_textpage()
                    .get_text_range()
                    .replace("\x02\r\n", "")
                    .replace("\x02", "-")
                )
            except pypdfium2.PdfiumError:
                continue


def _mail(path: Path) -> Iterator[str]:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    yield str(message["subject"] or "")
    for part in message.walk():
        if part.get_content_type() == "text/plain":
            yield str(part.get_content())
    if "text/plain" not in {part.get_content_type() for part in message.walk()}:
        yield from (
            _shown(str(part.get_content()))
            for part in message.walk()
            if part.get_content_type() == "text/html"
        )


def _notebook(path: Path) -> Iterator[str]:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        yield "".join(cell["source"])
        for output in cell.get("outputs", ()):
            yield "".join(output.get("text", ()))
            yield "".join(output.get("data", {}).get("text/plain", ()))


def _text(path: Path) -> Iterator[str]:
    yield path.read_bytes().decode("utf-8-sig")


def _xls(path: Path) -> Iterator[str]:
    for sheet in importlib.import_module("xlrd").open_workbook(path, logfile=io.StringIO()).sheets():
        yield sheet.name
        yield from (str(cell.value) for row in sheet.get_rows() for cell in row if cell.ctype == 1)


def _xlsb(path: Path) -> Iterator[str]:
    with importlib.import_module("pyxlsb").open_workbook(str(path)) as book:
        for name in book.sheets:
            with book.get_sheet(name) as sheet:
                yield from (cell.v for row in sheet.rows() for cell in row if isinstance(cell.v, str))


def _shown_by(*command: str) -> Callable[[Path], Iterable[str]]:
    """Return what has a program show a file."""

    def show(path: Path) -> Iterator[str]:
        program = shutil.which(command[0])
        assert program is not None
        shown = subprocess.run(
            [program, *command[1:], str(path)], capture_output=True, check=True, timeout=_SLOW_SECONDS
        )
        yield re.sub(r"-\n\s*", "-", shown.stdout.decode(errors="replace")).replace("[pic]", "")

    return show


def _rtf(path: Path) -> Iterator[str]:
    for page in _shown_by("unrtf", "--html", "--nopict")(path):
        yield _shown(page.partition("<body>")[2])


_REFERENCES: Final[Mapping[str, Callable[[Path], Iterable[str]]]] = {
    **dict.fromkeys((".docx", ".docm", ".dotx", ".pptx", ".pptm", ".ppsx"), _office),
    **dict.fromkeys((".xlsx", ".xlsm"), _workbook),
    **dict.fromkeys((".odt", ".ods", ".odp"), _opendocument),
    **dict.fromkeys((".html", ".htm", ".xhtml"), lambda path: [_shown(path.read_bytes())]),
    **dict.fromkeys((".txt", ".csv", ".md"), _text),
    ".doc": _shown_by("antiword", "-w", "0", "-m", "UTF-8.txt"),
    ".eml": _mail,
    ".epub": _book,
    ".ipynb": _notebook,
    ".pdf": _pdf,
    ".rtf": _rtf,
    ".xls": _xls,
    ".xlsb": _xlsb,
}

ENDINGS: Final = frozenset(_REFERENCES)
