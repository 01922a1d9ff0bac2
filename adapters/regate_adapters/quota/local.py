"""`LocalQuotaCounter`: what callers spent in the last minute, in this process's memory. Not shared: each
gateway counts for itself.

A minute is a sliding one, in steps of a second: what was counted is forgotten when it is surely older than 60
seconds, never before.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from regate_orchestrator.ports import Allowance, Counted, Exhausted
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import Clock

_REMEMBERED_SECONDS: Final = 61
"""A request counted within second n is 60 seconds old at the end of second n + 60."""
_MAX_CALLERS: Final = 20_000
_NEVER_SECONDS: Final = 60.0
"""What a caller is told to wait where no waiting helps."""

_Person: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class _Second:
    """What was counted within one second."""

    at: int
    requests: int = 0
    tokens: int = 0


@dataclass(slots=True)
class _Caller:
    """One person's last minute, oldest second first, and its sums."""

    seconds: deque[_Second] = field(default_factory=deque)
    requests: int = 0
    tokens: int = 0

    def forget(self, now: int) -> None:
        """Drop the seconds that are past."""
        while self.seconds and self.seconds[0].at <= now - _REMEMBERED_SECONDS:
            past = self.seconds.popleft()
            self.requests -= past.requests
            self.tokens -= past.tokens

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
    """Counts in memory. At most `most_callers` people are remembered; past that, whoever has been
    silent longest begins anew.
    """

    def __init__(self, *, clock: Clock = time.monotonic, most_callers: int = _MAX_CALLERS) -> None:
        self._clock = clock
        self._most_callers = most_callers
        self._callers: OrderedDict[_Person, _Caller] = OrderedDict()

    @property
    def held(self) -> int:
        """Return how many people are remembered."""
        return len(self._callers)

    async def reserve(self, principal: Principal, *, rpm: int, tpm: int, tokens: int) -> Counted | Exhausted:
        """Count a request and its tokens unless either would pass its limit. See
        `ports.QuotaCounter.reserve`.
        """
        clock = self._clock()
        now = int(clock)
        caller = self._caller((principal.tenant, principal.id), now)
        if (excess := caller.requests + 1 - rpm) > 0:
            return Exhausted(
                "requests",
                1,
                _room_after(caller, "requests", excess=excess, clock=clock),
                *_allowances(caller, rpm=rpm, tpm=tpm, clock=clock),
            )
        if (excess := caller.tokens + tokens - tpm) > 0:
            return Exhausted(
                "tokens",
                tokens,
                _room_after(caller, "tokens", excess=excess, clock=clock),
                *_allowances(caller, rpm=rpm, tpm=tpm, clock=clock),
            )
        caller.add(now, requests=1, tokens=tokens)
        return Counted(
            principal.tenant, principal.id, now, *_allowances(caller, rpm=rpm, tpm=tpm, clock=clock)
        )

    async def correct(self, counted: Counted, *, by: int) -> None:
        """Count more tokens from now on, or fewer from when they were counted. See
        `ports.QuotaCounter.correct`.
        """
        now = int(self._clock())
        caller = self._caller((counted.tenant, counted.subject), now)
        if by > 0:
            caller.add(now, requests=0, tokens=by)
        else:
            caller.take(counted.at, tokens=-by)

    def _caller(self, person: _Person, now: int) -> _Caller:
        """Return the person's last minute, of which what is past is forgotten; and forget people of
        whom nothing is left.
        """
        caller = self._callers.get(person)
        if caller is None:
            caller = self._callers[person] = _Caller()
        self._callers.move_to_end(person)
        caller.forget(now)
        while len(self._callers) > 1:
            longest = next(iter(self._callers))
            silent = self._callers[longest]
            silent.forget(now)
            if silent.seconds and len(self._callers) <= self._most_callers:
                break
            del self._callers[longest]
        return caller


def _room_after(caller: _Caller, limit: Literal["requests", "tokens"], *, excess: int, clock: float) -> float:
    """Return in how many seconds enough of the limit is free again, where it ever is."""
    for second in caller.seconds:
        excess -= second.requests if limit == "requests" else second.tokens
        if excess <= 0:
            return second.at + _REMEMBERED_SECONDS - clock
    return _NEVER_SECONDS


def _allowances(caller: _Caller, *, rpm: int, tpm: int, clock: float) -> tuple[Allowance, Allowance]:
    last = {
        "requests": max((second.at for second in caller.seconds if second.requests), default=None),
        "tokens": max((second.at for second in caller.seconds if second.tokens), default=None),
    }
    resets = {name: 0.0 if at is None else at + _REMEMBERED_SECONDS - clock for name, at in last.items()}
    return (
        Allowance(rpm, max(0, rpm - caller.requests), resets["requests"]),
        Allowance(tpm, max(0, tpm - caller.tokens), resets["tokens"]),
    )
