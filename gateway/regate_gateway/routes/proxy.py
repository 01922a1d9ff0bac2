"""The proxied routes: `/v1/models`, `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`.

The body is parsed once and re-serialised from checked fields, so what was decided is what is sent. A successful answer's bytes pass through
as they come; an upstream's errors are replaced by ours. No header of the caller goes on, and none of the upstream's comes back but its type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from regate_gateway.connection import reply, while_connected
from regate_gateway.fields import Fields
from regate_gateway.quotas import forwarded_demand, spend, within_output_limit
from regate_gateway.routes.call import Call
from regate_gateway.services import Answering
from regate_gateway.usage import UsageTap
from regate_orchestrator.batches import Batch
from regate_orchestrator.decisions import Allow, Point, Question
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.quota import quota_question
from regate_orchestrator.routing import BACKEND, MAX_OUTPUT_TOKENS, NO_STORE, choose_upstream, no_such_model, route_question, serve
from regate_orchestrator.spending import Spending
from regate_orchestrator.values import Json, JsonObject

_SAMPLING: Final = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "seed", "stop", "n", "logit_bias", "user")
_CHAT: Final = frozenset(
    {
        *_SAMPLING,
        *("model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "logprobs", "top_logprobs"),
        *("tools", "tool_choice", "parallel_tool_calls", "response_format", "reasoning_effort", "verbosity", "functions", "function_call"),
    }
)
_COMPLETIONS: Final = frozenset(
    {*_SAMPLING, "model", "prompt", "stream", "stream_options", "max_tokens", "logprobs", "echo", "suffix", "best_of"}
)
_EMBEDDINGS: Final = frozenset({"model", "input", "encoding_format", "dimensions", "user"})
_OUTPUT_LIMITS: Final = ("max_completion_tokens", "max_tokens")
_ABLE: Final = frozenset({NO_STORE, MAX_OUTPUT_TOKENS})
"""Obligations that are met here: nothing of an answer is stored, and its output is limited."""
_HARMLESS: Final = frozenset({"metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"})
"""Fields that are taken and not sent on, `store` and `service_tier` in so far as they ask for nothing that is not done anyway."""
_BOUNDS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "n": (1, 16),
    "best_of": (1, 16),
    "top_logprobs": (0, 20),
    "max_tokens": (1, 10_000_000),
    "max_completion_tokens": (1, 10_000_000),
    "dimensions": (1, 16_384),
}


async def list_models(call: Call) -> Response:
    """Answer `GET /v1/models`: the models that the caller may use, and no others."""
    entries, reserved = await call.services.upstreams.model_entries(), await call.services.upstreams.reserved_entries()
    batch = Batch(models=[str(entry["id"]) for entry in entries])
    if not entries and not reserved:
        return reply({"object": "list", "data": []})
    questions = [_listing_question(str(entry["id"])) for entry, _ in reserved]
    decisions, admitted = await call.services.enforcer.settle(call.context, "model.list", questions, batch=batch)
    allowed = [entry for entry in entries if entry["id"] in admitted.models]
    # Of a model that runs only where policy says so, the policy must have said so to this caller.
    sent = [
        entry
        for (entry, upstreams), decision in zip(reserved, decisions, strict=True)
        if isinstance(decision, Allow) and any(decision.qualities.get(BACKEND) == upstream for upstream in upstreams)
    ]
    return reply({"object": "list", "data": [*allowed, *sent]})


async def retrieve_model(call: Call) -> Response:
    """Answer `GET /v1/models/{model}`."""
    model = call.path("model")
    upstreams = call.services.upstreams
    known = [*await upstreams.model_entries(), *[entry for entry, _ in await upstreams.reserved_entries()]]
    request = _request(call, model, "/v1/models", Fields({}))
    await choose_upstream(call.context, model, request, enforcer=call.services.enforcer, catalogue=upstreams, able=_ABLE)
    entry = next((entry for entry in known if entry["id"] == model), None)
    if entry is None:
        raise no_such_model(model)
    return reply(entry)


async def chat_completions(call: Call) -> Response:
    """Answer `POST /v1/chat/completions`."""
    fields = Fields(await call.json())
    if not fields.objects("messages", most=10_000):
        raise InvalidRequest("'messages' must be a list with at least one message object.", param="messages")
    fields.maybe_object("stream_options")
    fields.objects("tools", most=128)
    return await _forward(call, fields, "/chat/completions", _CHAT)


async def completions(call: Call) -> Response:
    """Answer `POST /v1/completions`."""
    fields = Fields(await call.json())
    _text_or_list(fields, "prompt")
    return await _forward(call, fields, "/completions", _COMPLETIONS)


async def embeddings(call: Call) -> Response:
    """Answer `POST /v1/embeddings`."""
    fields = Fields(await call.json())
    _text_or_list(fields, "input")
    fields.choice("encoding_format", ("float", "base64"), default="float")
    return await _forward(call, fields, "/embeddings", _EMBEDDINGS)


class PassThrough(Response):
    """An upstream's answer on its way to the client: its bytes as they come. The upstream's connection is closed with the client's."""

    def __init__(self, answer: Answering, stack: AsyncExitStack, spending: Spending, tap: UsageTap) -> None:
        super().__init__(status_code=answer.status)
        self._answer = answer
        self._stack = stack
        self._spending = spending
        self._tap = tap

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 — the ASGI signature
        """Send the answer. An upstream that breaks off ends the connection too, so that a cut answer cannot pass for a whole one."""
        try:
            async with self._stack:
                await while_connected(receive, self._send(send))
        finally:
            await self._spending.used(self._tap.tokens())

    async def _send(self, send: Send) -> None:
        headers = [(b"content-type", self._answer.content_type.encode("latin-1"))]
        if _is_stream(self._answer):
            headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": self._answer.status, "headers": headers})
        async for chunk in self._answer.chunks():
            self._tap.note(chunk)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _forward(call: Call, fields: Fields, path: str, known: frozenset[str]) -> Response:
    model = fields.string("model", most=256)
    stream = fields.boolean("stream", default=False)
    writes = path != "/embeddings"
    demand = forwarded_demand(fields.values, writes=writes)
    request = _request(call, model, f"/v1{path}", fields)
    questions = [route_question(model, request), quota_question(request)]
    (route, quota), _ = await call.services.enforcer.settle(call.context, "route.call", questions)
    spending = await spend(call, quota, demand)
    stack = AsyncExitStack()
    try:
        chosen = await serve(route, model, catalogue=call.services.upstreams, able=_ABLE)
        body = _limited(_checked(fields, known | _extra_fields(call, chosen.upstream)), known, chosen.obligations.max_output_tokens)
        if writes:
            body = within_output_limit(body, spending.limits)
        opening = stack.enter_async_context(
            call.services.upstreams.open(chosen.upstream, path, body, accept_stream=stream, alternates=chosen.alternates)
        )
        answer = await call.while_connected(opening)
    except BaseException:
        await stack.aclose()
        await spending.used(0)
        raise
    return PassThrough(answer, stack, spending, UsageTap(sent=demand.sent, writes=writes, streamed=_is_stream(answer)))


def _extra_fields(call: Call, upstream: str) -> frozenset[str]:
    return frozenset(name for one in call.services.settings.upstreams if one.name == upstream for name in one.extra_fields)


def _checked(fields: Fields, known: frozenset[str]) -> dict[str, Json]:
    """Return the body from known fields alone, numbers within bounds; unknown fields are refused unless the operator lists them."""
    fields.refuse_unknown(known | _HARMLESS)
    if "store" not in known and fields.boolean("store", default=False):
        raise InvalidRequest(
            "'store' is not supported here: an answer that passes through is not kept.", param="store", code="unsupported_parameter"
        )
    if "service_tier" not in known:
        fields.choice("service_tier", ("auto", "default"), default="auto")
    for name, (least, most) in _BOUNDS.items():
        if name in known:
            fields.maybe_number(name, least=least, most=most)
    return {name: value for name, value in fields.values.items() if name in known and value is not None}


def _limited(body: dict[str, Json], known: frozenset[str], most: int | None) -> dict[str, Json]:
    """Return the body with its limits on output tokens lowered to what the policy obliges to; an embedding has no such output."""
    names = [name for name in _OUTPUT_LIMITS if name in known]
    if most is None or not names:
        return body
    given = [name for name in names if name in body] or ["max_tokens"]
    return body | {name: _lower(body.get(name), most) for name in given}


def _lower(value: Json, most: int) -> Json:
    return min(value, most) if isinstance(value, int | float) else most


def _request(call: Call, model: str, path: str, fields: Fields) -> JsonObject:
    """Return the request as policies see it."""
    return {
        "method": call.request.method,
        "path": path,
        "model": model,
        "stream": fields.boolean("stream", default=False),
        "tool_types": ["function"] if fields.has("tools") else [],
    }


def _is_stream(answer: Answering) -> bool:
    return answer.content_type.startswith("text/event-stream")


def _listing_question(model: str) -> Question:
    request: JsonObject = {"method": "GET", "path": "/v1/models", "model": model, "stream": False, "tool_types": []}
    return Question(Point.ROUTE, "model.list", {"request": request}, about=model, qualified_by=(BACKEND,))


def _text_or_list(fields: Fields, name: str) -> None:
    value = fields.required(name)
    if not isinstance(value, str | Sequence) or not value:
        raise InvalidRequest(f"'{name}' must be a string or a list that is not empty.", param=name)
