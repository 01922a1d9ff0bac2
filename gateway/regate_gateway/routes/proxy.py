"""The proxied routes: `/v1/models`, `/v1/chat/completions`, `/v1/completions` and `/v1/embeddings`.

The body is parsed once and re-serialised from checked fields, so what was decided is what is sent. A successful answer's bytes pass through
as they come; an upstream's errors are replaced by ours. No header of the caller goes on, and none of the upstream's comes back but its type.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from regate_gateway.connection import reply, while_connected
from regate_gateway.fields import Fields
from regate_gateway.routes.call import Call
from regate_gateway.services import Answering
from regate_orchestrator.decisions import Deny, Point, Question
from regate_orchestrator.enforcer import Batch
from regate_orchestrator.errors import InvalidRequest, NotFound
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
_HARMLESS: Final = frozenset({"metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"})
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
    entries = await call.services.upstreams.model_entries()
    names = [str(entry["id"]) for entry in entries]
    admitted = await call.services.enforcer.admit(call.context, "model.list", Batch(models=names)) if names else None
    allowed = admitted.models if admitted is not None else frozenset()
    return reply({"object": "list", "data": [entry for entry in entries if entry["id"] in allowed]})


async def retrieve_model(call: Call) -> Response:
    """Answer `GET /v1/models/{model}`."""
    model = call.path("model")
    entries = [entry for entry in await call.services.upstreams.model_entries() if entry["id"] == model]
    await _upstream(call, model, "/v1/models", Fields({}))
    if not entries:
        raise _no_model(model)
    return reply(entries[0])


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

    def __init__(self, answer: Answering, stack: AsyncExitStack) -> None:
        super().__init__(status_code=answer.status)
        self._answer = answer
        self._stack = stack

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 — the ASGI signature
        """Send the answer. An upstream that breaks off ends the connection too, so that a cut answer cannot pass for a whole one."""
        async with self._stack:
            await while_connected(receive, self._send(send))

    async def _send(self, send: Send) -> None:
        headers = [(b"content-type", self._answer.content_type.encode("latin-1"))]
        if self._answer.content_type.startswith("text/event-stream"):
            headers += [(b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
        await send({"type": "http.response.start", "status": self._answer.status, "headers": headers})
        async for chunk in self._answer.chunks():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _forward(call: Call, fields: Fields, path: str, known: frozenset[str]) -> Response:
    model = fields.string("model", most=256)
    stream = fields.boolean("stream", default=False)
    upstream = await _upstream(call, model, f"/v1{path}", fields)
    body = _checked(fields, known | _extra_fields(call, upstream))
    stack = AsyncExitStack()
    try:
        opening = stack.enter_async_context(call.services.upstreams.open(upstream, path, orjson.dumps(body), accept_stream=stream))
        answer = await call.while_connected(opening)
    except BaseException:
        await stack.aclose()
        raise
    return PassThrough(answer, stack)


def _extra_fields(call: Call, upstream: str) -> frozenset[str]:
    return frozenset(name for one in call.services.settings.upstreams if one.name == upstream for name in one.extra_fields)


def _checked(fields: Fields, known: frozenset[str]) -> dict[str, Json]:
    """Return the body from known fields alone, numbers within bounds; unknown fields are refused unless the operator lists them."""
    fields.refuse_unknown(known | _HARMLESS)
    for name, (least, most) in _BOUNDS.items():
        if name in known:
            fields.maybe_number(name, least=least, most=most)
    return {name: value for name, value in fields.values.items() if name in known and value is not None}


async def _upstream(call: Call, model: str, path: str, fields: Fields) -> str:
    """Return the upstream of a model that the caller may use; raises the one error for unknown and not granted."""
    request: JsonObject = {
        "method": call.request.method,
        "path": path,
        "model": model,
        "stream": fields.boolean("stream", default=False),
        "tool_types": ["function"] if fields.has("tools") else [],
    }
    question = Question(Point.ROUTE, "route.call", {"request": request}, about=model)
    decision = await call.services.enforcer.decide(call.context, question)
    upstream = None if isinstance(decision, Deny) else await call.services.upstreams.upstream_for(model)
    if upstream is None:
        raise _no_model(model)
    return upstream


def _no_model(model: str) -> NotFound:
    message = f"The model '{model}' does not exist or you do not have access to it."
    return NotFound(message, param="model", code="model_not_found")


def _text_or_list(fields: Fields, name: str) -> None:
    value = fields.required(name)
    if not isinstance(value, str | Sequence) or not value:
        raise InvalidRequest(f"'{name}' must be a string or a list that is not empty.", param=name)
