"""Idempotency keys in the state store."""

from __future__ import annotations

from typing import Protocol

from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import KeyUse


class IdempotencyKeyState(Protocol):
    """Keeps idempotency keys. Each is the principal's own."""

    async def claim(
        self, principal: Principal, key: str, *, fingerprint: str, claim: str, at: int
    ) -> KeyUse | None:
        """Claim an idempotency key of the principal's own for a create, or return what it is used for
        already. Of many claims one must win.

        A use older than 24 hours, and an unfinished one older than an hour, counts as none.
        """
        ...

    async def finish(
        self, principal: Principal, key: str, *, claim: str, created: str, fingerprint: str
    ) -> None:
        """Say what was created under the key, and by which request as it is known by now, if this
        claim still holds.
        """
        ...

    async def release(self, principal: Principal, key: str, *, claim: str) -> None:
        """Let the key of a create that failed go, if this claim still holds. Must be idempotent."""
        ...

    async def forget(self, *, at: int) -> int:
        """Forget the idempotency keys that count as none; return how many."""
        ...
