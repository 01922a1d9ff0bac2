"""`GuardedCounter`: the counter that gateways share, and what happens while it does not answer.

Then nothing is granted (`deny`), or this process counts for itself (`local`), under a share of each limit: so
many gateways as are there together grant about as much as before. While the shared counter is away it is
tried once a second by one request; the others do not wait for it.

Where no limit can be passed nobody is asked: it is counted here, for the headers alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, Literal, TypeAlias

from regate_adapters.quota.local import LocalQuotaCounter
from regate_orchestrator.errors import QuotaUnavailable
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import Account, Amount, Counted, Exhausted, QuotaCounter
from regate_orchestrator.values import Clock

_log = logging.getLogger("regate.quota")
_TRY_AGAIN_SECONDS: Final = 1.0

OnFailure: TypeAlias = Literal["deny", "local"]


class GuardedCounter:
    """Counts in the shared counter where anything is limited. `gateways` says how many share the limits."""

    def __init__(
        self,
        shared: QuotaCounter,
        local: LocalQuotaCounter,
        *,
        on_failure: OnFailure,
        metrics: Metrics,
        gateways: Callable[[], int] = lambda: 1,
        clock: Clock = time.monotonic,
    ) -> None:
        self._shared = shared
        self._local = local
        self._on_failure = on_failure
        self._gateways = gateways
        self._clock = clock
        self._is_up = True
        self._try_at = 0.0
        self._failed = metrics.counter(
            "regate_quota_unavailable",
            "Requests that the shared quota counter could not count.",
            ("effect",),
            rows=[("denied",), ("local",)],
        )
        metrics.reading(
            "gauge",
            "regate_quota_shared",
            "Whether the shared quota counter answered last.",
            lambda: {(): float(self._is_up)},
            across="lowest",
        )

    async def reserve(self, accounts: Sequence[Account], amount: Amount) -> Counted | Exhausted:
        """Count a request unless a limit would be passed. See `ports.QuotaCounter.reserve`."""
        if not any(account.is_limited for account in accounts):
            return await self._local.reserve(accounts, amount)
        if not self._is_up and self._clock() < self._try_at:
            return await self._without(accounts, amount, "not tried: it did not answer a moment ago")
        self._try_at = self._clock() + _TRY_AGAIN_SECONDS
        try:
            found = await self._shared.reserve(accounts, amount)
        except QuotaUnavailable as error:
            self._lost(error.detail)
            return await self._without(accounts, amount, error.detail)
        if not self._is_up:
            self._is_up = True
            _log.warning("quota_shared_again", extra={"detail": "the shared quota counter answers again"})
        return found

    async def correct(self, counted: Counted, *, by: Amount) -> None:
        """Tell whoever counted it. See `ports.QuotaCounter.correct`."""
        await self._counter_of(counted).correct(counted, by=by)

    async def release(self, counted: Counted) -> None:
        """Tell whoever counted it. See `ports.QuotaCounter.release`."""
        await self._counter_of(counted).release(counted)

    def _counter_of(self, counted: Counted) -> QuotaCounter:
        return self._local if counted.is_local else self._shared

    def _lost(self, detail: str) -> None:
        if not self._is_up:
            return
        self._is_up = False
        self._local.forget_budgets()  # what others spent meanwhile is looked up again
        what = "each gateway counts for itself" if self._on_failure == "local" else "requests are refused"
        _log.error("quota_shared_lost", extra={"cause": detail, "detail": what})

    async def _without(self, accounts: Sequence[Account], amount: Amount, detail: str) -> Counted | Exhausted:
        if self._on_failure == "deny":
            self._failed.add("denied")
            raise QuotaUnavailable(detail)
        self._failed.add("local")
        gateways = max(1, self._gateways())
        return await self._local.reserve([_share(account, gateways) for account in accounts], amount)


def _share(account: Account, gateways: int) -> Account:
    """Return the account with the limits of one of so many gateways: none is more than its part, unless that
    would be nothing of something.
    """
    limits = {meter: max(min(1, most), most // gateways) for meter, most in account.limits.items()}
    return replace(account, limits=limits)
