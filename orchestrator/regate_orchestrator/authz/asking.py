"""One question to the policy engine, with the rules that qualify its answer, read as a decision.

An allow is exactly the value `true` from OPA; undefined, any other type and every error are not (I1). Not
what is recorded of it: that is `enforcer.py`, which alone has questions asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from regate_orchestrator.authz.answers import allows, is_misshapen, qualifying_rules, texts
from regate_orchestrator.authz.decisions import Allow, Decision, Deny, Point, Question
from regate_orchestrator.authz.measuring import DecisionMetrics
from regate_orchestrator.errors import PolicyUnavailable
from regate_orchestrator.ports import Answer, PolicyEngine
from regate_orchestrator.values import Json, JsonObject

_TRIES: Final = 3


class _PolicyChanged(Exception):
    """Another policy came into force between an answer and what qualifies it."""


class Asking:
    """Asks the policy engine. Raises `PolicyUnavailable` where it has no usable answer."""

    def __init__(self, engine: PolicyEngine, measures: DecisionMetrics) -> None:
        self._engine = engine
        self._measures = measures

    async def ask(self, rule: str, document: JsonObject) -> Answer:
        """Return the rule's value for this input."""
        with self._measures.waiting("ask"):
            return await self._engine.ask(rule, document)

    async def decide(self, question: Question, document: JsonObject) -> Decision:
        """Return the decision on a question, asked with this input: all of it of one policy, and asked anew
        where another comes into force meanwhile.
        """
        for _ in range(_TRIES):
            try:
                return await self._decided(question, document)
            except _PolicyChanged:
                continue
        raise PolicyUnavailable(f"the policy changed {_TRIES} times while {question.point.value} was asked")

    async def _decided(self, question: Question, document: JsonObject) -> Decision:
        answer, said = await self._asked(question, document)
        if is_misshapen(question.point, answer):
            raise PolicyUnavailable(f"{question.point.value} has not the shape that is asked for")
        if allows(question.point, answer):
            if not question.point.is_yes_or_no:
                return await self._value_allowed(question.point, document, answer)
            return Allow(
                answer.revision, await self._decision_attributes(question, document, answer.revision, said)
            )
        reasons = await self.ask(question.point.reasons_rule, document)
        return Deny(answer.revision, texts(reasons.value) if reasons.defined else ())

    async def _asked(
        self, question: Question, document: JsonObject
    ) -> tuple[Answer, list[Answer | BaseException]]:
        """Return the decision's answer, and beside it what the rules that qualify it say, failures
        included: a deny needs none of them.
        """
        if not question.companions:
            return await self.ask(question.point.value, document), []
        rules = [question.point.value, *question.companion_rules]
        answer, *said = await asyncio.gather(
            *(self.ask(rule, document) for rule in rules), return_exceptions=True
        )
        if isinstance(answer, BaseException):
            raise answer
        return answer, said

    async def _decision_attributes(
        self, question: Question, document: JsonObject, revision: str, said: Sequence[Answer | BaseException]
    ) -> dict[str, Json]:
        """Return the values that qualify an allow, all of the revision that allows; asks once more for
        one of another revision.
        """
        decision_attributes: dict[str, Json] = {}
        for name, rule, first in zip(question.companions, question.companion_rules, said, strict=True):
            if isinstance(first, BaseException):
                raise first
            answer = first if first.revision == revision else await self.ask(rule, document)
            if answer.revision != revision:
                raise _PolicyChanged
            if answer.defined:
                decision_attributes[name] = answer.value
        return decision_attributes

    async def _value_allowed(self, point: Point, document: JsonObject, answer: Answer) -> Allow:
        """Return the allow at a point that is no yes or no, with what it said and what the rules that
        qualify that say under the same revision.
        """
        said: dict[str, Json] = {point.value.rpartition("/")[2]: answer.value}
        for name in qualifying_rules(point, answer.value):
            more = await self.ask(f"{point.package}/{name}", document)
            if more.revision != answer.revision:
                raise _PolicyChanged
            said[name] = more.value
        return Allow(answer.revision, said)
