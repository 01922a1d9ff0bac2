"""What an idempotency key is used for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KeyUse:
    """What an idempotency key is used for: the request, by its fingerprint, and the id of what it
    created, None while it is running.
    """

    fingerprint: str
    created: str | None
