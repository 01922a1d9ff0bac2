"""A chat upstream over a socket, which says what a test has it say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


def said(text: object, *, sent: object = 30, written: object = 5) -> dict[str, Any]:
    """An answer of this text."""
    usage = {"prompt_tokens": sent, "completion_tokens": written}
    return {"choices": [{"message": {"role": "assistant", "content": text}}], "usage": usage}


def passage_of(body: dict[str, Any]) -> str:
    """The passage that a request shows."""
    return str(body["messages"][1]["content"].partition("<passage>\n")[2].removesuffix("\n</passage>"))


def document_of(body: dict[str, Any]) -> str:
    """The document that a request shows."""
    return str(body["messages"][1]["content"].partition("\n</document>")[0].removeprefix("<document>\n"))


@dataclass
class ChatServer:
    """`answer` makes an answer of each request, or a status; `bodies` and `keys` are what came."""

    url: str = ""
    answer: Callable[[dict[str, Any]], object] = lambda body: said(f"About {passage_of(body)}.")
    hangs: bool = False
    bodies: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.bodies.append(body)
        self.keys.append(request.headers.get("Authorization"))
        if self.hangs:
            await asyncio.Event().wait()
        answer = self.answer(body)
        status = answer if isinstance(answer, int) else 200
        words = {"error": "the document was: secret"} if isinstance(answer, int) else answer
        return web.Response(status=status, body=json.dumps(words).encode(), content_type="application/json")


@asynccontextmanager
async def chat_server() -> AsyncIterator[ChatServer]:
    scripted = ChatServer()
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_post("/v1/chat/completions", scripted.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    scripted.url = f"http://{host}:{port}/v1"
    try:
        yield scripted
    finally:
        await runner.cleanup()
