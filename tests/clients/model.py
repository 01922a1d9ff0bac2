"""A backend that behaves like a small obedient model: chat completions and embeddings, answered by rule. It
stands for what is outside of us.

The clients and suites that this folder runs bring their own questions, so a script of turns does not do: what
is answered follows from the messages alone. It calls an offered tool that a question names (`adder(1, 2)`),
describes or is made to use, with arguments made from the tool's schema; reports what a tool said; fills a
JSON schema; repeats, counts, remembers and sums up. Everything else it echoes.

    python -m tests.clients.model --port 8081
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import re
import struct
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

MODELS: Final = ("small", "large", "gpt-5.5-codex")
DIMENSIONS: Final = 8
_WORD: Final = re.compile(r"\s*\S+")
_ARGUMENT: Final = re.compile(r"'[^']*'|\"[^\"]*\"|[^,]+")

Message = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A tool call: what the model says instead of, or after, text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Turn:
    """What the model says to one request."""

    text: str = ""
    calls: tuple[Call, ...] = ()


@dataclass
class Model:
    """The server's state: what it was asked, in order."""

    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)


# ---------------------------------------------------------------- what it says


def reply(body: Mapping[str, Any]) -> Turn:
    """Return the turn that follows from the request."""
    messages: Sequence[Message] = body["messages"]
    question = next((text_of(message) for message in reversed(messages) if message["role"] == "user"), "")
    if messages[-1]["role"] == "tool":
        results = [text_of(message) for message in _trailing(messages, "tool")]
        return Turn(text=_formatted(body, "; ".join(results)) or f"The tool said: {'; '.join(results)}")
    if calls := _calls(body, question):
        return Turn(calls=calls)
    return Turn(text=_formatted(body, question) or _spoken(messages, question))


def _calls(body: Mapping[str, Any], question: str) -> tuple[Call, ...]:
    choice = body.get("tool_choice", "auto")
    tools = {tool["function"]["name"]: tool["function"] for tool in body.get("tools") or ()}
    if choice == "none" or not tools:
        return ()
    if isinstance(choice, Mapping):
        forced = tools[choice["function"]["name"]]
        return (Call(forced["name"], json.dumps(arguments_for(forced.get("parameters") or {}, question))),)
    chosen = [tool for tool in tools.values() if tool["name"].lower() in question.lower()]
    chosen = chosen or [tool for tool in tools.values() if _is_about(tool["name"], question)]
    if not chosen and choice == "required":
        chosen = [next(iter(tools.values()))]
    if body.get("parallel_tool_calls") is False:
        chosen = chosen[:1]
    return tuple(Call(tool["name"], json.dumps(_arguments(tool, question))) for tool in chosen)


def _is_about(name: str, question: str) -> bool:
    """Say whether the question has the last word of the tool's name (`get_weather`: the weather)."""
    last = re.split(r"[_\W]+", name.lower())[-1]
    return len(last) > 4 and last in re.findall(r"[a-z0-9]+", question.lower())


def _arguments(tool: Mapping[str, Any], question: str) -> Any:
    schema = tool.get("parameters") or {}
    given = re.search(re.escape(tool["name"]) + r"\(((?:'[^']*'|[^)'])*)\)", question)
    if given is None:
        return arguments_for(schema, question)
    values = [part.strip().strip("'\"") for part in _ARGUMENT.findall(given.group(1)) if part.strip()]
    names = [*schema.get("required", ()), *schema.get("properties", {})]
    return {
        name: _cast(value, schema["properties"][name]) for name, value in zip(names, values, strict=False)
    }


def _cast(value: str, schema: Mapping[str, Any]) -> Any:
    kind = schema.get("type")
    return int(value) if kind == "integer" else float(value) if kind == "number" else value


def arguments_for(schema: Mapping[str, Any], question: str, root: Mapping[str, Any] | None = None) -> Any:
    """Return the least value of the schema; its strings are what the question quotes, its last name,
    or all of it.
    """
    root = schema if root is None else root
    if "$ref" in schema:
        target: Any = root
        for step in str(schema["$ref"]).removeprefix("#/").split("/"):
            target = target[step]
        return arguments_for(target, question, root)
    for union in ("anyOf", "oneOf", "allOf"):
        if union in schema:
            return arguments_for(schema[union][0], question, root)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "object")
    kind = kind[0] if isinstance(kind, list) else kind
    match kind:
        case "object":
            properties: Mapping[str, Any] = schema.get("properties", {})
            return {
                name: arguments_for(properties[name], question, root)
                for name in schema.get("required", properties)
            }
        case "array":
            return [arguments_for(schema.get("items", {"type": "string"}), question, root)]
        case "integer" | "number":
            return int(next(iter(re.findall(r"\d+", question)), 1))
        case "boolean":
            return True
        case "null":
            return None
        case _:
            return _subject(question)


def _subject(question: str) -> str:
    if quoted := re.search(r"'([^']+)'", question):
        return quoted.group(1)
    names = re.findall(r"(?<!^)(?<![.?!] )\b[A-Z][a-z]+(?: [A-Z][a-z]+)*", question)
    return names[-1] if names else question


def _formatted(body: Mapping[str, Any], about: str) -> str:
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return json.dumps(arguments_for(wanted["json_schema"]["schema"], about))
    return json.dumps({"answer": about}) if wanted.get("type") == "json_object" else ""


def _spoken(messages: Sequence[Message], question: str) -> str:
    told = "\n".join(text_of(message) for message in messages)
    if any(part.get("type") == "image_url" for message in messages for part in _parts(message)):
        return "The picture shows a red heart on a white background."
    if re.match(r"Summarise the conversation|You are performing a CONTEXT CHECKPOINT", question):
        return "What was said: " + "\n".join(text_of(message) for message in messages[:-1])[-2_000:]
    if exact := re.search(r"[Rr]eply with exactly: (\S[^\n]*)", question):
        return exact.group(1)
    if "code word?" in question and (word := re.search(r"code word: (\w+)", told)):
        return word.group(1)
    if "my name?" in question and (name := re.search(r"[Mm]y name is (\w+)", told)):
        return f"Your name is {name.group(1)}."
    if count := re.search(r"Count from (\d+) to (\d+)", question):
        return ", ".join(str(number) for number in range(int(count.group(1)), int(count.group(2)) + 1))
    return f"You said: {question}"


def text_of(message: Message) -> str:
    """Return a message's text parts, joined."""
    content = message.get("content")
    return (
        content
        if isinstance(content, str)
        else "".join(str(part.get("text", "")) for part in _parts(message))
    )


def _parts(message: Message) -> Sequence[Mapping[str, Any]]:
    content = message.get("content")
    return content if isinstance(content, list) else ()


def _trailing(messages: Sequence[Message], role: str) -> list[Message]:
    last = len(messages)
    while last and messages[last - 1]["role"] == role:
        last -= 1
    return list(messages[last:])


# ---------------------------------------------------------------- how it says it


def usage_of(body: Mapping[str, Any], turn: Turn) -> dict[str, Any]:
    """Return the usage of a turn; a token is a word."""
    prompt = sum(len(text_of(message).split()) for message in body["messages"]) or 1
    said = len(turn.text.split()) + sum(len(call.arguments.split()) for call in turn.calls) or 1
    return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


def _reasoning(body: Mapping[str, Any]) -> dict[str, str]:
    """What it thinks before it answers, where it is asked to."""
    return {} if body.get("reasoning_effort") in (None, "none") else {"reasoning_content": "Let me see."}


def _deltas(turn: Turn, body: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": ""}
    if thought := _reasoning(body):
        yield thought
    for piece in _WORD.findall(turn.text):
        yield {"content": piece}
    for index, call in enumerate(turn.calls):
        yield {
            "tool_calls": [
                {
                    "index": index,
                    "id": _call_id(index, call),
                    "type": "function",
                    "function": {"name": call.name, "arguments": ""},
                }
            ]
        }
        half = len(call.arguments) // 2
        for piece in (call.arguments[:half], call.arguments[half:]):
            yield {"tool_calls": [{"index": index, "function": {"arguments": piece}}]}


def _call_id(index: int, call: Call) -> str:
    return f"call_{zlib.crc32(f'{index}{call}'.encode()):08x}"


def _message(turn: Turn) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if turn.calls:
        message["tool_calls"] = [
            {
                "id": _call_id(index, call),
                "type": "function",
                "function": {"name": call.name, "arguments": call.arguments},
            }
            for index, call in enumerate(turn.calls)
        ]
    return message


def embedding_of(text: str) -> list[float]:
    """Return the text's vector: the same text, the same vector."""
    return [(zlib.crc32(f"{index}{text}".encode()) % 1000) / 1000 for index in range(DIMENSIONS)]


def make_app(model: Model) -> web.Application:
    """Return the application that serves the model."""

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [_entry(name) for name in MODELS]})

    async def chat(request: web.Request) -> web.StreamResponse:
        body = await request.json()
        model.requests.append(body)
        turn = reply(body)
        if wait := re.match(r"You said: Wait for (\d+) seconds", turn.text):
            await asyncio.sleep(int(wait.group(1)))
        finish, usage = "tool_calls" if turn.calls else "stop", usage_of(body, turn)
        head = {"id": f"chatcmpl-{len(model.requests)}", "created": 1_760_000_000, "model": body["model"]}
        if not body.get("stream"):
            choice = {
                "index": 0,
                "message": {**_message(turn), **_reasoning(body)},
                "logprobs": None,
                "finish_reason": finish,
            }
            return web.json_response(
                {**head, "object": "chat.completion", "choices": [choice], "usage": usage}
            )
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        chunks = [
            {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
            for delta in _deltas(turn, body)
        ]
        chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if (body.get("stream_options") or {}).get("include_usage"):
            chunks.append({"choices": [], "usage": usage})
        pause = (
            0.02 if re.fullmatch(r"[\d, ]+", turn.text) else 0
        )  # it counts aloud: what is told in pieces must not arrive as one
        for chunk in chunks:
            await asyncio.sleep(pause)
            await response.write(
                b"data: "
                + json.dumps({**head, "object": "chat.completion.chunk", **chunk}).encode()
                + b"\n\n"
            )
        await response.write(b"data: [DONE]\n\n")
        return response

    async def embeddings(request: web.Request) -> web.Response:
        body = await request.json()
        model.requests.append(body)
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        vectors: list[Any] = [embedding_of(str(text)) for text in texts]
        if body.get("encoding_format") == "base64":
            vectors = [
                base64.b64encode(struct.pack(f"<{DIMENSIONS}f", *vector)).decode() for vector in vectors
            ]
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ]
        return web.json_response(
            {
                "object": "list",
                "data": data,
                "model": body["model"],
                "usage": {"prompt_tokens": 1, "total_tokens": 1},
            }
        )

    async def completions(request: web.Request) -> web.Response:
        body = await request.json()
        choice = {
            "index": 0,
            "text": f"You said: {body['prompt']}",
            "logprobs": None,
            "finish_reason": "stop",
        }
        return web.json_response(
            {
                "id": "cmpl-1",
                "object": "text_completion",
                "created": 1_760_000_000,
                "model": body["model"],
                "choices": [choice],
            }
        )

    async def asked(_: web.Request) -> web.Response:
        return web.json_response(model.requests)

    app = web.Application(client_max_size=64 << 20)
    app.router.add_get("/v1/requests", asked)
    app.router.add_get("/v1/models", models)
    app.router.add_post("/v1/completions", completions)
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_post("/v1/embeddings", embeddings)
    return app


def _entry(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1_760_000_000, "owned_by": "tests"}


@asynccontextmanager
async def running_model(*, port: int = 0) -> AsyncIterator[Model]:
    """Serve the model on loopback while the context lasts."""
    model = Model()
    runner = web.AppRunner(make_app(model), shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        model.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        yield model
    finally:
        await runner.cleanup()


async def _serve(port: int) -> None:
    async with running_model(port=port) as model:
        print(model.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(_serve(parser.parse_args().port))
