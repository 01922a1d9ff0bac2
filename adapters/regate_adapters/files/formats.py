"""The text of a file, by the ending of its name. Runs in the worker alone, under its limits and in its confinement.

Whatever a library raises on a broken file is for `worker.py`, the counterpart, to report; `Unreadable` is for what is known here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from regate_adapters.files.html_text import declared_encoding, html_text
from regate_adapters.files.office_text import office_text
from regate_adapters.files.opendocument_text import epub_text, opendocument_text
from regate_adapters.files.other_text import doc_text, mail_text, notebook_text, rtf_text, workbook_text
from regate_adapters.files.pdf_text import pdf_text
from regate_adapters.files.plain_text import BOMS, decode
from regate_adapters.files.plausible import is_gibberish
from regate_adapters.files.unreadable import MOST_CHARACTERS, Unreadable

_DEEPEST_MAIL: Final = 3
_SHAPES: Final = re.compile("[\ufb00-\ufdff\ufe70-\ufefc]+")
"""Ligatures and the shapes that Arabic and Hebrew letters take: what is searched for are the letters."""
_UNSEEN: Final = re.compile("[\x00-\x08\x0b\x0e-\x1f\u00ad\u200b\u2060\ufeff\ufffd-\uffff]")


def read_text(file: BinaryIO, *, filename: str) -> str:
    """Return the file's text: valid Unicode with plain line ends, not empty, of bounded length. Raises `Unreadable`."""
    written = _bounded(_read(file, filename, depth=0))
    text = _clean(written)
    if not written:
        raise Unreadable("invalid_file", "The file holds no text.")
    if not text or is_gibberish(written):
        raise Unreadable("invalid_file", "What the file holds cannot be read as text.")
    return text


def _read(file: BinaryIO, filename: str, *, depth: int) -> Iterable[str]:
    ending = Path(filename).suffix.lower()
    if ending in _MAILS:
        return mail_text(file, attached=lambda inner, name: _attached(inner, name, depth=depth + 1))
    reader = _READERS.get(ending)
    if reader is None:
        kind = f"Files of kind '{ending[:32]}'" if ending else "Files whose name has no ending"
        raise Unreadable("unsupported_file", f"{kind} are not supported. Supported are {' '.join(sorted({*_READERS, *_MAILS}))}.")
    return reader(file)


def _attached(file: BinaryIO, filename: str, *, depth: int) -> str:
    return _bounded(_read(file, filename, depth=depth)) if depth < _DEEPEST_MAIL else ""


def _bounded(parts: Iterable[str]) -> str:
    """Return the parts as paragraphs. Raises `Unreadable` as soon as there is more text than is allowed."""
    kept: list[str] = []
    length = 0
    for part in parts:
        if part.strip():
            kept.append(part.strip())
            length += len(part)
        if length > MOST_CHARACTERS:
            raise Unreadable("invalid_file", f"The file's text is longer than {MOST_CHARACTERS:,} characters.")
    return "\n\n".join(kept)


def _clean(text: str) -> str:
    """Return the characters that somebody would search for: letters, not the shapes in which they are written."""
    valid = _UNSEEN.sub("", text.encode(errors="replace").decode())
    letters = _SHAPES.sub(lambda found: unicodedata.normalize("NFKC", found[0]), valid)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"\r\n?", "\n", letters)).strip()


def _plain(file: BinaryIO) -> Iterator[str]:
    yield decode(file.read())


def _html(file: BinaryIO) -> Iterator[str]:
    data = file.read()
    encoding = None if data.startswith(tuple(mark for mark, _ in BOMS)) else declared_encoding(data)
    try:
        yield html_text(decode(data) if encoding is None else data.decode(encoding))
    except UnicodeDecodeError:  # it declares what it is not
        yield html_text(decode(data))


_TEXTS: Final = (
    # What OpenAI's file search takes, and its like; all of it is read as it is written.
    *(".txt", ".text", ".log", ".md", ".markdown", ".rst", ".tex", ".csv", ".tsv", ".json", ".jsonl", ".ndjson", ".xml", ".yaml", ".yml"),
    *(".toml", ".ini", ".conf", ".cfg", ".properties", ".diff", ".patch", ".sql", ".graphql", ".proto", ".rego", ".css", ".scss", ".less"),
    *(".c", ".h", ".cc", ".cpp", ".hpp", ".cs", ".go", ".java", ".kt", ".scala", ".swift", ".rs", ".rb", ".php", ".pl", ".lua", ".r"),
    *(".py", ".js", ".mjs", ".cjs", ".jsx", ".ts", ".mts", ".cts", ".tsx", ".vue", ".sh", ".bash", ".zsh", ".ps1", ".bat"),
)
_MAILS: Final = (".eml",)

_READERS: Final[Mapping[str, Callable[[BinaryIO], Iterable[str]]]] = {
    **dict.fromkeys(_TEXTS, _plain),
    **dict.fromkeys((".html", ".htm", ".xhtml"), _html),
    **dict.fromkeys((".docx", ".docm", ".dotx", ".pptx", ".pptm", ".ppsx"), office_text),
    **dict.fromkeys((".odt", ".ods", ".odp"), opendocument_text),
    **dict.fromkeys((".xlsx", ".xlsm", ".xlsb", ".xls"), workbook_text),
    ".doc": doc_text,
    ".epub": epub_text,
    ".ipynb": notebook_text,
    ".pdf": pdf_text,
    ".rtf": rtf_text,
}
