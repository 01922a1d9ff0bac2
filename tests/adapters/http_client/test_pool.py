"""The lean HTTP client, over real sockets: what it takes for an answer, which connections it uses again, and
how it fails. The other side says exactly what a test has it say.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from regate_adapters.http_client.connection import Answer
from regate_adapters.http_client.errors import (
    BrokenOff,
    HttpFailure,
    NotConnected,
    NotConnectedInTime,
    NotHttp,
    Silent,
)
from regate_adapters.http_client.pool import Limits, Pool

HEAD = b"POST /x HTTP/1.1\r\nHost: here\r\nContent-Length: 0\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Other:
    """The other side: `script` serves each connection; `connections` counts them."""

    def __init__(self) -> None:
        self.connections = 0
        self.script: Script = always(OK)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self.script(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


def always(answer: bytes) -> Script:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(answer)
            await writer.drain()

    return script


def once(*pieces: bytes, stays: bool = False) -> Script:
    """Answer one request in pieces, each a write of its own, and close, or stay without a word."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)
        if stays:
            await reader.read()

    return script


@asynccontextmanager
async def pool_to(
    other: Other, *, connections: int = 4, connect_s: float = 60, keep_alive_s: float = 60
) -> AsyncIterator[Pool]:
    server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    pool = Pool(f"http://127.0.0.1:{port}", Limits(connections, keep_alive_s, connect_s))
    try:
        yield pool
    finally:
        await pool.close()
        server.close()


async def whole(pool: Pool, *, silence_s: float = 60) -> tuple[int, bytes]:
    answer = await pool.send(HEAD, b"", silence_s=silence_s)
    try:
        return answer.status, await body_of(answer)
    finally:
        pool.release(answer)


async def body_of(answer: Answer) -> bytes:
    found = b""
    while piece := await answer.readany():
        found += piece
    return found


async def test_connection_is_used_again_once_an_answer_was_read() -> None:
    other = Other()
    async with pool_to(other) as pool:
        answers = [await whole(pool) for _ in range(3)]

    assert (answers, other.connections) == ([(200, b"ok")] * 3, 1)


@pytest.mark.parametrize(
    ("pieces", "found"),
    [
        ((b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n", b"ok\r\n0\r\n\r\n"), (200, b"ok")),
        ((b"HTTP/1.1 200 OK\r\n\r\nto the", b" end"), (200, b"to the end")),
        ((b"HTTP/1.0 404 No\r\n\r\nno",), (404, b"no")),
        ((b"HTTP/1.1 100 Continue\r\n\r\n", OK), (200, b"ok")),
        ((b"HTTP/1.1 103 Early\r\nContent-Length: 9\r\n\r\n" + OK,), (200, b"ok")),
        ((b"HTTP/1.1 204 None\r\n\r\n",), (204, b"")),
        (tuple(bytes([byte]) for byte in OK), (200, b"ok")),
    ],
)
async def test_answers_in_all_their_forms(pieces: tuple[bytes, ...], found: tuple[int, bytes]) -> None:
    other = Other()
    other.script = once(*pieces)
    async with pool_to(other) as pool:
        assert await whole(pool) == found


@pytest.mark.parametrize(
    ("pieces", "failure"),
    [
        ((b"SSH-2.0-nothing\r\n\r\n",), NotHttp),
        ((b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",), NotHttp),
        ((b"HTTP/1.1 200 OK\r\nX: ", b"y" * 100_000), NotHttp),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",), NotHttp),
        ((b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",), HttpFailure),
        ((b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",), BrokenOff),
        ((b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n",), BrokenOff),
        ((b"HTTP/1.1 200",), BrokenOff),
        ((), BrokenOff),
    ],
)
async def test_what_is_no_answer_fails(pieces: tuple[bytes, ...], failure: type[HttpFailure]) -> None:
    other = Other()
    other.script = once(*pieces)
    async with pool_to(other) as pool:
        with pytest.raises(failure):
            await whole(pool)


async def test_kept_connection_that_was_closed_is_told_apart_from_one_that_broke() -> None:
    other = Other()
    async with pool_to(other) as pool:
        other.script = once()
        with pytest.raises(BrokenOff) as fresh:
            await whole(pool)
        other.script = always(OK)
        await whole(pool)
        (kept,) = pool._idle
        kept._transport.close()  # type: ignore[union-attr] # as the other side may, at any moment
        with pytest.raises(BrokenOff) as stale:
            await kept.exchange(HEAD, b"", silence_s=60)

    assert (fresh.value.unanswered, stale.value.unanswered) == (False, True)


@pytest.mark.parametrize(
    "script",
    [once(stays=True), once(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", stays=True)],
    ids=["no head", "no rest"],
)
async def test_silence_ends_the_exchange(script: Script) -> None:
    other = Other()
    other.script = script
    async with pool_to(other) as pool:
        with pytest.raises(Silent):
            await whole(pool, silence_s=0.05)


async def test_head_that_drips_does_not_hold_a_connection_for_ever() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not writer.is_closing():
            writer.write(b"y")
            await writer.drain()
            await asyncio.sleep(0.01)

    other = Other()
    other.script = script
    async with pool_to(other) as pool:
        with pytest.raises(Silent):
            await whole(pool, silence_s=0.1)


async def test_what_comes_unasked_ends_the_connection_and_is_nobodys_answer() -> None:
    other = Other()
    other.script = always(OK + b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
    async with pool_to(other) as pool:
        answers = [await whole(pool) for _ in range(3)]

    assert answers == [(200, b"ok")] * 3
    assert other.connections == 3


async def test_answer_that_is_not_read_to_its_end_closes_the_connection() -> None:
    left = asyncio.Event()

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
        await reader.read()
        left.set()

    other = Other()
    other.script = script
    async with pool_to(other) as pool, asyncio.timeout(60):
        answer = await pool.send(HEAD, b"", silence_s=60)
        assert await answer.readany() == b"ok"
        pool.release(answer)
        await left.wait()


async def test_nobody_reads_faster_than_it_is_asked_to() -> None:
    size, sent = 8 * 1024 * 1024, 0

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 65_536):
            writer.write(b"x" * 65_536)
            await writer.drain()
            sent += 65_536

    other = Other()
    other.script = script
    async with pool_to(other) as pool, asyncio.timeout(60):
        answer = await pool.send(HEAD, b"", silence_s=60)
        seen = -1
        while sent != seen:  # until it is held up
            seen = sent
            await asyncio.sleep(0.05)
        assert seen < size
        assert len(await body_of(answer)) == size
        pool.release(answer)


async def test_large_request_is_written_as_fast_as_it_is_taken() -> None:
    body = b"x" * 5_000_000

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        got = await reader.readexactly(len(body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%d" % (len(str(len(got))), len(got)))
        await writer.drain()

    other = Other()
    other.script = script
    head = b"POST /x HTTP/1.1\r\nHost: here\r\nContent-Length: %d\r\n\r\n" % len(body)
    async with pool_to(other) as pool:
        answer = await pool.send(head, body, silence_s=60)
        assert await body_of(answer) == b"5000000"
        pool.release(answer)


async def test_no_more_connections_than_permitted_and_those_that_wait_get_their_turn() -> None:
    other = Other()
    async with pool_to(other, connections=2) as pool:
        assert await asyncio.gather(*(whole(pool) for _ in range(20))) == [(200, b"ok")] * 20
    assert other.connections == 2


async def test_whoever_waits_in_vain_for_a_connection_has_sent_nothing() -> None:
    other = Other()
    other.script = once(stays=True)
    async with pool_to(other, connections=1, connect_s=0.05) as pool:
        async with asyncio.TaskGroup() as group:
            hanging = group.create_task(whole(pool))
            while not other.connections:
                await asyncio.sleep(0)
            with pytest.raises(NotConnectedInTime):
                await whole(pool)
            hanging.cancel()
        other.script = always(OK)
        assert await whole(pool) == (200, b"ok")  # what was cancelled gave its place back


async def test_idle_connection_is_not_used_when_it_is_old() -> None:
    other = Other()
    async with pool_to(other, keep_alive_s=0) as pool:
        assert [await whole(pool) for _ in range(2)] == [(200, b"ok")] * 2
    assert other.connections == 2


async def test_nobody_listens() -> None:
    pool = Pool("http://127.0.0.1:1", Limits(1, 60, 60))
    for _ in range(2):
        with pytest.raises(NotConnected) as failure:
            await whole(pool)
        assert failure.value.refused


async def test_unix_socket(tmp_path: Path) -> None:
    other = Other()
    server = await asyncio.start_unix_server(other.serve, tmp_path / "s")
    pool = Pool("http://opa", Limits(1, 60, 60), socket=tmp_path / "s")
    assert (await whole(pool), pool.authority) == ((200, b"ok"), "opa")
    await pool.close()
    server.close()


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("http://a.example/v1", "a.example"),
        ("http://a.example:80/v1", "a.example"),
        ("https://a.example:8443", "a.example:8443"),
        ("http://[::1]:8000/v1", "[::1]:8000"),
    ],
)
def test_host_header(url: str, authority: str) -> None:
    assert Pool(url, Limits(1, 1, 1)).authority == authority
