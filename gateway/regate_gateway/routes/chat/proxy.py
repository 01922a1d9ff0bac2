"""The proxied routes: `/v1/models`, `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`.

The body is parsed once and re-serialised from checked fields (`bodies.py`), so what was decided is what is
sent. A successful answer's bytes pass through as they come (`pass_through.py`), unless guards look at them
(`guarded_answer.py`); an upstream's errors are replaced by ours. No header of the caller goes on, and none of
the upstream's comes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Final

from starlette.responses import Response

from regate_gateway.http.connection import reply
from regate_gateway.routes.call import Call, request_view
from regate_gateway.routes.chat.bodies import read_chat, read_completion, read_embedding
from regate_gateway.routes.chat.forwarded import Forwarded, sent
from regate_gateway.routes.chat.gate import admit, members
from regate_gateway.routes.chat.guarded_answer import OUTPUT_STEPS, GuardedAnswer
from regate_gateway.routes.chat.guarding import guard_body
from regate_gateway.routes.chat.pass_through import PassThrough
from regate_gateway.routes.chat.refused import refused
from regate_gateway.routes.chat.traced import told
from regate_gateway.routes.chat.usage import UsageTap
from regate_gateway.routes.quotas import forwarded_demand, spend, within_output_limit
from regate_gateway.services import Answering
from regate_orchestrator.authz.batches import Batch
from regate_orchestrator.authz.decisions import Allow, Point, Question
from regate_orchestrator.quota.metering import NOTHING_USED
from regate_orchestrator.routing import (
    BACKEND,
    MAX_OUTPUT_TOKENS,
    NO_STORE,
    Chosen,
    choose_upstream,
    no_such_model,
    serve,
)
from regate_orchestrator.values import Json, JsonObject

_OUTPUT_LIMITS: Final[Mapping[str, tuple[str, ...]]] = {
    "/chat/completions": ("max_completion_tokens", "max_tokens"),
    "/completions": ("max_tokens",),
}
"""The fields that limit what is written, by route."""
_ABLE: Final = frozenset({NO_STORE, MAX_OUTPUT_TOKENS})
"""Obligations that are met here: nothing of an answer is stored, and its output is limited."""


async def list_models(call: Call) -> Response:
    """Answer `GET /v1/models`: the models that the caller may use, and no others."""
    entries, reserved = (
        await call.services.upstreams.model_entries(),
        await call.services.upstreams.reserved_entries(),
    )
    batch = Batch(models=[str(entry["id"]) for entry in entries])
    if not entries and not reserved:
        return reply({"object": "list", "data": []})
    questions = [_listing_question(str(entry["id"])) for entry, _ in reserved]
    decisions, admitted = await call.services.enforcer.decide_all(
        call.context, "model.list", questions, batch=batch
    )
    allowed = [entry for entry in entries if entry["id"] in admitted.models]
    # Of a model that runs only where policy says so, the policy must have said so to this caller.
    sent = [
        entry
        for (entry, upstreams), decision in zip(reserved, decisions, strict=True)
        if isinstance(decision, Allow)
        and any(decision.decision_attributes.get(BACKEND) == upstream for upstream in upstreams)
    ]
    return reply({"object": "list", "data": [*allowed, *sent]})


async def retrieve_model(call: Call) -> Response:
    """Answer `GET /v1/models/{model}`."""
    model = call.path("model")
    upstreams = call.services.upstreams
    known = [*await upstreams.model_entries(), *[entry for entry, _ in await upstreams.reserved_entries()]]
    request = request_view(call.request.method, "/v1/models", model)
    await choose_upstream(
        call.context, model, request, enforcer=call.services.enforcer, catalogue=upstreams, supported=_ABLE
    )
    entry = next((entry for entry in known if entry["id"] == model), None)
    if entry is None:
        raise no_such_model(model)
    return reply(entry)


async def chat_completions(call: Call) -> Response:
    """Answer `POST /v1/chat/completions`."""
    request = read_chat(
        await call.json(), listed=call.services.upstreams.extra_fields, omit=call.services.settings.tools.omit
    )
    return await _forward(call, request)


async def completions(call: Call) -> Response:
    """Answer `POST /v1/completions`."""
    return await _forward(
        call, read_completion(await call.json(), listed=call.services.upstreams.extra_fields)
    )


async def embeddings(call: Call) -> Response:
    """Answer `POST /v1/embeddings`."""
    return await _forward(
        call, read_embedding(await call.json(), listed=call.services.upstreams.extra_fields)
    )


async def _forward(call: Call, request: Forwarded) -> Response:
    upstreams, guards = call.services.upstreams, call.services.loop.guards
    demand = forwarded_demand(request.asked, writes=request.writes)
    admission = await admit(call, request)
    spending = await spend(call, admission.quota, demand, model=request.model)
    stack = AsyncExitStack()
    try:
        chosen = await serve(admission.route, request.model, catalogue=upstreams, supported=_ABLE)
        capabilities = upstreams.capabilities(chosen.upstream)
        checked = sent(request, takes=capabilities.extra_fields, has_tiers=capabilities.service_tiers)
        body = _limited(
            {**checked, **await members(call, request, admission, capabilities)},
            request.path,
            chosen.obligations.max_output_tokens,
        )
        if request.writes:
            body = within_output_limit(body, spending.limits)
        if guards.steps:
            body, is_blocked = await call.while_connected(guard_body(guards, call.context, body))
            if is_blocked:
                await spending.used(NOTHING_USED)
                await spending.end()
                return refused(request, count=demand.choices)
        passing = _passing(call, request, chosen, body)
        answer: Answering = await call.while_connected(stack.enter_async_context(passing))
        tap = UsageTap(sent=demand.sent, writes=request.writes, streamed=answer.is_stream)
        is_guarded = request.writes and not OUTPUT_STEPS.isdisjoint(guards.steps)
        if is_guarded:
            guarded = GuardedAnswer(answer, guards, call.context, count=demand.choices, note=tap.note)
            await call.while_connected(guarded.check())
            answer = guarded
    except BaseException:
        await stack.aclose()
        await spending.used(NOTHING_USED)
        await spending.end()
        raise
    untold_tier = request.service_tier is not None and "service_tier" not in body
    return PassThrough(
        answer,
        stack,
        spending,
        tap,
        request_id=call.context.request_id,
        default_tier=untold_tier,
        is_noted=is_guarded,
    )


def _passing(
    call: Call, request: Forwarded, chosen: Chosen, body: JsonObject
) -> AbstractAsyncContextManager[Answering]:
    """Return the upstream's answer, to be entered; told of where the request is traced."""
    passing = call.services.upstreams.pass_through(
        chosen.upstream, request.path, body, streamed=request.stream, alternates=chosen.alternates
    )
    if call.context.span is None:
        return passing
    return told(passing, call.context, call.context.span, request=request, upstream=chosen.upstream)


def _limited(body: dict[str, Json], path: str, most: int | None) -> dict[str, Json]:
    """Return the body with its limits on output tokens lowered to what the policy obliges to; an
    embedding has no such output.
    """
    names = _OUTPUT_LIMITS.get(path, ())
    if most is None or not names:
        return body
    given = [name for name in names if name in body] or ["max_tokens"]
    return body | {name: _lower(body.get(name), most) for name in given}


def _lower(value: Json, most: int) -> Json:
    return min(value, most) if isinstance(value, int | float) else most


def _listing_question(model: str) -> Question:
    request = request_view("GET", "/v1/models", model)
    return Question(Point.ROUTE, "model.list", {"request": request}, about=model, companions=(BACKEND,))
