"""What callers used, added up and written to the state store now and then: no request waits for it, and none
costs a write of its own.

What was not written yet when a gateway is killed is lost: the last seconds. What budgets spent before a
counter began is read from here.
"""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Final, TypeAlias

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.errors import RegateError
from regate_orchestrator.ports import Account, UsageRow, UsageState, Window
from regate_orchestrator.quota.metering import Used
from regate_orchestrator.values import Clock

_log = logging.getLogger("regate.usage")
FLUSH_SECONDS: Final = 10.0
DAY_SECONDS: Final = 86_400
_MAX_PENDING: Final = 100_000
_AT_ONCE: Final = 500
_MONTHS: Final = 12

_Key: TypeAlias = tuple[str, str, str, int]
_Sums: TypeAlias = tuple[int, int, int, int]


class UsageLog:
    """Adds up what was used. `work` must run; what it leaves, a last `flush` writes."""

    def __init__(self, state: UsageState, clock: Clock) -> None:
        self._state = state
        self._clock = clock
        self._pending: dict[_Key, _Sums] = {}
        self._flushing = asyncio.Lock()

    def note(self, context: Context, model: str, used: Used, cost: int) -> None:
        """Count a request that has ended. A model that answered nothing is not named: whatever a caller asks
        for would make rows.
        """
        who, day = context.principal, int(self._clock() // DAY_SECONDS)
        key = (who.tenant, who.id, model if used.total else "", day)
        self._add(key, (1, used.input_tokens, used.output_tokens, cost))

    async def work(self) -> None:
        """Write what was used again and again, until cancelled."""
        while True:
            await asyncio.sleep(FLUSH_SECONDS)
            await self.flush()

    async def flush(self) -> None:
        """Write what was used so far. What cannot be written now is kept, and tried again with the next.

        A write that has begun is finished, whoever is cancelled meanwhile: it must not be made twice.
        """
        writing = asyncio.ensure_future(self._write())  # noqa: TID251 — awaited below in every case
        try:
            await asyncio.shield(writing)
        except asyncio.CancelledError:
            await writing
            raise

    async def _write(self) -> None:
        async with self._flushing:
            while self._pending:
                part = dict(list(self._pending.items())[:_AT_ONCE])
                for key in part:
                    del self._pending[key]
                try:
                    await self._state.add([UsageRow(*key, *sums) for key, sums in part.items()])
                except RegateError as error:
                    for key, sums in part.items():
                        self._add(key, sums)
                    _log.warning("usage_not_written", extra={"cause": getattr(error, "detail", "")})
                    return

    async def spent_so_far(self, account: Account, window: Window, number: int) -> dict[str, int]:
        """Return what an account spent in this window, as far as it is known here. Of a role nothing is: who
        held it is not recorded. Raises `StateUnavailable`.
        """
        if account.scope == "role":
            return {}
        await self.flush()
        found = await self._state.spent(
            first=_first_day(window, number),
            tenant=account.tenant,
            person=account.name,
            model=account.model,
        )
        tokens = found.input_tokens + found.output_tokens
        return {"requests": found.requests, "tokens": tokens, "cost": found.cost}

    def _add(self, key: _Key, sums: _Sums) -> None:
        known = self._pending.get(key)
        if known is None and len(self._pending) >= _MAX_PENDING:
            _log.error("usage_lost", extra={"detail": "the state store has been away for too long"})
            return
        before = known or (0, 0, 0, 0)
        self._pending[key] = (
            before[0] + sums[0],
            before[1] + sums[1],
            before[2] + sums[2],
            before[3] + sums[3],
        )


def _first_day(window: Window, number: int) -> int:
    """Return the first day of a window that a counter numbers so."""
    if window == "day":
        return number
    begins = datetime(number // _MONTHS, number % _MONTHS + 1, 1, tzinfo=UTC)
    return int(begins.timestamp()) // DAY_SECONDS
