"""A policy engine that remembers filter plans and what qualifies a decision for a few seconds, and nothing
else: decisions come from OPA (I10).

Both are remembered by the policy revision, the rule, the unknown and the digest of the canonical full input,
of which only the request's id is left out and the time is cut to a bucket. A plan that is out of date cannot
show a chunk, because the post-check is not remembered; a quality that is out of date is of another revision
than the decision, which the enforcer notices. Not an engine of its own; it wraps `engine.py`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import orjson

from regate_adapters.remembering import Remembered
from regate_orchestrator.ports import Answer, Planned, PolicyEngine
from regate_orchestrator.values import Clock, JsonObject

_MAX_BYTES: Final = 32 * 1024 * 1024

_Key: TypeAlias = tuple[str, str, bytes]


@dataclass(frozen=True, slots=True)
class _Made:
    """A plan or an answer, and the time that its input carried."""

    value: Planned | Answer
    now: int


class CachingEngine:
    """Wraps an engine as `ports.PolicyEngine`. All that it holds is of one revision: the last that any answer
    named.

    A plan is used for less than `seconds`, by the clock that the inputs carry and by a clock that nobody can
    set; 0 remembers nothing. So are the answers of `qualities`: rules that only say how a decision is to be
    carried out. At most `entries` of `most_bytes` together are held, and the least recently used go first.
    """

    def __init__(
        self,
        inner: PolicyEngine,
        *,
        seconds: float,
        entries: int,
        decision_attributes: Collection[str] = (),
        most_bytes: int = _MAX_BYTES,
        clock: Clock = time.monotonic,
    ) -> None:
        self._inner = inner
        self._seconds = seconds
        self._decision_attributes = frozenset(decision_attributes)
        self._clock = clock
        self._remembered: Remembered[_Key, _Made] = Remembered(
            entries=entries, most_bytes=most_bytes, clock=clock
        )
        self.revision_seen = ""
        """The revision that the last answer named; empty before the first, and when OPA said that no
        policy is active.
        """
        self.hits = 0
        self.misses = 0

    @property
    def held(self) -> int:
        """Return how many plans and answers are remembered now."""
        return len(self._remembered)

    @property
    def bytes(self) -> int:
        """Return how many bytes they take."""
        return self._remembered.bytes

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        """Return OPA's answer of now, and forget everything when it names another revision. See
        `ports.PolicyEngine.ask`.

        Of a rule among `qualities` it may be that of at most `seconds` ago, under the revision that was last
        heard of.
        """
        key = self._key(rule, "", document) if rule in self._decision_attributes else None
        known = None if key is None else self._remembered.recall(key)
        if known is not None and isinstance(known.value, Answer):
            return known.value
        began = self._clock()
        answer = await self._inner.ask(rule, document)
        self._learn(answer.revision)
        if key is not None:
            self._remember(key, answer, document, until=began + self._seconds)
        return answer

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        """Return for which rows the rule is true, as it was at most `seconds` ago under the same
        revision. See `ports.PolicyEngine.plan`.
        """
        key = self._key(rule, unknown, document)
        if key is None:
            return await self._compile(rule, document, unknown)
        known = self._remembered.recall(key)
        if known is not None and isinstance(known.value, Planned):
            self.hits += 1
            return known.value if known.now == document["now"] else replace(known.value, made_for=known.now)
        self.misses += 1
        began = self._clock()  # before OPA is asked: what it says is no newer than this
        planned = await self._compile(rule, document, unknown)
        self._remember(key, planned, document, until=began + self._seconds)
        return planned

    async def revision(self) -> str:
        """Return the active policy's revision, asked of OPA. See `ports.PolicyEngine.revision`."""
        revision = await self._inner.revision()
        self._learn(revision)
        return revision

    async def _compile(self, rule: str, document: JsonObject, unknown: str) -> Planned:
        seen = self.revision_seen
        planned = await self._inner.plan(rule, document, unknown=unknown)
        if (
            self.revision_seen == seen
        ):  # else others have heard something newer meanwhile, and this plan may be of before
            self._learn(planned.revision)
        return planned

    def _learn(self, revision: str) -> None:
        if revision != self.revision_seen:
            self.revision_seen = revision
            self._remembered.clear()

    def _key(self, rule: str, unknown: str, document: JsonObject) -> _Key | None:
        """Return by what the answer is remembered, or None when it must not be: without a time no
        bucket would ever end.
        """
        now = document.get("now")
        if self._seconds <= 0 or not isinstance(now, int) or isinstance(now, bool):
            return None
        canonical = {**document, "now": now // self._seconds}
        canonical.pop("request_id", None)
        try:
            return (
                rule,
                unknown,
                hashlib.sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).digest(),
            )
        except TypeError:  # not JSON: for the engine to refuse
            return None

    def _remember(self, key: _Key, value: Planned | Answer, document: JsonObject, *, until: float) -> None:
        now = document["now"]
        if value.revision == self.revision_seen and isinstance(now, int):
            self._remembered.remember(key, _Made(value, now), until=until)
