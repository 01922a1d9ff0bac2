"""Services that the configuration names: asked at the checked addresses, and nowhere else."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
from tests.adapters.backend.conftest import Exchange, ScriptedUpstream
from tests.adapters.egress.conftest import World
from tests.adapters.egress.test_fetching import certificate
from tests.orchestrator.scripted import CONTEXT
from websockets.asyncio.server import ServerConnection, serve

from regate_adapters.egress.services import GuardedServiceClient
from regate_adapters.opa.engine import OpaEngine
from regate_orchestrator.errors import EgressDenied, FetchFailed, TooLarge
from regate_orchestrator.ports import Outgoing

pytestmark = pytest.mark.asyncio(loop_scope="session")

NAMES = {"kernels.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}


def client(engine: OpaEngine, **world: Any) -> GuardedServiceClient:
    return GuardedServiceClient(
        World(engine, names={name: list(NAMES[name]) for name in NAMES}, **world).guard
    )


async def sent(found: GuardedServiceClient, request: Outgoing, **limits: Any) -> Any:
    return await found.send(
        CONTEXT, request, "search", **({"limit_bytes": 1_000, "deadline_s": 10.0} | limits)
    )


async def test_a_service_is_sent_what_was_said_and_nothing_of_the_caller(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(201, b"{}", "Content-Type: Application/JSON; charset=utf-8", "Set-Cookie: a=b")

    server.script = answer
    found = client(engine)  # no port is listed but 443
    request = Outgoing(
        "POST", f"http://kernels.test:{server.port}/x?y=z", {"Authorization": "token t"}, b"{1}"
    )
    answers = [await sent(found, request) for _ in range(2)]
    exchange = server.requests[-1]
    headers = {name.lower(): value for name, value in exchange.headers}

    assert [(one.data, one.media_type) for one in answers] == [(b"{}", "application/json")] * 2
    assert (exchange.method, exchange.path, exchange.body) == ("POST", "/x?y=z", b"{1}")
    assert (headers["authorization"], headers["user-agent"]) == ("token t", "Regate")
    assert "cookie" not in headers


@pytest.mark.parametrize(
    ("status", "body", "raised"),
    [
        (302, b"", FetchFailed),
        (404, b"secret", FetchFailed),
        (500, b"secret", FetchFailed),
        (200, b"x" * 1_001, TooLarge),
    ],
)
async def test_any_other_answer_is_told_without_its_words(
    engine: OpaEngine, server: ScriptedUpstream, status: int, body: bytes, raised: type[Exception]
) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer(status, body, f"Location: http://other.test:{server.port}/")

    server.script = answer
    with pytest.raises(raised) as failed:
        await sent(client(engine), Outgoing("GET", f"http://kernels.test:{server.port}/"))

    assert len(server.requests) == 1
    assert all(word not in str(failed.value) for word in ("secret", "kernels", "127."))


async def test_a_service_in_a_network_that_is_not_listed_is_not_asked(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    found = client(engine, private=())
    request = Outgoing("GET", f"http://kernels.test:{server.port}/")
    with pytest.raises(EgressDenied):
        await sent(found, request)
    with pytest.raises(EgressDenied):
        async with found.channel(CONTEXT, request, "code", limit_bytes=10, deadline_s=10):
            pass

    assert server.requests == []


@asynccontextmanager
async def echoing(context: ssl.SSLContext | None = None) -> AsyncIterator[tuple[int, list[Any]]]:
    """A WebSocket server that says everything again, and closes when it is told `bye`."""
    opened: list[Any] = []

    async def say_again(connection: ServerConnection) -> None:
        opened.append(connection.request)
        async for message in connection:
            if message == "bye":
                return
            await connection.send(message)

    async with serve(say_again, "127.0.0.1", 0, ssl=context, max_size=None) as server:
        yield next(iter(server.sockets)).getsockname()[1], opened


@pytest.mark.parametrize("name", ["kernels.test", "127.0.0.1"])
async def test_a_channel_carries_messages_both_ways(engine: OpaEngine, name: str) -> None:
    async with echoing() as (port, opened):
        request = Outgoing("GET", f"http://{name}:{port}/channels?a=b", {"Authorization": "token t"})
        found = client(engine)
        async with found.channel(CONTEXT, request, "code", limit_bytes=100, deadline_s=10) as channel:
            await channel.send("one")
            await channel.send("zwö")
            heard = [await channel.receive(), await channel.receive()]

    assert heard == ["one", "zwö"]
    assert (opened[0].path, opened[0].headers["Authorization"]) == ("/channels?a=b", "token t")
    assert opened[0].headers["Host"] == f"{name}:{port}"


async def test_a_channel_that_is_closed_or_says_too_much_is_told(engine: OpaEngine) -> None:
    async with echoing() as (port, _):
        request, found = Outgoing("GET", f"http://kernels.test:{port}/"), client(engine)
        for said in ("bye", "x" * 101):
            async with found.channel(CONTEXT, request, "code", limit_bytes=100, deadline_s=10) as channel:
                await channel.send(said)
                with pytest.raises(FetchFailed, match="broke off"):
                    await channel.receive()


async def test_a_server_that_opens_no_channel_is_told_without_its_words(engine: OpaEngine) -> None:
    async def refuse(connection: ServerConnection, request: Any) -> Any:
        return connection.respond(HTTPStatus.FORBIDDEN, "secret")

    async with serve(lambda _: None, "127.0.0.1", 0, process_request=refuse) as server:  # type: ignore[arg-type,return-value]
        port = next(iter(server.sockets)).getsockname()[1]
        request = Outgoing("GET", f"http://kernels.test:{port}/")
        with pytest.raises(FetchFailed) as failed:
            async with client(engine).channel(CONTEXT, request, "code", limit_bytes=9, deadline_s=10):
                pass

    assert str(failed.value) == "The service could not be connected to."


async def test_tls_of_a_channel_is_verified_for_the_name(engine: OpaEngine, tmp_path: Path) -> None:
    context, authority = certificate(tmp_path, "kernels.test")
    heard = []
    async with echoing(context) as (port, opened):
        found = client(engine, ca_file=authority)
        request = Outgoing("GET", f"https://kernels.test:{port}/")
        async with found.channel(CONTEXT, request, "code", limit_bytes=100, deadline_s=10) as channel:
            await channel.send("one")
            heard.append(await channel.receive())
        for other, world in ((found, "other.test"), (client(engine), "kernels.test")):
            with pytest.raises(FetchFailed):
                async with other.channel(
                    CONTEXT, Outgoing("GET", f"https://{world}:{port}/"), "code", limit_bytes=9, deadline_s=10
                ):
                    pass

    assert (heard, len(opened)) == (["one"], 1)
