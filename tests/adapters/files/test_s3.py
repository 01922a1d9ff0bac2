"""What is S3's own: what an upload leaves in the bucket, a storage that fails, and where the client
gets its settings from.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.link import Link

from regate_adapters.files.blobs.s3 import S3BlobStore, S3Credentials, S3Place
from regate_adapters.testing.ports import free_port
from regate_adapters.testing.s3 import S3Server
from regate_orchestrator.errors import ConfigurationError, NotFound, StateUnavailable, TooLarge
from regate_orchestrator.values import FileId

FILE = FileId("file-0123abcd")
MIB = 1024 * 1024


async def megabytes(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield b"x" * MIB


class Bucket:
    """A bucket of the test's own, and stores over it."""

    def __init__(self, server: S3Server, scratch: Path) -> None:
        self.server = server
        self.name = server.bucket()
        self.scratch = scratch
        self.credentials = S3Credentials(server.access_key_id, server.secret_access_key)

    def store(
        self,
        *,
        url: str | None = None,
        name: str | None = None,
        secret: str | None = None,
        deadline_s: float = 20.0,
    ) -> S3BlobStore:
        place = S3Place(name or self.name, endpoint_url=url or self.server.url, prefix="files/")
        credentials = S3Credentials(self.credentials.access_key_id, secret) if secret else self.credentials
        return S3BlobStore(place, credentials, scratch=self.scratch, deadline_s=deadline_s)

    @property
    def content(self) -> tuple[dict[str, int], int]:
        return self.server.objects(self.name), self.server.parts(self.name)


@pytest.fixture
def bucket(s3: S3Server, tmp_path: Path) -> Bucket:
    return Bucket(s3, tmp_path / "scratch")


async def test_objects_lie_below_the_prefix_under_their_id(bucket: Bucket) -> None:
    async with bucket.store() as store:
        await store.write(FILE, megabytes(1), limit=MIB)

    assert bucket.content == ({f"files/{FILE}": MIB}, 0)


async def test_a_refused_upload_leaves_neither_object_nor_parts(bucket: Bucket) -> None:
    async with bucket.store() as store:
        with pytest.raises(TooLarge):
            await store.write(FILE, megabytes(20), limit=19 * MIB)

    assert bucket.content == ({}, 0)


async def test_a_cancelled_upload_leaves_neither_object_nor_parts(bucket: Bucket) -> None:
    seen: list[int] = []
    reached = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        async for piece in megabytes(12):
            yield piece
        seen.append(bucket.server.parts(bucket.name))
        reached.set()
        await asyncio.Event().wait()

    async with bucket.store() as store, asyncio.TaskGroup() as tasks:
        upload = tasks.create_task(store.write(FILE, waiting(), limit=100 * MIB))
        await reached.wait()
        upload.cancel()

    assert seen == [2]
    assert bucket.content == ({}, 0)


async def test_deleting_removes_what_a_killed_process_had_sent(bucket: Bucket) -> None:
    async with bucket.store() as store:
        key = f"files/{FILE}"
        begun = await store._client.create_multipart_upload(Bucket=bucket.name, Key=key)
        await store._client.upload_part(
            Bucket=bucket.name, Key=key, UploadId=begun["UploadId"], PartNumber=1, Body=b"x"
        )
        neighbour = await store._client.create_multipart_upload(Bucket=bucket.name, Key=f"{key}99")
        await store._client.upload_part(
            Bucket=bucket.name, Key=f"{key}99", UploadId=neighbour["UploadId"], PartNumber=1, Body=b"x"
        )
        before = bucket.content
        await store.delete(FILE)

    assert (before, bucket.content) == (({}, 2), ({}, 1))


async def test_a_storage_that_is_gone_is_unavailable_everywhere(bucket: Bucket) -> None:
    async with bucket.store(url=f"http://127.0.0.1:{free_port()}", deadline_s=0.3) as store:
        for work in (
            store.write(FILE, megabytes(1), limit=MIB),
            store.write(FILE, megabytes(6), limit=6 * MIB),
            store.delete(FILE),
        ):
            with pytest.raises(StateUnavailable):
                await work
        with pytest.raises(StateUnavailable):
            await anext(store.read(FILE))
        with pytest.raises(StateUnavailable):
            async with store.local(FILE):
                pass
        with pytest.raises(StateUnavailable):
            await store.check()

    assert list(bucket.scratch.iterdir()) == []


@pytest.mark.parametrize("state", ["swallow", "cut"])
async def test_a_network_that_fails_in_the_middle_of_an_upload_ends_it_in_time(
    bucket: Bucket, state: str
) -> None:
    port = urlsplit(bucket.server.url).port
    assert port is not None
    async with Link(port) as link:

        async def interrupted() -> AsyncIterator[bytes]:
            async for piece in megabytes(7):
                yield piece
            link.become(state)  # type: ignore[arg-type]
            store._deadline_s = 0.5
            async for piece in megabytes(7):
                yield piece

        async with bucket.store(url=f"http://127.0.0.1:{link.port}") as store:
            async with asyncio.timeout(15):
                with pytest.raises(StateUnavailable):
                    await store.write(FILE, interrupted(), limit=100 * MIB)
            store._deadline_s = 30
            link.become("pass")
            await store.delete(FILE)

    assert bucket.content == ({}, 0)


async def test_a_network_that_fails_in_the_middle_of_a_download_is_no_short_file(bucket: Bucket) -> None:
    port = urlsplit(bucket.server.url).port
    assert port is not None
    async with bucket.store() as store:
        await store.write(FILE, megabytes(3), limit=3 * MIB)
    async with Link(port) as link, bucket.store(url=f"http://127.0.0.1:{link.port}") as store:
        pieces = store.read(FILE)
        first = await anext(pieces)
        link.become("cut")
        with pytest.raises(StateUnavailable):
            await anext(pieces)

    assert len(first) == MIB


async def test_no_failure_tells_the_address_or_the_secret(bucket: Bucket) -> None:
    secret = "a-wrong-secret"
    async with bucket.store(secret=secret) as store:
        with pytest.raises(StateUnavailable) as refusal:
            await store.check()

    assert refusal.value.detail == "files: SignatureDoesNotMatch"
    assert secret not in repr(S3Credentials("key", secret))


async def test_a_bucket_that_does_not_exist_is_unavailable_and_never_not_found(bucket: Bucket) -> None:
    async with bucket.store(name="no-such-bucket") as store:
        for work in (store.check(), store.write(FILE, megabytes(1), limit=MIB), store.delete(FILE)):
            with pytest.raises(StateUnavailable, match="unavailable") as refusal:
                await work
            assert refusal.value.detail == "files: NoSuchBucket"


async def test_settings_come_from_nowhere_else(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{free_port()}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "another")
    async with bucket.store() as store:
        await store.write(FILE, megabytes(1), limit=MIB)

    assert bucket.content == ({f"files/{FILE}": MIB}, 0)


async def test_there_are_never_more_copies_than_are_read_at_once(bucket: Bucket) -> None:
    entered = asyncio.Semaphore(0)
    leave = asyncio.Event()

    async def copy(store: S3BlobStore) -> None:
        async with store.local(FILE):
            entered.release()
            await leave.wait()

    async with bucket.store() as store:
        await store.write(FILE, megabytes(1), limit=MIB)
        async with asyncio.TaskGroup() as tasks:
            for _ in range(11):
                tasks.create_task(copy(store))
            for _ in range(8):
                await entered.acquire()
            held = len(list(bucket.scratch.iterdir()))
            leave.set()

    assert (held, list(bucket.scratch.iterdir())) == (8, [])


async def test_a_copy_is_removed_whatever_ends_its_use(bucket: Bucket) -> None:
    async with bucket.store() as store:
        await store.write(FILE, megabytes(1), limit=MIB)
        with pytest.raises(ZeroDivisionError):
            async with store.local(FILE):
                raise ZeroDivisionError

    assert list(bucket.scratch.iterdir()) == []


async def test_copies_of_a_killed_process_are_cleared_after_a_day(bucket: Bucket) -> None:
    import os

    bucket.scratch.mkdir()
    for name in ("file-1.aa.copy", "file-2.bb.copy"):
        (bucket.scratch / name).write_bytes(b"x")
    os.utime(bucket.scratch / "file-1.aa.copy", (1, 1))
    async with bucket.store():
        pass

    assert [path.name for path in bucket.scratch.iterdir()] == ["file-2.bb.copy"]


@pytest.fixture
def unusable(tmp_path: Path) -> Iterator[Path]:
    (tmp_path / "file").write_text("not a directory")
    return tmp_path / "file" / "scratch"


async def test_settings_that_cannot_be_used_are_a_configuration_error(bucket: Bucket, unusable: Path) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigurationError, match=r"files\.path"):
            await stack.enter_async_context(S3BlobStore(S3Place("b"), bucket.credentials, scratch=unusable))
        with pytest.raises(ConfigurationError, match="S3 client"):
            await stack.enter_async_context(bucket.store(url="not an address"))


async def test_what_is_no_id_never_reaches_the_storage(bucket: Bucket) -> None:
    async with bucket.store(url=f"http://127.0.0.1:{free_port()}") as store:
        with pytest.raises(NotFound):
            await store.delete(FileId("file-1/../../other"))
