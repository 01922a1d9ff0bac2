"""Reading files into a prompt: the text of documents and the bytes of images, stored here or sent inline
(`input_file`, `input_image`).

Nothing is decided here: the caller has decided that the row may be read. Not ingestion (`ingestion.py`),
which splits and stamps.
"""

from __future__ import annotations

import base64
import codecs
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from regate_orchestrator.documents.data_urls import DataUrl, bare_base64, parse
from regate_orchestrator.errors import InvalidRequest, TooLarge
from regate_orchestrator.ports import BlobStore, Extractor, UnreadableFile
from regate_orchestrator.rows import FileRow

_NAMES: Final[Mapping[str, str]] = {
    "application/json": "file.json",
    "application/pdf": "file.pdf",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "file.pptx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "file.docx",
    "text/csv": "file.csv",
    "text/html": "file.html",
    "text/markdown": "file.md",
    "text/plain": "file.txt",
}
"""The name, for its ending, of inline data that came with a media type and without a name."""

_UTF_8: Final = frozenset({"utf-8", "ascii"})
_NO_CHARSETS: Final = frozenset({"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined"})
"""Codecs of Python's that are spellings of text, and no character sets."""


@dataclass(frozen=True, slots=True)
class Inline:
    """Bytes that came with the request, and the media type that the client says they have, if any."""

    data: bytes
    media_type: str


class FileReader:
    """Reads whole files, each under a limit that the caller gives. Raises `UnreadableFile` for what
    cannot be read as what is wanted.
    """

    def __init__(self, blobs: BlobStore, extractor: Extractor) -> None:
        self._blobs = blobs
        self._extractor = extractor

    async def text(self, row: FileRow, *, tenant: str, limit_bytes: int) -> str:
        """Return the text of a stored document, read for the tenant. Raises `TooLarge` when the text,
        in UTF-8, is longer than the limit.
        """
        text = await self._extractor.text(self._blobs.local(row.id), filename=row.filename, tenant=tenant)
        return _bounded(text, limit_bytes)

    async def text_of_inline(
        self, inline: Inline, *, filename: str | None, tenant: str, limit_bytes: int
    ) -> str:
        """Return the text of an inline document. Without a name, the media type says what it is.
        Raises `TooLarge` as `text` does.
        """
        name = filename or name_of(inline.media_type)
        if name is None:
            raise UnreadableFile(
                "unsupported_file", "The inline file needs a filename whose ending says what it is."
            )
        return _bounded(await self._extractor.text(inline.data, filename=name, tenant=tenant), limit_bytes)

    async def content(self, row: FileRow, *, limit_bytes: int) -> bytes:
        """Return the bytes of a stored file. Raises `TooLarge`, before anything is read, when they are
        more than the limit.
        """
        if row.bytes > limit_bytes:
            raise TooLarge(f"The file {row.id} has {row.bytes} bytes; {limit_bytes} can be read here.")
        return b"".join([piece async for piece in self._blobs.read(row.id)])

    async def data_url(self, row: FileRow, *, limit_bytes: int) -> str:
        """Return a stored image (PNG, JPEG, WebP or GIF, by its first bytes and never by its name) as
        a data URL. Raises `TooLarge`.
        """
        return image_url(await self.content(row, limit_bytes=limit_bytes))


def parse_inline(value: str, *, param: str) -> DataUrl:
    """Return a data URL, or bare base64, taken apart. Raises `InvalidRequest` for anything else."""
    found = parse(value) or bare_base64(value)
    if found is None:
        raise _not_inline(param)
    return found


def read_inline(value: str, *, param: str, limit_bytes: int) -> Inline:
    """Return what a data URL, or bare base64, holds; text of a named character set as UTF-8.

    Raises `InvalidRequest`, or `TooLarge`, before anything is decoded where that can be told.
    """
    url = parse_inline(value, param=param)
    if url.least_bytes > limit_bytes:
        raise TooLarge(f"'{param}' holds more than the {limit_bytes} bytes that are accepted.", param=param)
    try:
        data = url.data()
    except ValueError:
        raise _not_inline(param) from None
    if len(data) > limit_bytes:
        raise TooLarge(f"'{param}' holds more than the {limit_bytes} bytes that are accepted.", param=param)
    return Inline(_as_utf8(data, url, param=param), url.media_type)


def name_of(media_type: str) -> str | None:
    """Return the name that inline data of this type has where it came without one, or None where the
    type does not say what it is.
    """
    return _NAMES.get(media_type)


def _as_utf8(data: bytes, url: DataUrl, *, param: str) -> bytes:
    """Return text in the character set that its URL names as UTF-8, marked so; what is no text, or
    names none, as it is.
    """
    if url.charset is None or url.media_type.partition("/")[0] not in ("", "text"):
        return data
    try:
        codec = codecs.lookup(url.charset)
        if codec.name in _UTF_8:
            return data
        if codec.name.replace("-", "_") in _NO_CHARSETS:
            raise LookupError(codec.name)
        return codecs.BOM_UTF8 + data.decode(codec.name).encode()
    except (LookupError, ValueError):
        message = f"'{param}' is not text in the character set '{url.charset[:40]}' that it names."
        raise InvalidRequest(message, param=param, code="invalid_value") from None


def _not_inline(param: str) -> InvalidRequest:
    return InvalidRequest(
        f"'{param}' must be base64, or a data URL (RFC 2397).", param=param, code="invalid_value"
    )


def image_url(data: bytes) -> str:
    """Return the image as a data URL with the type that its first bytes show. Raises `UnreadableFile`
    for anything else.
    """
    media_type = image_type(data)
    if media_type is None:
        raise UnreadableFile(
            "unsupported_file", "The file is not an image. Supported are PNG, JPEG, WebP and GIF."
        )
    return f"data:{media_type};base64,{base64.b64encode(data).decode('ascii')}"


def image_type(data: bytes) -> str | None:
    """Return the media type that the first bytes show, or None for what is no image that models take."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _bounded(text: str, limit_bytes: int) -> str:
    if len(text.encode()) > limit_bytes:
        raise TooLarge(f"The file holds more text than the {limit_bytes} bytes that can be read here.")
    return text
