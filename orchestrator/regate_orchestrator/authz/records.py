"""How a decision is written down; how a batch of them is, `batches.py` says. The counterpart is
`enforcer.py`, which asks for them.
"""

from __future__ import annotations

from regate_orchestrator.authz.decisions import Allow, Context, Decision, Deny, Question
from regate_orchestrator.ports import Answer
from regate_orchestrator.principal import Authentication
from regate_orchestrator.values import Json, JsonObject, mint


def policy_input(
    principal: JsonObject, action: str, resource: JsonObject, *, request_id: str, now: int
) -> JsonObject:
    """Return the input of one question: what every point is told, and the point's own keys. Recorded
    questions are asked again with it.
    """
    return {
        "v": 1,
        "now": now,
        "request_id": request_id,
        "action": action,
        "principal": principal,
        **resource,
    }


def identity_input(
    claims: JsonObject, authentication: Authentication, *, request_id: str, now: int
) -> JsonObject:
    """Return the input of the question who a caller is, for whom there is no principal yet."""
    return {
        "v": 1,
        "now": now,
        "request_id": request_id,
        "action": "authn.principal",
        "claims": claims,
        **authentication.as_input(),
    }


def refused_identity(authentication: Authentication, answer: Answer, *, request_id: str) -> JsonObject:
    """Return the record of a caller of whom the policy makes no principal."""
    return {
        "kind": "identity",
        "request_id": request_id,
        "revision": answer.revision,
        "allowed": False,
        "authentication": authentication.as_record(),
    }


def record_of(context: Context, phase: str, now: int) -> dict[str, Json]:
    """Return what every record of decisions begins with. Of a request that is traced it names the trace."""
    how = {} if context.authentication is None else {"authentication": context.authentication.as_record()}
    traced: dict[str, Json] = {} if context.span is None else {"trace_id": context.span.trace_id}
    return {
        "kind": "decisions",
        "phase": phase,
        "request_id": context.request_id,
        "response_id": context.response_id,
        "tenant": context.principal.tenant,
        "subject": context.principal.id,
        "principal": context.principal.digest,
        "asked_as": context.principal.as_input(),
        "now": now,
        **({} if context.identified is None else {"identified": context.identified}),
        **how,
        **traced,
    }


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
        "resource": question.resource if question.recorded is None else question.recorded,
    }
    if decision.made_for is not None:
        entry["remembered_from"] = decision.made_for
    match decision:
        case Allow(_, decision_attributes, _):
            asked: dict[str, Json] = {"companions": list(question.companions)} if question.companions else {}
            return (
                entry
                | {"allowed": True}
                | asked
                | ({"qualities": dict(decision_attributes)} if decision_attributes or asked else {})
            )
        case Deny(_, reasons, _):
            return entry | {"allowed": False, "reasons": list(reasons)}


def value_entry(rule: str, action: str, resource: JsonObject, answer: Answer) -> JsonObject:
    """Return a rule's value as records hold it, with what it was asked about; one that is undefined
    has no `value`.
    """
    entry: JsonObject = {"id": mint("dec_"), "rule": rule, "action": action, "resource": resource}
    return {**entry, **({"value": answer.value} if answer.defined else {})}
