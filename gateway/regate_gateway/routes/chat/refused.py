"""The answers of the proxied routes to an input that is blocked: a model's refusal, as OpenAI shows one."""

from __future__ import annotations

import time
from collections.abc import Sequence

from starlette.responses import Response

from regate_gateway.http import sse
from regate_gateway.http.connection import reply
from regate_gateway.routes.chat.forwarded import Forwarded
from regate_gateway.routes.chat.guarded_choice import CONTENT_FILTER
from regate_orchestrator.guards.model_output import INPUT_REFUSAL
from regate_orchestrator.responses.context.guarding import input_blocked
from regate_orchestrator.values import Json, mint


def refused(request: Forwarded, *, count: int) -> Response:
    """Return the answer with as many choices as were asked for. Raises `InvalidRequest` on the route whose
    answers hold no words.
    """
    if not request.writes:
        raise input_blocked("input")
    is_chat = request.path == "/chat/completions"
    kind = "chat.completion" if is_chat else "text_completion"
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    if not request.stream:
        return reply({**_head(request, kind), "choices": _choices(_last(is_chat), count), "usage": usage})
    head = _head(request, "chat.completion.chunk" if is_chat else kind)
    pieces = [_choices(piece, count) for piece in _pieces(is_chat)]
    events: list[dict[str, Json]] = [{**head, "choices": piece} for piece in pieces]
    if isinstance(options := request.body.get("stream_options"), dict) and options.get("include_usage"):
        events.append({**head, "choices": [], "usage": usage})
    body = b"".join(map(sse.encode_data, events)) + sse.DONE
    return Response(body, headers={name.decode(): value.decode() for name, value in sse.HEADERS})


def _head(request: Forwarded, kind: str) -> dict[str, Json]:
    prefix = "chatcmpl-" if kind.startswith("chat") else "cmpl-"
    return {"id": mint(prefix), "object": kind, "created": int(time.time()), "model": request.model}


def _last(is_chat: bool) -> dict[str, Json]:
    if is_chat:
        message: dict[str, Json] = {"role": "assistant", "content": None, "refusal": INPUT_REFUSAL}
        return {"message": message, "logprobs": None, "finish_reason": "stop"}
    return {"text": "", "logprobs": None, "finish_reason": CONTENT_FILTER}


def _pieces(is_chat: bool) -> Sequence[dict[str, Json]]:
    if not is_chat:
        return [_last(is_chat)]
    return [
        {"delta": {"role": "assistant", "refusal": INPUT_REFUSAL}, "finish_reason": None},
        {"delta": {}, "finish_reason": "stop"},
    ]


def _choices(members: dict[str, Json], count: int) -> list[Json]:
    return [{"index": index, **members} for index in range(count)]
