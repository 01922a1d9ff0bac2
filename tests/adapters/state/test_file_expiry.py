"""An expired file is absent at once, on every path; what is to be removed of files is never forgotten
and never too much.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from tests.adapters.state.samples import (
    ANN,
    BOB,
    EVE,
    PATIENT_SECONDS,
    attached_of,
    attachment_of,
    file_of,
    store_of,
)

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.errors import InvalidRequest, NotFound
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.rows import DueBlob, ExpiredFile, FileUsage, Page, Totals
from regate_orchestrator.values import FileId, StoreId

FILE, STORE = FileId("file-1"), StoreId("vs_1")
EXPIRES = 5_000


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.time = 1_000.0

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(url: str, clock: Clock) -> AsyncIterator[SqlStateStore]:
    async with SqlStateStore.open(url, clock=clock, deadline_s=PATIENT_SECONDS) as opened:
        yield opened


@pytest.fixture
async def attached(store: SqlStateStore) -> SqlStateStore:
    """A file that will expire, completely attached; and one beside it that will not."""
    await store.vector_stores.add(store_of(ANN))
    for name, expires in (("file-1", EXPIRES), ("file-2", None)):
        await store.files.add(replace(file_of(ANN, name), expires_at=expires))
        await store.attachments.put([attached_of(ANN, file=name)])
    return store


async def test_when_a_file_expires_is_kept(store: SqlStateStore) -> None:
    row = replace(file_of(ANN), expires_at=EXPIRES)
    await store.files.add(row)

    assert await store.files.get(ANN, FILE) == row


READS: dict[str, Callable[[SqlStateStore], Awaitable[object]]] = {
    "file": lambda store: store.files.get(ANN, FILE),
    "files": lambda store: _ids(store.files.page(ANN, Everything(), Page(), purpose=None)),
    "files of a purpose": lambda store: _ids(
        store.files.page(ANN, Everything(), Page(), purpose="assistants")
    ),
    "attachment": lambda store: store.attachments.get(ANN, STORE, FILE),
    "attachments": lambda store: _ids(store.attachments.page(ANN, STORE, Everything(), Page(), status=None)),
    "attachments of a status": lambda store: _ids(
        store.attachments.page(ANN, STORE, Everything(), Page(), status="completed")
    ),
    "live": lambda store: store.attachments.live(ANN, [(STORE, FILE), (STORE, FileId("file-2"))]),
    "totals": lambda store: store.attachments.totals(ANN, [STORE]),
    "delete an attachment": lambda store: store.attachments.delete(ANN, STORE, FILE),
    "delete a file": lambda store: store.files.delete(ANN, FILE),
}


async def _ids(page: Awaitable[object]) -> list[str]:
    return sorted(getattr(row, "file_id", None) or row.id for row in (await page).rows)  # type: ignore[attr-defined]


@pytest.mark.parametrize("path", READS)
async def test_a_file_is_there_until_the_second_in_which_it_expires_and_then_as_if_it_had_been_deleted(
    attached: SqlStateStore, clock: Clock, path: str
) -> None:
    clock.time = EXPIRES
    expired = await READS[path](attached)
    clock.time = EXPIRES - 0.1
    before = await READS[path](attached)
    if path not in {"delete a file", "delete an attachment"}:
        await attached.files.delete(ANN, FILE)

    assert expired == (await READS[path](attached))
    assert before != expired


async def test_the_totals_of_an_expired_file_are_gone(attached: SqlStateStore, clock: Clock) -> None:
    clock.time = EXPIRES

    assert await attached.attachments.totals(ANN, [STORE]) == {STORE: Totals(completed=1, usage_bytes=10)}


async def test_an_expired_file_is_no_cursor_and_can_be_attached_no_more(
    attached: SqlStateStore, clock: Clock
) -> None:
    clock.time = EXPIRES

    with pytest.raises(InvalidRequest):
        await attached.files.page(ANN, Everything(), Page(after="file-1"), purpose=None)
    with pytest.raises(InvalidRequest):
        await attached.attachments.page(ANN, STORE, Everything(), Page(after="file-1"), status=None)
    with pytest.raises(NotFound):
        await attached.attachments.put([attachment_of(ANN)])


# ---------------------------------------------------------------- sweeping


async def due(store: SqlStateStore, *, after: DueBlob | None = None) -> list[str]:
    return [blob.file_id for blob in await store.orphaned_blobs.due(after=after, limit=10)]


async def test_expired_files_of_all_tenants_are_told_with_their_stores_in_pages(
    store: SqlStateStore, clock: Clock
) -> None:
    await store.vector_stores.add(store_of(ANN, "vs_1", shared=True))
    await store.vector_stores.add(store_of(ANN, "vs_2"))
    for who, name, expires in (
        (ANN, "file-1", 10),
        (EVE, "file-2", 1_000),
        (ANN, "file-3", 1_001),
        (ANN, "file-4", None),
        (BOB, "file-5", 9),
    ):
        await store.files.add(replace(file_of(who, name), expires_at=expires))
    clock.time = 9
    for name, vs in (("file-1", "vs_2"), ("file-1", "vs_1")):
        await store.attachments.put([attachment_of(ANN, vs, name)])
    clock.time = 1_000

    first = await store.files.expired(after=None, limit=2)
    second = await store.files.expired(after=first[-1], limit=2)

    assert first == [
        ExpiredFile(FileId("file-5"), "acme", 9, ()),
        ExpiredFile(FILE, "acme", 10, (StoreId("vs_1"), StoreId("vs_2"))),
    ]
    assert second == [ExpiredFile(FileId("file-2"), "globex", 1_000, ())]


async def test_dropping_takes_an_expired_file_with_its_attachments_and_no_other(
    attached: SqlStateStore, clock: Clock
) -> None:
    clock.time = EXPIRES
    for name in ("file-1", "file-2", "file-3"):
        await attached.files.drop_expired(FileId(name))
    clock.time = 0  # nothing hides what is there

    assert await attached.files.get(ANN, FILE) is None
    assert await attached.attachments.get(ANN, STORE, FILE) is None
    assert await attached.files.get(ANN, FileId("file-2")) is not None
    assert await attached.attachments.get(ANN, STORE, FileId("file-2")) is not None


async def test_bytes_of_an_upload_are_due_when_said_and_never_once_the_file_is_there(
    store: SqlStateStore, clock: Clock
) -> None:
    for name in ("file-1", "file-2", "file-3"):
        await store.orphaned_blobs.reserve(ANN, FileId(name), bytes=0, due_at=2_000)
    early = await due(store)
    await store.files.add(file_of(ANN, "file-2"))
    clock.time = 2_000
    late = await due(store)
    beyond = await due(store, after=DueBlob(FILE, 2_000))
    await store.orphaned_blobs.forget(FILE)

    assert (early, late, beyond) == ([], ["file-1", "file-3"], ["file-3"])
    assert await due(store) == ["file-3"]


async def test_a_principal_has_own_files_and_own_uploads_under_way(
    store: SqlStateStore, clock: Clock
) -> None:
    namesake = replace(EVE, id="ann")
    for who, name in ((ANN, "file-1"), (ANN, "file-2"), (BOB, "file-3"), (namesake, "file-4")):
        await store.files.add(replace(file_of(who, name), expires_at=EXPIRES if name == "file-2" else None))
        await store.orphaned_blobs.reserve(who, FileId(f"{name}5"), bytes=0, due_at=9_000)
    await store.orphaned_blobs.resize(ANN, FileId("file-15"), bytes=40)
    before = await store.files.usage(ANN)
    clock.time = EXPIRES
    expired = await store.files.usage(ANN)
    await store.files.delete(ANN, FILE)
    deleted = await store.files.usage(ANN)
    for name in ("file-15", "file-25"):
        await store.orphaned_blobs.forget(FileId(name))

    assert (before, expired, deleted) == (FileUsage(4, 46), FileUsage(3, 43), FileUsage(2, 40))
    assert await store.files.usage(ANN) == FileUsage(0, 0)


async def test_the_bytes_of_a_deleted_file_are_due_at_once(store: SqlStateStore) -> None:
    await store.orphaned_blobs.reserve(ANN, FILE, bytes=0, due_at=9_000)
    await store.files.add(file_of(ANN))
    await store.files.delete(EVE, FILE)
    foreign = await due(store)
    await store.files.delete(ANN, FILE)

    assert (foreign, await due(store)) == ([], [FILE])
