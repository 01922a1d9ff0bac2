"""A policy engine that remembers filter plans, who callers are, and what they may call and spend, for a few
seconds, and nothing else: every other decision comes from OPA (I10).

All are remembered by the policy revision, the rule, the unknown and the digest of the canonical full input,
of which only the request's id is left out and the time is cut to a bucket. All are forgotten with the
revision, and at once when whoever runs OPA says that it changes or dies (`forget`). A plan that is out of
date cannot show a chunk, because the post-check is not remembered. Not an engine of its own; it wraps
`engine.py`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final, TypeAlias

import orjson

from regate_adapters.remembering import Remembered
from regate_orchestrator.ports import Answer, Planned, PolicyEngine, Recall
from regate_orchestrator.values import Clock, JsonObject

_MAX_BYTES: Final = 32 * 1024 * 1024

_Digest: TypeAlias = bytes
_Key: TypeAlias = tuple[str, str, _Digest]


@dataclass(frozen=True, slots=True)
class _Made:
    """A plan or an answer, and the time that its input carried."""

    value: Planned | Answer
    now: int


class CachingEngine:
    """Wraps an engine as `ports.PolicyEngine`, and is its `ports.DecisionMemory`. All that it holds is of one
    revision: the last that any answer named.

    A plan is used for less than `seconds`, by the clock that the inputs carry and by a clock that nobody can
    set; 0 remembers nothing. So are the answers of the rules in `answers_of`. At most `entries` of
    `most_bytes` together are held, and the least recently used go first.
    """

    def __init__(
        self,
        inner: PolicyEngine,
        *,
        seconds: float,
        entries: int,
        answers_of: Collection[str] = (),
        most_bytes: int = _MAX_BYTES,
        clock: Clock = time.monotonic,
    ) -> None:
        self._inner = inner
        self._seconds = seconds
        self._answers_of = frozenset(answers_of)
        self._clock = clock
        self._remembered: Remembered[_Key, _Made] = Remembered(
            entries=entries, most_bytes=most_bytes, clock=clock
        )
        self._forgotten = 0
        """How often everything was forgotten on demand: what was asked before then is not remembered."""
        self.revision_seen = ""
        """The revision that the last answer named; empty before the first, and when OPA said that no
        policy is active.
        """
        self.hits = 0
        self.misses = 0
        self.recalled = 0
        """How many answers were given from memory."""

    @property
    def held(self) -> int:
        """Return how many plans and answers are remembered now."""
        return len(self._remembered)

    @property
    def bytes(self) -> int:
        """Return how many bytes they take."""
        return self._remembered.bytes

    def forget(self) -> None:
        """Forget everything now: OPA loads other policies, or is gone."""
        self._forgotten += 1
        self.revision_seen = ""
        self._remembered.clear()

    def of(self, document: JsonObject) -> Recall | None:
        """Return what recalls answers to this input. See `ports.DecisionMemory.of`."""
        digest = self._digest(document)
        if digest is None:
            return None

        return lambda rule: self._recalled(rule, digest)

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        """Return OPA's answer of now, and forget everything when it names another revision. See
        `ports.PolicyEngine.ask`.

        Of a rule among `answers_of` it may be that of at most `seconds` ago, under the revision that was last
        heard of.
        """
        digest = self._digest(document) if rule in self._answers_of else None
        if digest is None:
            return await self._ask(rule, document)
        if (known := self._recalled(rule, digest)) is not None:
            return known
        began, forgotten = self._clock(), self._forgotten
        answer = await self._ask(rule, document)
        if forgotten == self._forgotten:
            self._remember((rule, "", digest), answer, document, until=began + self._seconds)
        return answer

    async def plan(self, rule: str, document: JsonObject, *, unknown: str) -> Planned:
        """Return for which rows the rule is true, as it was at most `seconds` ago under the same
        revision. See `ports.PolicyEngine.plan`.
        """
        digest = self._digest(document)
        if digest is None:
            return await self._compile(rule, document, unknown)
        key = rule, unknown, digest
        known = self._remembered.recall(key)
        if known is not None and isinstance(known.value, Planned):
            self.hits += 1
            return known.value if known.now == document["now"] else replace(known.value, made_for=known.now)
        self.misses += 1
        # Before OPA is asked: what it says is no newer than this
        began, forgotten = self._clock(), self._forgotten
        planned = await self._compile(rule, document, unknown)
        if forgotten == self._forgotten:
            remembered = replace(planned, is_remembered=True)
            self._remember(key, remembered, document, until=began + self._seconds)
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

    async def _ask(self, rule: str, document: JsonObject) -> Answer:
        forgotten = self._forgotten
        answer = await self._inner.ask(rule, document)
        if forgotten == self._forgotten:  # else it may be of the policies that were forgotten meanwhile
            self._learn(answer.revision)
        return answer

    def _recalled(self, rule: str, digest: _Digest) -> Answer | None:
        known = self._remembered.recall((rule, "", digest)) if rule in self._answers_of else None
        if known is None or not isinstance(known.value, Answer):
            return None
        self.recalled += 1
        return known.value

    def _learn(self, revision: str) -> None:
        if revision != self.revision_seen:
            self.revision_seen = revision
            self._remembered.clear()

    def _digest(self, document: JsonObject) -> _Digest | None:
        """Return by what an answer is remembered beside its rule, or None when it must not be: without a time
        no bucket would ever end.
        """
        now = document.get("now")
        if self._seconds <= 0 or type(now) is not int:
            return None
        canonical = {**document, "now": now // self._seconds}
        canonical.pop("request_id", None)
        try:
            return hashlib.sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).digest()
        except TypeError:  # not JSON: for the engine to refuse
            return None

    def _remember(self, key: _Key, value: Planned | Answer, document: JsonObject, *, until: float) -> None:
        now = document["now"]
        if value.revision and value.revision == self.revision_seen and isinstance(now, int):
            if isinstance(value, Answer):
                value = replace(value, made_for=now)
            self._remembered.remember(key, _Made(value, now), until=until)
