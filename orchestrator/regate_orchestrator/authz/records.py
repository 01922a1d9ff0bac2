"""How a decision is written down; how a batch of them is, `batches.py` says. The counterpart is
`enforcer.py`, which asks for them.
"""

from __future__ import annotations

from regate_orchestrator.authz.decisions import Allow, Decision, Deny, Question
from regate_orchestrator.ports import Answer
from regate_orchestrator.values import Json, JsonObject, mint


def decision_entry(question: Question, decision: Decision) -> JsonObject:
    """Return a decision as records hold it: with the resource it was asked about, so that it can be
    asked again of another policy.
    """
    entry: dict[str, Json] = {
        "id": mint("dec_"),
        "point": question.point.short,
        "rule": question.point.value,
        "action": question.action,
        "about": question.about,
        "resource": question.resource,
    }
    match decision:
        case Allow(_, decision_attributes):
            asked: dict[str, Json] = {"companions": list(question.companions)} if question.companions else {}
            return (
                entry
                | {"allowed": True}
                | asked
                | ({"qualities": dict(decision_attributes)} if decision_attributes or asked else {})
            )
        case Deny(_, reasons):
            return entry | {"allowed": False, "reasons": list(reasons)}


def value_entry(rule: str, action: str, resource: JsonObject, answer: Answer) -> JsonObject:
    """Return a rule's value as records hold it, with what it was asked about; one that is undefined
    has no `value`.
    """
    entry: JsonObject = {"id": mint("dec_"), "rule": rule, "action": action, "resource": resource}
    return {**entry, **({"value": answer.value} if answer.defined else {})}
