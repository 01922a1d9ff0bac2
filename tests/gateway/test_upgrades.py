"""Offers to switch protocols: a WebSocket begins with a GET, and a request with any other offer is
answered as though it had none.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from starlette.types import Message, Receive, Scope, Send
from tests.gateway.conftest import Connect, answer, application, listen
from tests.gateway.test_server import MALFORMED, echo_size, empty, error_of
from websockets.asyncio.client import connect as connect_socket
from websockets.exceptions import ConnectionClosed

from regate_gateway.http.server import Running

OFFERS = {
    "h2c": (
        b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
    ),
    "h2c without settings": b"Connection: Upgrade\r\nUpgrade: h2c\r\n",
    "websocket": b"Connection: Upgrade\r\nUpgrade: websocket\r\n",
    "websocket with a key": b"Connection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n",
    "TLS": b"Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    "several": b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\nUpgrade: HTTP/3.0\r\n",
    "an empty one": b"Connection: keep-alive\r\nConnection: upgrade\r\nUpgrade:\r\n",
}
BODIES = {
    "length": b"Content-Length: 5\r\n\r\nhello",
    "chunks": b"Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
}
SOCKET = OFFERS["websocket with a key"]
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


def pieces(data: bytes, how: str) -> list[bytes]:
    match how:
        case "one packet":
            return [data]
        case "head and body":
            head, _, body = data.partition(b"\r\n\r\n")
            return [head + b"\r\n\r\n", body]
        case _:
            return [data[index : index + 7] for index in range(0, len(data), 7)]


@pytest.mark.parametrize("how", ["one packet", "head and body", "many packets"])
@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS.keys())
async def test_post_with_an_offer_is_answered_as_without_and_so_is_what_follows(
    connect: Connect, offer: bytes, body: bytes, how: str
) -> None:
    async with Running(application(echo_size), listen()) as server, connect(server) as raw:
        for piece in pieces(b"POST /v1/responses HTTP/1.1\r\nHost: a\r\n" + offer + body, how):
            await raw.send(piece)
        first = await raw.answer()
        await raw.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        second = await raw.answer()
    assert [(status, received) for status, _, received in (first, second)] == [(200, b"5"), (200, b"2")]


async def test_pipelined_requests_around_an_offer_are_all_answered(connect: Connect) -> None:
    post = b"POST / HTTP/1.1\r\nHost: a\r\n"
    sent = [
        GET,
        post + OFFERS["h2c"] + BODIES["chunks"],
        GET,
        post + OFFERS["websocket"] + BODIES["length"],
        post + BODIES["length"],
        GET,
    ]
    async with Running(application(echo_size), listen()) as server, connect(server) as raw:
        await raw.send(b"".join(sent))
        sizes = [(await raw.answer())[2] for _ in sent]
    assert sizes == [b"0", b"5", b"0", b"5", b"5", b"0"]


async def test_request_is_seen_whole_beside_its_offer(connect: Connect) -> None:
    seen: list[Scope] = []

    async def looks(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)
        await echo_size(scope, receive, send)

    async with Running(application(looks), listen()) as server, connect(server) as raw:
        await raw.send(
            b"PUT /a%20b?c=d HTTP/1.1\r\nHost: a\r\nX-Two:  b\xffc\r\nX-Two: e\r\n"
            + OFFERS["h2c"]
            + BODIES["length"]
        )
        await raw.answer()
    found = [(seen[0][name]) for name in ("type", "method", "path", "query_string", "http_version")]
    assert (found, [value for name, value in seen[0]["headers"] if name == b"x-two"]) == (
        ["http", "PUT", "/a b", b"c=d", "1.1"],
        [b"b\xffc", b"e"],
    )


async def test_expected_continue_is_given_in_spite_of_an_offer(connect: Connect) -> None:
    async with Running(application(echo_size), listen()) as server, connect(server) as raw:
        await raw.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
            + OFFERS["h2c"]
            + b"Content-Length: 5\r\n\r\n"
        )
        async with asyncio.timeout(30):
            told = await raw.reader.readuntil(b"\r\n\r\n")
        await raw.send(b"hello")
        assert (told, (await raw.answer())[2]) == (b"HTTP/1.1 100 Continue\r\n\r\n", b"5")


async def test_connection_that_was_to_close_closes_in_spite_of_an_offer(connect: Connect) -> None:
    async with Running(application(echo_size), listen()) as server, connect(server) as raw:
        await raw.send(
            b"POST / HTTP/1.1\r\nHost: a\r\nConnection: close, upgrade\r\nUpgrade: h2c\r\n"
            + BODIES["length"]
            + GET
        )
        received = await raw.rest()
    assert (received.count(b"HTTP/1.1 200"), b"connection: close" in received, received[-1:]) == (
        1,
        True,
        b"5",
    )


async def test_body_that_stops_after_an_offer_is_cut_at_the_deadline(connect: Connect) -> None:
    async with (
        Running(application(echo_size), listen(receive_timeout_s=0.3)) as server,
        connect(server) as raw,
    ):
        await raw.send(
            b"POST / HTTP/1.1\r\nHost: a\r\n" + OFFERS["websocket"] + b"Content-Length: 5\r\n\r\nhel"
        )
        assert error_of(await raw.rest())[0] == 408


@pytest.mark.parametrize("request_bytes", [data for data in MALFORMED.values() if data.startswith(b"POST")])
async def test_malformed_request_is_refused_with_an_offer_too(connect: Connect, request_bytes: bytes) -> None:
    offered = request_bytes.replace(b"Host: a\r\n", b"Host: a\r\n" + OFFERS["h2c"])
    async with Running(application(echo_size), listen()) as server, connect(server) as raw:
        await raw.send(offered)
        assert error_of(await raw.rest()) == (400, "invalid_request_error")


UNANSWERABLE = {
    "CONNECT": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n",
    "CONNECT with an offer": b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n" + SOCKET + b"\r\n",
    "HTTP/2 at once": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00",
    "no key": b"GET / HTTP/1.1\r\nHost: a\r\n" + OFFERS["websocket"] + b"\r\n",
    "another version": b"GET / HTTP/1.1\r\nHost: a\r\n" + SOCKET.replace(b"13", b"8") + b"\r\n",
    "bad key": b"GET / HTTP/1.1\r\nHost: a\r\n" + SOCKET.replace(b"dGhl", b"!!!!") + b"\r\n",
    "two keys": b"GET / HTTP/1.1\r\nHost: a\r\n"
    + SOCKET
    + b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", UNANSWERABLE.values(), ids=UNANSWERABLE.keys())
async def test_what_begins_neither_a_request_nor_a_socket_is_refused_at_once(
    connect: Connect, request_bytes: bytes
) -> None:
    async with Running(application(empty), listen()) as server, connect(server) as raw:
        await raw.send(request_bytes)
        assert error_of(await raw.rest()) == (400, "invalid_request_error")


async def test_socket_with_a_line_that_it_cannot_take_is_refused_at_once(connect: Connect) -> None:
    async with Running(application(empty), listen()) as server, connect(server) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + SOCKET + b"X: " + b"x" * 16_384 + b"\r\n\r\n")
        assert error_of(await raw.rest()) == (431, "invalid_request_error")


IGNORED = {
    "a body": b"GET / HTTP/1.1\r\nHost: a\r\n" + SOCKET + BODIES["length"],
    "chunks": b"GET / HTTP/1.1\r\nHost: a\r\n" + SOCKET + BODIES["chunks"],
    "an old version": b"GET / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\n" + SOCKET + b"\r\nhello",
    "another method": b"HEAD / HTTP/1.1\r\nHost: a\r\n" + SOCKET + BODIES["length"],
}


@pytest.mark.parametrize("request_bytes", IGNORED.values(), ids=IGNORED.keys())
async def test_offer_of_a_socket_that_cannot_be_one_is_ignored(
    connect: Connect, request_bytes: bytes
) -> None:
    async with Running(application(echo_size), listen()) as server, connect(server) as raw:
        await raw.send(request_bytes)
        async with asyncio.timeout(30):
            status = await raw.reader.readline()
    assert status == b"HTTP/1.1 200 OK\r\n"


async def test_socket_offered_behind_an_unanswered_request_is_answered_as_a_request(connect: Connect) -> None:
    kinds: list[str] = []
    release = asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        kinds.append(scope["type"])
        await release.wait()
        await answer(send)

    async with Running(application(waits), listen()) as server, connect(server) as raw:
        await raw.send(GET + b"GET / HTTP/1.1\r\nHost: a\r\n" + SOCKET + b"\r\n")
        release.set()
        assert ([(await raw.answer())[0] for _ in range(2)], kinds) == ([200, 200], ["http", "http"])


# ---------------------------------------------------------------- a WebSocket


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


def frame(text: bytes) -> bytes:
    return bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text


async def test_socket_begins_after_requests_on_the_same_connection(connect: Connect) -> None:
    async def either(scope: Scope, receive: Receive, send: Send) -> None:
        await (echo if scope["type"] == "websocket" else empty)(scope, receive, send)

    async with Running(application(either), listen()) as server, connect(server) as raw:
        await raw.send(GET)
        await raw.answer()
        await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + SOCKET + b"\r\n")
        async with asyncio.timeout(30):
            head = await raw.reader.readuntil(b"\r\n\r\n")
            await raw.send(frame(b"hi"))
            assert (head.split()[1], await raw.reader.readexactly(4)) == (b"101", b"\x81\x02hi")


async def test_frames_sent_ahead_of_the_acceptance_are_not_lost(connect: Connect) -> None:
    async with Running(application(echo), listen()) as server, connect(server) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + SOCKET + b"\r\n" + frame(b"one") + frame(b"two"))
        async with asyncio.timeout(30):
            await raw.reader.readuntil(b"\r\n\r\n")
            assert await raw.reader.readexactly(10) == b"\x81\x03one\x81\x03two"


async def test_handshake_that_is_not_answered_is_cut_at_the_deadline(connect: Connect) -> None:
    told: list[Message] = []

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        while not told or told[-1]["type"] != "websocket.disconnect":
            told.append(await receive())

    async with Running(application(silent), listen(receive_timeout_s=0.3)) as server, connect(server) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + SOCKET + b"\r\n")
        assert await raw.rest() == b""


async def test_client_that_does_not_read_its_frames_is_cut(connect: Connect) -> None:
    ended = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await receive()
            await send({"type": "websocket.accept"})
            while True:
                await send({"type": "websocket.send", "text": "x" * 65_536})
        finally:
            ended.set()

    async with Running(application(endless), listen(write_timeout_s=0.3)) as server, connect(server) as raw:
        raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\n" + SOCKET + b"\r\n")
        async with asyncio.timeout(30):
            await ended.wait()
    assert ended.is_set()


async def test_socket_outlives_the_deadlines_of_a_request() -> None:
    async with Running(
        application(echo), listen(head_timeout_s=0.2, receive_timeout_s=0.2, keep_alive_s=0.2)
    ) as server:
        async with connect_socket(server.url.replace("http", "ws")) as connection:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(connection.recv(), 1)
            await connection.send("still here")
            assert await connection.recv() == "still here"
        with pytest.raises(ConnectionClosed):
            await connection.recv()


# ---------------------------------------------------------------- clients that offer


@pytest.mark.skipif(shutil.which("java") is None, reason="needs a JDK")
async def test_client_of_the_jdk_posts_with_its_default_settings() -> None:
    async with Running(application(echo_size), listen()) as server:
        printed = await _run("java", "-Xshare:auto", str(Path(__file__).with_name("Client.java")), server.url)
    assert printed.splitlines() == ["200 70000", "200 70001"] * 2


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_curl_posts_with_an_offer_of_http_2() -> None:
    async with Running(application(echo_size), listen()) as server:
        assert await _run("curl", "-sS", "--http2", "--data-binary", "hello", server.url) == "5"


async def _run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(120):
        return (await process.communicate())[0].decode()
