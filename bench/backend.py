"""A backend for benchmarks: as fast as one process can be, so that what is measured is the gateway. One token
an event, one write an event.

`python -m bench.backend --port N`. The number of tokens is `max_tokens` of the request; without `stream` they
come at once. Asked by a user with tools, it searches instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from typing import Final

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


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while head := await reader.readuntil(b"\r\n\r\n"):
            length = next(
                (
                    int(line.split(b":")[1])
                    for line in head.split(b"\r\n")
                    if line.lower().startswith(b"content-length")
                ),
                0,
            )
            body = json.loads(await reader.readexactly(length) or b"{}")
            if head.startswith(b"GET"):
                _answer(writer, {"object": "list", "data": [{"id": "bench", "object": "model"}]})
            elif not body.get("stream"):
                message = {"role": "assistant", "content": " token" * body.get("max_tokens", 1)}
                _answer(
                    writer,
                    {
                        "object": "chat.completion",
                        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                    },
                )
            else:
                writer.write(_HEAD)
                if body.get("tools") and body["messages"][-1]["role"] == "user":
                    writer.write(_chunk(_SEARCH) + b"0\r\n\r\n")
                    continue
                token = _chunk(_TOKEN)
                for _ in range(body.get("max_tokens", 1)):
                    writer.write(token)
                    await writer.drain()
                writer.write(_chunk(_LAST) + b"0\r\n\r\n")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


def _answer(writer: asyncio.StreamWriter, body: object) -> None:
    encoded = json.dumps(body).encode()
    writer.write(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
        % (len(encoded), encoded)
    )


async def _run(port: int) -> None:
    server = await asyncio.start_server(_serve, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    asyncio.run(_run(parser.parse_args().port))


if __name__ == "__main__":
    main()
