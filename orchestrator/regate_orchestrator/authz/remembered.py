"""Decisions that are remembered whole, so that nothing of them need be asked.

Identity, route and quota may be remembered, for `opa.cache_s` at most and under one revision; chunks, tools,
history and all else never are (I10). What remembers is a `ports.DecisionMemory`.
"""

from __future__ import annotations

from typing import Final

from regate_orchestrator.authz.answers import allows, is_misshapen, qualifying_rules, texts
from regate_orchestrator.authz.decisions import Allow, Decision, Deny, Question
from regate_orchestrator.authz.points import PRINCIPAL, Point
from regate_orchestrator.ports import Recall
from regate_orchestrator.values import Json

REMEMBERED_POINTS: Final = frozenset({Point.ROUTE, Point.QUOTA})
"""The points whose decisions may be remembered. Who the caller is may be as well."""


def remembered_rules() -> frozenset[str]:
    """Return the paths below `data` of the rules whose answers may be remembered."""
    found = {PRINCIPAL}
    for point in REMEMBERED_POINTS:
        found |= {point.value, point.reasons_rule}
        found |= {f"{point.package}/{name}" for name in (*point.contract.companions, *point.contract.values)}
    return frozenset(found)


def recalled(question: Question, recall: Recall) -> Decision | None:
    """Return the decision, if all that it is made of is remembered; None where anything must be asked."""
    point = question.point
    answer = recall(point.value)
    if answer is None:
        return None
    if is_misshapen(point, answer):
        return None  # which is told when it is asked
    if not allows(point, answer):
        reasons = recall(point.reasons_rule)
        return None if reasons is None else Deny(answer.revision, texts(reasons.value), answer.made_for)
    said: dict[str, Json] = {}
    if not point.is_yes_or_no:
        if qualifying_rules(point, answer.value):
            return None
        said[point.value.rpartition("/")[2]] = answer.value
    for name, rule in zip(question.companions, question.companion_rules, strict=True):
        beside = recall(rule)
        if beside is None:
            return None
        if beside.defined:
            said[name] = beside.value
    return Allow(answer.revision, said, answer.made_for)
