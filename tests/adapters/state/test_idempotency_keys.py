"""Idempotency keys: one claim wins, what came of it is known, and a key is a principal's own.
Conformance with the port.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from tests.adapters.state.samples import ANN, BOB, EVE, PATIENT_SECONDS

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import KeyUse

HOUR, DAY = 3600, 24 * 3600
KEY = "a key of ~ printable characters"


async def claim(
    store: SqlStateStore,
    who: Principal = ANN,
    *,
    key: str = KEY,
    fingerprint: str = "f1",
    name: str = "c1",
    at: int = 100,
) -> KeyUse | None:
    return await store.idempotency_keys.claim(who, key, fingerprint=fingerprint, claim=name, at=at)


async def test_key_is_claimed_once_and_says_of_which_request(store: SqlStateStore) -> None:
    claims = [await claim(store), await claim(store, fingerprint="f2", name="c2")]
    assert claims == [None, KeyUse("f1", None)]


async def test_key_says_what_was_created(store: SqlStateStore) -> None:
    await claim(store)
    await store.idempotency_keys.finish(
        ANN, KEY, claim="c1", created="resp_1", fingerprint="f1, as it was known later"
    )
    assert await claim(store, name="c2") == KeyUse("f1, as it was known later", "resp_1")


async def test_released_key_is_free(store: SqlStateStore) -> None:
    await claim(store)
    for _ in range(2):
        await store.idempotency_keys.release(ANN, KEY, claim="c1")
    assert await claim(store, fingerprint="f2", name="c2") is None


async def test_claim_that_was_lost_changes_nothing(store: SqlStateStore) -> None:
    await claim(store)
    await store.idempotency_keys.release(ANN, KEY, claim="another")
    await store.idempotency_keys.finish(ANN, KEY, claim="another", created="resp_9", fingerprint="f1")
    await store.idempotency_keys.finish(EVE, KEY, claim="c1", created="resp_9", fingerprint="f1")
    await store.idempotency_keys.release(BOB, KEY, claim="c1")
    assert await claim(store) == KeyUse("f1", None)


async def test_key_of_what_was_created_is_not_released(store: SqlStateStore) -> None:
    await claim(store)
    await store.idempotency_keys.finish(ANN, KEY, claim="c1", created="resp_1", fingerprint="f1")
    await store.idempotency_keys.release(ANN, KEY, claim="c1")
    assert await claim(store) == KeyUse("f1", "resp_1")


@pytest.mark.parametrize(
    "who", [BOB, EVE, replace(ANN, tenant="globex")], ids=["colleague", "stranger", "namesake"]
)
async def test_key_of_somebody_else_is_another_key(store: SqlStateStore, who: Principal) -> None:
    await claim(store)
    assert await claim(store, who) is None


@pytest.mark.parametrize("key", [KEY.upper(), KEY + " ", "%", "_", "a"])
async def test_keys_are_compared_exactly(store: SqlStateStore, key: str) -> None:
    await claim(store)
    assert await claim(store, key=key) is None


@pytest.mark.parametrize(("created", "seconds"), [("resp_1", DAY), (None, HOUR)])
async def test_key_counts_for_a_day_and_an_unfinished_one_for_an_hour(
    store: SqlStateStore, created: str | None, seconds: int
) -> None:
    await claim(store)
    if created is not None:
        await store.idempotency_keys.finish(ANN, KEY, claim="c1", created=created, fingerprint="f1")
    before = await claim(store, fingerprint="f2", at=99 + seconds)
    after = await claim(store, fingerprint="f2", at=100 + seconds)
    assert (before, after) == (KeyUse("f1", created), None)


async def test_keys_that_count_no_longer_are_forgotten(store: SqlStateStore) -> None:
    for key, at in (
        ("old", 100),
        ("new", 200),
        ("unfinished", 100 + DAY - HOUR),
        ("running", 101 + DAY - HOUR),
    ):
        await claim(store, key=key, at=at)
    for key in ("old", "new"):
        await store.idempotency_keys.finish(ANN, key, claim="c1", created="resp_1", fingerprint="f1")
    forgotten = await store.idempotency_keys.forget(at=100 + DAY)
    left = [await claim(store, key=key, name="c2", at=101) for key in ("old", "new", "unfinished", "running")]
    assert (forgotten, left) == (2, [None, KeyUse("f1", "resp_1"), None, KeyUse("f1", None)])


async def test_of_many_claims_at_once_one_wins(url: str) -> None:
    async with (
        SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as one,
        SqlStateStore.open(url, deadline_s=PATIENT_SECONDS) as other,
    ):
        claims = await asyncio.gather(
            *(claim((one, other)[number % 2], name=f"c{number}") for number in range(16))
        )
    assert (claims.count(None), claims.count(KeyUse("f1", None))) == (1, 15)
