"""Documents that are archives of XML: their members, read in pieces and never beyond what is allowed.
A part of `formats.py`.
"""

from __future__ import annotations

import io
import re
import xml.parsers.expat
import zipfile
import zlib
from collections.abc import Callable, Mapping
from typing import BinaryIO, Final, Protocol

from regate_adapters.files.text.unreadable import Unreadable, damaged, protected

_MAX_UNPACKED: Final = 200 * 1024 * 1024
_MAX_MEMBERS: Final = 10_000
_MAX_RATIO: Final = 200
_SMALL: Final = 1024 * 1024
_PIECE: Final = 256 * 1024
COMPOUND: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
"""How files of the older Office begin, and the envelope in which the newer one encrypts."""
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")
_BROKEN: Final = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, OSError)


class Reader(Protocol):
    """What is told of an XML part as it is read. Names are local: the strict form of a standard
    differs in its namespaces alone.
    """

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        """An element begins."""
        ...

    def end(self, name: str) -> None:
        """An element ends."""
        ...

    def text(self, text: str) -> None:
        """Characters of the element that began last."""
        ...


class Package:
    """An open archive. What is read of it counts: more than is allowed is refused, whatever else is in it."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            self._archive = zipfile.ZipFile(file)
        except _BROKEN:
            raise (protected() if _is_encrypted(file) else damaged()) from None
        members = self._archive.infolist()
        if len(members) > _MAX_MEMBERS:
            raise _swollen()
        if any(member.flag_bits & 1 for member in members):
            raise protected()
        self._members = {member.filename.lstrip("/").casefold(): member for member in members}
        self._left = _MAX_UNPACKED
        self.damaged = False
        """Whether something that was to be read could not be, or not to its end."""

    def __contains__(self, name: str) -> bool:
        return name.lstrip("/").casefold() in self._members

    def named(self, pattern: str) -> list[str]:
        """Return the names of members that the pattern matches, numbers in them in their order."""
        found = [member.filename for name, member in self._members.items() if re.fullmatch(pattern, name)]
        return sorted(
            found,
            key=lambda name: [int(piece) if piece.isdigit() else piece for piece in re.split(r"(\d+)", name)],
        )

    def read(self, name: str) -> bytes:
        """Return a member's bytes; none of one that is damaged or absent."""
        content = io.BytesIO()
        self._feed(name, content.write)
        return content.getvalue()

    def parse(self, name: str, reader: Reader) -> None:
        """Have a member read as XML, as far as it is well formed. An entity of its own is no part of
        such a document.
        """
        parser = xml.parsers.expat.ParserCreate(namespace_separator="}")
        parser.buffer_text = True
        parser.StartElementHandler = lambda element, attributes: reader.start(
            _local(element), {_attribute(key): attributes[key] for key in attributes}
        )
        parser.EndElementHandler = lambda element: reader.end(_local(element))
        parser.CharacterDataHandler = reader.text
        parser.EntityDeclHandler = _refuse_entities
        try:
            self._feed(name, parser.Parse)
            parser.Parse(b"", True)
        except xml.parsers.expat.ExpatError:
            self.damaged = True

    def _feed(self, name: str, take: Callable[[bytes], object]) -> None:
        member = self._members.get(name.lstrip("/").casefold())
        if member is None:
            return
        swollen = member.file_size > _SMALL and member.file_size > _MAX_RATIO * max(member.compress_size, 1)
        self._left -= member.file_size
        if swollen or self._left < 0:
            raise _swollen()
        try:
            with self._archive.open(
                member
            ) as opened:  # which never gives more than the size that is declared
                while piece := opened.read(_PIECE):
                    take(piece)
        except _BROKEN:
            self.damaged = True


def trimmed(text: str) -> str:
    """Return the text without the spaces and tabs in which lines and cells end."""
    return re.sub(r"[ \t]+(?=\n|$)", "", re.sub(r" +(?=\t)", "", text))


def refuse_protected(file: BinaryIO) -> None:
    """Raise `Unreadable` for an Office document that a password protects."""
    if _is_encrypted(file):
        raise protected()


def _is_encrypted(file: BinaryIO) -> bool:
    file.seek(0)
    data = file.read() if file.read(len(COMPOUND)) == COMPOUND else b""
    file.seek(0)
    return _ENCRYPTED in data


def _swollen() -> Unreadable:
    return Unreadable("invalid_file", "The file unpacks to more than is allowed.")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(name: str) -> str:
    """Return an attribute's local name; one that names a related part is marked."""
    space, _, local = name.rpartition("}")
    return f"related:{local}" if space.endswith("/relationships") else local


def _refuse_entities(*_: object) -> None:
    raise damaged()
