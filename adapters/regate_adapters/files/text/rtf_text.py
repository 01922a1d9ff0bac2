"""The text of RTF documents, as somebody reads it who opens them. A part of `formats.py`.

A document is groups of control words and of bytes; what the bytes mean depends on the font that is in force.
Libraries for it lose footnotes and texts in other encodings than that of the whole.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from regate_adapters.files.text.code_pages import OF_CHARACTER_SETS, WINDOWS
from regate_adapters.files.text.unreadable import damaged

_TOKEN: Final = re.compile(
    rb"\\(?P<word>[a-zA-Z]{1,32})(?P<number>-?\d{1,10})? "
    rb"?|\\'(?P<hex>[0-9a-fA-F]{2})|\\(?P<sign>[^a-zA-Z])|(?P<brace>[{}])|[\r\n\x00]+"
    rb"|(?P<bytes>[^\\{}\r\n\x00]+)|(?P<other>\\)"
)
_WRITTEN: Final[Mapping[str, str]] = {
    **dict.fromkeys(("par", "sect", "page", "row", "nestrow"), "\n\n"),
    **dict.fromkeys(("line", "lbr"), "\n"),
    **dict.fromkeys(("tab", "cell", "nestcell"), "\t"),
    **dict.fromkeys(("emspace", "enspace", "qmspace"), " "),
    **dict(zip(("lquote", "rquote", "ldblquote", "rdblquote"), "\u2018\u2019\u201c\u201d", strict=True)),
    **dict(zip(("emdash", "endash", "bullet", "zwj", "zwnj"), "\u2014\u2013\u2022\u200d\u200c", strict=True)),
}
_SIGNS: Final[Mapping[str, str]] = {
    "~": " ",
    "_": "-",
    "\\": "\\",
    "{": "{",
    "}": "}",
    "\n": "\n\n",
    "\r": "\n\n",
}
_UNSEEN: Final = frozenset(
    {
        *(
            "colortbl",
            "stylesheet",
            "info",
            "pict",
            "objdata",
            "fldinst",
            "filetbl",
            "listtable",
            "listoverridetable",
            "revtbl",
            "xe",
            "tc",
        ),
        *(
            "sp",
            "shprslt",
            "nonesttables",
            "nonshppict",
            "upr",
            "pntxta",
            "pntxtb",
            "bkmkstart",
            "bkmkend",
            "atnid",
            "atnauthor",
            "datafield",
        ),
    }
)
_SEEN: Final = frozenset(
    {"ud", "shpinst", "do", "annotation", "moMath", "moMathPara", "moMathParaPr", "txfieldtext"}
)
"""Those of the groups that older readers are to skip that hold text."""
_ASIDE: Final = re.compile(r"(header|footer)[lrf]?|footnote|annotation|shptxt")
"""What stands in the midst of a paragraph, and is read elsewhere."""
_MAX_RUN: Final = 64
"""Bytes that stand for a character of one `\\u`, at most."""


def rtf_text(file: BinaryIO) -> Iterator[str]:
    """Yield the document's text."""
    data = file.read()
    if not data.lstrip().startswith(b"{\\rtf"):
        raise damaged()
    yield _Document().read(data)


@dataclass(frozen=True, slots=True)
class _Group:
    """What is in force within a pair of braces."""

    unseen: bool = False
    fonts: bool = False
    deleted: bool = False
    aside: bool = False
    encoding: str = ""
    replaced: int = 1
    """How many bytes follow a `\\u` for readers that do not know it."""


class _Document:
    def __init__(self) -> None:
        self._body: list[str] = []
        self._asides: list[str] = []
        self._bytes = bytearray()
        self._group = _Group()
        self._outer: list[_Group] = []
        self._encoding = WINDOWS
        self._fonts: dict[int, str] = {}
        self._font = 0
        self._default_font = 0
        self._opened = False
        self._starred = False
        self._to_skip = 0

    def read(self, data: bytes) -> str:
        place = data.index(b"{")
        while (token := _TOKEN.match(data, place)) and not (token["brace"] == b"}" and len(self._outer) == 1):
            place = token.end()
            kind = token.lastgroup
            if kind in ("word", "number"):
                number = token["number"]
                place += self._word(token["word"].decode("ascii"), None if number is None else int(number))
            elif kind == "brace":
                self._brace(token["brace"])
            elif kind == "hex":
                self._take(bytes.fromhex(token["hex"].decode("ascii")))
            elif kind == "bytes":
                self._take(token["bytes"])
            elif kind == "sign":
                self._sign(token["sign"].decode("latin-1"))
        self._flush()
        return (
            "".join((*self._body, "\n\n", *self._asides))
            .encode("utf-16", "surrogatepass")
            .decode("utf-16", "replace")
        )

    def _brace(self, brace: bytes) -> None:
        self._flush()
        self._to_skip = 0
        self._starred = False
        self._opened = brace == b"{"
        if brace == b"{":
            self._outer.append(self._group)
        elif self._outer:
            self._group = self._outer.pop()

    def _word(self, word: str, number: int | None) -> int:
        """Do what a control word says; return how many bytes after it are no text."""
        self._flush()
        starred, self._starred = self._starred, False
        self._opened = False
        if _ASIDE.fullmatch(word):
            self._asides.append("\n\n")
            self._group = replace(self._group, aside=True)
        if word in _UNSEEN or (starred and word not in _SEEN):
            self._group = replace(self._group, unseen=True)
        elif starred and word == "ud":
            self._group = replace(self._group, unseen=False)
        if word == "bin":
            return max(number or 0, 0)
        if word == "u" and number is not None:
            self._write(chr(number % 0x10000))
            self._to_skip = min(self._group.replaced, _MAX_RUN)
        elif word in _WRITTEN:
            self._write(_WRITTEN[word])
        else:
            self._property(word, number)
        return 0

    def _property(self, word: str, number: int | None) -> None:
        match word:
            case "fonttbl":
                self._group = replace(self._group, unseen=True, fonts=True)
            case "f" if self._group.fonts:
                self._font = number or 0
            case "fcharset" if self._group.fonts:
                self._fonts[self._font] = OF_CHARACTER_SETS.get(number or 0, "")
            case "cpg" if self._group.fonts:
                self._fonts[self._font] = _known(number)
            case "f":
                self._group = replace(self._group, encoding=self._fonts.get(number or 0, ""))
            case "plain":
                self._group = replace(self._group, deleted=False)
            case "deff":
                self._default_font = number or 0
            case "ansicpg":
                self._encoding = _known(number) or self._encoding
            case "mac" | "pc" | "pca":
                self._encoding = {"mac": "mac_roman", "pc": "cp437", "pca": "cp850"}[word]
            case "uc":
                self._group = replace(self._group, replaced=max(number if number is not None else 1, 0))
            case "deleted":
                self._group = replace(self._group, deleted=number != 0)
            case _:
                pass

    def _sign(self, sign: str) -> None:
        if sign == "*":
            self._starred = self._opened
        elif sign in _SIGNS:
            self._flush()
            self._write(_SIGNS[sign])

    def _take(self, written: bytes) -> None:
        skipped = min(self._to_skip, len(written))
        self._to_skip -= skipped
        self._opened = self._starred = False
        if not (self._group.unseen or self._group.deleted):
            self._bytes += written[skipped:]

    def _flush(self) -> None:
        """Write the bytes that were gathered: a character may take two of them, each written in its
        own way.
        """
        if self._bytes:
            encoding = self._group.encoding or self._fonts.get(self._default_font, "") or self._encoding
            self._write(self._bytes.decode(encoding, errors="replace"))
            self._bytes.clear()

    def _write(self, text: str) -> None:
        if not (self._group.unseen or self._group.deleted):
            (self._asides if self._group.aside else self._body).append(text)


def _known(number: int | None) -> str:
    """Return the encoding of Windows' number for it; none of one that Python does not know."""
    try:
        return codecs.lookup("utf-8" if number == 65001 else f"cp{number}").name
    except LookupError:
        return ""
