"""A backend for benchmarks: as fast as one process can be, so that what is measured is the gateway. One token
an event, one write an event.

`python -m bench.backend --port N`. The number of tokens is `max_tokens` of the request; without `stream` they
come at once. Asked by a user with tools, it searches instead. The model `paced` writes a token each 20 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Any, Final, cast

import uvloop

_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_TOKEN: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench",'
    b'"choices":[{"index":0,"delta":{"content":" token"}}]}\n\n'
)
_LAST: Final = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk",'
    b'"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
_SEARCH: Final = (
    b"data: "
    b'{"id":"chatcmpl-1","object":"chat.completion.chunk","choices":[{"index":0,'
    b'"delta":{"tool_calls":[{"index":0,"id":"call_1",'
    b'"type":"function","function":{"name":"file_search","arguments":"{\\"query\\":\\"annual '
    b'leave\\"}"}}]},"finish_reason":"tool_calls"}]}\n\n'
    b"data: [DONE]\n\n"
)
EVENT_BYTES: Final = len(_TOKEN)
PACED: Final = "paced"
PACE_SECONDS: Final = 0.02


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


_TOKEN_CHUNK: Final = _chunk(_TOKEN)
_END: Final = _chunk(_LAST) + b"0\r\n\r\n"


class _Connection(asyncio.Protocol):
    """One kept connection: answers one request after the other, and pauses while it is not read from."""

    def __init__(self) -> None:
        self._received = b""
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._writing: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 — the protocol's signature
        for task in self._writing:
            task.cancel()

    def pause_writing(self) -> None:
        self._flowing.clear()

    def resume_writing(self) -> None:
        self._flowing.set()

    def data_received(self, data: bytes) -> None:
        self._received += data
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end].lower()
            start = head.find(b"content-length:")
            length = int(head[start + 15 :].split(b"\r\n", 1)[0]) if start >= 0 else 0
            if len(self._received) < end + 4 + length:
                return
            body = self._received[end + 4 : end + 4 + length]
            self._received = self._received[end + 4 + length :]
            self._answer(head, json.loads(body or b"{}"))

    def _answer(self, head: bytes, body: dict[str, Any]) -> None:
        count = body.get("max_tokens", 1)
        if head.startswith(b"get"):
            models = [{"id": name, "object": "model"} for name in ("bench", PACED)]
            self._write_whole({"object": "list", "data": models})
        elif not body.get("stream"):
            message = {"role": "assistant", "content": " token" * count}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            usage = {"prompt_tokens": 8, "completion_tokens": count, "total_tokens": 8 + count}
            self._write_whole(
                {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "bench"}
                | {"choices": [choice], "usage": usage}
            )
        elif body.get("tools") and body["messages"][-1]["role"] == "user":
            self._transport.write(_HEAD + _chunk(_SEARCH) + b"0\r\n\r\n")
        else:
            task = asyncio.get_running_loop().create_task(
                self._stream(count, pause=PACE_SECONDS if body.get("model") == PACED else 0)
            )
            self._writing.add(task)
            task.add_done_callback(self._writing.discard)

    async def _stream(self, count: int, *, pause: float) -> None:
        self._transport.write(_HEAD)
        for _ in range(count):
            if pause:
                await asyncio.sleep(pause)
            await self._flowing.wait()
            self._transport.write(_TOKEN_CHUNK)
        self._transport.write(_END)

    def _write_whole(self, body: object) -> None:
        encoded = json.dumps(body).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
            % (len(encoded), encoded)
        )


async def _run(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_Connection, "127.0.0.1", port, backlog=1_024)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    uvloop.run(_run(parser.parse_args().port))


if __name__ == "__main__":
    main()
