"""All blob stores keep the contract; and the suite that says so can fail."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.adapters.files.gcs_standin import running_standin
from tests.gcs_emulator import GcsEmulator

from regate_adapters.files.blobs.disk import DiskBlobStore
from regate_adapters.files.blobs.gcs import GcsBlobStore, GcsPlace
from regate_adapters.files.blobs.s3 import S3BlobStore, S3Credentials, S3Place
from regate_adapters.testing.blobs import Check, ConformanceFailure, blob_store_conformance
from regate_adapters.testing.s3 import S3Server
from regate_orchestrator.errors import NotFound
from regate_orchestrator.values import FileId

CHECKS = blob_store_conformance()


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_a_directory_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    await check(DiskBlobStore(tmp_path))


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_s3_keeps_the_contract(check: Check, tmp_path: Path, s3: S3Server) -> None:
    place = S3Place(s3.bucket(), endpoint_url=s3.url, prefix="some/prefix/")
    async with S3BlobStore(
        place, S3Credentials(s3.access_key_id, s3.secret_access_key), scratch=tmp_path
    ) as store:
        await check(store)

    assert list(tmp_path.iterdir()) == []
    assert s3.parts(place.bucket) == 0


# The stand-in has its objects in the memory of this very process, so memory is measured before the emulator.
@pytest.mark.parametrize("check", [check for check in CHECKS if "memory" not in str(check)], ids=str)
async def test_google_cloud_storage_keeps_the_contract(check: Check, tmp_path: Path) -> None:
    async with running_standin() as standin:
        place = GcsPlace(standin.bucket, standin.url, "some/prefix/")
        async with GcsBlobStore(place, None, scratch=tmp_path) as store:
            await check(store)

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("check", CHECKS, ids=str)
async def test_google_cloud_storage_keeps_the_contract_before_an_emulator(
    check: Check, tmp_path: Path, gcs_emulator: GcsEmulator
) -> None:
    place = GcsPlace(gcs_emulator.bucket(), gcs_emulator.url, "some/prefix/")
    async with GcsBlobStore(place, None, scratch=tmp_path) as store:
        await check(store)

    assert list(tmp_path.iterdir()) == []


def test_the_suite_is_not_empty() -> None:
    assert len(CHECKS) == len({str(check) for check in CHECKS}) >= 11


class Forgetful(DiskBlobStore):
    """A store that reports absent files as empty."""

    async def read(self, file: FileId) -> AsyncIterator[bytes]:
        try:
            async for piece in super().read(file):
                yield piece
        except NotFound:
            return


class Greedy(DiskBlobStore):
    """A store that holds a whole file in memory."""

    async def write(self, file: FileId, parts: AsyncIterator[bytes], *, limit: int) -> int:
        everything = [part + b"" for part in [bytes(bytearray(part)) async for part in parts]]

        async def again() -> AsyncIterator[bytes]:
            for part in everything:
                yield part

        return await super().write(file, again(), limit=limit)


class Shortened(DiskBlobStore):
    """A store that loses the last byte."""

    async def read(self, file: FileId) -> AsyncIterator[bytes]:
        data = b"".join([piece async for piece in super().read(file)])
        yield data[:-1]


class Uncancellable(DiskBlobStore):
    """A store that keeps what a cancelled upload had sent."""

    async def write(self, file: FileId, parts: AsyncIterator[bytes], *, limit: int) -> int:
        kept: list[bytes] = []
        try:
            async for part in parts:
                kept.append(part)
        except asyncio.CancelledError:
            self._path(file).write_bytes(b"".join(kept))
            raise

        async def again() -> AsyncIterator[bytes]:
            for part in kept:
                yield part

        return await super().write(file, again(), limit=limit)


class Public(DiskBlobStore):
    """A store whose files anybody on the machine may read."""

    @asynccontextmanager
    async def local(self, file: FileId) -> AsyncIterator[Path]:
        async with super().local(file) as path:
            path.chmod(0o644)
            yield path


@pytest.mark.parametrize(
    ("broken", "promise"),
    [
        (Forgetful, "an_absent_file_is_not_found"),
        (Greedy, "a_large_file_takes_bounded_memory"),
        (Shortened, "bytes_are_read_as_they_were_written"),
        (Uncancellable, "a_cancelled_upload_is_absent"),
        (Public, "a_local_path_holds_the_bytes_while_it_is_used"),
    ],
)
async def test_a_store_that_breaks_a_promise_fails_its_check(
    broken: type[DiskBlobStore], promise: str, tmp_path: Path
) -> None:
    (check,) = (check for check in CHECKS if str(check) == promise)

    with pytest.raises(ConformanceFailure):
        await check(broken(tmp_path))
