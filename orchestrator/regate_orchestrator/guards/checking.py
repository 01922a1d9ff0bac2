"""Checking texts: guards look at them, and the policy says what becomes of them (`regate.guard`).

Texts go to the guards that the operator named, and to nobody else: the policy is told scores, labels and
numbers of places, and records hold the same with keyed digests of the texts (I11).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from regate_orchestrator.authz.answers import ACTIONS, GuardAction, action_of, names_to_redact
from regate_orchestrator.authz.decisions import Context, Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.concurrency import few_at_once
from regate_orchestrator.errors import GuardUnavailable
from regate_orchestrator.guards.checked import PASSED, Checked, redacted
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import GUARD_STEPS, Findings, GuardProvider, GuardStep
from regate_orchestrator.tracing.spans import GUARD, GUARD_STEP, error_type
from regate_orchestrator.values import Json, JsonObject

_BOUNDS: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_DIGEST_BYTES: Final = 16
_NOTHING: Final = Findings()


@dataclass(frozen=True, slots=True)
class Guard:
    """A provider with the steps at which it is asked, and how long it is waited for. Where `may_be_missing`,
    a text goes on to the policy without what it would have said.
    """

    name: str
    provider: GuardProvider
    steps: frozenset[GuardStep]
    deadline_s: float
    may_be_missing: bool


@dataclass(frozen=True, slots=True)
class Streaming:
    """How text that is still being written is checked: so many characters at a time, with so many before and
    after them in view.
    """

    window: int = 256
    overlap: int = 128


class Guards:
    """The configured guards. `steps` are those at which there is one: at any other nothing is asked, of
    nobody. Digests are made with the key, so that nobody without it can try out texts.
    """

    def __init__(
        self,
        enforcer: Enforcer,
        guards: Sequence[Guard] = (),
        *,
        key: bytes = b"",
        streaming: Streaming | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        self._enforcer = enforcer
        self._key = hashlib.blake2b(key).digest()
        self._at = {step: [one for one in guards if step in one.steps] for step in GUARD_STEPS}
        self.steps = frozenset(step for step, found in self._at.items() if found)
        self.streaming = streaming or Streaming()
        metrics = metrics or Metrics()
        self._actions = metrics.counter(
            "regate_guard_actions",
            "What became of texts that guards looked at.",
            ("step", "action"),
            rows=[(step, action) for step in sorted(self.steps) for action in ACTIONS],
        )
        names = sorted({one.name for one in guards})
        self._failures = metrics.counter(
            "regate_guard_failures",
            "Times that a guard gave no usable answer.",
            ("guard", "effect"),
            rows=[(one.name, "passed" if one.may_be_missing else "blocked") for one in guards],
        )
        self._waits = metrics.histogram(
            "regate_guard_seconds",
            "Time that a guard was waited for.",
            ("guard",),
            bounds=_BOUNDS,
            rows=[(name,) for name in names],
        )

    async def check(
        self, context: Context, step: GuardStep, texts: Sequence[str], *, about: Sequence[JsonObject] = ()
    ) -> list[Checked]:
        """Return what becomes of each text, once that is recorded; nothing is said against one that is blank.

        `about` says of each text what policies are told beside it (`tool`, `source`). Raises
        `GuardUnavailable` and `PolicyUnavailable`: then none of the texts may go further.
        """
        if step not in self.steps:
            return [PASSED] * len(texts)
        places = [place for place, text in enumerate(texts) if text.strip()]
        if not places:
            return [PASSED] * len(texts)
        looked_at = [texts[place] for place in places]
        found, missing = await self._looked(context, step, looked_at)
        resources = [
            _resource(step, one, missing, about[place] if about else {})
            for place, one in zip(places, found, strict=True)
        ]
        checked = [PASSED] * len(texts)
        decided = await self._decided(context, step, resources, looked_at)
        for place, text, findings, (action, names) in zip(places, looked_at, found, decided, strict=True):
            checked[place] = redacted(findings, names, len(text)) if action == "redact" else Checked(action)
            self._actions.add(step, action)
        return checked

    async def _looked(
        self, context: Context, step: GuardStep, texts: Sequence[str]
    ) -> tuple[list[Findings], list[str]]:
        """Return what all guards of the step say of each text, and those that said nothing and may."""
        guards = self._at[step]
        answers = await few_at_once(
            [partial(self._ask, context, one, step, texts) for one in guards], most=len(guards)
        )
        said = [answer for answer in answers if answer is not None]
        missing = [one.name for one, answer in zip(guards, answers, strict=True) if answer is None]
        return [_together([answer[place] for answer in said]) for place in range(len(texts))], missing

    async def _ask(
        self, context: Context, guard: Guard, step: GuardStep, texts: Sequence[str]
    ) -> list[Findings] | None:
        began = time.perf_counter()
        failed = ""
        try:
            async with asyncio.timeout(guard.deadline_s):
                findings = await guard.provider.look(texts, step=step)
            if len(findings) != len(texts):
                raise GuardUnavailable(f"{guard.name}: not one answer for each text")
            return findings
        except (GuardUnavailable, TimeoutError) as error:
            failed = error_type(error)
            self._failures.add(guard.name, "passed" if guard.may_be_missing else "blocked")
            if guard.may_be_missing:
                return None
            if isinstance(error, GuardUnavailable):
                raise
            raise GuardUnavailable(f"{guard.name}: no answer within {guard.deadline_s:g} s") from error
        finally:
            self._waits.observe(time.perf_counter() - began, guard.name)
            if context.span is not None:
                told = {**context.ids, GUARD: guard.name, GUARD_STEP: step}
                context.span.tell(f"guard {guard.name}", told, began=began, error=failed)

    async def _decided(
        self, context: Context, step: GuardStep, resources: Sequence[JsonObject], texts: Sequence[str]
    ) -> list[tuple[GuardAction, frozenset[str]]]:
        """Return the action for each text, and the names of what is taken out; what is the same question is
        asked once.
        """
        keys = [json.dumps(resource, sort_keys=True) for resource in resources]
        asked = dict(zip(keys, resources, strict=True))
        digests: dict[str, list[Json]] = {key: [] for key in asked}
        for key, text in zip(keys, texts, strict=True):
            digests[key].append(self._digest(text))
        questions = [Question(Point.GUARD, "guard.check", one, about=step) for one in asked.values()]
        decisions, _ = await self._enforcer.decide_all(
            context, "guard", questions, notes={"digests": list(digests.values())}
        )
        said = {
            key: (action_of(decision), names_to_redact(decision))
            for key, decision in zip(asked, decisions, strict=True)
        }
        return [said[key] for key in keys]

    def _digest(self, text: str) -> str:
        whole = hashlib.blake2b(text.encode("utf-8", "replace"), key=self._key, digest_size=_DIGEST_BYTES)
        return whole.hexdigest()


def _resource(step: GuardStep, findings: Findings, missing: Sequence[str], about: JsonObject) -> JsonObject:
    """Return what policies are told of a text (`rego/schemas/input/guard.json`)."""
    names = [span.name for span in findings.spans]
    return {
        **about,
        "step": step,
        "scores": dict(findings.scores),
        "labels": sorted(findings.labels),
        "spans": {name: names.count(name) for name in sorted(set(names))},
        "unavailable": list(missing),
    }


def _together(said: Sequence[Findings]) -> Findings:
    """Return what several guards say of one text: of a score that several give, the highest."""
    if len(said) <= 1:
        return said[0] if said else _NOTHING
    scores: dict[str, float] = {}
    for one in said:
        for name, score in one.scores.items():
            scores[name] = max(score, scores.get(name, 0.0))
    labels = frozenset[str]().union(*(one.labels for one in said))
    return Findings(scores, labels, tuple(span for one in said for span in one.spans))
