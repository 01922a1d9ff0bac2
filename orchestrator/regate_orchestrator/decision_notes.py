"""How a decision is written down; how a batch of them is, `batches.py` says. The counterpart is `enforcer.py`, which asks for them."""

from __future__ import annotations

from regate_orchestrator.decisions import Allow, Decision, Deny, Question
from regate_orchestrator.values import Json, JsonObject, mint


def decision_entry(question: Question, decision: Decision) -> JsonObject:
    """Return a decision as records hold it: with the resource it was asked about, so that it can be asked again of another policy."""
    entry: dict[str, Json] = {
        "id": mint("dec_"),
        "point": question.point.short,
        "rule": question.point.value,
        "action": question.action,
        "about": question.about,
        "resource": question.resource,
    }
    match decision:
        case Allow(_, qualities):
            return entry | {"allowed": True} | ({"qualities": dict(qualities)} if qualities or question.qualified_by else {})
        case Deny(_, reasons):
            return entry | {"allowed": False, "reasons": list(reasons)}
