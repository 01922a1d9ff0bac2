"""A vector store expires for each tenant by its own last use: it is emptied at once, on every path,
and truly when it is collected.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from tests.adapters.state.samples import (
    ANN,
    BOB,
    EVE,
    PATIENT_SECONDS,
    attached_of,
    attachment_of,
    batch_of,
    file_of,
    stamp_of,
    store_of,
)

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.errors import InvalidRequest, NotFound
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import ExpiredStore, Page, StoreChanges, StoreRow, Totals
from regate_orchestrator.values import FileId, StoreId

FILE, STORE = FileId("file-1"), StoreId("vs_1")
DAY = 86_400
EXPIRES = 100 + 2 * DAY


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
    """A shared store of acme's that expires after two days, made at 100, with a file of acme's in it."""
    async with SqlStateStore.open(url, clock=clock, deadline_s=PATIENT_SECONDS) as opened:
        await opened.vector_stores.add(replace(store_of(ANN, shared=True), expires_after_days=2))
        await opened.files.add(file_of(ANN))
        await opened.files.add(file_of(EVE, "file-2"))
        await opened.attachments.put([attached_of(ANN, batch_id="vsfb_1")], batch=batch_of(ANN))
        yield opened


async def seen(store: SqlStateStore, who: Principal) -> StoreRow:
    row = await store.vector_stores.get(who, STORE)
    assert row is not None
    return row


async def used_by_eve(store: SqlStateStore, *, at: int) -> None:
    await store.attachments.put([attached_of(EVE, file="file-2")])
    await store.vector_stores.touch(EVE, STORE, at=at)


async def test_each_tenant_sees_when_the_store_expires_for_itself(store: SqlStateStore) -> None:
    unused = await seen(store, EVE)
    await store.vector_stores.touch(EVE, STORE, at=5_000)
    ann, eve = await seen(store, BOB), await seen(store, EVE)

    assert (unused.last_active_at, unused.expires_at, unused.expires_after_days) == (100, None, 2)
    assert (ann.last_active_at, ann.expires_at) == (100, EXPIRES)
    assert (eve.last_active_at, eve.expires_at) == (5_000, 5_000 + 2 * DAY)
    assert (ann.has_expired(EXPIRES - 1), ann.has_expired(EXPIRES)) == (False, True)


async def test_a_first_use_in_the_second_of_its_making_is_a_use(store: SqlStateStore) -> None:
    await store.vector_stores.touch(EVE, STORE, at=100)

    assert (await seen(store, EVE)).expires_at == EXPIRES


async def test_nothing_brings_an_expired_store_back_but_what_takes_its_expiry_off(
    store: SqlStateStore, clock: Clock
) -> None:
    clock.time = EXPIRES
    await store.vector_stores.touch(ANN, STORE, at=EXPIRES)
    still = await seen(store, ANN)
    await store.vector_stores.update(ANN, STORE, StoreChanges(expires_after_days="never"))

    assert (still.last_active_at, (await seen(store, ANN)).expires_at) == (100, None)
    assert len(await store.attachments.live(ANN, [(STORE, FILE)])) == 1


READS: dict[str, Callable[[SqlStateStore], Awaitable[Any]]] = {
    "live": lambda store: store.attachments.live(ANN, [(STORE, FILE)]),
    "attachment": lambda store: store.attachments.get(ANN, STORE, FILE),
    "attachments": lambda store: _rows(store.attachments.page(ANN, STORE, Everything(), Page(), status=None)),
    "totals": lambda store: store.attachments.totals(ANN, [STORE]),
    "totals of a batch": lambda store: store.file_batches.totals(batch_of(ANN)),
    "in_progress_among": lambda store: store.attachments.in_progress_among(ANN, STORE, [FileId("file-3")]),
}


async def _rows(page: Awaitable[Any]) -> Any:
    return (await page).rows


@pytest.mark.parametrize("path", READS)
async def test_an_expired_store_is_empty_at_once_as_when_it_is_swept(
    store: SqlStateStore, clock: Clock, path: str
) -> None:
    await store.files.add(file_of(ANN, "file-3"))
    await store.attachments.put([attachment_of(ANN, file="file-3")])
    clock.time = EXPIRES - 1
    before = await READS[path](store)
    clock.time = EXPIRES
    at_once = await READS[path](store)
    await store.vector_stores.empty_expired(ExpiredStore(STORE, "acme"))

    assert (at_once, before != at_once) == (await READS[path](store), True)


async def test_nothing_is_attached_to_a_store_once_it_has_expired(store: SqlStateStore, clock: Clock) -> None:
    clock.time = EXPIRES
    with pytest.raises(NotFound):
        await store.attachments.put([attachment_of(ANN)])
    await store.attachments.put([attached_of(EVE, file="file-2")])

    assert (await store.attachments.totals(EVE, [STORE]))[STORE] == Totals(completed=1, usage_bytes=10)


async def test_expired_stores_are_told_once_for_each_tenant_that_used_them_the_longest_expired_first(
    store: SqlStateStore, clock: Clock
) -> None:
    await used_by_eve(store, at=5_000)
    await store.vector_stores.add(replace(store_of(ANN, "vs_2"), expires_after_days=1))
    clock.time = EXPIRES
    first = await store.vector_stores.expired(limit=10)
    clock.time = 5_000 + 2 * DAY
    all_of_them = await store.vector_stores.expired(limit=10)
    emptied = [await store.vector_stores.empty_expired(expired) for expired in all_of_them]

    assert first == [ExpiredStore(StoreId("vs_2"), "acme"), ExpiredStore(STORE, "acme")]
    assert all_of_them == [*first, ExpiredStore(STORE, "globex")]
    assert (emptied, await store.vector_stores.expired(limit=10)) == ([0, 1, 1], [])


async def test_a_store_is_emptied_when_its_last_expiry_says_whatever_was_said_or_done_before(
    store: SqlStateStore, clock: Clock
) -> None:
    clock.time = EXPIRES
    told = [await store.vector_stores.expired(limit=10)]
    for days in (5, "never", 3):
        await store.vector_stores.update(ANN, STORE, StoreChanges(expires_after_days=days))
        told.append(await store.vector_stores.expired(limit=10))
    await store.vector_stores.touch(ANN, STORE, at=EXPIRES)
    clock.time = EXPIRES + 3 * DAY - 1
    told.append(await store.vector_stores.expired(limit=10))
    clock.time += 1
    last = await store.vector_stores.expired(limit=10)
    emptied = await store.vector_stores.empty_expired(last[0])
    await store.vector_stores.update(ANN, STORE, StoreChanges(expires_after_days=4))
    await store.attachments.put([attached_of(ANN)])
    clock.time += DAY
    again = await store.vector_stores.expired(limit=10)

    assert told == [[ExpiredStore(STORE, "acme")], [], [], [], []]
    assert (last, emptied, again) == ([ExpiredStore(STORE, "acme")], 1, [ExpiredStore(STORE, "acme")])


async def test_emptying_leaves_the_chunks_over_and_the_files_and_the_other_tenants_alone(
    store: SqlStateStore, clock: Clock
) -> None:
    clock.time = EXPIRES - 10
    await used_by_eve(store, at=EXPIRES - 10)
    clock.time = EXPIRES
    await store.vector_stores.empty_expired(ExpiredStore(STORE, "acme"))

    assert [chunks.generation for chunks in await store.orphaned_chunks.take(limit=10)] == ["acme/file-1/e1"]
    assert await store.files.get(ANN, FILE) is not None
    assert len(await store.attachments.live(EVE, [(STORE, FileId("file-2"))])) == 1


async def test_emptied_store_stays_expired_for_its_own_tenant_and_is_new_to_a_guest(
    store: SqlStateStore, clock: Clock
) -> None:
    await used_by_eve(store, at=1_000)
    clock.time = 1_000 + 2 * DAY
    for expired in await store.vector_stores.expired(limit=10):
        await store.vector_stores.empty_expired(expired)
    ann, eve = await seen(store, ANN), await seen(store, EVE)
    await used_by_eve(store, at=int(clock.time))

    assert (ann.has_expired(clock.time), eve.has_expired(clock.time), eve.last_active_at) == (
        True,
        False,
        100,
    )
    assert len(await store.attachments.live(EVE, [(STORE, FileId("file-2"))])) == 1


async def test_a_store_that_is_used_again_before_it_is_swept_is_left_alone(
    store: SqlStateStore, clock: Clock
) -> None:
    clock.time = EXPIRES
    expired = await store.vector_stores.expired(limit=10)
    await store.vector_stores.update(ANN, STORE, StoreChanges(expires_after_days=300))

    assert expired == [ExpiredStore(STORE, "acme")]
    assert await store.vector_stores.empty_expired(expired[0]) == 0
    assert len(await store.attachments.live(ANN, [(STORE, FILE)])) == 1


# ---------------------------------------------------------------- changing


async def test_update_changes_what_is_named_and_nothing_else(store: SqlStateStore) -> None:
    before = await seen(store, ANN)
    await store.vector_stores.update(ANN, STORE, StoreChanges(name="New"))
    await store.vector_stores.update(BOB, STORE, StoreChanges(metadata={"a": "b"}))
    await store.vector_stores.update(ANN, STORE, StoreChanges(expires_after_days=3))
    await store.vector_stores.update(ANN, STORE, StoreChanges())

    changed = {"name": "New", "metadata": {"a": "b"}, "expires_after_days": 3, "expires_at": 100 + 3 * DAY}
    assert await seen(store, ANN) == replace(before, **changed)  # type: ignore[arg-type]


async def test_store_that_is_shared_anew_is_seen_by_others_no_more(store: SqlStateStore) -> None:
    await used_by_eve(store, at=1_000)
    await store.vector_stores.update(
        ANN, STORE, StoreChanges(stamp=stamp_of(ANN, shared=False, teams=["hr"]))
    )
    seen_by_eve, live = (
        await store.vector_stores.get(EVE, STORE),
        await store.attachments.live(EVE, [(STORE, FileId("file-2"))]),
    )
    await store.vector_stores.update(ANN, STORE, StoreChanges(stamp=stamp_of(ANN, shared=True)))

    assert (seen_by_eve, live) == (None, {})
    assert len(await store.attachments.live(EVE, [(STORE, FileId("file-2"))])) == 1


async def test_owner_and_tenant_of_a_store_are_written_once(store: SqlStateStore) -> None:
    await store.vector_stores.update(ANN, STORE, StoreChanges(stamp=stamp_of(EVE, shared=False)))

    assert await store.vector_stores.get(EVE, STORE) is None
    assert await store.vector_stores.get(ANN, STORE) is not None


async def test_only_the_tenant_that_made_a_store_changes_it(store: SqlStateStore) -> None:
    assert await store.vector_stores.update(EVE, STORE, StoreChanges(name="Mine")) is False
    assert (await seen(store, ANN)).name == "Handbook"


async def test_name_that_no_database_holds_is_the_callers_fault(store: SqlStateStore) -> None:
    with pytest.raises(InvalidRequest):
        await store.vector_stores.update(ANN, STORE, StoreChanges(name="a\x00b"))
    with pytest.raises(InvalidRequest):
        await store.vector_stores.add(replace(store_of(ANN, "vs_2"), description="a\ud800"))


async def test_description_comes_back_as_stored(store: SqlStateStore) -> None:
    row = replace(store_of(ANN, "vs_2"), description="Größe", expires_after_days=1, expires_at=100 + DAY)
    await store.vector_stores.add(row)

    assert await store.vector_stores.get(ANN, StoreId("vs_2")) == row
