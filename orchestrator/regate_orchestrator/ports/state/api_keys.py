"""API keys, as the state store keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from regate_orchestrator.rows.api_keys import ApiKeyRow


class ApiKeyState(Protocol):
    """Keeps API keys, of all tenants: it is asked before anybody knows who calls, and by the operator."""

    async def add(self, row: ApiKeyRow) -> None:
        """Keep a new key."""
        ...

    async def find(self, identifier: str) -> ApiKeyRow | None:
        """Return the key with this id, revoked and expired ones too. Must be one read by an index, and must
        show what another gateway wrote before: revocation rests on it.
        """
        ...

    async def all(self, *, tenant: str | None) -> Sequence[ApiKeyRow]:
        """Return the keys of a tenant, or of all where it is None; the newest first."""
        ...

    async def revoke(self, identifier: str, *, at: int) -> ApiKeyRow | None:
        """Revoke the key and return it, or return None where there is none. A key that is revoked already
        stays as it is.
        """
        ...
