"""The `BlobStore` on Google Cloud Storage: one object per upload, named by its id below a prefix.

A large upload is a resumable one, part by part, and is cancelled when it fails; a download comes in ranges,
so that a slow reader of ours holds no connection to the storage. The requests of the JSON API are our own
(`gcs_client.py`). Not where the service account's file is named: that is `composition/opening.py`.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

import orjson

from regate_adapters.files.blobs.copies import Copies
from regate_adapters.files.blobs.gcs_client import Answer, GcsClient, no_answer, pause
from regate_adapters.files.blobs.gcs_tokens import TokenSource
from regate_adapters.files.blobs.leaving import leave_nothing
from regate_adapters.files.blobs.local import stored_name
from regate_adapters.files.blobs.parts import Parts
from regate_orchestrator.errors import NotFound, StateUnavailable
from regate_orchestrator.values import FileId

GOOGLE: Final = "https://storage.googleapis.com"
_PART: Final = 5 * 1024 * 1024
"""A multiple of 256 KiB, as Google wants it. A file of up to one part is sent as one request."""
_PIECE: Final = 1024 * 1024
_ATTEMPTS: Final = 4
_OK: Final = 200
_DONE: Final = frozenset({200, 201})
_PARTIAL: Final = 206
_GO_ON: Final = 308
_ABSENT: Final = 404
_GONE: Final = frozenset({204, 200, _ABSENT})
_TAKEN: Final = re.compile(r"bytes=0-(\d{1,15})")


@dataclass(frozen=True, slots=True)
class GcsPlace:
    """Where the objects are."""

    bucket: str
    endpoint_url: str = GOOGLE
    prefix: str = ""


class GcsBlobStore:
    """Keeps files in a bucket, asked for with tokens of this source, or with none. `scratch` is a local
    directory for the copies that extraction reads, of which there are eight at a time.

    Use it as a context manager; entering raises `ConfigurationError` when the directory cannot be used.
    """

    def __init__(
        self, place: GcsPlace, source: TokenSource | None, *, scratch: Path, deadline_s: float = 20.0
    ) -> None:
        self._place = place
        self._client = GcsClient(source, deadline_s=deadline_s)
        self._copies = Copies(scratch)
        bucket = f"b/{quote(place.bucket, safe='')}/o"
        self._objects = f"{place.endpoint_url}/storage/v1/{bucket}"
        self._uploads = f"{place.endpoint_url}/upload/storage/v1/{bucket}"

    async def __aenter__(self) -> Self:
        self._copies.prepare()
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.__aexit__(kind, error, trace)

    async def write(self, file: FileId, parts: AsyncIterator[bytes], *, limit: int) -> int:
        """Store the bytes and return their number: as one request when they fit into a part, else part
        by part as they come.
        """
        name = self._name(file)
        gathered = Parts(size=_PART, limit=limit)
        upload: _Upload | None = None
        sending = False
        try:
            async for piece in parts:
                for part in gathered.add(piece):
                    sending = True
                    upload = upload or await self._begun(name)
                    await upload.send(part)
            sending = True
            if upload is None:
                await self._sent(name, gathered.last())
            else:
                await upload.send(gathered.last(), is_last=True)
        except BaseException:
            if sending:
                await leave_nothing(file, self._remove(file, upload))
            raise
        return gathered.written

    async def read(self, file: FileId) -> AsyncIterator[bytes]:
        """Yield the bytes in pieces of 1 MiB, each asked for when the one before was taken. Raises
        `NotFound` when there is no such file.
        """
        url = self._object(file)
        size = _size(_found(file, await self._client.ask("GET", f"{url}?fields=size"), {_OK}))
        for start in range(0, size, _PIECE):
            last = min(start + _PIECE, size) - 1
            asked = await self._client.ask(
                "GET", f"{url}?alt=media", headers={"Range": f"bytes={start}-{last}"}
            )
            piece = _found(file, asked, {_PARTIAL}).body
            if len(piece) != last - start + 1:
                raise StateUnavailable("files: a range has another length than was asked for")
            yield piece

    @asynccontextmanager
    async def local(self, file: FileId) -> AsyncIterator[Path]:
        """Yield a copy, which is removed on leaving. Raises `NotFound` when there is no such file."""
        async with self._copies.of(file, self.read(file)) as path:
            yield path

    async def delete(self, file: FileId) -> None:
        """Remove the bytes. What an upload sent that was never ended, because its process died, is no
        object; Google drops it after a week.
        """
        answer = await self._client.ask("DELETE", self._object(file))
        if answer.status not in _GONE:
            raise answer.failure

    async def check(self) -> None:
        """Raise `StateUnavailable` when the bucket does not answer a listing, which the credentials
        must permit.
        """
        prefix = quote(f"{self._place.prefix}file-", safe="")
        answer = await self._client.ask("GET", f"{self._objects}?maxResults=1&fields=kind&prefix={prefix}")
        if answer.status != _OK:
            raise answer.failure

    def _name(self, file: FileId) -> str:
        return quote(self._place.prefix + stored_name(file), safe="")

    def _object(self, file: FileId) -> str:
        return f"{self._objects}/{self._name(file)}"

    async def _sent(self, name: str, data: bytes) -> None:
        url = f"{self._uploads}?uploadType=media&name={name}"
        answer = await self._client.ask("POST", url, data=data, headers=_BYTES)
        if answer.status not in _DONE:
            raise answer.failure

    async def _begun(self, name: str) -> _Upload:
        url = f"{self._uploads}?uploadType=resumable&name={name}"
        answer = await self._client.ask(
            "POST", url, headers={"X-Upload-Content-Type": _BYTES["Content-Type"]}
        )
        if answer.status not in _DONE or "Location" not in answer.headers:
            raise answer.failure
        return _Upload(self._client, answer.headers["Location"])

    async def _remove(self, file: FileId, upload: _Upload | None) -> None:
        """Remove what a failed upload sent, and the object if it came about all the same."""
        if upload is not None:
            await upload.cancel()
        await self.delete(file)


_BYTES: Final = {"Content-Type": "application/octet-stream"}


class _Upload:
    """A resumable upload. Its address is a secret that lets whoever has it write, so it needs no token."""

    def __init__(self, client: GcsClient, address: str) -> None:
        self._client = client
        self._address = address
        self._taken = 0
        """How many bytes Google has said it keeps."""

    async def send(self, data: bytes, *, is_last: bool = False) -> None:
        """Send what comes next; the last part makes the object. What was not kept of it is sent again."""
        try:
            async with asyncio.timeout(self._client.deadline_s):
                await self._sent(data, is_last=is_last)
        except TimeoutError as error:
            raise StateUnavailable("files: no answer in time") from error

    async def cancel(self) -> None:
        """Have Google drop what was sent."""
        try:
            async with asyncio.timeout(self._client.deadline_s):
                await self._client.once("DELETE", self._address, headers={}, with_token=False)
        except TimeoutError as error:
            raise StateUnavailable("files: no answer in time") from error

    async def _sent(self, data: bytes, *, is_last: bool) -> None:
        start = self._taken
        end = start + len(data)
        total = str(end) if is_last else "*"
        answer = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                await pause(attempt)
                answer = await self._put("*", total, b"")  # which asks how much was kept
                if self._is_done(answer, end, is_last=is_last):
                    return
            rest = data[self._taken - start :]
            span = f"{self._taken}-{end - 1}" if rest else "*"
            answer = await self._put(span, total, rest)
            if self._is_done(answer, end, is_last=is_last):
                return
            if not start <= self._taken <= end:
                raise StateUnavailable("files: the storage lost a part that it had taken")
        raise no_answer() if answer is None else answer.failure

    async def _put(self, span: str, total: str, data: bytes) -> Answer | None:
        headers = {"Content-Range": f"bytes {span}/{total}"}
        return await self._client.once("PUT", self._address, data=data, headers=headers, with_token=False)

    def _is_done(self, answer: Answer | None, end: int, *, is_last: bool) -> bool:
        """Return whether all up to the end is kept, and for the last part whether the object is there. Raises
        `StateUnavailable` for an answer after which nothing can be done.
        """
        if answer is None or answer.is_passing:
            return False
        if answer.status in _DONE and is_last:
            return True
        if answer.status != _GO_ON:
            raise answer.failure
        kept = _TAKEN.fullmatch(answer.headers.get("Range", ""))
        self._taken = int(kept[1]) + 1 if kept else 0
        return self._taken == end and not is_last


def _found(file: FileId, answer: Answer, hoped: set[int]) -> Answer:
    """Return the answer about an object. Raises `NotFound` where there is none."""
    if answer.status == _ABSENT:
        raise NotFound.of("file", file)
    if answer.status not in hoped:
        raise answer.failure
    return answer


def _size(answer: Answer) -> int:
    try:
        return int(orjson.loads(answer.body)["size"])
    except (ValueError, KeyError, TypeError) as error:
        raise StateUnavailable("files: an object without a size") from error
