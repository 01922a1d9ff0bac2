"""The text of a file, by the ending of its name. Runs in the worker alone, under its limits and in its
confinement.

Whatever a library raises on a broken file is for `files/readers/worker.py`, the counterpart, to report;
`Unreadable` is for what is known here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Final

from regate_adapters.files.text.html_text import declared_encoding, html_text
from regate_adapters.files.text.marks import MARKS
from regate_adapters.files.text.office_text import office_text
from regate_adapters.files.text.opendocument_text import epub_text, opendocument_text
from regate_adapters.files.text.other_text import mail_text, notebook_text, workbook_text
from regate_adapters.files.text.packages import COMPOUND
from regate_adapters.files.text.pdf_text import pdf_text
from regate_adapters.files.text.plain_text import BOMS, decode
from regate_adapters.files.text.plausible import is_gibberish
from regate_adapters.files.text.rtf_text import rtf_text
from regate_adapters.files.text.unreadable import MAX_CHARACTERS, Unreadable
from regate_adapters.files.text.word_text import doc_text

_DEEPEST: Final = 3
_HEAD: Final = 512
_SHAPES: Final = re.compile("[\ufb00-\ufdff\ufe70-\ufefc]+")
"""Ligatures and the shapes that Arabic and Hebrew letters take: what is searched for are the letters."""
_UNSEEN: Final = re.compile("[\x00-\x08\x0b\x0e-\x1f\u00ad\u200b\u2060\ufeff\ufffd-\uffff]")
_UNSEEN_BUT_MARKS: Final = re.compile(f"(?![{MARKS}]){_UNSEEN.pattern}")
_MARKS: Final = re.compile(f"[{MARKS}]")
_JSON_CODE: Final = re.compile(r"\\(?:u(?P<code>[0-9a-fA-F]{4})|\\)")
"""A letter by its code, or a backslash, after which no code begins."""
_NO_CONTROL: Final = 0xA0


def read_text(file: BinaryIO, *, filename: str) -> str:
    """Return the file's text: valid Unicode with plain line ends, not empty, of bounded length. Raises
    `Unreadable`.
    """
    return _clean(read_marked(file, filename=filename))


def read_marked(file: BinaryIO, *, filename: str) -> str:
    """Return the file's text with the marks of its pages and headings (`marks.py`). Raises as `read_text`
    does.
    """
    marked = _bounded(_read(file, filename, depth=0))
    written = _MARKS.sub("", marked).strip()
    text = _clean(written)
    if not written:
        raise Unreadable("invalid_file", "The file holds no text.")
    if not text or is_gibberish(written):
        raise Unreadable("invalid_file", "What the file holds cannot be read as text.")
    return _clean(marked, _UNSEEN_BUT_MARKS)


def _read(file: BinaryIO, filename: str, *, depth: int) -> Iterable[str]:
    ending = Path(filename).suffix.lower()
    kind = _by_content(file, ending) or ending
    if kind in _HOLDING_OTHERS:
        return _HOLDING_OTHERS[kind](
            file, attached=lambda inner, name: _attached(inner, name, depth=depth + 1)
        )
    if kind not in _READERS:
        named = f"Files of kind '{kind[:32]}'" if kind else "Files whose name has no ending"
        raise Unreadable(
            "unsupported_file",
            f"{named} are not supported. Supported are {' '.join(sorted({*_READERS, *_HOLDING_OTHERS}))}.",
        )
    return _READERS[kind](file)


def _by_content(file: BinaryIO, ending: str) -> str:
    """Return the ending of the kind that the file shows to be, where files of several kinds have names
    with this one.
    """
    head = file.read(_HEAD)
    file.seek(0)
    return next((kind for start, kind, names in _STARTS if ending in names and start.match(head)), "")


def _attached(file: BinaryIO, filename: str, *, depth: int) -> str:
    return _bounded(_read(file, filename, depth=depth)) if depth < _DEEPEST else ""


def _bounded(parts: Iterable[str]) -> str:
    """Return the parts as paragraphs. Raises `Unreadable` as soon as there is more text than is allowed."""
    kept: list[str] = []
    length = 0
    for part in parts:
        if part.strip():
            kept.append(part.strip())
            length += len(part)
        if length > MAX_CHARACTERS:
            raise Unreadable("invalid_file", f"The file's text is longer than {MAX_CHARACTERS:,} characters.")
    return "\n\n".join(kept)


def _clean(text: str, unseen: re.Pattern[str] = _UNSEEN) -> str:
    """Return the characters that somebody would search for: letters, not the shapes in which they are
    written.
    """
    valid = unseen.sub("", text.encode(errors="replace").decode())
    letters = _SHAPES.sub(lambda found: unicodedata.normalize("NFKC", found[0]), valid)
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"\r\n?", "\n", letters)).strip()


def _plain(file: BinaryIO) -> Iterator[str]:
    yield decode(file.read())


def _json(file: BinaryIO) -> Iterator[str]:
    """Yield the text with the letters that it names by codes; it means the same."""
    letters = _JSON_CODE.sub(_letter, decode(file.read()))
    yield letters.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _letter(found: re.Match[str]) -> str:
    code = int(found["code"] or "0", 16)
    return chr(code) if code >= _NO_CONTROL else found[0]


def _html(file: BinaryIO) -> Iterator[str]:
    data = file.read()
    encoding = None if data.startswith(tuple(mark for mark, _ in BOMS)) else declared_encoding(data)
    try:
        yield html_text(decode(data) if encoding is None else data.decode(encoding))
    except UnicodeDecodeError:  # it declares what it is not
        yield html_text(decode(data))


_TEXTS: Final = (
    # What OpenAI's file search takes, and its like; all of it is read as it is written
    *(
        ".txt",
        ".text",
        ".log",
        ".md",
        ".markdown",
        ".rst",
        ".tex",
        ".csv",
        ".tsv",
        ".xml",
        ".yaml",
        ".yml",
    ),
    *(
        ".toml",
        ".ini",
        ".conf",
        ".cfg",
        ".properties",
        ".diff",
        ".patch",
        ".sql",
        ".graphql",
        ".proto",
        ".rego",
        ".css",
        ".scss",
        ".less",
    ),
    *(
        ".c",
        ".h",
        ".cc",
        ".cpp",
        ".hpp",
        ".cs",
        ".go",
        ".java",
        ".kt",
        ".scala",
        ".swift",
        ".rs",
        ".rb",
        ".php",
        ".pl",
        ".lua",
        ".r",
    ),
    *(
        ".py",
        ".js",
        ".mjs",
        ".cjs",
        ".jsx",
        ".ts",
        ".mts",
        ".cts",
        ".tsx",
        ".vue",
        ".sh",
        ".bash",
        ".zsh",
        ".ps1",
        ".bat",
    ),
)
_WORDS: Final = frozenset({".doc", ".docx", ".docm", ".dotx", ".rtf"})
_WORKBOOKS: Final = frozenset({".xls", ".xlsx", ".xlsm", ".xlsb"})
_STARTS: Final = (
    (re.compile(rb"(?s)PK\x03\x04.{26}(\[Content_Types\]|_rels|word|docProps)"), ".docx", _WORDS),
    (re.compile(re.escape(COMPOUND)), ".doc", _WORDS),
    (re.compile(rb"\s*\{\\rtf"), ".rtf", _WORDS),
    (
        re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype\s+html|html|table)", re.IGNORECASE),
        ".html",
        _WORDS | _WORKBOOKS,
    ),
    (
        re.compile(rb"(?si)((Date|From|Subject|Message-ID|X-[\w-]+):.*)?MIME-Version:"),
        ".mht",
        _WORDS | _WORKBOOKS,
    ),
)
"""How files begin that Office, and what exports to it, give names of other kinds; Office opens them by
that as well.
"""

_HOLDING_OTHERS: Final[Mapping[str, Callable[..., Iterable[str]]]] = {
    **dict.fromkeys((".docx", ".docm", ".dotx", ".pptx", ".pptm", ".ppsx"), office_text),
    **dict.fromkeys((".eml", ".mht", ".mhtml"), mail_text),
}
"""Readers that take `attached`, which reads a file that stands in the one that they read."""

_READERS: Final[Mapping[str, Callable[[BinaryIO], Iterable[str]]]] = {
    **dict.fromkeys(_TEXTS, _plain),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), _json),
    **dict.fromkeys((".html", ".htm", ".xhtml"), _html),
    **dict.fromkeys((".odt", ".ods", ".odp"), opendocument_text),
    **dict.fromkeys(_WORKBOOKS, workbook_text),
    ".doc": doc_text,
    ".epub": epub_text,
    ".ipynb": notebook_text,
    ".pdf": pdf_text,
    ".rtf": rtf_text,
}
