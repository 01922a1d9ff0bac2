"""What one request spends of its caller's quota: asked for, counted before the call, and corrected once it is
known.

Every request that calls a model is counted, one that is refused later included. Tokens are counted as an
estimate before the call; what the upstream says it used takes its place, or a better estimate where it says
nothing. What HTTP shows of it is the gateway's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

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
from regate_orchestrator.ports import Backend, Counted, Exhausted, QuotaCounter
from regate_orchestrator.tokens import BYTES_PER_TOKEN, estimated_tokens
from regate_orchestrator.values import JsonObject

UNASKED_OUTPUT_TOKENS: Final = 1_000
"""What an answer is taken to have, before it is there, where the request names no limit."""


class Quotas:
    """Counts what callers spend within the limits that they are granted."""

    def __init__(self, counter: QuotaCounter, metrics: Metrics | None = None) -> None:
        self._counter = counter
        self._refused = (metrics or Metrics()).counter(
            "regate_quota_refused",
            "Requests that would have passed their caller's limit.",
            ("limit",),
            rows=[("requests",), ("tokens",)],
        )

    async def count(self, context: Context, limits: QuotaLimits, *, tokens: int) -> Spending | Exhausted:
        """Count a request with the tokens that it is taken to need, or return which limit it would pass: then
        nothing was counted.

        An estimate alone refuses nobody for ever: it is counted as the whole limit at most.
        """
        tokens = max(1, min(tokens, limits.tpm))
        counted = await self._counter.reserve(
            context.principal, rpm=limits.rpm, tpm=limits.tpm, tokens=tokens
        )
        if isinstance(counted, Exhausted):
            self._refused.add(counted.limit)
            return counted
        return Spending(limits, counted, self._counter, tokens)


class Spending:
    """One counted request. What its tokens are taken to be may be corrected as often as more is known."""

    def __init__(self, limits: QuotaLimits, counted: Counted, counter: QuotaCounter, tokens: int) -> None:
        self.limits = limits
        self.counted = counted
        self._counter = counter
        self._booked = tokens

    async def used(self, tokens: int) -> None:
        """Have the request stand for this many tokens, instead of what it was taken to need."""
        by, self._booked = tokens - self._booked, tokens
        if by:
            await self._counter.correct(self.counted, by=by)


@dataclass(slots=True)
class MeteredBackend:
    """A backend whose calls are spent: the sum of what they used so far is what the request stands
    for, whatever becomes of it.
    """

    inner: Backend
    spending: Spending
    calls: int = 0
    spent: int = 0

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
            self.spent += written.tokens(payload) if opened else 0
            await self.spending.used(self.spent)


class _Written:
    """What the model wrote, as far as it is known."""

    def __init__(self) -> None:
        self._reported = 0
        self._bytes = 0

    def note(self, event: ModelEvent) -> None:
        match event:
            case ModelEnded(usage=usage):
                self._reported = usage.input_tokens + usage.output_tokens
            case (
                TextWritten(text) | ReasoningWritten(text) | RefusalWritten(text) | ArgumentsWritten(_, text)
            ):
                self._bytes += len(text.encode("utf-8", "replace"))
            case _:
                pass

    def tokens(self, payload: JsonObject) -> int:
        return (
            self._reported
            or estimated_tokens([payload.get("messages"), payload.get("tools")])
            + self._bytes // BYTES_PER_TOKEN
        )


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
