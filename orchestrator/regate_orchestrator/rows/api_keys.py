"""Rows of API keys. No row holds a key, or what it could be made from again."""

from __future__ import annotations

from dataclasses import dataclass, field

from regate_orchestrator.values import JsonObject


@dataclass(frozen=True, slots=True)
class ApiKeyRow:
    """An API key as it is kept. Its id is no secret; `digest` tells the whole key from any other. Times are
    in epoch seconds.
    """

    id: str
    digest: str = field(repr=False)
    claims: JsonObject
    """What the key stands for: `sub`, `tenant` and the other claims that were given when it was made."""
    name: str
    created_at: int
    expires_at: int | None
    """When it is no longer valid; None for a key that was made to last."""
    revoked_at: int | None = None
