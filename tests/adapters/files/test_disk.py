"""Bytes on disk: whole or not at all."""

from __future__ import annotations

import asyncio
import os
import resource
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regate_adapters.files.blobs.disk import DiskBlobStore
from regate_adapters.files.blobs.local import in_thread
from regate_orchestrator.errors import ConfigurationError, NotFound, StateUnavailable, TooLarge
from regate_orchestrator.values import FileId, mint

FILE = FileId("file-0123abcd")


async def pieces(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def read(store: DiskBlobStore, file: FileId) -> list[bytes]:
    return [piece async for piece in store.read(file)]


def left(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


async def test_bytes_are_read_as_they_were_written_in_pieces_of_bounded_size(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path / "files")
    data = os.urandom(700_000)

    written = await store.write(FILE, pieces(data[:1], b"", data[1:300_000], data[300_000:]), limit=700_000)
    got = await read(store, FILE)

    assert (written, b"".join(got)) == (len(data), data)
    assert [len(piece) for piece in got] == [262_144, 262_144, 175_712]
    async with store.local(FILE) as path:
        assert path.read_bytes() == data


async def test_a_minted_identifier_is_one(tmp_path: Path) -> None:
    file = FileId(mint("file-"))
    store = DiskBlobStore(tmp_path)

    assert await store.write(file, pieces(), limit=0) == 0
    assert await read(store, file) == []


async def test_one_byte_past_the_limit_is_too_large_and_leaves_nothing(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path)

    with pytest.raises(TooLarge, match="larger than 10 bytes"):
        await store.write(FILE, pieces(b"12345", b"67890", b"1"), limit=10)

    assert left(tmp_path) == []


async def test_the_limit_is_checked_before_all_is_received(tmp_path: Path) -> None:
    received = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal received
        while True:
            received += 1
            yield b"x" * 1_000

    with pytest.raises(TooLarge):
        await DiskBlobStore(tmp_path).write(FILE, endless(), limit=5_000)

    assert received == 6


async def test_an_upload_that_breaks_off_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"half"
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await DiskBlobStore(tmp_path).write(FILE, broken(), limit=100)

    assert left(tmp_path) == []


async def test_a_cancelled_upload_leaves_nothing(tmp_path: Path) -> None:
    reached = asyncio.Event()

    async def waiting() -> AsyncIterator[bytes]:
        yield b"half"
        reached.set()
        await asyncio.Event().wait()

    async def cancelled() -> list[str]:
        async with asyncio.TaskGroup() as tasks:
            upload = tasks.create_task(DiskBlobStore(tmp_path).write(FILE, waiting(), limit=100))
            await reached.wait()
            during = left(tmp_path)
            upload.cancel()
        return during

    assert len(await cancelled()) == 1
    assert left(tmp_path) == []


async def test_a_failed_upload_leaves_the_earlier_bytes(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path)
    await store.write(FILE, pieces(b"first"), limit=10)
    with pytest.raises(TooLarge):
        await store.write(FILE, pieces(b"longer than ten"), limit=10)

    assert await read(store, FILE) == [b"first"]


async def test_a_file_that_is_absent_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await read(DiskBlobStore(tmp_path), FILE)
    with pytest.raises(NotFound):
        async with DiskBlobStore(tmp_path).local(FILE):
            pass


async def test_deleting_removes_what_a_killed_process_had_written(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path)
    for name in (f"{FILE}.part", f"{FILE}99.part"):
        (tmp_path / name).write_bytes(b"half")
    await store.delete(FILE)

    assert left(tmp_path) == [f"{FILE}99.part"]


async def test_deleting_is_idempotent(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path)
    await store.write(FILE, pieces(b"x"), limit=10)

    for _ in range(2):
        await store.delete(FILE)

    assert left(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        "",
        "file-",
        "file-XYZ",
        "file-1/../../etc",
        "../file-1",
        "file-1\n",
        "/etc/passwd",
        "file-1.part",
        "vs_1",
    ],
)
async def test_what_is_no_identifier_never_becomes_a_path(tmp_path: Path, name: str) -> None:
    store = DiskBlobStore(tmp_path)
    with pytest.raises(NotFound):
        async with store.local(FileId(name)):
            pass
    with pytest.raises(NotFound):
        await store.write(FileId(name), pieces(b"x"), limit=1)
    with pytest.raises(NotFound):
        await store.delete(FileId(name))

    assert left(tmp_path) == []


async def test_a_disk_that_takes_no_more_is_unavailable_and_leaves_nothing(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, hard))
    try:
        with pytest.raises(StateUnavailable):
            await store.write(FILE, pieces(*[b"x" * 100_000] * 10), limit=10_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert left(tmp_path) == []


def test_what_a_killed_process_left_is_cleared_after_a_day(tmp_path: Path) -> None:
    for name in ("file-1.aa.part", "file-2.bb.part", "file-3"):
        (tmp_path / name).write_bytes(b"x")
    os.utime(tmp_path / "file-1.aa.part", (1, 1))
    os.utime(tmp_path / "file-3", (1, 1))

    DiskBlobStore(tmp_path)

    assert left(tmp_path) == ["file-2.bb.part", "file-3"]


def test_a_directory_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")

    with pytest.raises(ConfigurationError, match=r"files\.path"):
        DiskBlobStore(tmp_path / "file" / "files")


async def test_nobody_else_may_read_the_files(tmp_path: Path) -> None:
    store = DiskBlobStore(tmp_path / "files")
    await store.write(FILE, pieces(b"x"), limit=1)

    assert [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "files", tmp_path / "files" / FILE)] == [
        "0o700",
        "0o600",
    ]


async def test_work_in_a_thread_is_waited_for_however_often_it_is_cancelled() -> None:
    begun, allowed = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        allowed.wait(60)
        raise OSError

    async with asyncio.TaskGroup() as group:
        task = group.create_task(in_thread(work))
        await asyncio.to_thread(begun.wait, 60)
        for _ in range(3):
            task.cancel()
            for _ in range(3):
                await asyncio.sleep(0)
        waited = not task.done()
        allowed.set()

    assert (waited, task.cancelled()) == (True, True)
