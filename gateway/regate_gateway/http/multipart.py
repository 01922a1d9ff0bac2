"""Uploads: a multipart form read as a stream. The file's bytes go to storage while they arrive; memory holds
one piece at a time.

Not the storage (`regate_adapters.files`): `read_upload` is given a callable that stores. Counterpart of
`bodies.py` for JSON.
"""

from __future__ import annotations

import hashlib
import re
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from typing import Final, Protocol, TypeAlias
from urllib.parse import unquote

import orjson
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive, Scope

from regate_gateway.http.bodies import body_pieces, content_type, header_values
from regate_orchestrator.errors import InvalidRequest, TooLarge

_MAX_PARTS: Final = 32
_MAX_FIELD_BYTES: Final = 64 * 1024
_MAX_FILENAME: Final = 255
_ENCODED: Final = re.compile(r"=\?[A-Za-z0-9_-]{1,40}\?[BbQq]\?[!->@-~]*\?=")
_EXTENDED: Final = re.compile(
    r";\s*filename\*\s*=\s*\"?(utf-8|iso-8859-1)'[A-Za-z0-9-]*'([^\s\";]+)", re.IGNORECASE
)
_FORM_BYTES: Final = 1024 * 1024
"""What a form may hold beside the file itself."""

Store: TypeAlias = Callable[[str, AsyncIterator[bytes]], Awaitable[int]]
"""Stores a file: given its name and bytes, returns their number. Must leave nothing behind when it raises."""


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Upload:
    """A form that was read to its end: the text fields, and the name, size and digest of the file that
    is stored by now.
    """

    fields: Mapping[str, str]
    filename: str
    size: int
    sha256: str

    def meaning(self) -> str:
        """Return a digest of all that the form says, which two forms share that say the same in other
        bytes: boundary, order, headers of parts.
        """
        said = orjson.dumps([sorted(self.fields.items()), self.filename, self.sha256])
        return hashlib.sha256(said).hexdigest()


async def read_upload(
    scope: Scope,
    receive: Receive,
    *,
    limit: int,
    store: Store,
    field: str = "file",
    unnamed: str | None = None,
) -> Upload:
    """Read a form whose file part is called `field`, handing the file to `store` as it arrives, before or
    after the other fields.

    `unnamed` is the name of a file that has none; without it each must have one.

    Raises `InvalidRequest`, `TooLarge` or `ClientGone`. When it raises after `store` returned, the caller
    must remove what was stored; the caller knows, because `store` is its own.
    """
    boundary = _boundary(scope)
    fields: dict[str, str] = {}
    stored: tuple[str, int] | None = None
    digest = hashlib.sha256()
    async with aclosing(_events(body_pieces(scope, receive, limit=limit + _FORM_BYTES), boundary)) as events:
        async for event in events:
            if not isinstance(event, _PartBegan):
                continue
            if event.name in fields or (stored is not None and event.name == field):
                raise InvalidRequest(
                    f"The form field '{event.name[:100]}' is given more than once.",
                    param=event.name[:100],
                    code="invalid_form",
                )
            if event.name == field:
                name = unnamed or filename_for_storage(event.filename, param=field)
                stored = name, await _hand_over(events, name, store=store, limit=limit, digest=digest)
            else:
                fields[event.name] = await _read_text(events, event)
    if stored is None:
        raise InvalidRequest(
            f"Missing required parameter: '{field}'.", param=field, code="missing_required_parameter"
        )
    return Upload(fields, stored[0], stored[1], digest.hexdigest())


def filename_for_storage(given: str | None, *, param: str) -> str:
    """Return the last component of the name that the client gave; a directory in it means nothing
    here. Raises `InvalidRequest`.
    """
    name = (given or "").replace("\\", "/").rpartition("/")[2].strip()
    if not name or len(name) > _MAX_FILENAME or not name.isprintable() or name in {".", ".."}:
        raise InvalidRequest(
            "The file needs a filename of 1 to 255 printable characters.",
            param=param,
            code="invalid_filename",
        )
    return name


async def read_in_vain(scope: Scope, receive: Receive, *, limit: int) -> Upload:
    """Read a form as `read_upload` does, for what it says alone: the file is kept nowhere."""

    async def count(_filename: str, pieces: AsyncIterator[bytes]) -> int:
        return sum([len(piece) async for piece in pieces])

    return await read_upload(scope, receive, limit=limit, store=count)


@dataclass(frozen=True, slots=True)
class _PartBegan:
    name: str
    filename: str | None


@dataclass(frozen=True, slots=True)
class _Data:
    piece: bytes


@dataclass(frozen=True, slots=True)
class _PartEnded:
    pass


_Event: TypeAlias = _PartBegan | _Data | _PartEnded


async def _hand_over(
    events: AsyncIterator[_Event], name: str, *, store: Store, limit: int, digest: _Digest
) -> int:
    async with aclosing(_digested(_part_bytes(events, limit=limit), digest)) as pieces:
        size = await store(name, pieces)
        async for _ in pieces:
            raise RuntimeError("the file was not stored to its end")
    return size


async def _digested(pieces: AsyncGenerator[bytes], digest: _Digest) -> AsyncGenerator[bytes]:
    async with aclosing(pieces):
        async for piece in pieces:
            digest.update(piece)
            yield piece


async def _part_bytes(events: AsyncIterator[_Event], *, limit: int) -> AsyncGenerator[bytes]:
    """Yield the bytes of the part that has begun, up to its end and no further."""
    counted = 0
    async for event in events:
        match event:
            case _Data(piece):
                counted += len(piece)
                if counted > limit:
                    raise TooLarge(f"The file is larger than the {limit} bytes that are accepted.")
                yield piece
            case _:
                return


async def _read_text(events: AsyncIterator[_Event], part: _PartBegan) -> str:
    name = part.name[:100]
    text = bytearray()
    async with aclosing(_part_bytes(events, limit=_MAX_FIELD_BYTES)) as pieces:
        async for piece in pieces:
            text += piece
    try:
        value = text.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest(
            f"The form field '{name}' is not UTF-8 text.", param=name, code="invalid_form"
        ) from None
    if "\0" in value:
        raise InvalidRequest(
            f"The form field '{name}' holds the character U+0000.", param=name, code="invalid_form"
        )
    return value


async def _events(pieces: AsyncIterator[bytes], boundary: bytes) -> AsyncGenerator[_Event]:
    """Yield what the form consists of, in its order. Raises `InvalidRequest` when it is malformed or
    breaks off.
    """
    form = _Form(boundary)
    try:
        async for piece in pieces:
            form.parser.write(piece)
            while form.events:
                yield form.events.popleft()
        form.parser.finalize()
    except FormParserError:
        raise _malformed() from None
    if not form.complete:
        raise _malformed()


class _Form:
    """Turns the parser's callbacks into events."""

    def __init__(self, boundary: bytes) -> None:
        self.events: deque[_Event] = deque()
        self.complete = False
        self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._name = bytearray()
        self._value = bytearray()
        self.parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._data,
                "on_part_end": self._part_ends,
                "on_end": self._form_ends,
            },
        )

    def _part_begins(self) -> None:
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise InvalidRequest(f"The form has more than {_MAX_PARTS} parts.", code="invalid_form")
        self._headers = {}

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        name = bytes(self._name).lower()
        if name in self._headers:
            raise _malformed()
        self._headers[name] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _headers_end(self) -> None:
        disposition = self._headers.get(b"content-disposition", b"")
        kind, options = parse_options_header(disposition)
        encoding = self._headers.get(b"content-transfer-encoding", b"binary").strip().lower()
        if kind != b"form-data" or b"name" not in options or encoding not in {b"binary", b"8bit", b"7bit"}:
            raise _malformed()
        try:
            filename = _filename(options.get(b"filename"), disposition)
            self.events.append(_PartBegan(options[b"name"].decode("utf-8"), filename))
        except UnicodeDecodeError:
            raise _malformed() from None

    def _data(self, data: bytes, start: int, end: int) -> None:
        if end > start:
            self.events.append(_Data(data[start:end]))

    def _part_ends(self) -> None:
        self.events.append(_PartEnded())

    def _form_ends(self) -> None:
        self.complete = True


def _filename(given: bytes | None, disposition: bytes) -> str | None:
    """Return the name of the part's file, however its letters are written. Raises `UnicodeDecodeError`.

    Forms should have them in UTF-8 (RFC 7578). .NET writes what is not ASCII as in mails (RFC 2047), and
    others know only `filename*` (RFC 8187).
    """
    if given is None:
        extended = _EXTENDED.search(disposition.decode("latin-1"))
        return None if extended is None else unquote(extended[2], encoding=extended[1], errors="strict")
    text = given.decode("utf-8")
    if not _ENCODED.fullmatch(text):
        return text
    try:
        return str(make_header(decode_header(text)))
    except (HeaderParseError, LookupError, UnicodeDecodeError):
        return text


def _boundary(scope: Scope) -> bytes:
    if content_type(scope) != "multipart/form-data":
        raise InvalidRequest("Send the file as multipart/form-data.", code="invalid_content_type")
    _, options = parse_options_header(header_values(scope, b"content-type")[0])
    boundary = options.get(b"boundary", b"")
    if not 1 <= len(boundary) <= 70:
        raise InvalidRequest(
            "The multipart/form-data body needs a boundary of 1 to 70 characters.",
            code="invalid_content_type",
        )
    return boundary


def _malformed() -> InvalidRequest:
    return InvalidRequest("The multipart/form-data body is malformed or incomplete.", code="invalid_form")
