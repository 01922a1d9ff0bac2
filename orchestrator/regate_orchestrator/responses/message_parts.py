"""The files and images inside messages and tool outputs, as a backend takes them: the text of documents, and
images as data URLs.

What is read here was decided before (`responses/context/authorizing.py`), in each turn anew: a message keeps
the id of a file, never its content.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, cast

from regate_orchestrator.documents.data_urls import is_data_url
from regate_orchestrator.documents.file_text import FileReader, image_url, read_inline
from regate_orchestrator.errors import InvalidRequest, NotFound, TooLarge
from regate_orchestrator.lineage import FileSource
from regate_orchestrator.ports import UnreadableFile
from regate_orchestrator.responses.prompt import OUTPUTS, Part
from regate_orchestrator.rows import FileRow
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import FileId, Json, JsonObject

_MAX_TEXT: Final = 4 * 1024 * 1024
_MAX_IMAGE: Final = 20 * 1024 * 1024
GONE: Final = Part({"type": "text", "text": "[A file that was here is no longer available.]"})
"""What stands in the place of a file that may not be read any more."""
_BEYOND_TEXT: Final = frozenset({"input_image", "input_file"})


def files_of(body: JsonObject) -> Iterator[FileId]:
    """Yield the ids of the files that an item's message names."""
    for part in _parts(body):
        if part["type"] in _BEYOND_TEXT and "file_id" in part:
            yield FileId(cast("str", part["file_id"]))


@dataclass(frozen=True, slots=True)
class MessageParts:
    """Reads what is inside of messages."""

    reader: FileReader

    async def current(
        self,
        body: JsonObject,
        files: Mapping[FileId, FileRow],
        capabilities: UpstreamCapabilities,
        *,
        tenant: str,
    ) -> tuple[Part, ...]:
        """Return the content of a message that is sent now, read for the tenant; nothing for one of text
        alone.

        Raises `NotFound` for a file that is absent or may not be read, `InvalidRequest` for one that holds no
        text or image, and for the address of an image where the upstream must not fetch any.
        """
        if not _has_more_than_text(body):
            return ()
        try:
            return tuple([await self._read(part, files, capabilities, tenant) for part in _parts(body)])
        except UnreadableFile as error:
            raise InvalidRequest(error.message, param="input", code=error.code) from error

    async def earlier(
        self,
        body: JsonObject,
        files: Mapping[FileId, FileRow],
        capabilities: UpstreamCapabilities,
        *,
        tenant: str,
    ) -> tuple[Part, ...]:
        """Return the content of a message of the history: what can no longer be read is left out, with
        a word in its place.
        """
        if not _has_more_than_text(body):
            return ()
        content: list[Part] = []
        for part in _parts(body):
            try:
                content.append(await self._read(part, files, capabilities, tenant))
            except (NotFound, InvalidRequest, UnreadableFile, TooLarge):
                content.append(GONE)
        return tuple(content)

    async def _read(
        self,
        part: Mapping[str, Json],
        files: Mapping[FileId, FileRow],
        capabilities: UpstreamCapabilities,
        tenant: str,
    ) -> Part:
        source = FileSource(row.id, row.stamp) if (row := _row(part, files)) is not None else None
        match part["type"]:
            case "input_image":
                return Part(await self._image(part, row, capabilities), source)
            case "input_file":
                return Part(await self._file(part, row, tenant), source)
            case _:
                return Part({"type": "text", "text": str(part.get("text", part.get("refusal", "")))})

    async def _image(
        self, part: Mapping[str, Json], row: FileRow | None, capabilities: UpstreamCapabilities
    ) -> JsonObject:
        if row is not None:
            address = await self.reader.data_url(row, limit_bytes=_MAX_IMAGE)
        else:
            address = cast("str", part["image_url"])
            if is_data_url(address):
                address = image_url(read_inline(address, param="input", limit_bytes=_MAX_IMAGE).data)
            elif not capabilities.image_urls:
                message = (
                    "Addresses of images are not fetched here: send the image as a data URL, or upload it "
                    "and give its 'file_id'."
                )
                raise InvalidRequest(message, param="input", code="unsupported_parameter")
        detail = part.get("detail", "auto")
        shown: JsonObject = (
            {"url": address} if detail in ("auto", "original") else {"url": address, "detail": detail}
        )
        return {"type": "image_url", "image_url": shown}

    async def _file(self, part: Mapping[str, Json], row: FileRow | None, tenant: str) -> JsonObject:
        if row is not None:
            name, text = row.filename, await self.reader.text(row, tenant=tenant, limit_bytes=_MAX_TEXT)
        else:
            name = cast("str", part["filename"])
            inline = read_inline(cast("str", part["file_data"]), param="input", limit_bytes=_MAX_IMAGE)
            text = await self.reader.text_of_inline(
                inline, filename=name, tenant=tenant, limit_bytes=_MAX_TEXT
            )
        return {"type": "text", "text": f"[File: {name}]\n{text}"}


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
    content = (
        body.get("content")
        if body["type"] == "message"
        else body.get("output")
        if body["type"] in OUTPUTS
        else ""
    )
    return () if isinstance(content, str) else cast("Sequence[Mapping[str, Json]]", content)
