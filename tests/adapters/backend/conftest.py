"""A scripted upstream: a real server on loopback that answers byte for byte what a test says, and
notes what it was sent.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from regate_adapters.backend.upstream_client import UpstreamConfig
from regate_adapters.backend.upstreams import Upstreams


@dataclass
class Exchange:
    """One request to the scripted upstream, and the means to answer it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: int
    reader: asyncio.StreamReader = field(repr=False)
    writer: asyncio.StreamWriter = field(repr=False)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, status: int, body: bytes, *headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body)}", *headers]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    async def answer_json(self, value: Any) -> None:
        await self.answer(200, json.dumps(value).encode(), "Content-Type: application/json")

    async def open_stream(self) -> None:
        await self.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )

    async def piece(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def stream(self, *payloads: Any) -> None:
        await self.open_stream()
        for payload in payloads:
            await self.piece(
                b"data: "
                + (payload if isinstance(payload, bytes) else json.dumps(payload).encode())
                + b"\n\n"
            )
        await self.end()

    async def gone(self) -> None:
        """Return when the other side has closed the connection."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionError:
            pass

    def reset(self) -> None:
        self.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )
        self.writer.transport.abort()


Script = Callable[[Exchange], Awaitable[None]]


class ScriptedUpstream:
    """Runs `script` for every request. `requests` holds them all."""

    def __init__(self) -> None:
        self.requests: list[Exchange] = []
        self.script: Script | None = None
        self.port = 0
        self._connections: dict[asyncio.Task[Any], asyncio.StreamWriter] = {}
        self._count = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def config(self, name: str = "scripted", **changes: Any) -> UpstreamConfig:
        values: dict[str, Any] = {
            "base_url": self.base_url,
            "api_key": "sk-upstream",
            "models": None,
            "timeout_s": 60.0,
        }
        return UpstreamConfig(name=name, **(values | changes))

    @asynccontextmanager
    async def serving(self, sock: socket.socket | None = None) -> AsyncIterator[None]:
        where: dict[str, Any] = {"sock": sock} if sock is not None else {"host": "127.0.0.1", "port": 0}
        server = await asyncio.start_server(self._serve, **where)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            left = dict(self._connections)
            for task, writer in left.items():
                writer.transport.abort()
                task.cancel()
            if left:
                await asyncio.wait(left)
            await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections[task] = writer
        self._count += 1
        number = self._count
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                first, *lines = head.decode("latin-1").rstrip("\r\n").split("\r\n")
                headers = [
                    (name.lower(), value.strip())
                    for name, _, value in (line.partition(":") for line in lines)
                ]
                body = await reader.readexactly(int(dict(headers).get("content-length", "0")))
                method, path, _ = first.split(" ")
                exchange = Exchange(method, path, headers, body, number, reader, writer)
                self.requests.append(exchange)
                assert self.script is not None
                await self.script(exchange)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            del self._connections[task]


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedUpstream]:
    scripted = ScriptedUpstream()
    async with scripted.serving():
        yield scripted


@pytest.fixture
def new_upstream() -> type[ScriptedUpstream]:
    return ScriptedUpstream


@pytest.fixture
async def upstreams(upstream: ScriptedUpstream) -> AsyncIterator[Upstreams]:
    async with Upstreams([upstream.config()]) as pool:
        yield pool


@pytest.fixture
async def impatient(upstream: ScriptedUpstream) -> AsyncIterator[Upstreams]:
    """The same upstream, waited for a second only: long enough for what it does say."""
    async with Upstreams([upstream.config(timeout_s=1.0)]) as pool:
        yield pool
