"""Frames that break the protocol end the connection with the code that RFC 6455 has for it, and are no
fault of ours.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
from typing import Final

import pytest
from starlette.types import Receive, Scope, Send
from tests.gateway.conftest import Connect, application, listen
from tests.gateway.test_upgrades import SOCKET
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import ConnectionClosed

from regate_gateway.http.server import Running

TEXT, BINARY, CONTINUED, LAST = 0x1, 0x2, 0x0, 0x80


def frame(kind: int, payload: bytes, *, length: int | None = None) -> bytes:
    """One frame, masked as a client's must be; `length` is what its head claims."""
    size = len(payload) if length is None else length
    head = bytes([kind, 0x80 | size]) if size < 126 else bytes([kind, 0x80 | 127]) + struct.pack("!Q", size)
    mask = os.urandom(4)
    return head + mask + bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))


def write(connection: ClientConnection, data: bytes) -> None:
    connection.transport.write(data)


async def takes(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


def server() -> Running:
    return Running(application(takes), listen(max_body_bytes=1_000_000))


ENDING: Final[dict[str, tuple[list[bytes], int]]] = {
    "text that is not UTF-8": ([frame(TEXT | LAST, b'{"a": "\xff"}')], 1007),
    "a character cut in two": ([frame(TEXT, b"\xe2\x80"), frame(CONTINUED | LAST, b"x")], 1007),
    "too large by its head": ([frame(TEXT | LAST, b"x" * 70_000, length=2**40)], 1009),
    "too large in fragments": ([frame(TEXT, b"x" * 600_000)] + [frame(CONTINUED, b"x" * 600_000)] * 3, 1009),
    "binary and too large": ([frame(BINARY | LAST, b"x" * 2_000_000)], 1009),
    "continuing nothing": ([frame(CONTINUED | LAST, b"x")], 1002),
    "a text inside another": ([frame(TEXT, b"{"), frame(TEXT | LAST, b"{}")], 1002),
    "not masked": ([bytes([TEXT | LAST, 2]) + b"{}"], 1002),
    "an unknown kind": ([frame(0x3 | LAST, b"x")], 1002),
    "compressed, which was not agreed": ([frame(TEXT | LAST | 0x40, b"x")], 1002),
    "a long ping": ([frame(0x9 | LAST, b"x" * 126)], 1002),
    "a close with half a code": ([frame(0x8 | LAST, b"\x03")], 1002),
    "a close with a bad code": ([frame(0x8 | LAST, b"\x00\x01")], 1002),
}


@pytest.mark.parametrize(("sent", "code"), ENDING.values(), ids=ENDING.keys())
async def test_frame_that_breaks_the_protocol_ends_the_connection_with_its_code(
    sent: list[bytes], code: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with (
        asyncio.timeout(60),
        server() as running,
        connect_socket(running.url.replace("http", "ws")) as connection,
    ):
        for piece in sent:
            write(connection, piece)
        with pytest.raises(ConnectionClosed) as closed:
            await connection.recv()
    faults = [record for record in caplog.records if record.exc_info or record.levelno >= logging.ERROR]

    assert (closed.value.rcvd.code if closed.value.rcvd else None, faults) == (code, [])


async def test_code_reaches_a_client_that_sends_all_before_it_reads(connect: Connect) -> None:
    async with server() as running, connect(running) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + SOCKET + b"\r\n")
        await raw.reader.readuntil(b"\r\n\r\n")
        await raw.send(frame(TEXT | LAST, b"x" * 8_000_000))
        received = await raw.rest()

    assert (received[:1], struct.unpack("!H", received[2:4])) == (b"\x88", (1009,))
