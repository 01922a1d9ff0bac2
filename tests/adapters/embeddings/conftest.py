"""A real server on loopback that answers `/v1/embeddings` as a test says, and notes what it was sent."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiohttp import web

Answer = Callable[[dict[str, Any]], Awaitable[web.StreamResponse]]


@dataclass
class EmbeddingsServer:
    """`answer` makes the reply from the request's body; `bodies` and `headers` are what came."""

    url: str = ""
    answer: Answer | None = None
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.json())
        self.headers.append(dict(request.headers))
        assert self.answer is not None
        return await self.answer(self.bodies[-1])

    def answers(self, value: object, *, status: int = 200) -> None:
        async def answer(_body: dict[str, Any]) -> web.StreamResponse:
            return web.Response(
                status=status, body=json.dumps(value).encode(), content_type="application/json"
            )

        self.answer = answer


@pytest.fixture
async def server() -> AsyncIterator[EmbeddingsServer]:
    embeddings = EmbeddingsServer()
    app = web.Application(client_max_size=1 << 24)
    app.router.add_post("/v1/embeddings", embeddings.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    embeddings.url = f"http://{host}:{port}/v1"
    yield embeddings
    await runner.cleanup()
