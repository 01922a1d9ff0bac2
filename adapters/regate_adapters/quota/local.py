"""`LocalQuotaCounter`: what was spent, in this process's memory. Not shared: each gateway counts for itself.

A minute is a sliding one, in steps of a second: what was counted is forgotten when it is surely older than 60
seconds, never before. Days and months are those of the calendar (`calendar.py`). The counterpart that
gateways share is `shared.py`.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from regate_adapters.quota.calendar import end_of, number_of
from regate_orchestrator.ports import (
    BUDGETS,
    Account,
    Allowance,
    Amount,
    Counted,
    Exhausted,
    Meter,
    Window,
)
from regate_orchestrator.values import Clock, mint, wall_clock

_REMEMBERED_SECONDS: Final = 61
"""A request counted within second n is 60 seconds old at the end of second n + 60."""
_MAX_ACCOUNTS: Final = 20_000
_NEVER_SECONDS: Final = 60.0
"""What a caller is told to wait where no waiting helps."""
_SOON_SECONDS: Final = 1.0
"""What a caller is told to wait for another request to end."""

_Key: TypeAlias = tuple[str, str, str, str]

SpentSoFar: TypeAlias = Callable[[Account, Window, int], Awaitable[dict[str, int]]]
"""Returns how many `requests` and `tokens`, and how much `cost`, an account spent in a window of this number
before it was counted here. Raises `StateUnavailable`.
"""


@dataclass(slots=True)
class _Second:
    """What was counted within one second."""

    at: int
    requests: int = 0
    tokens: int = 0


@dataclass(slots=True)
class _Period:
    """What was spent within one day or month."""

    number: int
    spent: dict[str, int]

    def add(self, requests: int, amount: Amount) -> None:
        """Spend more, or less; never below nothing."""
        for unit, more in (("requests", requests), ("tokens", amount.tokens), ("cost", amount.cost)):
            self.spent[unit] = max(0, self.spent.get(unit, 0) + more)


@dataclass(slots=True)
class _Tally:
    """What is known of one account: its last minute, oldest second first, and its sums; its budgets; and what
    runs.
    """

    seconds: deque[_Second] = field(default_factory=deque)
    requests: int = 0
    tokens: int = 0
    periods: dict[Window, _Period] = field(default_factory=dict)
    leases: set[str] = field(default_factory=set)

    def forget(self, now: int, epoch: float) -> None:
        """Drop the seconds, days and months that are past."""
        while self.seconds and self.seconds[0].at <= now - _REMEMBERED_SECONDS:
            past = self.seconds.popleft()
            self.requests -= past.requests
            self.tokens -= past.tokens
        for window in tuple(self.periods):
            if self.periods[window].number != number_of(window, epoch):
                del self.periods[window]

    @property
    def is_empty(self) -> bool:
        """Whether nothing is known."""
        return not (self.seconds or self.periods or self.leases)

    def add(self, at: int, *, requests: int, tokens: int) -> None:
        """Count within the second of now."""
        if not self.seconds or self.seconds[-1].at != at:
            self.seconds.append(_Second(at))
        self.seconds[-1].requests += requests
        self.seconds[-1].tokens += tokens
        self.requests += requests
        self.tokens += tokens

    def take(self, at: int, *, tokens: int) -> None:
        """Count fewer tokens within an earlier second, if it is not past."""
        for second in self.seconds:
            if second.at == at:
                taken = min(tokens, second.tokens)
                second.tokens -= taken
                self.tokens -= taken
                return


class LocalQuotaCounter:
    """Counts in memory. At most `most_accounts` are remembered; past that, the one that has been silent
    longest begins anew. What a budget had spent before, `spent_so_far` says, where it is given.
    """

    def __init__(
        self,
        *,
        clock: Clock = time.monotonic,
        calendar: Clock = wall_clock,
        most_accounts: int = _MAX_ACCOUNTS,
        spent_so_far: SpentSoFar | None = None,
    ) -> None:
        self._clock = clock
        self._calendar = calendar
        self._most_accounts = most_accounts
        self._spent_so_far = spent_so_far
        self._tallies: OrderedDict[_Key, _Tally] = OrderedDict()

    @property
    def held(self) -> int:
        """Return how many accounts are remembered."""
        return len(self._tallies)

    async def reserve(self, accounts: Sequence[Account], amount: Amount) -> Counted | Exhausted:
        """Count a request unless a limit would be passed. See `ports.QuotaCounter.reserve`."""
        await self._recall(accounts)
        clock, epoch = self._clock(), self._calendar()
        judged = [_Judged(account, self._tally(account.key), clock, epoch) for account in accounts]
        if refused := [one for each in judged for one in each.refusals(amount)]:
            worst = max(refused, key=lambda one: one.after_s)
            left = tuple(allowance for each in judged for allowance in each.allowances())
            return Exhausted(worst.allowance, worst.asked, worst.after_s, left, worst.model)
        lease = mint("lease_") if any("concurrent" in account.limits for account in accounts) else ""
        for each in judged:
            each.count(amount, lease)
        left = tuple(allowance for each in judged for allowance in each.allowances())
        return Counted(tuple(accounts), int(clock), left, lease)

    async def correct(self, counted: Counted, *, by: Amount) -> None:
        """Count more from now on, or less from when it was counted. See `ports.QuotaCounter.correct`."""
        clock, epoch = self._clock(), self._calendar()
        then = epoch - (clock - counted.at)
        for account in counted.accounts:
            tally = self._tally(account.key)
            if by.tokens > 0:
                tally.add(int(clock), requests=0, tokens=by.tokens)
            else:
                tally.take(counted.at, tokens=-by.tokens)
            for window, period in tally.periods.items():
                is_the_same = period.number == number_of(window, then)
                tokens, cost = (one if one > 0 or is_the_same else 0 for one in (by.tokens, by.cost))
                period.add(0, Amount(tokens, cost))

    async def release(self, counted: Counted) -> None:
        """Let the request no longer run. See `ports.QuotaCounter.release`."""
        for account in counted.accounts:
            if (tally := self._tallies.get(account.key)) is not None:
                tally.leases.discard(counted.lease)

    def forget_budgets(self) -> None:
        """Forget what budgets have spent, so that it is looked up again."""
        for tally in self._tallies.values():
            tally.periods.clear()

    async def _recall(self, accounts: Sequence[Account]) -> None:
        """Know what the budgets have spent so far. A window that nobody counted in is looked up once."""
        for account in accounts:
            for window in BUDGETS:
                if not account.budgets(window):
                    continue
                number = number_of(window, self._calendar())
                known = self._tally(account.key).periods.get(window)
                if known is not None and known.number == number:
                    continue
                spent = (
                    {} if self._spent_so_far is None else await self._spent_so_far(account, window, number)
                )
                self._tally(account.key).periods.setdefault(window, _Period(number, dict(spent)))

    def _tally(self, key: _Key) -> _Tally:
        """Return what is known of the account, of which what is past is forgotten; and forget accounts of
        which nothing is left.
        """
        now, epoch = int(self._clock()), self._calendar()
        tally = self._tallies.get(key)
        if tally is None:
            tally = self._tallies[key] = _Tally()
        self._tallies.move_to_end(key)
        tally.forget(now, epoch)
        while len(self._tallies) > 1:
            longest = next(iter(self._tallies))
            silent = self._tallies[longest]
            silent.forget(now, epoch)
            if silent.leases:  # what runs is counted for as long as it does
                self._tallies.move_to_end(longest)
                break
            if not silent.is_empty and len(self._tallies) <= self._most_accounts:
                break
            del self._tallies[longest]
        return tally


@dataclass(frozen=True, slots=True)
class _Refusal:
    """A limit that a request would pass."""

    allowance: Allowance
    asked: int
    after_s: float
    model: str


@dataclass(frozen=True, slots=True)
class _Judged:
    """An account beside what is known of it, at one moment of both clocks."""

    account: Account
    tally: _Tally
    clock: float
    epoch: float

    def refusals(self, amount: Amount) -> Iterator[_Refusal]:
        """Yield the limits that a request of so much would pass."""
        tally, limits = self.tally, self.account.limits
        wanted: tuple[tuple[Meter, int, int], ...] = (
            ("rpm", tally.requests, 1),
            ("tpm", tally.tokens, amount.tokens),
        )
        for meter, used, asked in wanted:
            if meter in limits and (excess := used + asked - limits[meter]) > 0:
                yield self._refusal(meter, asked, _room_after(tally, meter, excess, self.clock))
        if "concurrent" in limits and len(tally.leases) >= limits["concurrent"]:
            yield self._refusal("concurrent", 1, _SOON_SECONDS if limits["concurrent"] else _NEVER_SECONDS)
        for window in BUDGETS:
            for unit, most in self.account.budgets(window).items():
                if self._spent(window, unit) >= most:
                    asked = {"requests": 1, "tokens": amount.tokens, "cost": amount.cost}[unit]
                    yield self._refusal(BUDGETS[window][unit], asked, self._renewal_s(window))

    def count(self, amount: Amount, lease: str) -> None:
        """Count a request of so much."""
        self.tally.add(int(self.clock), requests=1, tokens=amount.tokens)
        for period in self.tally.periods.values():
            period.add(1, amount)
        if "concurrent" in self.account.limits:
            self.tally.leases.add(lease)

    def allowances(self) -> Iterator[Allowance]:
        """Yield what is left of each limit."""
        for meter in self.account.limits:
            yield self._allowance(meter)

    def _refusal(self, meter: Meter, asked: int, after_s: float) -> _Refusal:
        return _Refusal(self._allowance(meter), asked, after_s, self.account.model)

    def _allowance(self, meter: Meter) -> Allowance:
        used, reset = self._used(meter)
        most = self.account.limits[meter]
        return Allowance(most, max(0, most - used), reset, self.account.scope, meter)

    def _used(self, meter: Meter) -> tuple[int, float]:
        """Return how much of the limit is used, and in how many seconds nothing will be."""
        tally = self.tally
        if meter == "rpm":
            return tally.requests, self._past_s(second.at for second in tally.seconds if second.requests)
        if meter == "tpm":
            return tally.tokens, self._past_s(second.at for second in tally.seconds if second.tokens)
        if meter == "concurrent":
            return len(tally.leases), 0.0
        window, unit = next(
            (window, unit) for window in BUDGETS for unit, named in BUDGETS[window].items() if named == meter
        )
        return self._spent(window, unit), self._renewal_s(window)

    def _past_s(self, seconds: Iterator[int]) -> float:
        last = max(seconds, default=None)
        return 0.0 if last is None else last + _REMEMBERED_SECONDS - self.clock

    def _spent(self, window: Window, unit: str) -> int:
        period = self.tally.periods.get(window)
        return 0 if period is None else period.spent.get(unit, 0)

    def _renewal_s(self, window: Window) -> float:
        return end_of(window, number_of(window, self.epoch)) - self.epoch


def _room_after(tally: _Tally, meter: Meter, excess: int, clock: float) -> float:
    """Return in how many seconds enough of the limit is free again, where it ever is."""
    for second in tally.seconds:
        excess -= second.requests if meter == "rpm" else second.tokens
        if excess <= 0:
            return second.at + _REMEMBERED_SECONDS - clock
    return _NEVER_SECONDS
