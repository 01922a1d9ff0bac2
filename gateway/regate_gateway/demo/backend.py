"""The bundled backend: a small OpenAI-compatible server in front of the quoting model (`extractive.py`). For
demonstrations and tests.

It speaks real HTTP and real server-sent events, needs no key and no model file, and keeps the prompts it was
sent, so that one can see what did not reach it. Not part of the gateway: to the gateway it is a backend like
any other.

    python -m regate_gateway.demo.backend --port 8081
"""

from __future__ import annotations

import argparse
import asyncio
import re
import secrets
import signal
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, NoReturn

import orjson
from aiohttp import web
from aiohttp.typedefs import Handler

from regate_gateway.demo.extractive import SEARCH, Answer, Message, Search, arguments, reply
from regate_orchestrator.values import Json, JsonObject

MODEL: Final = "regate-extract"
_MAX_PROMPTS: Final = 1_000
_MAX_BODY: Final = 32 * 1024 * 1024
_PIECE: Final = re.compile(r"\s*\S+")


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """A checked request for a chat completion."""

    messages: Sequence[Message]
    may_search: bool
    must_search: bool
    stream: bool
    include_usage: bool
    most_words: int | None


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model says, word by word; `query` is the search it asks for instead of an answer."""

    pieces: tuple[str, ...]
    is_search: bool
    finish: str
    usage: JsonObject
    id: str = field(default_factory=lambda: "chatcmpl-" + secrets.token_hex(12))
    call_id: str = field(default_factory=lambda: "call_" + secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def body(self, kind: str, **members: Json) -> JsonObject:
        """Return a completion or a chunk of one."""
        return {"id": self.id, "object": kind, "created": self.created, "model": MODEL, **members}


@dataclass(frozen=True, slots=True)
class RunningBackend:
    """A backend that serves. `prompts` holds the messages of each chat request so far, the latest last."""

    base_url: str
    prompts: deque[Sequence[Message]]


@asynccontextmanager
async def running_backend(*, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[RunningBackend]:
    """Serve in this event loop while the context lasts; port 0 takes a free one. Leaving closes all
    connections.
    """
    prompts: deque[Sequence[Message]] = deque(maxlen=_MAX_PROMPTS)
    runner = web.AppRunner(
        make_app(prompts), access_log=None, shutdown_timeout=1.0, handler_cancellation=True
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        bound = runner.addresses[0][1]
        yield RunningBackend(f"http://{host}:{bound}/v1", prompts)
    finally:
        await runner.cleanup()


def make_app(prompts: deque[Sequence[Message]]) -> web.Application:
    """Return the application; it appends the messages of every chat request to `prompts`."""

    async def models(_: web.Request) -> web.Response:
        return _json(200, {"object": "list", "data": [_MODEL_ENTRY]})

    async def model(request: web.Request) -> web.Response:
        return (
            _json(200, _MODEL_ENTRY)
            if request.match_info["model"] == MODEL
            else _no_such_model(request.match_info["model"])
        )

    async def chat(request: web.Request) -> web.StreamResponse:
        asked = read_request(await request.read())
        prompts.append(asked.messages)
        completion = complete(asked)
        if asked.stream:
            return await _stream(request, completion, include_usage=asked.include_usage)
        return _json(200, _whole(completion))

    app = web.Application(client_max_size=_MAX_BODY, middlewares=[_errors])
    app.router.add_get("/v1/models", models)
    app.router.add_get("/v1/models/{model}", model)
    app.router.add_post("/v1/chat/completions", chat)
    return app


def read_request(body: bytes) -> ChatRequest:
    """Return the request. Raises the HTTP error that answers one which is malformed or names
    another model.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        _refuse(400, "The body is not JSON.")
    if not isinstance(document, dict):
        _refuse(400, "The body must be an object.")
    if document.get("model") != MODEL:
        _refuse(
            404,
            f"The model `{document.get('model')}` does not exist; this backend has `{MODEL}`.",
            code="model_not_found",
        )
    messages = document.get("messages")
    if (
        not isinstance(messages, list)
        or not messages
        or not all(isinstance(message, dict) for message in messages)
    ):
        _refuse(400, "messages must be a list of at least one object.", param="messages")
    limit = document.get("max_completion_tokens", document.get("max_tokens"))
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool) or limit < 1):
        _refuse(400, "max_tokens must be a whole number, 1 or more.", param="max_tokens")
    choice = document.get("tool_choice", "auto")
    options = document.get("stream_options")
    return ChatRequest(
        messages=messages,
        may_search=choice != "none" and SEARCH in _offered(document.get("tools")),
        must_search=choice == "required" or _chosen(choice) == SEARCH,
        stream=document.get("stream") is True,
        include_usage=isinstance(options, dict) and options.get("include_usage") is True,
        most_words=limit,
    )


def complete(request: ChatRequest) -> Completion:
    """Return the model's turn, cut at the limit. A token is a word here."""
    said = reply(request.messages, may_search=request.may_search, must_search=request.must_search)
    match said:
        case Search(query):
            text = arguments(query)
        case Answer(text):
            pass
    pieces = tuple(pieces_of(text))
    kept = pieces[: request.most_words]
    finish = "length" if len(kept) < len(pieces) else "tool_calls" if isinstance(said, Search) else "stop"
    prompt = sum(len(str(message.get("content") or "").split()) for message in request.messages)
    usage: JsonObject = {
        "prompt_tokens": prompt,
        "completion_tokens": len(kept),
        "total_tokens": prompt + len(kept),
    }
    return Completion(kept, isinstance(said, Search), finish, usage)


def pieces_of(text: str) -> Iterator[str]:
    """Yield the text word by word, each with the blanks before it; joined they are the text."""
    position = 0
    for match in _PIECE.finditer(text):
        yield match.group()
        position = match.end()
    if position < len(text):
        yield text[position:]


def _whole(completion: Completion) -> JsonObject:
    text = "".join(completion.pieces)
    message: dict[str, Json] = {"role": "assistant", "content": None if completion.is_search else text}
    if completion.is_search:
        function: JsonObject = {"name": SEARCH, "arguments": text}
        message["tool_calls"] = [{"id": completion.call_id, "type": "function", "function": function}]
    choice: JsonObject = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": completion.finish,
    }
    return completion.body("chat.completion", choices=[choice], usage=completion.usage)


async def _stream(request: web.Request, completion: Completion, *, include_usage: bool) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await response.prepare(request)
    for chunk in _chunks(completion, include_usage=include_usage):
        await response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")
    await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


def _chunks(completion: Completion, *, include_usage: bool) -> Iterator[JsonObject]:
    def chunk(delta: JsonObject, finish: str | None = None) -> JsonObject:
        choice: JsonObject = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        usage: JsonObject = {"usage": None} if include_usage else {}
        return completion.body("chat.completion.chunk", choices=[choice], **usage)

    yield chunk({"role": "assistant", "content": None if completion.is_search else ""})
    if completion.is_search:
        opened: JsonObject = {
            "index": 0,
            "id": completion.call_id,
            "type": "function",
            "function": {"name": SEARCH, "arguments": ""},
        }
        yield chunk({"tool_calls": [opened]})
    for piece in completion.pieces:
        yield chunk(
            {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}
            if completion.is_search
            else {"content": piece}
        )
    yield chunk({}, completion.finish)
    if include_usage:
        yield completion.body("chat.completion.chunk", choices=[], usage=completion.usage)


_MODEL_ENTRY: Final[JsonObject] = {
    "id": MODEL,
    "object": "model",
    "created": 1_760_000_000,
    "owned_by": "regate",
}


def _offered(tools: object) -> set[object]:
    functions = (
        (tool.get("function") for tool in tools if isinstance(tool, dict)) if isinstance(tools, list) else ()
    )
    return {function.get("name") for function in functions if isinstance(function, Mapping)}


def _chosen(choice: object) -> object:
    function = choice.get("function") if isinstance(choice, dict) else None
    return function.get("name") if isinstance(function, dict) else None


class _Refused(Exception):
    def __init__(self, status: int, error: JsonObject) -> None:
        super().__init__(status)
        self.status = status
        self.error = error


def _refuse(status: int, message: str, *, param: str | None = None, code: str | None = None) -> NoReturn:
    raise _Refused(
        status, {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    )


def _no_such_model(model: str) -> web.Response:
    error: JsonObject = {
        "message": f"No such model: {model}",
        "type": "invalid_request_error",
        "param": None,
        "code": "model_not_found",
    }
    return _json(404, {"error": error})


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except _Refused as refusal:
        return _json(refusal.status, {"error": refusal.error})
    except web.HTTPException as error:
        about: JsonObject = {
            "message": f"{error.status} {error.reason}",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }
        return _json(error.status, {"error": about})


def _json(status: int, body: JsonObject) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(body), content_type="application/json")


async def _serve(host: str, port: int) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with running_backend(host=host, port=port) as backend:
        sys.stdout.write(f"{MODEL} at {backend.base_url}\n")
        sys.stdout.flush()
        await stopped.wait()


def main() -> None:
    """Serve until interrupted or told to end; the first line printed says where."""
    parser = argparse.ArgumentParser(
        prog="python -m regate_gateway.demo.backend", description="Serve the bundled demonstration backend."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8081, help="port to listen on, 0 for a free one (default: %(default)s)"
    )
    options = parser.parse_args()
    asyncio.run(_serve(options.host, options.port))


if __name__ == "__main__":
    main()
