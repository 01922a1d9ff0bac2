"""API keys: their form, and that a key holds for exactly as long as it should."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from tests.adapters.identity.conftest import NOW, HandClock

from regate_adapters.identity.api_keys import ApiKeyVerifier, NewKey, id_in, make_key
from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.errors import StateUnavailable, Unauthenticated

CLAIMS = {"sub": "ci", "tenant": "acme", "teams": ["hr"], "scope": "read"}
OTHER = "0" * 49


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqlStateStore]:
    async with SqlStateStore.open(f"sqlite:///{tmp_path / 'state.db'}", deadline_s=60) as opened:
        yield opened


def verifier(store: SqlStateStore, clock: HandClock, *, cache_s: float = 2) -> ApiKeyVerifier:
    return ApiKeyVerifier(store.api_keys, cache_s=cache_s, clock=clock)


async def made(store: SqlStateStore, *, expires_at: int | None = None) -> NewKey:
    new = make_key(CLAIMS, name="nightly", now=int(NOW), expires_at=expires_at)
    await store.api_keys.add(new.row)
    return new


async def test_key_stands_for_what_it_was_given(store: SqlStateStore, clock: HandClock) -> None:
    new = await made(store, expires_at=int(NOW) + 60)
    found = await verifier(store, clock).verify(new.key)
    assert found == {**CLAIMS, "exp": int(NOW) + 60, "jti": new.row.id}


def test_key_has_the_form_that_scanners_look_for_and_shows_itself_nowhere() -> None:
    keys = [make_key(CLAIMS, name="", now=0, expires_at=None) for _ in range(200)]
    assert all(re.fullmatch(r"rgk_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", one.key) for one in keys)
    assert len({part for one in keys for part in one.key.split("_")[1:]}) == 400
    secrets = [one.key[17:] for one in keys]
    assert [one for one, secret in zip(keys, secrets, strict=True) if secret in f"{one!r}{one.row.id}"] == []


def test_mistyped_key_is_known_without_the_store() -> None:
    key = make_key(CLAIMS, name="", now=0, expires_at=None).key
    swapped = key[:20] + key[21] + key[20] + key[22:] if key[20] != key[21] else key[:-1] + "!"
    dashed = key.replace("_", "-")
    wrong = [swapped, key[:-1], key + "0", key.lower(), key[:17] + OTHER, f" {key}", "rgk_", dashed]
    assert ([id_in(one) for one in wrong], id_in(key)) == ([None] * 8, key[:16])


async def test_right_id_with_another_secret_is_refused_as_everything_is(
    store: SqlStateStore, clock: HandClock
) -> None:
    new, absent = await made(store), make_key(CLAIMS, name="", now=0, expires_at=None)
    forged = make_key(CLAIMS, name="", now=0, expires_at=None)
    await store.api_keys.add(replace(forged.row, digest=new.row.digest))
    said = []
    for presented in (absent.key, forged.key, "rgk_x"):
        with pytest.raises(Unauthenticated) as refused:
            await verifier(store, clock).verify(presented)
        said.append(refused.value.message)
    assert (len(said), len(set(said))) == (3, 1)


@pytest.mark.parametrize("cache_s", [0, 2])
async def test_revocation_is_in_force_within_the_bound(
    store: SqlStateStore, clock: HandClock, cache_s: float
) -> None:
    new, ours = await made(store), verifier(store, clock, cache_s=cache_s)
    await ours.verify(new.key)
    await store.api_keys.revoke(new.row.id, at=int(NOW))
    if cache_s:
        clock.now += cache_s - 0.01
        await ours.verify(new.key)
        clock.now += 0.01
    with pytest.raises(Unauthenticated):
        await ours.verify(new.key)


async def test_expiry_is_in_force_at_once_whatever_is_remembered(
    store: SqlStateStore, clock: HandClock
) -> None:
    new, ours = await made(store, expires_at=int(NOW) + 1), verifier(store, clock, cache_s=30)
    await ours.verify(new.key)
    clock.now += 1
    with pytest.raises(Unauthenticated):
        await ours.verify(new.key)


async def test_store_that_fails_is_no_refusal(tmp_path: Path, clock: HandClock) -> None:
    async with SqlStateStore.open(f"sqlite:///{tmp_path / 'state.db'}", deadline_s=60) as store:
        new = await made(store)
        async with store._database.maintenance.writing() as connection:
            await connection.execute(text("DROP TABLE api_keys"))
        with pytest.raises(StateUnavailable):
            await verifier(store, clock).verify(new.key)
