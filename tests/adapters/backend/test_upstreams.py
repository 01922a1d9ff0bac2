from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from regate_adapters.backend.upstream_client import UpstreamConfig
from regate_adapters.backend.upstreams import Upstreams
from regate_orchestrator.errors import ConfigurationError, UpstreamError
from regate_orchestrator.upstream_capabilities import UpstreamCapabilities
from regate_orchestrator.values import JsonObject

if TYPE_CHECKING:
    from tests.adapters.backend.conftest import Exchange, ScriptedUpstream


async def post(upstreams: Upstreams, payload: JsonObject | None = None, *, stream: bool = False) -> bytes:
    async with upstreams.open(
        "scripted", "/chat/completions", payload or {}, accept_stream=stream
    ) as response:
        return b"".join([chunk async for chunk in response.chunks()])


async def refusal(upstreams: Upstreams) -> UpstreamError:
    with pytest.raises(UpstreamError) as raised:
        await post(upstreams)
    return raised.value


async def test_answer_passes_byte_for_byte(upstream: ScriptedUpstream, upstreams: Upstreams) -> None:
    body = b'{ "odd"  :  "spacing" }\n'
    upstream.script = lambda exchange: exchange.answer(
        200, body, "Content-Type: application/json; charset=utf-8", "X-Secret: 1"
    )
    async with upstreams.open("scripted", "/chat/completions", {}, accept_stream=False) as response:
        received = b"".join([chunk async for chunk in response.chunks()])
    assert response.status == 200
    assert (received, dict(response.headers)) == (body, {"content-length": str(len(body))})


async def test_only_our_own_headers_are_sent(
    upstream: ScriptedUpstream, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    upstream.script = lambda exchange: exchange.answer(200, b"{}", "Set-Cookie: id=1")
    await post(upstreams)
    await post(upstreams, stream=True)
    first, second = (dict(exchange.headers) for exchange in upstream.requests)
    assert first == {
        "host": f"127.0.0.1:{upstream.port}",
        "user-agent": "regate",
        "accept": "application/json",
        "accept-encoding": "identity",
        "authorization": "Bearer sk-upstream",
        "content-type": "application/json",
        "content-length": "2",
    }
    assert second == {**first, "accept": "text/event-stream, application/json"}


async def test_no_key_sends_no_authorization(upstream: ScriptedUpstream) -> None:
    upstream.script = lambda exchange: exchange.answer(200, b"{}")
    async with Upstreams([upstream.config(api_key=None)]) as pool:
        await post(pool)
    assert "authorization" not in dict(upstream.requests[0].headers)


async def test_large_body_arrives_whole(upstream: ScriptedUpstream, upstreams: Upstreams) -> None:
    upstream.script = lambda exchange: exchange.answer(200, b"{}")
    payload = {"text": "0123456789äöü" * 250_000}
    await post(upstreams, payload)
    assert json.loads(upstream.requests[0].body) == payload


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (301, 502),
        (400, 400),
        (401, 502),
        (402, 502),
        (403, 502),
        (404, 400),
        (408, 504),
        (413, 400),
        (422, 400),
        (429, 429),
        (500, 502),
        (503, 502),
        (529, 502),
    ],
)
async def test_status_of_the_upstream_is_mapped_and_its_words_stay_inside(
    upstream: ScriptedUpstream, upstreams: Upstreams, status: int, expected: int
) -> None:
    upstream.script = lambda exchange: exchange.answer(
        status, b"the backend's own words", "Location: http://127.0.0.1:9/"
    )
    error = await refusal(upstreams)
    assert (error.status, "own words" in error.message, "own words" in error.detail) == (
        expected,
        False,
        True,
    )
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ("7", "7"),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"),
        ("whenever you like", None),
        ("-1", None),
        ("9" * 50, None),
    ],
)
async def test_retry_after_is_kept_where_it_is_one(
    upstream: ScriptedUpstream, upstreams: Upstreams, sent: str, kept: str | None
) -> None:
    upstream.script = lambda exchange: exchange.answer(429, b"", f"Retry-After: {sent}")
    error = await refusal(upstreams)
    assert (error.retry_after, error.code) == (kept, "rate_limit_exceeded")


async def test_detail_is_short_and_never_holds_the_key(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    upstream.script = lambda exchange: exchange.answer(401, b"wrong key: sk-upstream " + b"x" * 100_000)
    error = await refusal(upstreams)
    assert "***" in error.detail
    assert "sk-upstream" not in error.detail + error.message
    assert len(error.detail) <= 2_048


async def test_error_text_that_never_ends_is_not_waited_for(
    upstream: ScriptedUpstream, upstreams: Upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("regate_adapters.backend.upstream_client._ERROR_TEXT_SECONDS", 60)

    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 500 Oops\r\nContent-Length: 100000\r\n\r\n" + b"x" * 9_000)
        await exchange.gone()

    upstream.script = script
    async with asyncio.timeout(120):
        assert (await refusal(upstreams)).status == 502


async def test_error_text_that_breaks_off_still_has_its_status(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 429 Slow down\r\nContent-Length: 100000\r\n\r\nbusy")
        exchange.writer.close()

    upstream.script = script
    error = await refusal(upstreams)
    assert (error.status, error.detail) == (429, "scripted answered 429: busy (broken off)")


async def test_upstream_that_never_answers_is_a_timeout(
    upstream: ScriptedUpstream, impatient: Upstreams
) -> None:
    upstream.script = lambda exchange: exchange.gone()
    async with asyncio.timeout(120):
        assert (await refusal(impatient)).status == 504


async def test_body_that_falls_silent_is_a_timeout(upstream: ScriptedUpstream, impatient: Upstreams) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await exchange.gone()

    upstream.script = script
    async with asyncio.timeout(120):
        assert (await refusal(impatient)).status == 504


async def test_upstream_that_hangs_up_without_an_answer_has_failed_and_is_not_asked_again(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    async def script(exchange: Exchange) -> None:
        exchange.reset()

    upstream.script = script
    assert (await refusal(upstreams)).status == 502
    assert len(upstream.requests) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
    ],
)
async def test_answer_that_is_not_http_has_failed(
    upstream: ScriptedUpstream, upstreams: Upstreams, head: bytes
) -> None:
    upstream.script = lambda exchange: exchange.send(head)
    assert (await refusal(upstreams)).status == 502


async def test_encoding_that_was_not_asked_for_is_refused(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    upstream.script = lambda exchange: exchange.answer(200, b"\x1f\x8b", "Content-Encoding: gzip")
    assert (await refusal(upstreams)).status == 502


def free_port() -> tuple[socket.socket, int]:
    sock = socket.socket()
    sock.bind(
        ("127.0.0.1", 0)
    )  # bound and not listening: connections are refused, and nobody else gets the port
    return sock, sock.getsockname()[1]


async def test_nobody_listening_is_unreachable(new_upstream: type[ScriptedUpstream]) -> None:
    sock, port = free_port()
    config = new_upstream().config(base_url=f"http://127.0.0.1:{port}/v1")
    with sock:
        async with Upstreams([config]) as pool:
            error = await refusal(pool)
    assert (error.status, error.message) == (502, "The backend cannot be reached.")


async def test_refused_connection_is_tried_once_more(new_upstream: type[ScriptedUpstream]) -> None:
    scripted = new_upstream()
    scripted.script = lambda exchange: exchange.answer(200, b"back again")
    sock, port = free_port()
    serving = scripted.serving(sock)
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        await serving.__aenter__()

    async with Upstreams([scripted.config(base_url=f"http://127.0.0.1:{port}/v1")], pause=pause) as pool:
        assert await post(pool) == b"back again"
    await serving.__aexit__(None, None, None)
    assert len(pauses) == 1


async def test_leaving_before_the_body_ends_closes_the_connection(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    gone = asyncio.Event()

    async def script(exchange: Exchange) -> None:
        await exchange.open_stream()
        await exchange.piece(b"data: a\n\n")
        await exchange.gone()
        gone.set()

    upstream.script = script
    async with upstreams.open("scripted", "/chat/completions", {}, accept_stream=True) as response:
        assert await anext(response.chunks()) == b"data: a\n\n"
    async with asyncio.timeout(120):
        await gone.wait()


async def test_leaving_frees_the_connection_though_the_upstream_takes_no_more_of_the_body() -> None:
    async def answer_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await left.wait()
        writer.transport.abort()

    left = asyncio.Event()
    server = await asyncio.start_server(answer_early, "127.0.0.1", 0)
    config = UpstreamConfig(
        "scripted", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", None, None, 1.0
    )
    async with server, Upstreams([config]) as pool:
        async with pool.open(
            "scripted", "/chat/completions", {"text": "x" * 32_000_000}, accept_stream=False
        ) as response:
            chunks = response.chunks()
            assert await anext(chunks) == b"abc"
            with pytest.raises(UpstreamError):  # by the deadline all buffers between the two are full
                await anext(chunks)
            within = len(list(Path("/dev/fd").iterdir()))
        await asyncio.sleep(0)  # the transport closes its socket in the loop's next turn
        after = len(list(Path("/dev/fd").iterdir()))
        left.set()
    assert after == within - 1


async def test_slow_reader_slows_the_upstream_instead_of_filling_memory(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    sent, stuck = 0, asyncio.Event()

    async def script(exchange: Exchange) -> None:
        nonlocal sent
        await exchange.open_stream()
        while sent < 64 * 1024 * 1024:
            try:
                async with asyncio.timeout(0.3):
                    await exchange.piece(b"x" * 65_536)
            except TimeoutError:
                break
            sent += 65_536
        stuck.set()

    upstream.script = script
    async with upstreams.open("scripted", "/chat/completions", {}, accept_stream=True) as response:
        await anext(response.chunks())
        await stuck.wait()
    assert sent < 16 * 1024 * 1024


async def test_connection_is_kept_for_the_next_request(
    upstream: ScriptedUpstream, upstreams: Upstreams
) -> None:
    upstream.script = lambda exchange: exchange.answer(200, b"{}")
    for _ in range(3):
        await post(upstreams)
    assert {exchange.connection for exchange in upstream.requests} == {1}


@pytest.mark.parametrize("path", ["", "/../admin", "//other", "/chat?x=1", "chat", "/chat/completions/"])
async def test_path_that_is_not_ours_is_never_sent(
    upstream: ScriptedUpstream, upstreams: Upstreams, path: str
) -> None:
    with pytest.raises(ValueError, match="not a path of ours"):
        async with upstreams.open("scripted", path, {}, accept_stream=False):
            pass
    assert upstream.requests == []


BAD: list[dict[str, Any]] = [
    {"base_url": "ftp://127.0.0.1/v1"},
    {"base_url": "http:///v1"},
    {"base_url": "http://user:word@127.0.0.1/v1"},
    {"base_url": "http://127.0.0.1/v1?key=1"},
    {"api_key": "two\r\nlines"},
    {"api_key": ""},
    {"timeout_s": 0},
    {"timeout_s": float("inf")},
]


@pytest.mark.parametrize("changes", BAD)
def test_unsafe_configuration_is_refused(
    new_upstream: type[ScriptedUpstream], changes: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError):
        Upstreams([new_upstream().config(**changes)])


def test_two_upstreams_of_one_name_are_refused(new_upstream: type[ScriptedUpstream]) -> None:
    config = new_upstream().config()
    with pytest.raises(ConfigurationError):
        Upstreams([config, config])


def test_traits_are_those_of_the_configuration(new_upstream: type[ScriptedUpstream]) -> None:
    capabilities = UpstreamCapabilities(
        reasoning_field="reasoning_content",
        image_urls=True,
        context_window=8_192,
        extra_fields=frozenset({"top_k"}),
    )
    pool = Upstreams(
        [new_upstream().config("plain"), new_upstream().config("able", capabilities=capabilities)]
    )
    assert (pool.capabilities("plain"), pool.capabilities("able"), pool.extra_fields) == (
        UpstreamCapabilities(),
        capabilities,
        {"top_k"},
    )


def test_key_is_not_shown() -> None:
    config = UpstreamConfig("a", "http://127.0.0.1/v1", "sk-upstream", None, 5.0)
    assert "sk-upstream" not in repr(config)
