"""A fetch ends with what was asked for, or within its bounds."""

from __future__ import annotations

import asyncio
import gzip
import socket
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tests.adapters.backend.conftest import Exchange, ScriptedUpstream
from tests.adapters.egress.conftest import World
from tests.orchestrator.scripted import CONTEXT

from regate_adapters.opa.engine import OpaEngine
from regate_orchestrator.errors import CallerError, EgressDenied, FetchFailed, InvalidRequest, TooLarge
from regate_orchestrator.principal import Principal

pytestmark = pytest.mark.asyncio(loop_scope="session")

Script = Callable[[Exchange], Awaitable[None]]
HERE = {"docs.test": [["127.0.0.1"]], "mirror.test": [["127.0.0.1"]]}


def world_of(engine: OpaEngine, server: ScriptedUpstream, **more: Any) -> World:
    names = {**{name: list(answers) for name, answers in HERE.items()}, **more.pop("names", {})}
    return World(engine, names=names, ports=[server.port], **more)


def at(server: ScriptedUpstream, host: str = "docs.test", path: str = "/a.txt") -> str:
    return f"http://{host}:{server.port}{path}"


async def test_what_is_there_comes_with_its_type_and_place(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(200, b"text", "Content-Type: Text/Plain; charset=utf-8", "Set-Cookie: a=b")

    server.script = answer
    found = await world_of(engine, server).fetch(at(server, path="/a.txt?q=1#x"))

    assert (found.data, found.media_type, found.url) == (b"text", "text/plain", at(server, path="/a.txt?q=1"))


async def test_a_server_is_told_nothing_of_the_caller(engine: OpaEngine, server: ScriptedUpstream) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(200, b"", "Set-Cookie: a=b; Path=/")

    server.script = answer
    world = world_of(engine, server)
    await world.fetch(at(server))
    await world.fetch(at(server))

    assert {name for name, _ in server.requests[1].headers} == {
        "host",
        "user-agent",
        "accept",
        "accept-encoding",
        "connection",
    }
    assert dict(server.requests[1].headers)["accept-encoding"] == "identity"


async def test_no_proxy_of_the_environment_is_used(
    engine: OpaEngine, server: ScriptedUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(200, exchange.path.encode())

    server.script = answer
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    assert (await world_of(engine, server).fetch(at(server))).data == b"/a.txt"


def redirecting(to: str, status: int = 302) -> Script:
    async def answer(exchange: Exchange) -> None:
        if exchange.path == "/a.txt":
            await exchange.answer(status, b"", f"Location: {to}")
        else:
            await exchange.answer(200, b"found")

    return answer


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_to_where_the_policy_permits(
    engine: OpaEngine, server: ScriptedUpstream, status: int
) -> None:
    server.script = redirecting(at(server, "mirror.test", "/b.txt"), status)
    world = world_of(engine, server)

    assert (await world.fetch(at(server))).url == at(server, "mirror.test", "/b.txt")
    assert [one["about"] for one in world.decisions] == ["docs.test"] * 2 + ["mirror.test"] * 2


@pytest.mark.parametrize(
    ("to", "error"),
    [
        ("http://10.0.0.1:{port}/", EgressDenied),
        ("http://169.254.169.254/latest/meta-data/", EgressDenied),
        ("http://[::1]:{port}/", EgressDenied),
        ("http://inside.test:{port}/", EgressDenied),
        ("http://other.test:{port}/", EgressDenied),
        ("//other.test:{port}/", EgressDenied),
        ("http://docs.test:22/", EgressDenied),
        ("http://2130706433/", InvalidRequest),
        ("http://user:pass@docs.test:{port}/", InvalidRequest),
        ("file:///etc/passwd", InvalidRequest),
        ("gopher://docs.test:{port}/", InvalidRequest),
    ],
)
async def test_a_redirect_into_the_private_network_is_refused(
    engine: OpaEngine, server: ScriptedUpstream, to: str, error: type[CallerError]
) -> None:
    server.script = redirecting(to.format(port=server.port))
    names = {"inside.test": [["10.0.0.1"]], "other.test": [["127.0.0.1"]]}

    with pytest.raises(error):
        await world_of(engine, server, names=names).fetch(at(server))
    assert len(server.requests) == 1


async def test_a_redirect_that_never_ends_is_given_up(engine: OpaEngine, server: ScriptedUpstream) -> None:
    server.script = redirecting("/a.txt")

    with pytest.raises(FetchFailed, match="too often"):
        await world_of(engine, server, redirects=2).fetch(at(server))
    assert len(server.requests) == 3


async def slow_head(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\n")
    await exchange.gone()


async def slow_body(exchange: Exchange) -> None:
    await exchange.open_stream()
    while not exchange.writer.is_closing():
        await exchange.piece(b"x")
        await asyncio.sleep(0.05)


async def silent(exchange: Exchange) -> None:
    await exchange.gone()


async def endless_hints(exchange: Exchange) -> None:
    while not exchange.writer.is_closing():
        await exchange.send(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("script", [silent, slow_head, slow_body, endless_hints])
async def test_a_server_that_takes_its_time_is_left_at_the_deadline(
    engine: OpaEngine, server: ScriptedUpstream, script: Script
) -> None:
    server.script = script
    began = time.monotonic()

    with pytest.raises(FetchFailed):
        await world_of(engine, server, deadline_s=0.5).fetch(at(server))
    assert time.monotonic() - began < 5


async def test_a_tenant_with_slow_servers_keeps_no_other_waiting(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    begun: list[str] = []

    async def answer(exchange: Exchange) -> None:
        begun.append(exchange.path)
        if exchange.path == "/slow":
            await exchange.gone()
        else:
            await exchange.answer(200, b"quick")

    server.script = answer
    world, other = (
        world_of(engine, server, deadline_s=60),
        replace(CONTEXT, principal=Principal("eve", "globex")),
    )
    async with asyncio.TaskGroup() as group:
        slow = [group.create_task(world.fetch(at(server, path="/slow"))) for _ in range(40)]
        while begun.count("/slow") < 8:
            await asyncio.sleep(0.01)
        found = await world.fetcher.fetch(other, at(server), "file", limit_bytes=100)
        for one in slow:
            one.cancel()

    assert (found.data, begun.count("/slow")) == (b"quick", 8)


async def flood(exchange: Exchange) -> None:
    await exchange.open_stream()
    while not exchange.writer.is_closing():
        await exchange.piece(b"x" * 65_536)


async def large(exchange: Exchange) -> None:
    await exchange.answer(200, b"x" * 100_001)


@pytest.mark.parametrize("script", [flood, large])
async def test_a_body_past_the_limit_is_not_taken(
    engine: OpaEngine, server: ScriptedUpstream, script: Script
) -> None:
    server.script = script

    with pytest.raises(TooLarge, match="100000 bytes"):
        await world_of(engine, server).fetch(at(server), limit_bytes=100_000)


async def test_the_operators_limit_is_above_the_callers(engine: OpaEngine, server: ScriptedUpstream) -> None:
    server.script = large

    with pytest.raises(TooLarge, match="1000 bytes"):
        await world_of(engine, server, max_bytes=1_000).fetch(at(server))


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "deflate", "br", "zstd", "identity, gzip", "GZIP"])
async def test_a_compressed_answer_is_not_opened(
    engine: OpaEngine, server: ScriptedUpstream, encoding: str
) -> None:
    async def bomb(exchange: Exchange) -> None:
        await exchange.answer(200, gzip.compress(b"\0" * 50_000_000), f"Content-Encoding: {encoding}")

    server.script = bomb
    with pytest.raises(FetchFailed, match="compressed"):
        await world_of(engine, server).fetch(at(server))


async def garbage(exchange: Exchange) -> None:
    await exchange.send(b"\x00\xff not HTTP at all\r\n\r\n")
    exchange.writer.close()


async def many_headers(exchange: Exchange) -> None:
    await exchange.answer(200, b"", *(f"X-{number}: y" for number in range(101)))


async def long_header(exchange: Exchange) -> None:
    await exchange.answer(200, b"", "X: " + "y" * 200_000)


async def cut_off(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
    exchange.writer.close()


async def reset(exchange: Exchange) -> None:
    exchange.reset()


async def absent(exchange: Exchange) -> None:
    await exchange.answer(404, b"secret words of a server")


@pytest.mark.parametrize("script", [garbage, many_headers, long_header, cut_off, reset, absent])
async def test_what_is_no_answer_is_told_without_the_servers_words_or_place(
    engine: OpaEngine, server: ScriptedUpstream, script: Script
) -> None:
    server.script = script

    with pytest.raises(FetchFailed) as failed:
        await world_of(engine, server).fetch(at(server))
    assert not [word for word in ("127.0.0.1", "secret", str(server.port)) if word in failed.value.message]


async def test_a_port_that_nobody_listens_on_is_told_as_any_other_failure(
    engine: OpaEngine, unused_tcp_port: int
) -> None:
    world = World(engine, names={"docs.test": [["127.0.0.1"]]}, ports=[unused_tcp_port])

    with pytest.raises(FetchFailed) as failed:
        await world.fetch(f"http://docs.test:{unused_tcp_port}/")
    assert "127.0.0.1" not in failed.value.message


async def test_the_next_address_is_tried_where_one_does_not_answer(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(200, b"second")

    server.script = answer
    names = {"docs.test": [["127.0.0.2", "127.0.0.1"]]}  # nobody listens at the first

    assert (await world_of(engine, server, names=names).fetch(at(server))).data == b"second"


async def test_an_address_of_the_sixth_version_is_connected_to_as_any(engine: OpaEngine) -> None:
    try:
        sock = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("this machine has no IPv6")
    server = ScriptedUpstream()

    async def answer(exchange: Exchange) -> None:
        await exchange.answer(200, dict(exchange.headers)["host"].encode())

    server.script = answer
    async with server.serving(sock):
        world = World(engine, names={"docs.test": [["::1"]]}, ports=[server.port], private=["::1/128"])
        found = [(await world.fetch(f"http://{host}:{server.port}/")).data for host in ("[::1]", "docs.test")]

    assert found == [f"[::1]:{server.port}".encode(), f"docs.test:{server.port}".encode()]


# ------------------------------------------------------------------ TLS


def certificate(folder: Path, *names: str) -> tuple[ssl.SSLContext, Path]:
    """A server's context for a certificate of these names, and the file of who vouches for it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificates, keys = folder / "certificate.pem", folder / "key.pem"
    certificates.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    keys.write_bytes(key.private_bytes(*form))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates, keys)
    return context, certificates


@asynccontextmanager
async def secured(context: ssl.SSLContext) -> AsyncIterator[tuple[int, list[Any]]]:
    """The port of a server under TLS that answers everything alike, and the names it was called by."""
    called: list[Any] = []
    context.sni_callback = lambda _, name, __: called.append(name)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nsecure")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], called


async def test_tls_is_verified_for_the_name_at_the_checked_address(engine: OpaEngine, tmp_path: Path) -> None:
    context, authority = certificate(tmp_path, "docs.test")
    async with secured(context) as (port, called):
        world = World(engine, names={"docs.test": [["127.0.0.1"]]}, ports=[port], ca_file=authority)

        assert (await world.fetch(f"https://docs.test:{port}/")).data == b"secure"
    assert called == ["docs.test"]


@pytest.mark.parametrize(
    ("named", "is_trusted"), [("other.test", True), ("127.0.0.1", True), ("docs.test", False)]
)
async def test_a_certificate_of_another_name_or_of_nobody_is_not_taken(
    engine: OpaEngine, tmp_path: Path, named: str, is_trusted: bool
) -> None:
    context, authority = certificate(tmp_path, named)
    async with secured(context) as (port, _):
        trusted = authority if is_trusted else None
        world = World(engine, names={"docs.test": [["127.0.0.1"]]}, ports=[port], ca_file=trusted)

        with pytest.raises(FetchFailed, match="cannot be connected to"):
            await world.fetch(f"https://docs.test:{port}/")


async def test_a_redirect_that_gives_tls_up_is_refused(
    engine: OpaEngine, server: ScriptedUpstream, tmp_path: Path
) -> None:
    context, authority = certificate(tmp_path, "docs.test")

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 302 Found\r\nLocation: {at(server)}\r\nContent-Length: 0\r\n\r\n"
        writer.write(head.encode())
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(redirect, "127.0.0.1", 0, ssl=context) as secure:
        port = secure.sockets[0].getsockname()[1]
        world = World(
            engine, names={"docs.test": [["127.0.0.1"]]}, ports=[port, server.port], ca_file=authority
        )
        with pytest.raises(FetchFailed, match="without TLS"):
            await world.fetch(f"https://docs.test:{port}/")
    assert server.requests == []
