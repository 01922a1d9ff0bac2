"""The files and images inside messages and tool outputs, as a backend takes them: the text of documents, and
images as data URLs.

What is read here was decided before (`responses/context/authorizing.py`), in each turn anew: a message keeps
the id or the address of a file, never its content. An address is decided where it is fetched
(`ports/egress.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final, Literal, cast
from urllib.parse import unquote, urlsplit

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.documents.data_urls import is_data_url
from regate_orchestrator.documents.file_text import FileReader, Inline, image_url, name_of, read_inline
from regate_orchestrator.errors import CallerError, EgressDenied, InvalidRequest, NotFound, TooLarge
from regate_orchestrator.lineage import FileSource
from regate_orchestrator.ports import Fetched, Fetcher, UnreadableFile
from regate_orchestrator.responses.client_tools.table import OUTPUTS
from regate_orchestrator.responses.prompt import Part
from regate_orchestrator.rows import FileRow
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import FileId, Json, JsonObject

_MAX_TEXT: Final = 4 * 1024 * 1024
_MAX_IMAGE: Final = 20 * 1024 * 1024
_MAX_FETCHES: Final = 20
_MAX_FETCHED: Final = 50 * 1024 * 1024
GONE: Final = Part({"type": "text", "text": "[A file that was here is no longer available.]"})
"""What stands in the place of a file that may not be read any more."""
_BEYOND_TEXT: Final = frozenset({"input_image", "input_file"})
_NOT_FETCHED: Final = {
    "image": "Addresses of images are not fetched here: send the image as a data URL, or upload it "
    "and give its 'file_id'.",
    "file": "Addresses of files are not fetched here: upload the file, or send it as 'file_data'.",
}
"""What a caller is told whom the policy does not permit the address."""


def files_of(body: JsonObject) -> Iterator[FileId]:
    """Yield the ids of the files that an item's message names."""
    for part in _parts(body):
        if part["type"] in _BEYOND_TEXT and "file_id" in part:
            yield FileId(cast("str", part["file_id"]))


@dataclass(slots=True)
class Reading:
    """What the messages of one turn are read with: for whom, the files that may be read, what the upstream
    takes, and how much may still be fetched.
    """

    context: Context
    files: Mapping[FileId, FileRow]
    capabilities: UpstreamCapabilities
    fetches: int = _MAX_FETCHES
    fetched_bytes: int = _MAX_FETCHED

    @property
    def tenant(self) -> str:
        """Return the tenant for whom is read."""
        return self.context.principal.tenant


@dataclass(frozen=True, slots=True)
class MessageParts:
    """Reads what is inside of messages."""

    reader: FileReader
    fetcher: Fetcher

    async def current(self, body: JsonObject, reading: Reading) -> tuple[Part, ...]:
        """Return the content of a message that is sent now; nothing for one of text alone.

        Raises `NotFound` for a file that is absent or may not be read, and `InvalidRequest` for one that
        holds no text or image, and for an address that may not be fetched, or leads to nothing of the kind.
        """
        if not _has_more_than_text(body):
            return ()
        try:
            return tuple([await self._read(part, reading) for part in _parts(body)])
        except UnreadableFile as error:
            raise InvalidRequest(error.message, param="input", code=error.code) from error

    async def earlier(self, body: JsonObject, reading: Reading) -> tuple[Part, ...]:
        """Return the content of a message of the history: what can no longer be read is left out, with
        a word in its place.
        """
        if not _has_more_than_text(body):
            return ()
        content: list[Part] = []
        for part in _parts(body):
            try:
                content.append(await self._read(part, reading))
            except (NotFound, InvalidRequest, UnreadableFile, TooLarge):
                content.append(GONE)
        return tuple(content)

    async def _read(self, part: Mapping[str, Json], reading: Reading) -> Part:
        row = _row(part, reading.files)
        source = FileSource(row.id, row.stamp) if row is not None else None
        match part["type"]:
            case "input_image":
                return Part(await self._image(part, row, reading), source)
            case "input_file":
                return Part(await self._file(part, row, reading), source)
            case _:
                return Part({"type": "text", "text": str(part.get("text", part.get("refusal", "")))})

    async def _image(self, part: Mapping[str, Json], row: FileRow | None, reading: Reading) -> JsonObject:
        if row is not None:
            address = await self.reader.data_url(row, limit_bytes=_MAX_IMAGE)
        else:
            address = cast("str", part["image_url"])
            if is_data_url(address):
                address = image_url(read_inline(address, param="input", limit_bytes=_MAX_IMAGE).data)
            elif not reading.capabilities.image_urls:
                address = image_url((await self._fetched(address, "image", reading)).data)
        detail = part.get("detail", "auto")
        shown: JsonObject = (
            {"url": address} if detail in ("auto", "original") else {"url": address, "detail": detail}
        )
        return {"type": "image_url", "image_url": shown}

    async def _file(self, part: Mapping[str, Json], row: FileRow | None, reading: Reading) -> JsonObject:
        if row is not None:
            name: str | None = row.filename
            text = await self.reader.text(row, tenant=reading.tenant, limit_bytes=_MAX_TEXT)
        else:
            name, inline = await self._inline(part, reading)
            text = await self.reader.text_of_inline(
                inline, filename=name, tenant=reading.tenant, limit_bytes=_MAX_TEXT
            )
        return {"type": "text", "text": f"[File: {name}]\n{text}"}

    async def _inline(self, part: Mapping[str, Json], reading: Reading) -> tuple[str | None, Inline]:
        """Return a file that came with the request, or that its address leads to, with what it is called."""
        name = cast("str | None", part.get("filename"))
        if "file_url" not in part:
            return name, read_inline(cast("str", part["file_data"]), param="input", limit_bytes=_MAX_IMAGE)
        found = await self._fetched(cast("str", part["file_url"]), "file", reading)
        return name or _name_of_fetched(found), Inline(found.data, found.media_type)

    async def _fetched(self, url: str, purpose: Literal["image", "file"], reading: Reading) -> Fetched:
        if not reading.fetches:
            message = (
                f"The messages name more than the {_MAX_FETCHES} addresses that are fetched for a request."
            )
            raise InvalidRequest(message, param="input")
        reading.fetches -= 1
        try:
            found = await self.fetcher.fetch(
                reading.context, url, purpose, limit_bytes=min(_MAX_IMAGE, reading.fetched_bytes)
            )
        except EgressDenied:
            message = _NOT_FETCHED[purpose]
            raise InvalidRequest(message, param="input", code="unsupported_parameter") from None
        except CallerError as error:
            error.param = "input"
            raise
        reading.fetched_bytes -= len(found.data)
        return found


def _name_of_fetched(found: Fetched) -> str | None:
    """Return what the file is called at its address, unless its media type says that it is something else."""
    segment = unquote(urlsplit(found.url).path.rpartition("/")[2])
    there = PurePosixPath("".join(filter(str.isprintable, segment))[:255])
    known = name_of(found.media_type)
    if known is None or PurePosixPath(known).suffix == there.suffix.lower():
        return str(there) if there.suffix else None
    return str(there) if there.suffix and found.media_type == "text/plain" else known


def _row(part: Mapping[str, Json], files: Mapping[FileId, FileRow]) -> FileRow | None:
    """Return the stored file that a part names, or None for a part that names none. Raises `NotFound`
    for one that may not be read.
    """
    if part["type"] not in _BEYOND_TEXT or "file_id" not in part:
        return None
    file = FileId(cast("str", part["file_id"]))
    if file not in files:
        raise NotFound.of("file", file, param="input")
    return files[file]


def _has_more_than_text(body: JsonObject) -> bool:
    return any(part["type"] in _BEYOND_TEXT for part in _parts(body))


def _parts(body: JsonObject) -> Sequence[Mapping[str, Json]]:
    """Return the content of a message, or of a tool's output; nothing where it is a string."""
    if (kind := OUTPUTS.get(cast("str", body["type"]))) is not None:
        return kind.output_parts(body)
    content = body.get("content") if body["type"] == "message" else ""
    return () if isinstance(content, str) else cast("Sequence[Mapping[str, Json]]", content)
