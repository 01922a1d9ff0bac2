"""The conformance suite for blob stores: what `ports.BlobStore` promises, checked on any implementation. Not
a test module itself.

To prove a new adapter:

    @pytest.mark.parametrize("check", blob_store_conformance(), ids=str)
    async def test_my_store_keeps_the_contract(check, tmp_path):
        async with MyBlobStore(tmp_path) as store:
            await check(store)

What a store leaves in its storage when an upload fails cannot be seen through the port: the adapter's own
tests must look there.
"""

from __future__ import annotations

import asyncio
import hashlib
import resource
import sys
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from regate_adapters.testing.vector.suite import ConformanceFailure
from regate_orchestrator.errors import NotFound, RegateError, TooLarge
from regate_orchestrator.ports import BlobStore
from regate_orchestrator.values import FileId, mint

__all__ = ["Check", "ConformanceFailure", "blob_store_conformance"]

LARGE: Final = 96 * 1024 * 1024
"""Many times what a store may hold in memory, and more than several parts of any storage."""
_HELD: Final = 32 * 1024 * 1024
_PIECE: Final = 64 * 1024
_MAX_PIECE: Final = 8 * 1024 * 1024
_SIZES: Final = (0, 1, _PIECE, 5 * 1024 * 1024, 5 * 1024 * 1024 + 1, 11 * 1024 * 1024)
"""Beside small ones, those at which storages in parts have their seams."""
_HOSTILE: Final = (
    "",
    "file-",
    "file-XYZ",
    "file-1/../../etc",
    "../file-1",
    "file-1\n",
    "/etc/passwd",
    "file-1.part",
    "vs_1",
    "file-é",
)


@dataclass(frozen=True, slots=True)
class Check:
    """One promise of the port. Call it with a store; it raises `ConformanceFailure` when broken."""

    name: str
    run: Callable[[BlobStore], Awaitable[None]]

    def __str__(self) -> str:
        return self.name

    async def __call__(self, store: BlobStore) -> None:
        """Run the check."""
        await self.run(store)


def blob_store_conformance() -> tuple[Check, ...]:
    """Return all checks. An adapter is proven when each passes on a store of its own."""
    return tuple(Check(run.__name__.removeprefix("_"), run) for run in _CHECKS)


# ---------------------------------------------------------------- asking


def _expect(promise: str, *, expected: object, actual: object) -> None:
    if expected != actual:
        raise ConformanceFailure(f"{promise}: expected {expected!r}, got {actual!r}")


def _new() -> FileId:
    return FileId(mint("file-"))


def _content(size: int) -> bytes:
    return (hashlib.sha256(str(size).encode()).digest() * (size // 32 + 1))[:size]


async def _pieces(data: bytes) -> AsyncIterator[bytes]:
    yield b""
    for start in range(0, len(data), _PIECE):
        yield data[start : start + _PIECE]


async def _read(store: BlobStore, file: FileId) -> bytes:
    return b"".join([piece async for piece in store.read(file)])


async def _is_absent(store: BlobStore, file: FileId) -> bool:
    try:
        await _read(store, file)
    except NotFound:
        return True
    return False


async def _raised(work: Awaitable[object]) -> BaseException | None:
    try:
        await work
    except (RegateError, ConnectionResetError) as error:
        return error
    return None


async def _open_local(store: BlobStore, file: FileId) -> None:
    async with store.local(file):
        pass


# ---------------------------------------------------------------- checks


async def _bytes_are_read_as_they_were_written(store: BlobStore) -> None:
    for size in _SIZES:
        file, data = _new(), _content(size)
        _expect(
            f"write returns the number of bytes ({size})",
            expected=size,
            actual=await store.write(file, _pieces(data), limit=size),
        )
        pieces = [piece async for piece in store.read(file)]
        _expect(f"{size} bytes are read as they were written", expected=True, actual=b"".join(pieces) == data)
        _expect(
            "pieces are of bounded size", expected=True, actual=max(map(len, pieces), default=0) <= _MAX_PIECE
        )
        await store.delete(file)


async def _files_are_apart(store: BlobStore) -> None:
    first, second = _new(), _new()
    await store.write(first, _pieces(b"one"), limit=10)
    await store.write(second, _pieces(b"two"), limit=10)
    await store.delete(first)
    _expect("deleting one file leaves the other", expected=b"two", actual=await _read(store, second))
    _expect("a deleted file is absent", expected=True, actual=await _is_absent(store, first))


async def _a_local_path_holds_the_bytes_while_it_is_used(store: BlobStore) -> None:
    file, data = _new(), _content(3_000_000)
    await store.write(file, _pieces(data), limit=len(data))
    async with store.local(file) as path:
        _expect("the local path holds the bytes", expected=True, actual=path.read_bytes() == data)
        _expect("nobody else may read the local path", expected=0, actual=path.stat().st_mode & 0o077)
    _expect("the file is there afterwards", expected=True, actual=await _read(store, file) == data)


async def _an_absent_file_is_not_found(store: BlobStore) -> None:
    file = _new()
    _expect("reading an absent file raises NotFound", expected=True, actual=await _is_absent(store, file))
    _expect(
        "its local path raises NotFound",
        expected=NotFound,
        actual=type(await _raised(_open_local(store, file))),
    )


async def _what_is_no_id_is_not_found_and_names_no_place(store: BlobStore) -> None:
    for name in _HOSTILE:
        file = FileId(name)
        for doing, work in (
            ("write", store.write(file, _pieces(b"x"), limit=1)),
            ("read", _read(store, file)),
            ("local", _open_local(store, file)),
            ("delete", store.delete(file)),
        ):
            _expect(
                f"{doing} of {name!r} raises NotFound", expected=NotFound, actual=type(await _raised(work))
            )


async def _deleting_is_idempotent(store: BlobStore) -> None:
    file = _new()
    await store.delete(file)
    await store.write(file, _pieces(b"x"), limit=1)
    await store.delete(file)
    await store.delete(file)
    _expect("a deleted file is absent", expected=True, actual=await _is_absent(store, file))


async def _past_the_limit_is_too_large_before_all_is_received(store: BlobStore) -> None:
    for limit in (10, 6 * 1024 * 1024):  # within a first part, and in a later one
        file, received = _new(), 0

        async def endless() -> AsyncIterator[bytes]:
            nonlocal received
            while True:
                received += 1
                yield b"x" * _PIECE

        error = await _raised(store.write(file, endless(), limit=limit))
        _expect("past the limit is TooLarge", expected=TooLarge, actual=type(error))
        _expect("no more is received than the limit needs", expected=limit // _PIECE + 1, actual=received)
        _expect("nothing of it can be read", expected=True, actual=await _is_absent(store, file))


async def _an_upload_that_breaks_off_is_absent(store: BlobStore) -> None:
    for size in (1, 12 * 1024 * 1024):
        file, data = _new(), _content(size)

        async def broken() -> AsyncIterator[bytes]:
            async for piece in _pieces(data):  # noqa: B023
                yield piece
            raise ConnectionResetError

        error = await _raised(store.write(file, broken(), limit=2 * size))
        _expect("what the stream raises is raised", expected=ConnectionResetError, actual=type(error))
        _expect("nothing of it can be read", expected=True, actual=await _is_absent(store, file))


async def _a_cancelled_upload_is_absent(store: BlobStore) -> None:
    for size in (1, 12 * 1024 * 1024):
        file, data = _new(), _content(size)
        reached = asyncio.Event()

        async def waiting() -> AsyncIterator[bytes]:
            async for piece in _pieces(data):  # noqa: B023
                yield piece
            reached.set()  # noqa: B023
            await asyncio.Event().wait()

        async with asyncio.TaskGroup() as tasks:
            upload = tasks.create_task(store.write(file, waiting(), limit=2 * size))
            await reached.wait()
            upload.cancel()
        _expect("it was cancelled", expected=True, actual=upload.cancelled())
        _expect("nothing of it can be read", expected=True, actual=await _is_absent(store, file))


async def _a_large_file_takes_bounded_memory(store: BlobStore) -> None:
    file = _new()
    block = _content(_PIECE)
    written, seen = hashlib.sha256(), hashlib.sha256()

    async def much() -> AsyncIterator[bytes]:
        for _ in range(LARGE // _PIECE):
            written.update(block)
            yield block

    before = _resident()
    tracemalloc.start()
    try:
        await store.write(file, much(), limit=LARGE)
        async for piece in store.read(file):
            seen.update(piece)
        async with store.local(file):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    _expect("a large file is read as it was written", expected=written.hexdigest(), actual=seen.hexdigest())
    _expect(
        f"less than {_HELD} bytes of Python's memory are held (peak {peak})",
        expected=True,
        actual=peak < _HELD,
    )
    grown = _resident() - before
    _expect(
        f"the process grows by less than the file ({grown} bytes)",
        expected=True,
        actual=grown < LARGE * 2 // 3,
    )
    await store.delete(file)


async def _a_store_that_works_passes_its_check(store: BlobStore) -> None:
    _expect("check passes", expected=None, actual=await _raised(store.check()))


def _resident() -> int:
    """Return the most memory that the process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


_CHECKS: Final[tuple[Callable[[BlobStore], Awaitable[None]], ...]] = (
    _bytes_are_read_as_they_were_written,
    _files_are_apart,
    _a_local_path_holds_the_bytes_while_it_is_used,
    _an_absent_file_is_not_found,
    _what_is_no_id_is_not_found_and_names_no_place,
    _deleting_is_idempotent,
    _past_the_limit_is_too_large_before_all_is_received,
    _an_upload_that_breaks_off_is_absent,
    _a_cancelled_upload_is_absent,
    _a_large_file_takes_bounded_memory,
    _a_store_that_works_passes_its_check,
)
