"""The text of a file, by the ending of its name. Runs in the worker alone, under its limits; each library is imported by what needs it.

Whatever a library raises on a broken file is for `worker.py`, the counterpart, to report; `Unreadable` is for what is known here.
"""

from __future__ import annotations

import codecs
import io
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from docx.document import Document
    from docx.table import Table

MOST_CHARACTERS: Final = 10_000_000
_MOST_UNPACKED: Final = 200 * 1024 * 1024
_MOST_MEMBERS: Final = 10_000
_MOST_RATIO: Final = 200
_SMALL: Final = 1024 * 1024
_DEEPEST: Final = 20

_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS: Final = re.compile("[\x00-\x08\x0e-\x1a\x1c-\x1f]")


class Unreadable(Exception):
    """The file has no text that can be had. `code` is `unsupported_file` or `invalid_file`; the message is for the file's owner."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def read_text(file: BinaryIO, *, filename: str) -> str:
    """Return the file's text: valid Unicode with plain line ends, not empty, of bounded length. Raises `Unreadable`."""
    ending = Path(filename).suffix.lower()
    reader = _READERS.get(ending)
    if reader is None:
        raise Unreadable("unsupported_file", f"Files of this kind are not supported. Supported are {' '.join(sorted(_READERS))}.")
    text = _clean(reader(file))
    if not text:
        raise Unreadable("invalid_file", "The file holds no text.")
    if len(text) > MOST_CHARACTERS:
        raise Unreadable("invalid_file", f"The file's text is longer than {MOST_CHARACTERS:,} characters.")
    return text


def _clean(text: str) -> str:
    valid = text.replace("\x00", "").encode(errors="replace").decode()
    return re.sub(r"\r\n?", "\n", valid).strip()


# ---------------------------------------------------------------- text


def _plain(file: BinaryIO) -> str:
    return decode(file.read())


def decode(data: bytes) -> str:
    """Return the text of the bytes: as their mark says, else UTF-8, else Windows-1252 unless they are binary. Raises `Unreadable`."""
    try:
        for mark, encoding in _BOMS:
            if data.startswith(mark):
                return data.decode(encoding)
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("cp1252", errors="replace")
        if _CONTROLS.search(text) or data.startswith(tuple(mark for mark, _ in _BOMS)):
            raise Unreadable("invalid_file", "The file is not text in UTF-8, UTF-16 or Windows-1252.") from None
    if "\x00" in text:
        raise Unreadable("invalid_file", "The file is not text: it holds zero bytes.")
    return text


def _html(file: BinaryIO) -> str:
    from regate_adapters.files.html_text import declared_encoding, html_text

    data = file.read()
    encoding = None if data.startswith(tuple(mark for mark, _ in _BOMS)) else declared_encoding(data)
    return html_text(decode(data) if encoding is None else data.decode(encoding, errors="replace"))


# ---------------------------------------------------------------- PDF


def _pdf(file: BinaryIO) -> str:
    from pypdf import PdfReader
    from pypdf.errors import DependencyError, PdfReadError

    try:
        reader = PdfReader(file)
    except PdfReadError:  # a document that lacks its end lacks the place of its table; told a wrong place, the reader makes the table anew
        file.seek(0)
        reader = PdfReader(io.BytesIO(file.read() + b"\nstartxref\n0\n%%EOF\n"))
    if reader.is_encrypted:
        try:
            opened = bool(reader.decrypt(""))
        except (DependencyError, NotImplementedError):
            opened = False
        if not opened:
            raise Unreadable("invalid_file", "The file is encrypted.")
    return _bounded(page.extract_text() for page in reader.pages)


# ---------------------------------------------------------------- Office


def _docx(file: BinaryIO) -> str:
    import docx

    _refuse_bombs(file)
    return _bounded(_body(docx.Document(file)))


def _body(container: Document | Any, *, depth: int = 0) -> Iterator[str]:
    for block in container.iter_inner_content():
        if hasattr(block, "rows"):
            yield from _table(block, depth=depth)
        elif block.text.strip():
            yield block.text


def _table(table: Table, *, depth: int) -> Iterator[str]:
    if depth > _DEEPEST:
        return
    for row in table.rows:
        yield "\t".join(" ".join(_body(cell, depth=depth + 1)) for cell in row.cells)


def _pptx(file: BinaryIO) -> str:
    import pptx

    _refuse_bombs(file)
    return _bounded(text for slide in pptx.Presentation(file).slides for text in _slide(slide))


def _slide(slide: Any) -> Iterator[str]:
    for shape in slide.shapes:
        yield from _shape(shape, depth=0)
    if slide.has_notes_slide and (notes := slide.notes_slide.notes_text_frame) is not None:
        yield notes.text


def _shape(shape: Any, *, depth: int) -> Iterator[str]:
    if shape.has_text_frame:
        yield shape.text_frame.text
    if getattr(shape, "has_table", False):
        for row in shape.table.rows:
            yield "\t".join(cell.text for cell in row.cells)
    if depth < _DEEPEST:
        for inner in getattr(shape, "shapes", ()):
            yield from _shape(inner, depth=depth + 1)


def _refuse_bombs(file: BinaryIO) -> None:
    """Raise `Unreadable` for an archive that would unpack to too much. Python never unpacks a member beyond the size declared here."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except zipfile.BadZipFile:
        raise Unreadable("invalid_file", "The file is not what its name says, or it is damaged.") from None
    if any(member.flag_bits & 1 for member in members):
        raise Unreadable("invalid_file", "The file is encrypted.")
    swollen = any(member.file_size > _SMALL and member.file_size > _MOST_RATIO * max(member.compress_size, 1) for member in members)
    if swollen or len(members) > _MOST_MEMBERS or sum(member.file_size for member in members) > _MOST_UNPACKED:
        raise Unreadable("invalid_file", "The file unpacks to more than is allowed.")


def _bounded(parts: Iterator[str]) -> str:
    """Return the parts as paragraphs; stops reading soon after there is more text than is allowed."""
    kept: list[str] = []
    length = 0
    for part in parts:
        if part.strip():
            kept.append(part.strip())
            length += len(part)
        if length > MOST_CHARACTERS:
            break
    return "\n\n".join(kept)


_TEXTS: Final = (
    # What OpenAI's file search takes, and its like; all of it is read as it is written.
    *(".txt", ".text", ".log", ".md", ".markdown", ".rst", ".tex", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml"),
    *(".toml", ".ini", ".conf", ".cfg", ".properties", ".diff", ".patch", ".sql", ".graphql", ".proto", ".rego", ".css", ".scss", ".less"),
    *(".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".go", ".java", ".kt", ".scala", ".swift", ".rs", ".rb", ".php", ".pl", ".lua", ".r"),
    *(".py", ".ipynb", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx", ".vue", ".sh", ".bash", ".zsh", ".ps1", ".bat"),
)

_READERS: Final[Mapping[str, Callable[[BinaryIO], str]]] = {
    **dict.fromkeys(_TEXTS, _plain),
    **dict.fromkeys((".html", ".htm"), _html),
    ".pdf": _pdf,
    ".docx": _docx,
    ".pptx": _pptx,
}
