"""Idempotency keys in the state store: which create a principal's key stands for, and what came of it.
No answer is kept, only the id.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import ColumnElement, and_, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from regate_adapters.state.database import Database
from regate_adapters.state.tables import idempotency_keys
from regate_adapters.state.visibility import within
from regate_orchestrator.principal import Principal
from regate_orchestrator.rows import KeyUse

_KEPT_SECONDS: Final = 24 * 3600
_UNFINISHED_SECONDS: Final = 3600
"""No create runs so long: whoever claimed the key has died, or could not say what came of it."""
_AT_ONCE: Final = 1_000


class IdempotencyKeyState:
    """The part of the state store that keeps idempotency keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(
        self, principal: Principal, key: str, *, fingerprint: str, claim: str, at: int
    ) -> KeyUse | None:
        """Claim the key, or return what it is used for already. The primary key lets one of many
        claims win.
        """
        own = _own(principal, key)
        named = {"tenant": principal.tenant, "owner": principal.id, "key": key}
        row = {
            **named,
            "fingerprint": fingerprint,
            "claim": claim,
            "created_at": at,
            "gateway": self._database.gateway,
        }
        async with self._database.writing(principal.tenant) as connection:
            await connection.execute(delete(idempotency_keys).where(own, or_(_too_old(at), _given_up(at))))
            try:
                async with connection.begin_nested():
                    await connection.execute(insert(idempotency_keys).values(row))
            except IntegrityError:
                present = (await connection.execute(select(idempotency_keys).where(own))).one_or_none()
                # One that was let go at this very moment was in progress: whoever asks again finds it free.
                return (
                    KeyUse(fingerprint, None)
                    if present is None
                    else KeyUse(present.fingerprint, present.created)
                )
        return None

    async def finish(
        self, principal: Principal, key: str, *, claim: str, created: str, fingerprint: str
    ) -> None:
        """Say what was created, and by which request, if the claim still holds."""
        mine = (_own(principal, key), idempotency_keys.c.claim == claim)
        async with self._database.writing(principal.tenant) as connection:
            await connection.execute(
                update(idempotency_keys).where(*mine).values(created=created, fingerprint=fingerprint)
            )

    async def release(self, principal: Principal, key: str, *, claim: str) -> None:
        """Let the key go, if the claim still holds and nothing was created."""
        mine = (_own(principal, key), idempotency_keys.c.claim == claim, idempotency_keys.c.created.is_(None))
        async with self._database.writing(principal.tenant) as connection:
            await connection.execute(delete(idempotency_keys).where(*mine))

    async def forget(self, *, at: int) -> int:
        """Forget all keys that count no longer, of all tenants: the oldest first, so many at once, so
        that others can write between.
        """
        forgotten = 0
        for lapsed in (_too_old(at), _given_up(at)):
            made = idempotency_keys.c.created_at
            nth = select(made).where(lapsed).order_by(made).offset(_AT_ONCE).limit(1)
            more = True
            while more:
                async with self._database.maintenance.writing() as connection:
                    until = await connection.scalar(nth)
                    oldest = lapsed if until is None else and_(lapsed, made <= until)
                    forgotten += (await connection.execute(delete(idempotency_keys).where(oldest))).rowcount
                more = until is not None
        return forgotten


def _own(principal: Principal, key: str) -> ColumnElement[bool]:
    owned = within(idempotency_keys.c.tenant, principal.tenant) & within(
        idempotency_keys.c.owner, principal.id
    )
    return owned & (idempotency_keys.c.key == key)


def _too_old(at: int) -> ColumnElement[bool]:
    return idempotency_keys.c.created_at <= at - _KEPT_SECONDS


def _given_up(at: int) -> ColumnElement[bool]:
    return and_(
        idempotency_keys.c.created.is_(None), idempotency_keys.c.created_at <= at - _UNFINISHED_SECONDS
    )
