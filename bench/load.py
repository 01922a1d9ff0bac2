"""Many requests over kept connections, as cheaply as one process can send them: what is measured is whoever
answers. Not a benchmark of its own.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlsplit

from bench.gateway import percentile


@dataclass(slots=True)
class Load:
    """What came of a run: the milliseconds of each request, and the seconds of all together."""

    milliseconds: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Return the requests a second."""
        return len(self.milliseconds) / self.seconds

    @property
    def p50(self) -> float:
        """Return the median of the milliseconds."""
        return percentile(self.milliseconds, 0.5)


def request(url: str, body: object, *, token: str | None = None) -> bytes:
    """Return a POST of JSON as it goes over the wire."""
    parts, encoded = urlsplit(url), json.dumps(body).encode()
    head = [
        f"POST {parts.path} HTTP/1.1",
        f"Host: {parts.netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(encoded)}",
        *([f"Authorization: Bearer {token}"] if token else []),
    ]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + encoded


class _Connection(asyncio.Protocol):
    """Sends the next request as soon as the last is answered, until none is left."""

    def __init__(self, left: Iterator[int], message: bytes, load: Load) -> None:
        self._left = left
        self._message = message
        self._load = load
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._next()

    def data_received(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-16:]
        if self._rest is None:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._head[:end].lower()
            if not head.startswith(b"http/1.1 200"):
                self._fail(RuntimeError(self._head.decode(errors="replace")[:2_000]))
                return
            start = head.find(b"content-length:")
            if start < 0:
                self._rest = -1
            else:
                length = int(head[start + 15 :].split(b"\r\n", 1)[0])
                self._rest = length - (len(self._head) - end - 4)
        elif self._rest >= 0:
            self._rest -= len(data)
        if self._rest == 0 or (self._rest == -1 and self._tail.endswith(b"\r\n0\r\n\r\n")):
            self._load.milliseconds.append((time.perf_counter() - self._began) * 1_000)
            self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(exc or ConnectionResetError("the connection was closed amid an answer"))

    def _next(self) -> None:
        if next(self._left, None) is None:
            if not self.ended.done():
                self.ended.set_result(None)
            self._transport.close()
            return
        self._head, self._tail = b"", b""
        self._rest: int | None = None
        self._began = time.perf_counter()
        self._transport.write(self._message)

    def _fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


async def drive(url: str, message: bytes, *, requests: int, connections: int) -> Load:
    """Return what came of so many requests, so many at a time. Raises where one is not answered with 200."""
    parts, load, left = urlsplit(url), Load(), iter(range(requests))
    loop, began = asyncio.get_running_loop(), time.perf_counter()
    made = [
        await loop.create_connection(lambda: _Connection(left, message, load), parts.hostname, parts.port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(protocol.ended for _, protocol in made))
    load.seconds = time.perf_counter() - began
    return load
