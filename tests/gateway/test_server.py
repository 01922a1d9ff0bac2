"""The server's own limits, seen from raw sockets: every phase of a connection has an end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from starlette.types import Message, Receive, Scope, Send
from tests.gateway.conftest import Connect, Later, answer, application, listen

from regate_adapters.testing.ports import free_port
from regate_gateway.config.listen_settings import Listen
from regate_gateway.http.server import Running, authority, bind, reserve
from regate_orchestrator.errors import ConfigurationError

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"


async def empty(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send)


async def echo_size(scope: Scope, receive: Receive, send: Send) -> None:
    size, message = 0, await receive()
    while message["type"] == "http.request":
        size += len(message["body"])
        if not message["more_body"]:
            await answer(send, str(size).encode())
            return
        message = await receive()


def error_of(received: bytes) -> tuple[int, str]:
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)["error"]["type"]


async def test_head_that_drips_is_cut_at_the_deadline(connect: Connect) -> None:
    async with Running(application(empty), listen(head_timeout_s=0.4)) as server, connect(server) as raw:
        began = time.monotonic()
        await raw.send(b"GET / HTTP/1.1\r\n")

        async def drip() -> None:
            with contextlib.suppress(ConnectionError):  # it may be cut before we read that it was
                while True:
                    await raw.send(b"x")
                    await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            dripping = group.create_task(drip())
            received = await raw.rest()
            dripping.cancel()
    assert (error_of(received)[0], time.monotonic() - began > 0.3) == (408, True)


async def test_connection_that_sends_nothing_is_cut_at_the_deadline(connect: Connect) -> None:
    async with Running(application(empty), listen(head_timeout_s=0.2)) as server, connect(server) as raw:
        assert error_of(await raw.rest()) == (408, "invalid_request_error")


async def test_body_without_progress_is_cut_and_the_application_learns_of_it(connect: Connect) -> None:
    seen: list[Message] = []

    async def reads(scope: Scope, receive: Receive, send: Send) -> None:
        while not seen or seen[-1]["type"] == "http.request":
            seen.append(await receive())

    async with Running(application(reads), listen(receive_timeout_s=0.3)) as server, connect(server) as raw:
        await raw.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc")
        received = await raw.rest()
    assert (error_of(received)[0], seen[-1]["type"]) == (408, "http.disconnect")


async def test_body_that_keeps_coming_is_not_cut(connect: Connect, later: Later) -> None:
    arrived = asyncio.Queue[int]()

    async def notes(scope: Scope, receive: Receive, send: Send) -> None:
        async def noted() -> Message:
            message = await receive()
            arrived.put_nowait(len(message["body"]))
            return message

        await echo_size(scope, noted, send)

    async with Running(application(notes), listen(receive_timeout_s=60)) as server, connect(server) as raw:
        await raw.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30720\r\n\r\n")
        for _ in range(3):
            await raw.send(b"x" * 10_240)
            here = 0
            while here < 10_240:
                here += await arrived.get()
            await later(40)
        assert await raw.answer() == (
            200,
            {"content-type": "application/json", "content-length": "5"},
            b"30720",
        )


async def test_time_in_which_the_application_does_not_read_is_not_the_clients(
    connect: Connect, later: Later
) -> None:
    called, reads = asyncio.Event(), asyncio.Event()

    async def reads_late(scope: Scope, receive: Receive, send: Send) -> None:
        called.set()
        await reads.wait()
        await echo_size(scope, receive, send)

    size = 4_000_000
    async with (
        Running(application(reads_late), listen(receive_timeout_s=60)) as server,
        connect(server) as raw,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(
            raw.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        )
        await called.wait()
        await later(200)
        reads.set()
        assert (await raw.answer())[2] == str(size).encode()


OVERSIZED = {
    "one header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 40_000 + b"\r\n\r\n",
    "one header without an end": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 400_000,
    "request line": b"GET /" + b"x" * 40_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "many headers": b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n",
}


@pytest.mark.parametrize("request_bytes", OVERSIZED.values(), ids=OVERSIZED.keys())
async def test_oversized_head_is_refused(connect: Connect, request_bytes: bytes) -> None:
    async with Running(application(empty), listen()) as server, connect(server) as raw:
        raw.writer.write(request_bytes)
        assert error_of(await raw.rest())[0] == 431


async def test_head_within_the_limits_is_served(connect: Connect) -> None:
    async with Running(application(empty), listen()) as server, connect(server) as raw:
        await raw.send(b"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + b"x" * 16_384 + b"\r\n\r\n")
        assert (await raw.answer())[0] == 200


async def test_one_connection_too_many_is_refused_and_room_comes_back(connect: Connect) -> None:
    async with Running(application(empty), listen(max_connections=2)) as server, connect(server) as first:
        async with connect(server) as second:
            for raw in (first, second):
                await raw.send(GET)
                assert (await raw.answer())[0] == 200
            async with connect(server) as third:
                assert error_of(await third.rest()) == (503, "server_error")
        async with asyncio.timeout(120):
            status = 503
            while status == 503:
                async with connect(server) as again:
                    await again.send(GET)
                    status = int((await again.reader.readline()).split()[1])
    assert status == 200


MALFORMED = {
    "not HTTP": b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n",
    "both length and chunks": (
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: a\n\n",
    "blank before the colon": b"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
    "bad chunk": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("request_bytes", MALFORMED.values(), ids=MALFORMED.keys())
async def test_malformed_request_is_answered_400_and_the_connection_ends(
    connect: Connect, request_bytes: bytes
) -> None:
    async with Running(application(echo_size), listen()) as server, connect(server) as raw:
        await raw.send(request_bytes)
        assert error_of(await raw.rest()) == (400, "invalid_request_error")


async def test_idle_connection_is_closed_even_when_blank_lines_arrive(connect: Connect, later: Later) -> None:
    async with Running(application(empty), listen(keep_alive_s=60)) as server, connect(server) as raw:
        await raw.send(GET)
        assert (await raw.answer())[0] == 200
        await later(40)
        await raw.send(b"\r\n")
        await later(40)
        assert await raw.rest() == b""


async def test_body_that_was_answered_unread_may_end_and_the_connection_serves_on(connect: Connect) -> None:
    async with Running(application(empty), listen()) as server, connect(server) as raw:
        await raw.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
        first = (await raw.answer())[0]
        await raw.send(b"x" * 200_000 + GET)
        assert (first, (await raw.answer())[0]) == (200, 200)


async def test_pipelined_requests_are_all_answered(connect: Connect) -> None:
    async with Running(application(empty), listen()) as server, connect(server) as raw:
        await raw.send(GET * 3)
        assert [(await raw.answer())[0] for _ in range(3)] == [200, 200, 200]


async def test_client_that_does_not_read_its_answer_is_cut(connect: Connect) -> None:
    ended = asyncio.Event()

    async def endless(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"x" * 65_536, "more_body": True})
            if ended.is_set():
                return

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(endless(scope, receive, send))
            await receive()
            ended.set()
            sending.cancel()

    async with Running(application(watched), listen(write_timeout_s=0.3)) as server, connect(server) as raw:
        raw.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await raw.send(GET)
        async with asyncio.timeout(120):
            await ended.wait()
    assert ended.is_set()


async def test_large_answer_to_a_client_that_reads_slowly_arrives_whole(connect: Connect) -> None:
    size = 3_000_000

    async def large(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"x" * size)

    async with Running(application(large), listen(write_timeout_s=10)) as server, connect(server) as raw:
        await raw.send(GET)
        await raw.reader.readuntil(b"\r\n\r\n")
        received = 0
        async with asyncio.timeout(120):
            while received < size:
                received += len(await raw.reader.read(200_000))
                await asyncio.sleep(0.02)
    assert received == size


async def test_answers_name_neither_server_nor_date(connect: Connect) -> None:
    async with Running(application(empty), listen()) as server, connect(server) as raw:
        await raw.send(GET)
        assert set((await raw.answer())[1]) == {"content-type", "content-length"}


async def test_running_request_is_finished_at_shutdown(connect: Connect) -> None:
    begun, release = asyncio.Event(), asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        begun.set()
        await release.wait()
        await answer(send)

    async with asyncio.TaskGroup() as group:
        server = await Running(application(waits), listen()).__aenter__()
        async with connect(server) as raw:
            await raw.send(GET)
            await begun.wait()
            stopping = group.create_task(_stop(server))
            release.set()
            received = await raw.rest()
            await stopping
    assert received.startswith(b"HTTP/1.1 200")


async def _stop(server: Running) -> None:
    await server._end()


async def test_address_in_use_is_a_configuration_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ConfigurationError, match="cannot be bound"),
    ):
        Running(application(empty), listen().model_copy(update={"port": taken.getsockname()[1]}))


async def test_who_connects_before_the_application_has_started_is_refused_and_not_kept_waiting() -> None:
    refused = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        try:
            await asyncio.open_connection("127.0.0.1", server.port)
        except ConnectionRefusedError:
            refused.append(True)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})

    async with (server := Running(app, Listen(port=0))):
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.close()

    assert refused == [True]


@pytest.mark.parametrize("take", [bind, reserve])
def test_free_port_that_was_found_is_given_to_nobody_else(take: Callable[[Listen], socket.socket]) -> None:
    with take(Listen(port=0)) as taken, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(taken.getsockname())


async def test_address_that_another_is_first_to_listen_at_ends_the_start() -> None:
    ended = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "lifespan"
        await receive()
        taking.listen()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        ended.append(True)
        await send({"type": "lifespan.shutdown.complete"})

    address = Listen(port=free_port())
    server = Running(app, address)
    with bind(address) as taking, pytest.raises(ConfigurationError, match="listen: "):
        async with server:
            pass

    assert ended == [True]


async def test_application_that_fails_to_start_is_one_error_with_its_reason_and_no_exit(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fails(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no policy"})

    with pytest.raises(ConfigurationError, match=r"^no policy$"):
        async with Running(fails, listen()):
            pass
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.parametrize(
    ("host", "port", "written"),
    [
        ("127.0.0.1", 8080, "127.0.0.1:8080"),
        ("::1", 8080, "[::1]:8080"),
        ("::", 1, "[::]:1"),
        ("gateway.example", 80, "gateway.example:80"),
    ],
)
def test_address_is_written_as_in_urls(host: str, port: int, written: str) -> None:
    assert authority(host, port) == written


PROGRAM = """
import asyncio
from regate_gateway.composition.process import prepare
from regate_gateway.http.server import serve
from regate_gateway.config.listen_settings import Listen

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        print("closed", flush=True)
        await send({"type": "lifespan.shutdown.complete"})
        return
    status = 503 if scope["state"].get("ending") else 204
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": b""})

async def listening(address):
    print(address, flush=True)

prepare(most_connections=10)
serve(app, Listen(port=0, shutdown_notice_s=600), when_listening=listening)
print("returned", flush=True)
"""


BROKEN_PROGRAM = (
    PROGRAM.replace("print(address, flush=True)", "print(address, flush=True)\n    broken.set()")
    .replace("import asyncio", "import asyncio\nbroken = asyncio.Event()")
    .replace(
        """"lifespan.startup.complete"})
        await receive()""",
        """"lifespan.startup.complete"})
        await broken.wait()
        raise ValueError("a fault of our own")""",
    )
)


@asynccontextmanager
async def program(source: str = PROGRAM) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """Enter with the program listening on the port; it is gone on leaving."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", source, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            yield process, int((await process.stdout.readline()).rpartition(b":")[2])
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def status_at(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def test_process_whose_application_ends_by_a_fault_ends_as_failed() -> None:
    async with program(BROKEN_PROGRAM) as (process, _):
        code = await process.wait()

    assert code == 1


async def test_served_process_ends_in_order_on_interrupt() -> None:
    async with program() as (process, port):
        status = await status_at(port)
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        printed = await process.stdout.read()
        assert (status, printed, await process.wait()) == (204, b"closed\nreturned\n", 0)


async def test_hangup_ends_nothing() -> None:
    async with program() as (process, port):
        process.send_signal(signal.SIGHUP)
        assert await status_at(port) == 204


async def test_process_that_was_told_to_end_says_so_while_it_listens_and_a_second_signal_ends_it() -> None:
    async with program() as (process, port):
        process.send_signal(signal.SIGTERM)
        while await status_at(port) != 503:
            pass
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert (await process.stdout.read(), await process.wait()) == (b"closed\n", -signal.SIGTERM)
