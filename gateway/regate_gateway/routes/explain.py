"""`GET /v1/regate/explain`: why something was decided, or would be, for whom policy grants it. To everybody
else the URL does not exist.

What is explained stays within the caller's tenant, whatever the policy says: reasons tell of what a tenant
has.
"""

from __future__ import annotations

from typing import Any, Final

import orjson
from pydantic import Field
from starlette.responses import Response

from regate_gateway.http.connection import reply
from regate_gateway.http.models import RequestModel
from regate_gateway.routes.call import Call
from regate_orchestrator.authz.decisions import Deny, Point, Question
from regate_orchestrator.errors import InvalidRequest, NotFound
from regate_orchestrator.principal import Principal
from regate_orchestrator.values import FileId, StoreId

_ACTION = "policy.explain"
_KINDS: Final = ("decision", "response", "file")


class ExplainQuery(RequestModel):
    """What is to be explained: one of a decision, a response and a file."""

    decision: str | None = Field(None, max_length=256)
    response: str | None = Field(None, max_length=256)
    file: str | None = Field(None, max_length=256)
    store: str | None = Field(None, max_length=256, description="Where the file is in several stores.")
    principal: str | None = Field(
        None,
        max_length=1_024,
        description=(
            "Who would ask, with `file`: a JSON object with `id`, `teams`, `roles`, …, of the caller's own "
            "tenant."
        ),
    )


async def explain(call: Call) -> Response:
    """Answer `GET /v1/regate/explain` of a decision, a response or a file. Decided before anything of
    the request is read.
    """
    question = Question(
        Point.ADMIN, _ACTION, {"operation": {"tenant": call.context.principal.tenant}}, about=_ACTION
    )
    if isinstance(await call.services.enforcer.decide(call.context, question), Deny):
        scope = call.request.scope
        raise NotFound(f"Invalid URL ({scope['method']} {scope['path']}).", code="unknown_url")
    asked = call.query(ExplainQuery)
    given = {name: value for name in _KINDS if (value := getattr(asked, name)) is not None}
    if len(given) != 1:
        raise InvalidRequest(
            "Exactly one of 'decision', 'response' and 'file' must be given.",
            param="decision",
            code="missing_required_parameter",
        )
    ((kind, identifier),) = given.items()
    if kind != "file" and not (asked.store is None and asked.principal is None):
        raise InvalidRequest("'store' and 'principal' belong to 'file': leave them out.", param="principal")
    found = await call.while_connected(_found(call, kind, identifier, asked))
    if found is None:
        raise NotFound.of(kind, identifier, param=kind)
    return reply({"object": "regate.explanation", kind: identifier, **found})


async def _found(call: Call, kind: str, identifier: str, asked: ExplainQuery) -> dict[str, Any] | None:
    tenant, explaining = call.context.principal.tenant, call.services.explaining
    match kind:
        case "decision":
            return await explaining.decision(tenant, identifier)
        case "response":
            return await explaining.response(tenant, identifier)
        case _:
            store, now = None if asked.store is None else StoreId(asked.store), int(call.services.clock())
            who = _principal(asked.principal, tenant)
            return await explaining.file(who, FileId(identifier), store, now=now)


def _principal(text: str | None, tenant: str) -> Principal:
    """Return the principal that is asked about, who is of the caller's tenant. Raises `InvalidRequest`."""
    if text is None:
        raise InvalidRequest(
            "'principal' says who would ask: give it with 'file'.",
            param="principal",
            code="missing_required_parameter",
        )
    from regate_gateway.workbench.check.samples import written_principal  # not at start

    try:
        entry = orjson.loads(text)
        principal = written_principal({"tenant": tenant, **entry} if isinstance(entry, dict) else entry)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            "'principal' is no JSON: write an object with id, teams, roles, ….", param="principal"
        ) from error
    except ValueError as error:
        raise InvalidRequest(f"'principal': {error}.", param="principal") from error
    if principal.tenant != tenant:
        raise InvalidRequest(
            "'principal' must be of your own tenant: leave its tenant out.", param="principal"
        )
    return principal
