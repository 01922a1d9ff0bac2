"""TLS that the gateway terminates itself, on the event loop that it serves with."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvloop
from starlette.types import Receive, Scope, Send
from tests.certificates import Authority, client_context

from regate_gateway.config.listen_settings import Listen, Tls
from regate_gateway.config.tls import ServerTls
from regate_gateway.http.connection import peer_certificate
from regate_gateway.http.server import Running
from regate_orchestrator.errors import ConfigurationError


async def showing_the_certificate(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers with what it knows of the connection."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    body = json.dumps([scope["scheme"], peer_certificate(scope)]).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def on_uvloop(scenario: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(scenario)


def listen(tmp_path: Path, **tls: Any) -> Listen:
    return Listen(port=0, tls=Tls(cert=tmp_path / "server.crt", key=tmp_path / "server.key", **tls))


@pytest.mark.parametrize("client_certificates", ["required", "optional"])
def test_application_sees_the_verified_certificate_of_each_connection(
    tmp_path: Path, client_certificates: str
) -> None:
    authority = Authority(tmp_path)
    authority.server()
    known = authority.client()

    async def scenario() -> None:
        given = listen(tmp_path, client_ca=authority.ca, client_certificates=client_certificates)
        async with Running(showing_the_certificate, given) as server:
            seen = []
            for issued in (known, None):
                async with httpx.AsyncClient(verify=client_context(authority, issued)) as client:
                    try:
                        # Twice, on one connection
                        answers = [(await client.get(server.url)).json() for _ in range(2)]
                        seen.append(answers[0] if answers[0] == answers[1] else answers)
                    except (httpx.TransportError, ssl.SSLError):
                        seen.append("refused")
        refused = "refused" if client_certificates == "required" else ["https", None]
        assert (server.url[:8], seen) == ("https://", [["https", known.pem], refused])

    on_uvloop(scenario())


def test_without_client_ca_no_certificate_is_asked_for(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server()

    async def scenario() -> None:
        context = client_context(authority, authority.client())
        async with (
            Running(showing_the_certificate, listen(tmp_path)) as server,
            httpx.AsyncClient(verify=context) as client,
        ):
            assert (await client.get(server.url)).json() == ["https", None]

    on_uvloop(scenario())


async def test_certificate_is_replaced_whole_and_a_broken_one_never(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    first, second = authority.server(), authority.server("second")
    tls = ServerTls(Tls(cert=first.cert, key=first.key))

    def shown() -> bytes:
        """The certificate that a new connection is shown."""
        ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
        server = tls.context.wrap_bio(theirs, ours, server_side=True)
        client = client_context(authority).wrap_bio(ours, theirs, server_hostname="localhost")
        for _ in range(4):
            for side in (client, server):
                with suppress(ssl.SSLWantReadError):
                    side.do_handshake()
        found = client.getpeercert(binary_form=True)
        assert found is not None
        return found

    def der(pem: str) -> bytes:
        return ssl.PEM_cert_to_DER_cert(pem)

    old, new = first.pem, second.pem
    found = [shown()]
    shutil.copy(second.cert, first.cert)  # its key is still the old one
    await tls.refresh()
    found.append(shown())
    shutil.copy(second.key, first.key)
    await tls.refresh()
    found.append(shown())
    first.cert.unlink()
    await tls.refresh()
    found.append(shown())
    assert found == [der(old), der(old), der(new), der(new)]


def test_running_server_takes_a_new_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regate_gateway.http.server._CERTIFICATE_SECONDS", 0)
    authority = Authority(tmp_path)
    first, second = authority.server(), authority.server("second")

    async def scenario() -> None:
        async with Running(showing_the_certificate, listen(tmp_path)) as server:
            shutil.copy(second.cert, first.cert)
            shutil.copy(second.key, first.key)
            shown = b""
            while shown != ssl.PEM_cert_to_DER_cert(second.pem):
                _, writer = await asyncio.open_connection(
                    "127.0.0.1", server.port, ssl=client_context(authority), server_hostname="localhost"
                )
                shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
                writer.close()
                await writer.wait_closed()
            assert shown == ssl.PEM_cert_to_DER_cert(second.pem)

    async def in_time() -> None:
        async with asyncio.timeout(60):
            await scenario()

    on_uvloop(in_time())


def test_handshake_that_does_not_come_is_ended(tmp_path: Path) -> None:
    Authority(tmp_path).server()
    given = listen(tmp_path).model_copy(update={"head_timeout_s": 0.2})

    async def scenario() -> None:
        async with Running(showing_the_certificate, given) as server, asyncio.timeout(30):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            with suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()

    on_uvloop(scenario())


@pytest.mark.parametrize("broken", ["server.crt", "server.key", "authority.pem"])
def test_files_that_cannot_be_used_do_not_start(tmp_path: Path, broken: str) -> None:
    authority = Authority(tmp_path)
    authority.server()
    (tmp_path / broken).write_text("nothing")
    tls = listen(tmp_path, client_ca=authority.ca).tls
    assert tls is not None
    with pytest.raises(ConfigurationError, match=r"^listen\.tls"):
        ServerTls(tls)
