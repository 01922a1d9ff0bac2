"""A pass-through of nothing but Starlette and aiohttp, as short as it can be written: the yardstick for what the
gateway adds. `python -m bench.bare_proxy --port N --to URL`.
"""

from __future__ import annotations

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route


def application(target: str) -> Starlette:
    """Return the pass-through to this base URL."""
    sessions: list[aiohttp.ClientSession] = []

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1_024)) as session:
            sessions.append(session)
            yield

    async def chat(request: Request) -> Response:
        body = await request.body()
        headers = {"Content-Type": "application/json"}
        answer = await sessions[0].post(f"{target}/chat/completions", data=body, headers=headers)
        if answer.content_type != "text/event-stream":
            whole = await answer.read()
            return Response(whole, status_code=answer.status, media_type="application/json")

        async def pieces() -> AsyncIterator[bytes]:
            async with answer:
                async for piece in answer.content.iter_any():
                    yield piece

        return StreamingResponse(pieces(), status_code=answer.status, media_type="text/event-stream")

    async def models(_request: Request) -> Response:
        async with sessions[0].get(f"{target}/models") as answer:
            return Response(await answer.read(), media_type="application/json")

    return Starlette(
        routes=[Route("/v1/chat/completions", chat, methods=["POST"]), Route("/v1/models", models)],
        lifespan=lifespan,
    )


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--to", required=True)
    asked = parser.parse_args()
    uvicorn.run(application(asked.to), port=asked.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
