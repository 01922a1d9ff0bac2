"""Each server is given what is meant for it, and nothing else; what is given comes back in no text."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import jwt
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from tests.adapters.backend.conftest import Exchange, ScriptedUpstream
from tests.adapters.mcp.conftest import World, calling_as, serving, speaking, tool

from regate_adapters.mcp.settings import Mcp
from regate_adapters.opa.engine import OpaEngine
from regate_orchestrator.errors import (
    ConfigurationError,
    EgressDenied,
    InvalidRequest,
    NotFound,
    NotPermitted,
)
from regate_orchestrator.ports import McpListFailed, McpServer

pytestmark = pytest.mark.asyncio(loop_scope="session")

SECRET = "a-secret-of-the-issuer-with-32-bytes!"
ANSWERS = {
    "tools/list": {"tools": [tool("x")]},
    "tools/call": {"content": [{"type": "text", "text": "done"}]},
}


def settings(server: ScriptedUpstream, **identity: Any) -> dict[str, Any]:
    return {"s": {"url": f"http://mcp.test:{server.port}/mcp", "identity": identity, "deadline_s": 5}}


def given(server: ScriptedUpstream) -> list[dict[str, str]]:
    """The headers of each request, without those of the protocol."""
    protocol = {
        "host",
        "accept",
        "accept-encoding",
        "connection",
        "user-agent",
        "content-length",
        "content-type",
    }
    return [
        {name: value for name, value in one.headers if name not in protocol and not name.startswith("mcp-")}
        for one in server.requests
    ]


@pytest_asyncio.fixture(loop_scope="session")
async def server(scripted: ScriptedUpstream) -> AsyncIterator[ScriptedUpstream]:
    scripted.script = speaking(ANSWERS)
    yield scripted


# ------------------------------------------------------------------ none, static, client


async def test_a_server_without_identity_is_told_of_nobody(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    outcome = await World(engine, settings(server)).call("x", context=calling_as("callers", "regate"))

    assert outcome.identity == "none"
    assert given(server) == [{}] * 3


@pytest.mark.parametrize(
    ("more", "header"),
    [({}, {"authorization": "Bearer operators"}), ({"header": "X-Api-Key"}, {"x-api-key": "operators"})],
)
async def test_a_token_of_the_operator_is_sent_to_its_server(
    engine: OpaEngine, server: ScriptedUpstream, more: dict[str, str], header: dict[str, str]
) -> None:
    tokens = {"s": lambda: "operators", "other": lambda: "others"}
    world = World(engine, settings(server, kind="static", token_env="TOKEN", **more), tokens=tokens)

    outcome = await world.call("x", context=calling_as("callers", "regate"))

    assert outcome.identity == "static"
    assert given(server) == [header] * 3


async def test_a_token_that_changed_is_the_one_that_is_sent(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    held = ["first"]
    world = World(engine, settings(server, kind="static", token_file="/t"), tokens={"s": lambda: held[0]})

    await world.call("x")
    held[0] = "second"
    await world.call("x")

    assert [one["authorization"] for one in given(server)] == ["Bearer first"] * 3 + ["Bearer second"] * 3


async def test_a_token_that_is_gone_is_an_error_and_nothing_is_sent(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    def gone() -> str:
        raise ConfigurationError("tools.mcp.servers.s.identity.token_file: /run/secret cannot be read")

    world = World(engine, settings(server, kind="static", token_file="/t"), tokens={"s": gone})

    outcome = await world.call("x")

    assert outcome.error is not None
    assert (outcome.error["code"], "/run/secret" in str(outcome), server.requests) == (502, False, [])


@pytest.mark.parametrize(
    ("authorization", "sent"),
    [
        ("abc", "Bearer abc"),
        ("Bearer abc", "Bearer abc"),
        ("Basic dTpw", "Basic dTpw"),
        (" abc ", "Bearer abc"),
    ],
)
async def test_what_a_client_gives_for_a_server_is_sent_to_it(
    engine: OpaEngine, server: ScriptedUpstream, authorization: str, sent: str
) -> None:
    world = World(engine, settings(server, kind="client", headers=["X-Team"]))
    named = McpServer("s", authorization=authorization, headers={"x-team": "hr"})

    outcome = await world.call("x", server=named, context=calling_as("callers", "regate"))

    assert outcome.identity == "client"
    assert given(server) == [{"authorization": sent, "x-team": "hr"}] * 3


async def test_credentials_come_back_in_no_text_and_other_headers_do(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    async def tell(exchange: Exchange, message: Any) -> None:
        heard = dict(exchange.headers)
        said = f"{heard['authorization']} of {heard['x-region']}"
        result = {"content": [{"type": "text", "text": said}], "isError": True}
        await exchange.answer_json({"jsonrpc": "2.0", "id": message["id"], "result": result})

    server.script = speaking({"tools/call": tell})
    world = World(engine, settings(server, kind="client", headers=["X-Region"]))
    named = McpServer("s", authorization="clients-token", headers={"x-region": "europe-west"})

    outcome = await world.call("x", server=named)

    assert outcome.text == "*** of europe-west"
    assert "clients-token" not in repr(outcome) + str(outcome.error) + repr(named)


NEVER = (
    *(
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "Connection",
        "Authorization",
        "AUTHORIZATION",
        "Cookie",
    ),
    *("Mcp-Session-Id", "mcp-protocol-version", "Last-Event-Id", "Accept", "X-Forwarded-For"),
    *("Proxy-Authorization", "Sec-Fetch-Site"),
)


@pytest.mark.parametrize(
    "headers",
    [
        *({name: "x"} for name in NEVER),
        {"x-other": "x"},
        {"x-team": "a\r\nX-Evil: b"},
        {"x-team": "a\x00"},
        {"x-team": "ä"},
        {"x-team": "a" * 9_000},
        {"x-team": "a", "X-Team": "b"},
        {"": "x"},
        {"x team": "x"},
        {f"x-{number}": "x" for number in range(21)},
    ],
    ids=lambda one: str(list(one))[:30],
)
async def test_what_a_client_may_not_give_is_refused(
    engine: OpaEngine, server: ScriptedUpstream, headers: dict[str, str]
) -> None:
    world = World(engine, settings(server, kind="client", headers=["X-Team"]))

    with pytest.raises(InvalidRequest):
        await world.tools(McpServer("s", headers=headers))
    assert server.requests == []


@pytest.mark.parametrize(
    "kind", [{"kind": "none"}, {"kind": "static", "token_env": "T"}, {"kind": "forward", "audience": "crm"}]
)
@pytest.mark.parametrize("more", [{"authorization": "abc"}, {"headers": {"x-team": "hr"}}])
async def test_a_server_that_takes_nothing_of_clients_is_given_nothing(
    engine: OpaEngine, server: ScriptedUpstream, kind: dict[str, Any], more: Any
) -> None:
    world = World(engine, settings(server, **kind), tokens={"s": lambda: "operators"})

    with pytest.raises(InvalidRequest) as refused:
        await world.tools(McpServer("s", **more), calling_as("callers", "crm"))
    assert "Leave them out" in refused.value.message
    assert server.requests == []


# ------------------------------------------------------------------ servers that clients name


async def test_a_server_that_a_client_names_is_reached_where_the_policy_lists_its_host(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    world = World(engine, {}, server_urls=True, ports=[server.port])
    listed = McpServer(
        "mine", f"http://docs.test:{server.port}/mcp", authorization="abc", headers={"x-any": "1"}
    )
    other = McpServer("mine", f"http://mcp.test:{server.port}/mcp", authorization="abc")

    assert [one.name for one in await world.tools(listed)] == ["x"]
    for named in (other, McpServer("mine", "http://169.254.169.254/mcp")):
        with pytest.raises(EgressDenied):
            await world.tools(named)
        with pytest.raises(EgressDenied):
            await world.call("x", server=named)
    assert {tuple(one.items()) for one in given(server)} == {
        (("x-any", "1"), ("authorization", "Bearer abc"))
    }


@pytest.mark.parametrize(
    ("server_urls", "named", "is_known"),
    [
        (False, McpServer("s"), True),
        (False, McpServer("none"), False),
        (False, McpServer("s", "https://docs.test/"), False),
        (True, McpServer("none", "https://docs.test/"), True),
        (True, McpServer("none"), False),
    ],
)
async def test_only_what_is_named_or_may_be_named_is_known(
    engine: OpaEngine, server: ScriptedUpstream, server_urls: bool, named: McpServer, is_known: bool
) -> None:
    world = World(engine, settings(server), server_urls=server_urls)

    assert world.client.knows(named) is is_known
    if not is_known:
        with pytest.raises(NotFound):
            await world.tools(named)


# ------------------------------------------------------------------ forward


async def test_the_callers_token_is_forwarded_to_whom_it_is_for(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    world = World(engine, settings(server, kind="forward", audience="crm"))

    outcome = await world.call("x", context=calling_as("callers", "regate", "crm"))

    assert outcome.identity == "forward"
    assert given(server) == [{"authorization": "Bearer callers"}] * 3


@pytest.mark.parametrize(
    "context", [calling_as("callers", "regate"), calling_as("callers", "crm2", "CRM"), None]
)
async def test_the_callers_token_goes_to_nobody_else(
    engine: OpaEngine, server: ScriptedUpstream, context: Any
) -> None:
    world = World(engine, settings(server, kind="forward", audience="crm"))
    asked = {} if context is None else {"context": context}

    with pytest.raises(NotPermitted):
        await world.call("x", **asked)
    with pytest.raises(NotPermitted):
        await world.tools("s", **asked)
    assert server.requests == []


# ------------------------------------------------------------------ exchange


@dataclass
class Issuer:
    """A token endpoint of RFC 8693: it verifies the token that it is given, and signs another for the
    audience.
    """

    lifetime: float | None = 60
    asked: list[dict[str, str]] = field(default_factory=list)
    authorizations: list[str] = field(default_factory=list)
    broken: Any = None

    async def token(self, request: Request) -> JSONResponse:
        form = {name: values[0] for name, values in parse_qs((await request.body()).decode()).items()}
        self.asked.append(form)
        self.authorizations.append(request.headers.get("authorization", ""))
        if self.broken is not None:
            return JSONResponse(self.broken[1], status_code=self.broken[0])
        if form["grant_type"] != "urn:ietf:params:oauth:grant-type:token-exchange":
            return JSONResponse({"error": "unsupported_grant_type"}, status_code=400)
        try:
            subject = jwt.decode(form["subject_token"], SECRET, ["HS256"], audience="regate")["sub"]
        except jwt.PyJWTError:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        made = {"sub": subject, "aud": form["audience"], "n": len(self.asked), "act": {"sub": "regate"}}
        answer = {
            "access_token": jwt.encode(made, SECRET, "HS256"),
            "issued_token_type": form["subject_token_type"],
            "token_type": "Bearer",
        }
        return JSONResponse(answer | ({} if self.lifetime is None else {"expires_in": self.lifetime}))


@pytest.fixture
def issuer() -> Iterator[tuple[Issuer, str]]:
    made = Issuer()
    with serving(Starlette(routes=[Route("/token", made.token, methods=["POST"])])) as port:
        yield made, f"http://token.test:{port}/token"


def subject(name: str) -> str:
    return jwt.encode({"sub": name, "aud": "regate"}, SECRET, "HS256")


def seen(server: ScriptedUpstream) -> list[tuple[str, str, int]]:
    """For whom, for what and as the how-manieth each token was made that the server was sent."""
    tokens = [one["authorization"].removeprefix("Bearer ") for one in given(server)]
    claims = [jwt.decode(one, SECRET, ["HS256"], audience="crm") for one in tokens]
    return list(dict.fromkeys((one["sub"], one["aud"], one["n"]) for one in claims))


class Clock:
    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def exchanging(engine: OpaEngine, server: ScriptedUpstream, url: str, **more: Any) -> World:
    identity = {
        "kind": "exchange",
        "token_url": url,
        "audience": "crm",
        "client_id": "regate gateway",
        "client_secret_env": "S",
    }
    secrets = {"s": "a:secret%"}
    return World(engine, settings(server, **identity | more.pop("identity", {})), secrets=secrets, **more)


async def test_the_callers_token_is_exchanged_for_one_that_the_server_takes(
    engine: OpaEngine, server: ScriptedUpstream, issuer: tuple[Issuer, str]
) -> None:
    world = exchanging(engine, server, issuer[1], identity={"scope": "read", "resource": "https://crm/"})
    token = subject("ann")

    outcome = await world.call("x", context=calling_as(token, "regate"))

    assert outcome.identity == "exchange"
    assert seen(server) == [("ann", "crm", 1)]
    asked = issuer[0].asked[0]
    assert (asked["subject_token"], asked["audience"], asked["scope"]) == (token, "crm", "read")
    assert (asked["resource"], "client_id" in asked) == ("https://crm/", False)
    basic = base64.b64decode(issuer[0].authorizations[0].removeprefix("Basic ")).decode()
    assert basic == "regate%20gateway:a%3Asecret%25"


async def test_an_exchanged_token_is_used_again_for_its_caller_alone(
    engine: OpaEngine, server: ScriptedUpstream, issuer: tuple[Issuer, str]
) -> None:
    world = exchanging(engine, server, issuer[1])

    for name in ("ann", "ann", "bob", "ann"):
        await world.call("x", context=calling_as(subject(name), "regate"))

    assert seen(server) == [("ann", "crm", 1), ("bob", "crm", 2)]


@pytest.mark.parametrize(
    ("lifetime", "expires_in", "ttl_s", "lasts"),
    [(60, 1e6, 300, 55), (None, 1e6, 40, 40), (900, 1e6, 40, 40), (900, 20, 300, 20), (900, 1e6, 300, 300)],
    ids=["its own time", "no time of its own", "the setting", "the callers time", "the shortest"],
)
async def test_an_exchanged_token_lasts_no_longer_than_it_may(
    engine: OpaEngine,
    server: ScriptedUpstream,
    issuer: tuple[Issuer, str],
    lifetime: float | None,
    expires_in: float,
    ttl_s: float,
    lasts: float,
) -> None:
    clock, issuer[0].lifetime = Clock(), lifetime
    world = exchanging(engine, server, issuer[1], clock=clock, identity={"ttl_s": ttl_s})
    context = calling_as(subject("ann"), "regate", expires=clock.now + expires_in)

    await world.call("x", context=context)
    clock.now += lasts - 1
    await world.call("x", context=context)
    before = len(issuer[0].asked)
    clock.now += 2
    await world.call("x", context=context)

    assert (before, len(issuer[0].asked)) == (1, 2)


async def test_a_token_that_is_no_longer_taken_is_exchanged_once_more(
    engine: OpaEngine, server: ScriptedUpstream, issuer: tuple[Issuer, str]
) -> None:
    refused: list[str] = []
    answering = speaking(ANSWERS)

    async def script(exchange: Exchange) -> None:
        token = dict(exchange.headers)["authorization"]
        if not refused or token in refused:
            refused.append(token)
            await exchange.answer(401, b"expired", "Content-Type: text/plain")
        else:
            await answering(exchange)

    server.script = script
    outcome = await exchanging(engine, server, issuer[1]).call(
        "x", context=calling_as(subject("ann"), "regate")
    )

    assert (outcome.text, len(issuer[0].asked), len(set(refused))) == ("done", 2, 1)


async def test_a_server_that_takes_no_token_is_asked_twice_and_no_more(
    engine: OpaEngine, server: ScriptedUpstream, issuer: tuple[Issuer, str]
) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.answer(401, b"no", "Content-Type: text/plain")

    server.script = script
    outcome = await exchanging(engine, server, issuer[1]).call(
        "x", context=calling_as(subject("ann"), "regate")
    )

    assert outcome.error == {
        "type": "http_error",
        "code": 401,
        "message": "The server answered with status 401.",
    }
    assert (len(issuer[0].asked), len(server.requests)) == (2, 2)


BROKEN = {
    "refused": (400, {"error": "invalid_grant", "error_description": "subject secret"}),
    "no token": (200, {"token_type": "Bearer"}),
    "another type": (200, {"access_token": "t", "token_type": "N_A"}),
    "no type": (200, {"access_token": "t"}),
    "a token of two": (200, {"access_token": "a b", "token_type": "Bearer"}),
    "a token with a line": (200, {"access_token": "a\r\nX: y", "token_type": "Bearer"}),
    "a list": (200, []),
    "down": (503, {}),
    "elsewhere": (307, {}),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
async def test_a_token_that_cannot_be_had_is_an_error_and_nothing_is_sent(
    engine: OpaEngine, server: ScriptedUpstream, issuer: tuple[Issuer, str], broken: Any
) -> None:
    issuer[0].broken = broken
    world, token = exchanging(engine, server, issuer[1]), subject("ann")

    outcome = await world.call("x", context=calling_as(token, "regate"))
    with pytest.raises(McpListFailed) as failed:
        await world.tools("s", calling_as(token, "regate"))

    assert outcome.error == {
        "type": "http_error",
        "code": 502,
        "message": "No token for the server could be had.",
    }
    assert not [word for word in (token, "secret", "token.test", "127.0.0.1") if word in failed.value.message]
    assert server.requests == []


async def test_without_a_token_of_the_caller_nothing_is_exchanged(
    engine: OpaEngine, server: ScriptedUpstream, issuer: tuple[Issuer, str]
) -> None:
    with pytest.raises(NotPermitted):
        await exchanging(engine, server, issuer[1]).call("x")
    assert (issuer[0].asked, server.requests) == ([], [])


# ------------------------------------------------------------------ lists that are used again


async def test_a_list_is_used_again_for_a_while(engine: OpaEngine, server: ScriptedUpstream) -> None:
    clock = Clock()
    servers = settings(server)
    servers["s"]["list_ttl_s"] = 60
    world = World(engine, servers, clock=clock)

    await world.tools()
    await world.tools()
    once = len(server.requests)
    clock.now += 61
    await world.tools()

    assert (once, len(server.requests)) == (3, 6)
    assert len(world.egress.decisions) == 3 + 2 * 2  # each use, and each connection by name and address


async def test_a_list_is_used_again_only_for_who_was_shown_it(
    engine: OpaEngine, server: ScriptedUpstream
) -> None:
    world = World(engine, settings(server, kind="client"))

    for authorization in ("a-token", "b-token", "", "a-token"):
        await world.tools(McpServer("s", authorization=authorization))

    assert len(server.requests) == 9


async def test_a_list_that_changed_is_asked_for_anew(engine: OpaEngine, server: ScriptedUpstream) -> None:
    async def changing(exchange: Exchange, message: Any) -> None:
        await exchange.stream(
            {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"},
            {"jsonrpc": "2.0", "id": message["id"], "result": ANSWERS["tools/call"]},
        )

    server.script = speaking(ANSWERS | {"tools/call": changing})
    world = World(engine, settings(server))

    await world.tools()
    await world.call("x")
    before = len(server.requests)
    await world.tools()

    assert len(server.requests) == before + 3


# ------------------------------------------------------------------ settings

REFUSED = {
    "a static one without a token": {"kind": "static"},
    "a static one with two": {"kind": "static", "token_env": "A", "token_file": "/b"},
    "a token without its kind": {"token_env": "A"},
    "a forwarded one for nobody": {"kind": "forward"},
    "an exchange nowhere": {"kind": "exchange", "audience": "a"},
    "an exchange for nobody": {"kind": "exchange", "token_url": "https://t/"},
    "a secret of nobody": {
        "kind": "exchange",
        "token_url": "https://t/",
        "audience": "a",
        "client_secret_env": "S",
    },
    "headers without their kind": {"kind": "static", "token_env": "A", "headers": ["x"]},
    "a header of the connection": {"kind": "client", "headers": ["Host"]},
    "a header of the protocol": {"kind": "client", "headers": ["Mcp-Session-Id"]},
    "a token in a header of the connection": {"kind": "static", "token_env": "A", "header": "Cookie"},
    "a kind that there is not": {"kind": "oauth"},
}


@pytest.mark.parametrize("identity", REFUSED.values(), ids=REFUSED)
async def test_an_identity_that_is_none_does_not_start(identity: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"identity"):
        Mcp.model_validate({"servers": {"s": {"url": "https://mcp.example.com/", "identity": identity}}})
