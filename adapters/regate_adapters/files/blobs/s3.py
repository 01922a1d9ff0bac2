"""The `BlobStore` on S3-compatible storage: one object per upload, named by its id below a prefix.

An upload goes part by part and is aborted when it fails; a download comes in ranges, so that a slow reader of
ours holds no connection to the storage. The client is aiobotocore (ADR 0008). Not where secrets are read
from: that is `composition/wiring.py`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from aiohttp import ClientError as ConnectionFailure
from botocore.exceptions import BotoCoreError, ClientError

from regate_adapters.files.blobs.copies import Copies
from regate_adapters.files.blobs.leaving import leave_nothing
from regate_adapters.files.blobs.local import stored_name
from regate_adapters.files.blobs.parts import Parts
from regate_orchestrator.errors import ConfigurationError, NotFound, StateUnavailable
from regate_orchestrator.values import FileId

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

Result = TypeVar("Result")

_PART: Final = 5 * 1024 * 1024
"""The least that S3 takes as a part. A file of up to one part is sent as one request; 10,000 parts are
more than any file has.
"""
_PIECE: Final = 1024 * 1024
_CONNECTIONS: Final = 32
_FAILURES: Final = (BotoCoreError, ClientError, ConnectionFailure, OSError)  # TimeoutError is an OSError


@dataclass(frozen=True, slots=True)
class S3Place:
    """Where the objects are. Without an endpoint it is AWS; with one, the bucket is the first segment
    of the path.
    """

    bucket: str
    region: str = "us-east-1"
    endpoint_url: str | None = None
    prefix: str = ""


@dataclass(frozen=True, slots=True, repr=False)
class S3Credentials:
    """A key pair. Without one, the client looks for the role of the machine or pod that it runs on, as
    AWS has it.
    """

    access_key_id: str
    secret_access_key: str
    session_token: str | None = None


class S3BlobStore:
    """Keeps files in a bucket. `scratch` is a local directory for the copies that extraction reads, of which
    there are eight at a time.

    Use it as a context manager; entering raises `ConfigurationError` when the settings or the directory
    cannot be used.
    """

    _client: S3Client

    def __init__(
        self, place: S3Place, credentials: S3Credentials | None, *, scratch: Path, deadline_s: float = 20.0
    ) -> None:
        self._place = place
        self._credentials = credentials
        self._deadline_s = deadline_s
        self._copies = Copies(scratch)
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._copies.prepare()
        credentials = self._credentials
        try:
            client = get_session().create_client(
                "s3",
                region_name=self._place.region,
                endpoint_url=self._place.endpoint_url,
                aws_access_key_id=None if credentials is None else credentials.access_key_id,
                aws_secret_access_key=None if credentials is None else credentials.secret_access_key,
                aws_session_token=None if credentials is None else credentials.session_token,
                config=_config(path_style=self._place.endpoint_url is not None, deadline_s=self._deadline_s),
            )
            self._client = await self._stack.enter_async_context(client)
        except (BotoCoreError, ValueError) as error:
            raise ConfigurationError(
                f"files: the S3 client does not accept these settings ({type(error).__name__})"
            ) from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def write(self, file: FileId, parts: AsyncIterator[bytes], *, limit: int) -> int:
        """Store the bytes and return their number: as one request when they fit into a part, else part
        by part as they come.
        """
        key = self._key(file)
        gathered = Parts(size=_PART, limit=limit)
        upload: _Upload | None = None
        sending = False
        try:
            async for piece in parts:
                for part in gathered.add(piece):
                    sending = True
                    if upload is None:
                        upload = _Upload(self._client, self._place.bucket, key)
                        await self._asked(upload.begin())
                    await self._asked(upload.send(part))
            sending = True
            if upload is None:
                await self._asked(
                    self._client.put_object(Bucket=self._place.bucket, Key=key, Body=gathered.last())
                )
            else:
                await self._asked(upload.send(gathered.last()))
                await self._asked(upload.complete())
        except BaseException:
            if sending:
                await leave_nothing(file, self.delete(file))
            raise
        return gathered.written

    async def read(self, file: FileId) -> AsyncIterator[bytes]:
        """Yield the bytes in pieces of 1 MiB, each asked for when the one before was taken. Raises
        `NotFound` when there is no such file.
        """
        key = self._key(file)
        size = (await self._asked(self._client.head_object(Bucket=self._place.bucket, Key=key), file=file))[
            "ContentLength"
        ]
        for start in range(0, size, _PIECE):
            yield await self._asked(self._range(key, start, min(start + _PIECE, size) - 1), file=file)

    @asynccontextmanager
    async def local(self, file: FileId) -> AsyncIterator[Path]:
        """Yield a copy, which is removed on leaving. Raises `NotFound` when there is no such file."""
        async with self._copies.of(file, self.read(file)) as path:
            yield path

    async def delete(self, file: FileId) -> None:
        """Remove the bytes, and the parts of an upload that was never ended because its process died."""
        key = self._key(file)
        await self._asked(self._client.delete_object(Bucket=self._place.bucket, Key=key))
        begun = await self._asked(self._client.list_multipart_uploads(Bucket=self._place.bucket, Prefix=key))
        for upload in begun.get("Uploads", ()):
            if upload["Key"] == key:
                await self._asked(
                    self._client.abort_multipart_upload(
                        Bucket=self._place.bucket, Key=key, UploadId=upload["UploadId"]
                    )
                )

    async def check(self) -> None:
        """Raise `StateUnavailable` when the bucket does not answer a listing, which the credentials
        must permit.
        """
        await self._asked(
            self._client.list_objects_v2(
                Bucket=self._place.bucket, Prefix=f"{self._place.prefix}file-", MaxKeys=1
            )
        )

    def _key(self, file: FileId) -> str:
        return self._place.prefix + stored_name(file)

    async def _range(self, key: str, first: int, last: int) -> bytes:
        answer = await self._client.get_object(
            Bucket=self._place.bucket, Key=key, Range=f"bytes={first}-{last}"
        )
        async with answer["Body"] as body:
            piece: bytes = await body.read()
        return piece

    async def _asked(self, answer: Awaitable[Result], *, file: FileId | None = None) -> Result:
        """Return the storage's answer. A missing object is `NotFound` where a file is asked for."""
        try:
            async with asyncio.timeout(self._deadline_s):
                return await answer
        except _FAILURES as error:
            if file is not None and _code(error) in {"404", "NoSuchKey"}:
                raise NotFound.of("file", file) from error
            raise StateUnavailable(f"files: {_code(error)}") from error


class _Upload:
    """An upload in parts."""

    def __init__(self, client: S3Client, bucket: str, key: str) -> None:
        self._client = client
        self._bucket = bucket
        self._key = key
        self._id = ""
        self._parts: list[CompletedPartTypeDef] = []

    async def begin(self) -> None:
        """Open the upload."""
        self._id = (await self._client.create_multipart_upload(Bucket=self._bucket, Key=self._key))[
            "UploadId"
        ]

    async def send(self, data: bytes) -> None:
        """Send the next part."""
        number = len(self._parts) + 1
        sent = await self._client.upload_part(
            Bucket=self._bucket, Key=self._key, UploadId=self._id, PartNumber=number, Body=data
        )
        self._parts.append({"ETag": sent["ETag"], "PartNumber": number})

    async def complete(self) -> None:
        """Make the object of the parts."""
        await self._client.complete_multipart_upload(
            Bucket=self._bucket, Key=self._key, UploadId=self._id, MultipartUpload={"Parts": self._parts}
        )


def _config(*, path_style: bool, deadline_s: float) -> AioConfig:
    return AioConfig(
        signature_version="s3v4",
        connect_timeout=min(5.0, deadline_s),
        read_timeout=deadline_s,
        retries={"mode": "standard", "total_max_attempts": 3},
        max_pool_connections=_CONNECTIONS,
        s3={"addressing_style": "path" if path_style else "auto"},
        # The settings alone say where files go, whatever AWS_ENDPOINT_URL says
        ignore_configured_endpoint_urls=True,
        # The checksums that AWS added are unknown to others' storage
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )


def _code(error: BaseException) -> str:
    """Return what kind of failure it is, without the storage's own words, which quote keys and addresses."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "unknown"))[:100]
    return type(error).__name__
