"""Every database gives values of the same types, and takes numbers of any size that a caller may ask for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.adapters.state.samples import (
    ANN,
    attached_of,
    batch_of,
    event_of,
    file_of,
    prompt_of,
    response_of,
    store_of,
    version_of,
)
from tests.adapters.state.test_state_store import CALLS, RESPONSE, STORE, furnish

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.values import FileId, PromptId

PLAIN = {type(None), bool, int, float, str}
BEYOND_32_BITS = 2**31


def types_within(value: object) -> Iterator[type]:
    """The types of all that is not a container."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
    match value:
        case Mapping():
            for name, one in value.items():
                yield from (*types_within(name), *types_within(one))
        case list() | tuple() | frozenset():
            for one in value:
                yield from types_within(one)
        case _:
            yield type(value)


@pytest.mark.parametrize("name", CALLS)
async def test_what_a_call_returns_is_made_of_plain_values(store: SqlStateStore, name: str) -> None:
    await furnish(store)
    found = await CALLS[name](store, ANN, "1")
    assert set(types_within(found)) - PLAIN == set()


async def test_counts_and_sums_are_whole_numbers(store: SqlStateStore) -> None:
    await furnish(store)
    await store.files.add(file_of(ANN, "file-2"))
    await store.attachments.put([attached_of(ANN, file="file-2", batch_id="vsfb_1")], batch=batch_of(ANN))
    await store.orphaned_blobs.reserve(ANN, FileId("file-3"), bytes=5, due_at=9_000)
    found: list[Any] = [
        (await store.attachments.totals(ANN, [STORE]))[STORE],
        await store.file_batches.totals(batch_of(ANN)),
        await store.files.usage(ANN),
        await store.orphaned_chunks.waiting(),
    ]
    assert set(types_within(found)) == {int, str}  # numbers and their names


@pytest.mark.parametrize("number", [BEYOND_32_BITS, 2**53])
async def test_there_are_no_events_beyond_a_number_however_large(store: SqlStateStore, number: int) -> None:
    await store.responses.save(response_of(ANN))
    await store.events.append(ANN, RESPONSE, [event_of(0)])
    assert await store.events.read(ANN, RESPONSE, after=number, limit=10) == []


@pytest.mark.parametrize("number", [BEYOND_32_BITS, 2**53])
async def test_there_is_no_version_of_a_number_however_large(store: SqlStateStore, number: int) -> None:
    await store.prompts.add(prompt_of(ANN), version_of(ANN))
    assert await store.prompts.version(ANN, PromptId("pmpt_1"), number) is None


async def test_a_store_may_be_kept_for_more_seconds_than_32_bits_count(store: SqlStateStore) -> None:
    await store.vector_stores.add(dataclasses.replace(store_of(ANN), expires_after_days=1_000_000))
    assert await store.vector_stores.expired(limit=10) == []
