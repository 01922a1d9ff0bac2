"""`GET /v1/regate/explain`: why something was decided, for whom policy grants it. To everybody else the URL does not exist.

What is explained stays within the caller's tenant, whatever the policy says: reasons tell of what a tenant has.
"""

from __future__ import annotations

from starlette.responses import Response

from regate_gateway.connection import reply
from regate_gateway.routes.call import Call
from regate_orchestrator.decisions import Deny, Point, Question
from regate_orchestrator.errors import InvalidRequest, NotFound

_ACTION = "policy.explain"
_MOST = 256


async def explain(call: Call) -> Response:
    """Answer `GET /v1/regate/explain?decision=ID` and `?response=ID`. Decided before anything of the request is read."""
    question = Question(Point.ADMIN, _ACTION, {"operation": {"tenant": call.context.principal.tenant}}, about=_ACTION)
    if isinstance(await call.services.enforcer.decide(call.context, question), Deny):
        scope = call.request.scope
        raise NotFound(f"Invalid URL ({scope['method']} {scope['path']}).", code="unknown_url")
    query = call.query()
    query.refuse_unknown({"decision", "response"})
    decision, response = query.maybe_string("decision", most=_MOST), query.maybe_string("response", most=_MOST)
    tenant, explaining = call.context.principal.tenant, call.services.explaining
    if decision is not None and response is None:
        kind, identifier, found = "decision", decision, await call.while_connected(explaining.decision(tenant, decision))
    elif response is not None and decision is None:
        kind, identifier, found = "response", response, await call.while_connected(explaining.response(tenant, response))
    else:
        raise InvalidRequest("Exactly one of 'decision' and 'response' must be given.", param="decision", code="missing_required_parameter")
    if found is None:
        raise NotFound.of(kind, identifier, param=kind)
    return reply({"object": "regate.explanation", kind: identifier, **found})
