"""A policy engine that remembers filter plans for a few seconds, and nothing else: every answer to `ask` comes from OPA (I10).

A plan is remembered by the policy revision, the rule, the unknown and the canonical full input, of which only the request's id is left out
and the time is cut to a bucket. A plan that is out of date cannot show a chunk, because the post-check is not remembered. Not an engine of
its own; its counterpart is `engine.py`, which it wraps.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import orjson

from regate_orchestrator.ports import Answer, Planned, PolicyEngine
from regate_orchestrator.values import Clock, JsonObject

_MOST_BYTES: Final = 32 * 1024 * 1024

_Key: TypeAlias = tuple[str, str, bytes]


@dataclass(frozen=True, slots=True)
class _Remembered:
    """A plan, what it was made for, until when it may be used, and about how many bytes it takes."""

    planned: Planned
    now: int
    until: float
    size: int


class CachingEngine:
    """Wraps an engine as `ports.PolicyEngine`. All plans it holds are of one revision: the last that any answer named.

    A plan is used for less than `seconds`, by the clock that the inputs carry and by a clock that nobody can set; 0 remembers nothing. At
    most `entries` plans of about `most_bytes` together are held, and the least recently used go first.
    """

    def __init__(
        self,
        inner: PolicyEngine,
        *,
        seconds: float,
        entries: int,
        most_bytes: int = _MOST_BYTES,
        clock: Clock = time.monotonic,
    ) -> None:
        self._inner = inner
        self._seconds = seconds
        self._entries = entries
        self._most_bytes = most_bytes
        self._clock = clock
        self._plans: OrderedDict[_Key, _Remembered] = OrderedDict()
        self.revision_seen = ""
        """The revision that the last answer named; empty before the first, and when OPA said that no policy is active."""
        self.hits = 0
        self.misses = 0
        self.bytes = 0
        """About how much the remembered plans take."""

    @property
    def held(self) -> int:
        """Return how many plans are remembered now."""
        return len(self._plans)

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        """Return OPA's answer of now, and forget all plans when it names another revision. See `ports.PolicyEngine.ask`."""
        answer = await self._inner.ask(rule, document)
        self._learn(answer.revision)
        return answer

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        """Return for which rows the rule is true, as it was at most `seconds` ago under the same revision. See `ports.PolicyEngine.plan`."""
        now = document.get("now")
        if self._seconds <= 0 or not isinstance(now, int) or isinstance(now, bool):  # without a time, no bucket would ever end
            return await self._compile(rule, document, unknown)
        try:
            key = rule, unknown, self._canonical(document, now)
        except TypeError:  # not JSON: for the engine to refuse
            return await self._compile(rule, document, unknown)
        known = self._plans.get(key)
        if known is not None and self._clock() < known.until:
            self.hits += 1
            self._plans.move_to_end(key)
            return known.planned if known.now == now else replace(known.planned, made_for=known.now)
        self.misses += 1
        began = self._clock()  # before OPA is asked: what it says is no newer than this
        planned = await self._compile(rule, document, unknown)
        self._remember(key, planned, now, until=began + self._seconds)
        return planned

    async def revision(self) -> str:
        """Return the active policy's revision, asked of OPA. See `ports.PolicyEngine.revision`."""
        revision = await self._inner.revision()
        self._learn(revision)
        return revision

    async def _compile(self, rule: str, document: JsonObject, unknown: str) -> Planned:
        seen = self.revision_seen
        planned = await self._inner.plan(rule, document, unknown=unknown)
        if self.revision_seen == seen:  # else others have heard something newer meanwhile, and this plan may be of before
            self._learn(planned.revision)
        return planned

    def _learn(self, revision: str) -> None:
        if revision != self.revision_seen:
            self.revision_seen = revision
            self._plans.clear()
            self.bytes = 0

    def _canonical(self, document: JsonObject, now: int) -> bytes:
        canonical = {**document, "now": now // self._seconds}
        canonical.pop("request_id", None)
        return orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)

    def _remember(self, key: _Key, planned: Planned, now: int, *, until: float) -> None:
        size = len(key[2]) + len(repr(planned.plan))
        if planned.revision != self.revision_seen or size > self._most_bytes:
            return
        self._drop(key)
        self._plans[key] = _Remembered(planned, now, until, size)
        self.bytes += size
        while len(self._plans) > self._entries or self.bytes > self._most_bytes:
            self._drop(next(iter(self._plans)))

    def _drop(self, key: _Key) -> None:
        gone = self._plans.pop(key, None)
        self.bytes -= 0 if gone is None else gone.size
