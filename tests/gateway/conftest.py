"""Real servers on loopback for the edge's tests, and the raw bytes that ordinary clients do not send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from starlette.types import ASGIApp, Receive, Scope, Send

from regate_gateway.config.listen_settings import Listen
from regate_gateway.http.middleware import Edge
from regate_gateway.http.server import Running

Handler = Callable[[Scope, Receive, Send], Awaitable[None]]


def application(handler: Handler) -> ASGIApp:
    """An ASGI application that answers the lifespan and hands every request to one handler."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await handler(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    return app


async def answer(send: Send, body: bytes = b"{}", *, status: int = 200) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


@dataclass
class Raw:
    """One connection, byte by byte."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def rest(self, *, within: float = 120) -> bytes:
        """All bytes until the server closes the connection; a reset counts as its end."""
        received = b""
        async with asyncio.timeout(within):
            try:
                while piece := await self.reader.read(65_536):
                    received += piece
            except ConnectionResetError:
                pass
        return received

    async def answer(self, *, within: float = 120) -> tuple[int, dict[str, str], bytes]:
        """One answer with a declared length: status, headers, body."""
        async with asyncio.timeout(within):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            return (
                int(first.split()[1]),
                headers,
                await self.reader.readexactly(int(headers["content-length"])),
            )


Connect = Callable[[Running], AbstractAsyncContextManager[Raw]]


@pytest.fixture
def connect() -> Connect:
    @asynccontextmanager
    async def connected(server: Running) -> AsyncIterator[Raw]:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=2**22)
        try:
            yield Raw(reader, writer)
        finally:
            writer.transport.abort()

    return connected


Later = Callable[[float], Awaitable[None]]


@pytest.fixture
async def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Let so many seconds pass at once for all that waits in this event loop, after it has taken in
    what was sent.
    """
    loop, ahead, usual = asyncio.get_running_loop(), 0.0, asyncio.get_running_loop().time
    monkeypatch.setattr(loop, "time", lambda: usual() + ahead)

    async def passes(seconds: float) -> None:
        nonlocal ahead
        for turn in range(100):
            ahead += seconds if turn == 50 else 0.0
            await asyncio.sleep(0)

    return passes


def listen(**changes: Any) -> Listen:
    return Listen(port=0, **changes)


@dataclass
class Served:
    """One server for a whole module, behind the edge; each test says what it serves."""

    server: Running
    handler: Handler


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    async def dispatch(scope: Scope, receive: Receive, send: Send) -> None:
        await found.handler(scope, receive, send)

    found = Served(Running(Edge(application(dispatch), access_log=True), listen()), answer_nothing)
    async with found.server:
        yield found


async def answer_nothing(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send)
