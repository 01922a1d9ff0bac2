"""What one request spends of its caller's quota: asked for, counted before the call, and corrected once it is
known.

Every request that calls a model is counted, one that is refused later included. Tokens are counted as an
estimate before the call; what the upstream says it used takes its place, or a better estimate where it says
nothing. What HTTP shows of it is the gateway's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.limits import QuotaLimits
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.model_events import (
    ArgumentsWritten,
    ModelEnded,
    ModelEvent,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
)
from regate_orchestrator.ports import METERS, Amount, Backend, Counted, Exhausted, QuotaCounter
from regate_orchestrator.quota.accounts import accounts_of
from regate_orchestrator.tokens import BYTES_PER_TOKEN, estimated_tokens
from regate_orchestrator.values import JsonObject

UNASKED_OUTPUT_TOKENS: Final = 1_000
"""What an answer is taken to have, before it is there, where the request names no limit."""


@dataclass(frozen=True, slots=True)
class Used:
    """Tokens that a request is taken to need, or used."""

    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def total(self) -> int:
        """Return the two together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Used) -> Used:
        return Used(self.input_tokens + other.input_tokens, self.output_tokens + other.output_tokens)


NOTHING_USED: Final = Used()

NoteUsage: TypeAlias = Callable[[Context, str, Used, int], None]
"""Is told once of every request that has ended: whose it was, its model, what it used and what that cost."""


class Quotas:
    """Counts what callers spend within the limits that they are granted."""

    def __init__(
        self, counter: QuotaCounter, metrics: Metrics | None = None, note: NoteUsage | None = None
    ) -> None:
        self._counter = counter
        self._note = note
        self.limited = False
        """Whether anybody was granted less than everything yet."""
        self._refused = (metrics or Metrics()).counter(
            "regate_quota_refused",
            "Requests that would have passed their caller's limit.",
            ("limit",),
            rows=[("requests",), ("tokens",), *((meter,) for meter in METERS if meter not in _NAMES)],
        )

    async def count(
        self, context: Context, limits: QuotaLimits, *, model: str, needs: Used
    ) -> Spending | Exhausted:
        """Count a request with the tokens that it is taken to need, or return which limit it would pass: then
        nothing was counted.

        An estimate alone refuses nobody for ever: it is counted as the whole limit at most.
        """
        accounts = accounts_of(context.principal, limits, model)
        self.limited = self.limited or any(account.is_limited for account in accounts)
        most = min(account.limits.get("tpm", needs.total) for account in accounts)
        booked = Amount(
            max(1, min(needs.total, most)), limits.price.of(needs.input_tokens, needs.output_tokens)
        )
        counted = await self._counter.reserve(accounts, booked)
        if isinstance(counted, Exhausted):
            self._refused.add(_NAMES.get(counted.refused.meter, counted.refused.meter))
            return counted
        return Spending(context, model, limits, counted, self._counter, booked, self._note)


_NAMES: Final = {"rpm": "requests", "tpm": "tokens"}
"""What the limits of a minute are called where they are counted."""


@dataclass(slots=True)
class Spending:
    """One counted request. What it is taken to use may be corrected as often as more is known; `end` must be
    called when it has ended, however it did.
    """

    context: Context
    model: str
    limits: QuotaLimits
    counted: Counted
    _counter: QuotaCounter
    _booked: Amount
    _note: NoteUsage | None = None
    _used: Used = field(default=NOTHING_USED, init=False)
    _has_ended: bool = field(default=False, init=False)

    async def used(self, used: Used) -> None:
        """Have the request stand for this, instead of what it was taken to need."""
        self._used = used
        now = Amount(used.total, self.limits.price.of(used.input_tokens, used.output_tokens))
        by, self._booked = Amount(now.tokens - self._booked.tokens, now.cost - self._booked.cost), now
        if by != Amount(0):
            await self._counter.correct(self.counted, by=by)

    async def end(self) -> None:
        """Count the request as running no more, and note what it used."""
        if self._has_ended:
            return
        self._has_ended = True
        await self._counter.release(self.counted)
        if self._note is not None:
            cost = self.limits.price.of(self._used.input_tokens, self._used.output_tokens)
            self._note(self.context, self.model, self._used, cost)


@dataclass(slots=True)
class MeteredBackend:
    """A backend whose calls are spent: the sum of what they used so far is what the request stands
    for, whatever becomes of it.
    """

    inner: Backend
    spending: Spending
    calls: int = 0
    spent: Used = NOTHING_USED

    @asynccontextmanager
    async def chat(
        self, upstream: str, payload: JsonObject, *, alternates: Sequence[str] = ()
    ) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """Open the call. See `ports.Backend.chat`."""
        written = _Written()
        opened = False
        try:
            async with self.inner.chat(upstream, payload, alternates=alternates) as events:
                opened = True
                self.calls += 1
                yield _Noted(events, written)
        finally:
            # A call that the upstream did not take up cost nothing.
            self.spent += written.used(payload) if opened else NOTHING_USED
            await self.spending.used(self.spent)


class _Written:
    """What the model wrote, as far as it is known."""

    def __init__(self) -> None:
        self._reported = NOTHING_USED
        self._bytes = 0

    def note(self, event: ModelEvent) -> None:
        match event:
            case ModelEnded(usage=usage):
                self._reported = Used(usage.input_tokens, usage.output_tokens)
            case (
                TextWritten(text) | ReasoningWritten(text) | RefusalWritten(text) | ArgumentsWritten(_, text)
            ):
                self._bytes += len(text.encode("utf-8", "replace"))
            case _:
                pass

    def used(self, payload: JsonObject) -> Used:
        if self._reported.total:
            return self._reported
        sent = estimated_tokens([payload.get("messages"), payload.get("tools")])
        return Used(sent, self._bytes // BYTES_PER_TOKEN)


class _Noted:
    """The events of a call, each noted as it passes. A class, not a generator: one that is abandoned
    half-way needs no closing of its own.
    """

    def __init__(self, events: AsyncIterator[ModelEvent], written: _Written) -> None:
        self._events = events
        self._written = written

    def __aiter__(self) -> _Noted:
        return self

    async def __anext__(self) -> ModelEvent:
        event = await anext(self._events)
        self._written.note(event)
        return event
