"""API keys in the state store: found by their id, listed by tenant, revoked for good."""

from __future__ import annotations

from regate_adapters.state.store import SqlStateStore
from regate_orchestrator.rows import ApiKeyRow


def row(identifier: str, *, tenant: str = "acme", created_at: int = 10) -> ApiKeyRow:
    claims = {"sub": "ci", "tenant": tenant, "teams": ["hr"], "clearance": 2}
    return ApiKeyRow(identifier, "d" * 64, claims, "nightly", created_at, expires_at=100)


async def test_keys_are_found_by_their_id_and_listed_by_tenant(store: SqlStateStore) -> None:
    old, new, theirs = row("rgk_a"), row("rgk_b", created_at=20), row("rgk_c", tenant="ACME")
    for one in (old, new, theirs):
        await store.api_keys.add(one)
    found = [await store.api_keys.find(identifier) for identifier in ("rgk_a", "rgk_A", "rgk_")]
    assert (found, await store.api_keys.all(tenant="acme")) == ([old, None, None], [new, old])
    assert len(await store.api_keys.all(tenant=None)) == 3


async def test_first_revocation_stands(store: SqlStateStore) -> None:
    await store.api_keys.add(row("rgk_a"))
    await store.api_keys.add(row("rgk_b"))
    asked = (("rgk_a", 30), ("rgk_a", 40), ("rgk_x", 1))
    revoked = [await store.api_keys.revoke(one, at=at) for one, at in asked]
    kept = await store.api_keys.find("rgk_b")
    assert [one and one.revoked_at for one in (*revoked, kept)] == [30, 30, None, None]
    assert (revoked[-1], kept is None) == (None, False)
