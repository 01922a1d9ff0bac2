"""Claims, generations and orphaned chunks: whoever writes chunks, in whatever order they end, no
generation is forgotten and no wrong one counts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

import pytest
from sqlalchemy import insert
from tests.adapters.state.samples import (
    ANN,
    EVE,
    PATIENT_SECONDS,
    attached_of,
    attachment_of,
    batch_of,
    file_of,
    stamp_of,
    store_of,
)

from regate_adapters.state.encoding import file_columns
from regate_adapters.state.store import SqlStateStore
from regate_adapters.state.tables import files
from regate_orchestrator.errors import NotFound
from regate_orchestrator.filters.expression import Everything
from regate_orchestrator.rows import Attachment, FileBatch, MadeChunks, OrphanedChunks, Page, Totals
from regate_orchestrator.values import BatchId, FileId, StoreId

FILE, STORE = FileId("file-1"), StoreId("vs_1")
MARGIN = 180


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
        await opened.vector_stores.add(store_of(ANN, shared=True))
        for who, name in ((ANN, "file-1"), (ANN, "file-2"), (EVE, "file-3")):
            await opened.files.add(file_of(who, name))
        yield opened


async def leased(store: SqlStateStore, *, after: str = "", ttl_s: int = 60) -> Attachment:
    row = await store.leases.take(ttl_s=ttl_s, after=after)
    assert row is not None
    return row


async def orphaned(store: SqlStateStore, clock: Clock, *, within: float = 0) -> list[str]:
    """Return the generations that are due by then; they are tombstoned by asking."""
    clock.time += within
    return [chunks.generation for chunks in await store.orphaned_chunks.take(limit=100)]


def left(row: Attachment) -> OrphanedChunks:
    return OrphanedChunks(row.store_id, row.file_id, row.generation)


# ---------------------------------------------------------------- claims


async def test_each_attachment_is_claimed_once_and_every_claim_has_a_generation_of_its_own(
    store: SqlStateStore,
) -> None:
    await store.attachments.put([attachment_of(ANN), attachment_of(ANN, file="file-2")])
    one, two = await leased(store), await leased(store)

    assert {one.file_id, two.file_id} == {"file-1", "file-2"}
    assert one.generation.startswith("acme/file-1/")
    assert two.generation.startswith("acme/file-2/")
    assert (one.attempts, two.attempts) == (1, 1)
    assert await store.leases.take(ttl_s=60, after="") is None


async def test_only_what_is_in_progress_is_claimed(store: SqlStateStore) -> None:
    await store.attachments.put([attached_of(ANN), attachment_of(ANN, file="file-2", status="cancelled")])

    assert await store.leases.take(ttl_s=60, after="") is None


async def test_tenants_take_turns(store: SqlStateStore) -> None:
    await store.attachments.put([attachment_of(ANN), attachment_of(ANN, file="file-2")])
    await store.attachments.put([attachment_of(EVE, file="file-3", created_at=999)])
    first = await leased(store, after="")
    second = await leased(store, after=str(first.stamp["tenant"]))
    third = await leased(store, after=str(second.stamp["tenant"]))

    assert [row.file_id for row in (first, second, third)] == ["file-1", "file-3", "file-2"]


async def test_a_claim_lapses_and_the_next_is_another_attempt_with_another_generation(
    store: SqlStateStore, clock: Clock
) -> None:
    await store.attachments.put([attachment_of(ANN)])
    dead = await leased(store, ttl_s=60)
    clock.time += 59
    early = await store.leases.take(ttl_s=60, after="")
    clock.time += 1
    heir = await leased(store)

    assert (early, heir.attempts, heir.generation != dead.generation) == (None, 2, True)
    assert await store.leases.renew(dead, ttl_s=60) is False
    assert await store.leases.finish(dead, status="completed", chunks=1) is False
    assert await store.leases.finish(heir, status="completed", chunks=2) is True


async def test_a_claim_that_is_renewed_does_not_lapse(store: SqlStateStore, clock: Clock) -> None:
    await store.attachments.put([attachment_of(ANN)])
    row = await leased(store, ttl_s=60)
    for _ in range(5):
        clock.time += 50
        assert await store.leases.renew(row, ttl_s=60)

    assert await store.leases.take(ttl_s=60, after="") is None
    assert await orphaned(store, clock) == []
    assert await store.leases.finish(row, status="completed")


async def test_a_released_claim_is_taken_up_after_its_pause(store: SqlStateStore, clock: Clock) -> None:
    await store.attachments.put([attachment_of(ANN)])
    row = await leased(store)
    await store.leases.release(row, retry_in_s=30, counted=True)
    early = await store.leases.take(ttl_s=60, after="")
    clock.time += 30
    again = await leased(store)
    await store.leases.release(again, retry_in_s=0, counted=False)

    assert (early, again.attempts, (await leased(store)).attempts) == (None, 2, 2)


async def test_all_claims_are_let_go_of_at_once(store: SqlStateStore) -> None:
    await store.attachments.put([attachment_of(ANN), attachment_of(ANN, file="file-2")])
    await leased(store)
    await leased(store)

    assert await store.leases.release_all() == 2
    assert (await leased(store)).attempts == 2


async def test_workers_of_several_gateways_never_hold_the_same_attachment(url: str) -> None:
    async with (
        SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as one,
        SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as other,
    ):
        await one.vector_stores.add(store_of(ANN))
        names = [f"file-{number:03d}" for number in range(40)]
        for name in names:
            await one.files.add(file_of(ANN, name))
        await one.attachments.put([attachment_of(ANN, file=name) for name in names])
        held: list[str] = []

        async def work(state: SqlStateStore) -> None:
            while (row := await state.leases.take(ttl_s=60, after="")) is not None:
                held.append(row.file_id)

        await asyncio.gather(*(work(state) for state in (one, other) for _ in range(4)))
    assert sorted(held) == names


# ---------------------------------------------------------------- what counts, and what is orphaned


async def test_completed_generation_counts_and_is_not_left_over(store: SqlStateStore, clock: Clock) -> None:
    await store.attachments.put([attachment_of(ANN)])
    row = await leased(store)
    assert await store.leases.finish(row, status="completed", usage_bytes=9, chunks=3)
    live = await store.attachments.live(ANN, [(STORE, FILE)])

    assert live[STORE, FILE].generation == row.generation
    assert await store.attachments.get(ANN, STORE, FILE) == replace(
        row, status="completed", usage_bytes=9, chunks=3
    )
    assert await orphaned(store, clock, within=10_000) == []


async def test_outcome_is_set_once(store: SqlStateStore) -> None:
    await store.attachments.put([attachment_of(ANN)])
    row = await leased(store)
    await store.leases.finish(row, status="failed", error_code="invalid_file", error_message="no text")

    assert await store.leases.finish(row, status="completed") is False
    assert await store.attachments.get(ANN, STORE, FILE) == replace(
        row, status="failed", error_code="invalid_file", error_message="no text"
    )


async def test_failed_generation_is_left_over_at_once(store: SqlStateStore, clock: Clock) -> None:
    await store.attachments.put([attachment_of(ANN)])
    row = await leased(store)
    await store.leases.finish(row, status="failed", error_code="server_error")

    assert await orphaned(store, clock) == [row.generation]


async def test_generation_of_a_dead_worker_is_left_over_when_its_writes_must_have_ended(
    store: SqlStateStore, clock: Clock
) -> None:
    await store.attachments.put([attachment_of(ANN)])
    row = await leased(store, ttl_s=60)
    before = await orphaned(store, clock, within=60 + MARGIN - 1)

    assert (before, await orphaned(store, clock, within=1)) == ([], [row.generation])


async def test_doomed_generation_can_never_count(store: SqlStateStore, clock: Clock) -> None:
    await store.attachments.put([attachment_of(ANN)])
    row = await leased(store, ttl_s=60)
    tombstoned = await orphaned(store, clock, within=1_000)
    finished = await store.leases.finish(row, status="completed", chunks=1)

    assert (tombstoned, finished, await store.attachments.live(ANN, [(STORE, FILE)])) == (
        [row.generation],
        False,
        {},
    )
    assert (await leased(store)).attempts == 2


ENDS: dict[str, Callable[[SqlStateStore], Awaitable[object]]] = {
    "detached": lambda store: store.attachments.delete(ANN, STORE, FILE),
    "file deleted": lambda store: store.files.delete(ANN, FILE),
    "attached again": lambda store: store.attachments.put([attachment_of(ANN)]),
    "batch cancelled": lambda store: store.file_batches.cancel(batch_of(ANN)),
}


@pytest.mark.parametrize("end", ENDS)
async def test_worker_cannot_complete_what_was_ended_in_the_middle(
    store: SqlStateStore, clock: Clock, end: str
) -> None:
    await store.attachments.put([attachment_of(ANN, batch_id="vsfb_1")], batch=batch_of(ANN))
    row = await leased(store)
    await ENDS[end](store)
    not_yet = await orphaned(store, clock)

    assert await store.leases.renew(row, ttl_s=60) is False
    assert await store.leases.finish(row, status="completed", chunks=1) is False
    assert await store.attachments.live(ANN, [(STORE, FILE)]) == {}
    assert (not_yet, await orphaned(store, clock)) == ([], [row.generation])


@pytest.mark.parametrize("end", ["detached", "file deleted", "attached again"])
async def test_chunks_of_a_completed_attachment_are_left_over_once_it_is(
    store: SqlStateStore, clock: Clock, end: str
) -> None:
    await store.attachments.put([attached_of(ANN)])
    await ENDS[end](store)

    assert await orphaned(store, clock) == ["acme/file-1/e1"]


async def test_the_place_of_a_deleted_store_is_left_over_and_forgotten_with_all_that_was_in_it(
    store: SqlStateStore, clock: Clock
) -> None:
    await store.attachments.put([attached_of(ANN)])
    await store.attachments.delete(ANN, STORE, FILE)
    await store.vector_stores.delete(ANN, STORE)
    taken = await store.orphaned_chunks.take(limit=10)
    await store.orphaned_chunks.forget(OrphanedChunks(STORE, FileId(""), ""))

    assert set(taken) == {
        OrphanedChunks(STORE, FILE, "acme/file-1/e1"),
        OrphanedChunks(STORE, FileId(""), ""),
    }
    assert await orphaned(store, clock, within=10_000) == []


async def test_the_place_of_a_new_store_is_left_over_unless_the_store_is_added(
    store: SqlStateStore, clock: Clock
) -> None:
    for name in ("vs_2", "vs_3"):
        await store.orphaned_chunks.reserve(OrphanedChunks(StoreId(name), FileId(""), ""), ttl_s=600)
    await store.vector_stores.add(store_of(ANN, "vs_2"))
    clock.time += 600

    assert await store.orphaned_chunks.take(limit=10) == [OrphanedChunks(StoreId("vs_3"), FileId(""), "")]


async def test_orphaned_chunks_are_taken_again_until_they_are_forgotten(
    store: SqlStateStore, clock: Clock
) -> None:
    await store.attachments.put([attached_of(ANN)])
    await store.attachments.delete(ANN, STORE, FILE)
    first, second, waiting = (
        await orphaned(store, clock),
        await orphaned(store, clock),
        await store.orphaned_chunks.waiting(),
    )
    third = await orphaned(store, clock, within=60)
    await store.orphaned_chunks.forget(OrphanedChunks(STORE, FILE, "acme/file-1/e1"))

    assert (first, second, waiting, third) == (["acme/file-1/e1"], [], 1, ["acme/file-1/e1"])
    assert (await store.orphaned_chunks.waiting(), await orphaned(store, clock, within=10_000)) == (0, [])


async def test_deleting_what_is_left_over_already_leaves_it_once(store: SqlStateStore, clock: Clock) -> None:
    await store.attachments.put([attachment_of(ANN)])
    row = await leased(store)
    await store.attachments.delete(ANN, STORE, FILE)
    await store.attachments.put([attachment_of(ANN)])
    again = await leased(store)
    await store.files.delete(ANN, FILE)

    assert sorted(await orphaned(store, clock, within=10_000)) == sorted([row.generation, again.generation])


async def test_what_nobody_knows_of_is_told_from_what_counts_and_what_is_left_over(
    store: SqlStateStore,
) -> None:
    await store.attachments.put([attached_of(ANN), attachment_of(ANN, file="file-2")])
    row = await leased(store)
    unknown = await store.orphaned_chunks.unknown_generations(
        STORE, ["acme/file-1/e1", row.generation, "acme/file-1/e0", "acme/file-1"]
    )
    elsewhere = await store.orphaned_chunks.unknown_generations(StoreId("vs_2"), ["acme/file-1/e1"])

    assert (unknown, elsewhere) == (["acme/file-1", "acme/file-1/e0"], ["acme/file-1/e1"])


async def test_stores_of_all_tenants_come_one_after_the_other(store: SqlStateStore) -> None:
    await store.vector_stores.add(store_of(EVE, "vs_2"))

    assert [await store.vector_stores.next_after(StoreId(name)) for name in ("", "vs_1", "vs_2")] == [
        "vs_1",
        "vs_2",
        None,
    ]


# ---------------------------------------------------------------- stamping anew


async def test_amended_attachment_changes_stamp_and_generation_at_once(
    store: SqlStateStore, clock: Clock
) -> None:
    await store.attachments.put([attached_of(ANN)])
    since = attached_of(ANN)
    await store.orphaned_chunks.reserve(OrphanedChunks(STORE, FILE, "acme/file-1/e2"), ttl_s=600)
    row = replace(
        since,
        generation="acme/file-1/e2",
        stamp=stamp_of(ANN, teams=["hr"]),
        requested={"n": 1},
        attributes={"n": 1},
    )

    assert await store.attachments.amend(row, expected=since)
    assert await store.attachments.get(ANN, STORE, FILE) == row
    assert await orphaned(store, clock, within=10_000) == ["acme/file-1/e1"]


@pytest.mark.parametrize("end", ["detached", "file deleted", "attached again", "amended by another"])
async def test_nothing_is_amended_that_is_not_as_it_was(store: SqlStateStore, clock: Clock, end: str) -> None:
    await store.attachments.put([attached_of(ANN)])
    await store.orphaned_chunks.reserve(OrphanedChunks(STORE, FILE, "acme/file-1/e2"), ttl_s=600)
    if end == "amended by another":
        await store.orphaned_chunks.reserve(OrphanedChunks(STORE, FILE, "acme/file-1/e3"), ttl_s=600)
        assert await store.attachments.amend(
            attached_of(ANN, generation="acme/file-1/e3"), expected=attached_of(ANN)
        )
    else:
        await ENDS[end](store)
    present = await store.attachments.get(ANN, STORE, FILE)

    assert (
        await store.attachments.amend(
            attached_of(ANN, generation="acme/file-1/e2"), expected=attached_of(ANN)
        )
        is False
    )
    assert await store.attachments.get(ANN, STORE, FILE) == present
    assert "acme/file-1/e2" in await orphaned(store, clock, within=10_000)


async def test_a_generation_that_lay_unused_for_too_long_is_not_adopted(
    store: SqlStateStore, clock: Clock
) -> None:
    await store.attachments.put([attached_of(ANN)])
    await store.orphaned_chunks.reserve(OrphanedChunks(STORE, FILE, "acme/file-1/e2"), ttl_s=600)
    tombstoned = await orphaned(store, clock, within=600)

    assert tombstoned == ["acme/file-1/e2"]
    assert (
        await store.attachments.amend(
            attached_of(ANN, generation="acme/file-1/e2"), expected=attached_of(ANN)
        )
        is False
    )
    assert await store.attachments.get(ANN, STORE, FILE) == attached_of(ANN)


async def test_attachment_stamped_anew_while_it_is_read_is_read_again(
    store: SqlStateStore, clock: Clock
) -> None:
    await store.attachments.put([attachment_of(ANN)])
    row = await leased(store)
    amended = replace(row, generation="", attempts=0, stamp=stamp_of(ANN, teams=["hr"]))
    assert await store.attachments.amend(amended, expected=row)

    assert await store.leases.finish(row, status="completed") is False
    again = await leased(store)
    assert (again.attempts, again.stamp, again.generation != row.generation) == (
        1,
        stamp_of(ANN, teams=["hr"]),
        True,
    )


# ---------------------------------------------------------------- what was made


async def made(store: SqlStateStore) -> Attachment:
    """Return an attachment that was completed, and is attached again."""
    await store.attachments.put([attachment_of(ANN)])
    first = await leased(store)
    assert await store.leases.finish(first, status="completed", usage_bytes=9, chunks=2, recipe="r")
    await store.attachments.put([attachment_of(ANN), attachment_of(ANN, file="file-2")])
    return first


async def test_what_is_attached_again_names_what_was_made_and_that_is_kept_for_an_hour(
    store: SqlStateStore, clock: Clock
) -> None:
    first = await made(store)
    again, other = await leased(store), await leased(store)

    assert again.made == MadeChunks(first.generation, 2, 9, "r")
    assert (again.status, again.chunks, again.usage_bytes, other.made) == ("in_progress", 0, 0, None)
    assert first.generation not in await orphaned(store, clock, within=3_599)
    assert first.generation in await orphaned(store, clock, within=1)


@pytest.mark.parametrize("status", ["completed", "failed"])
async def test_what_was_made_is_left_over_once_it_is_made_again(
    store: SqlStateStore, clock: Clock, status: str
) -> None:
    first = await made(store)
    again = await leased(store)
    assert again.made is not None
    assert await store.leases.finish(again, status=status, usage_bytes=9, chunks=2, recipe="r")
    row = await store.attachments.get(ANN, STORE, FILE)

    assert first.generation in await orphaned(store, clock)
    assert row is not None
    assert row.made == (MadeChunks(again.generation, 2, 9, "r") if status == "completed" else None)


async def test_of_another_claim_nothing_is_left_over_but_its_own(store: SqlStateStore, clock: Clock) -> None:
    first = await made(store)
    late = await leased(store)
    clock.time += 61
    await leased(store)
    await leased(store)
    assert not await store.leases.finish(late, status="completed", recipe="r")

    assert await orphaned(store, clock) == [late.generation]
    assert first.generation != late.generation


@pytest.mark.parametrize("end", ["detached", "file deleted", "attached once more"])
async def test_what_was_made_is_left_over_when_nobody_waits_for_it(
    store: SqlStateStore, clock: Clock, end: str
) -> None:
    first = await made(store)
    match end:
        case "detached":
            await store.attachments.delete(ANN, STORE, FILE)
        case "file deleted":
            await store.files.delete(ANN, FILE)
        case _:
            await store.attachments.put([attachment_of(ANN)])

    assert await orphaned(store, clock) == [first.generation]
    row = await store.attachments.get(ANN, STORE, FILE)
    assert row is None or row.made is None


async def test_chunks_of_an_unknown_recipe_are_made_again(store: SqlStateStore) -> None:
    await store.attachments.put([attachment_of(ANN)])
    assert await store.leases.finish(await leased(store), status="completed", chunks=2)
    await store.attachments.put([attachment_of(ANN)])

    assert (await leased(store)).made is None


async def test_tenant_owner_and_time_of_an_attachment_are_written_once(store: SqlStateStore) -> None:
    await store.attachments.put([attached_of(ANN)])
    row = attached_of(ANN, stamp=stamp_of(replace(ANN, id="zoe")), created_at=5)
    await store.attachments.amend(row, expected=attached_of(ANN))
    page = await store.attachments.page(ANN, STORE, Everything(), Page(), status=None)

    assert [found.created_at for found in page.rows] == [100]


# ---------------------------------------------------------------- batches


async def test_a_batch_is_stored_with_all_its_files_or_not_at_all(store: SqlStateStore) -> None:
    rows = [attachment_of(ANN, file=name, batch_id="vsfb_1") for name in ("file-1", "file-2", "file-9")]
    with pytest.raises(NotFound, match="file-9"):
        await store.attachments.put(rows, batch=batch_of(ANN))
    none = (
        await store.file_batches.get(ANN, STORE, BatchId("vsfb_1")),
        (await store.attachments.totals(ANN, [STORE]))[STORE],
    )
    await store.attachments.put(rows[:2], batch=batch_of(ANN))

    assert none == (None, Totals())
    assert await store.file_batches.get(ANN, STORE, BatchId("vsfb_1")) == batch_of(ANN)
    assert await store.file_batches.totals(batch_of(ANN)) == Totals(in_progress=2)


async def test_many_files_are_attached_in_one_batch(store: SqlStateStore) -> None:
    names = [f"file-{number:04d}" for number in range(2_000)]
    async with store._database.maintenance.writing() as connection:
        rows = [file_columns(file_of(ANN, name)) | {"ordinal": place} for place, name in enumerate(names, 9)]
        await connection.execute(insert(files), rows)
    await store.attachments.put(
        [attachment_of(ANN, file=name, batch_id="vsfb_1") for name in names], batch=batch_of(ANN)
    )

    assert await store.file_batches.totals(batch_of(ANN)) == Totals(in_progress=2_000)
    assert len(await store.files.named(ANN, [FileId(name) for name in names])) == 2_000
    assert (
        len(await store.attachments.in_progress_among(ANN, STORE, [FileId(name) for name in names])) == 2_000
    )


async def test_cancelling_leaves_what_is_completed_and_what_is_of_no_batch_or_another(
    store: SqlStateStore,
) -> None:
    await store.files.add(file_of(ANN, "file-4"))
    await store.attachments.put([attachment_of(ANN, batch_id="vsfb_1")], batch=batch_of(ANN))
    await store.attachments.put(
        [attachment_of(ANN, file="file-2", batch_id="vsfb_2")], batch=batch_of(ANN, "vsfb_2")
    )
    await store.attachments.put([attached_of(ANN, file="file-4", batch_id="vsfb_1")])

    assert await store.file_batches.stamps(batch_of(ANN)) == [stamp_of(ANN)]
    assert await store.file_batches.cancel(batch_of(ANN)) == 1
    assert await store.file_batches.totals(batch_of(ANN)) == Totals(completed=1, cancelled=1)
    assert await store.file_batches.totals(batch_of(ANN, "vsfb_2")) == Totals(in_progress=1)
    assert (
        await store.file_batches.stamps(batch_of(ANN)),
        await store.file_batches.cancel(batch_of(ANN)),
    ) == ([], 0)


async def test_files_of_a_batch_are_listed_alone_with_cursors_of_their_own(store: SqlStateStore) -> None:
    await store.attachments.put([attachment_of(ANN, batch_id="vsfb_1")], batch=batch_of(ANN))
    await store.attachments.put([attachment_of(ANN, file="file-2")])
    page = await store.attachments.page(
        ANN, STORE, Everything(), Page(), status=None, batch=BatchId("vsfb_1")
    )

    assert [row.file_id for row in page.rows] == ["file-1"]


async def test_a_batch_is_found_in_its_own_store_and_by_its_own_tenant(store: SqlStateStore) -> None:
    await store.vector_stores.add(store_of(ANN, "vs_2"))
    await store.attachments.put([attachment_of(ANN, batch_id="vsfb_1")], batch=batch_of(ANN))

    assert await store.file_batches.get(ANN, StoreId("vs_2"), BatchId("vsfb_1")) is None
    assert await store.file_batches.get(EVE, STORE, BatchId("vsfb_1")) is None
    assert (
        await store.file_batches.totals(FileBatch(BatchId("vsfb_1"), STORE, 100, "globex", "eve")) == Totals()
    )
    await store.vector_stores.delete(ANN, STORE)
    assert await store.file_batches.get(ANN, STORE, BatchId("vsfb_1")) is None


@pytest.mark.parametrize("rounds", [8])
async def test_batches_of_the_same_files_at_once_do_not_wait_for_each_other_in_turn(
    url: str, rounds: int
) -> None:
    async with (
        SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as one,
        SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as other,
    ):
        await one.vector_stores.add(store_of(ANN))
        names = [f"file-{number:02d}" for number in range(20)]
        for name in names:
            await one.files.add(file_of(ANN, name))
        for number in range(rounds):
            batches = [batch_of(ANN, f"vsfb_{number}_{place}") for place in range(4)]
            orders = [names, list(reversed(names)), names[10:] + names[:10], names]
            await asyncio.gather(
                *(
                    state.attachments.put(
                        [attachment_of(ANN, file=name, batch_id=batch.id) for name in order], batch=batch
                    )
                    for state, batch, order in zip((one, other, one, other), batches, orders, strict=True)
                )
            )
        totals = await one.attachments.totals(ANN, [STORE])
    assert totals[STORE] == Totals(in_progress=20)
