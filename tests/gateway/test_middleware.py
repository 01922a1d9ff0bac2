"""The edge: what it adds, what it hides from the application, and how every error becomes an answer."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import pytest
from starlette.types import Receive, Scope, Send
from tests.gateway.conftest import Connect, Handler, Served, answer, application

from regate_gateway.http.connection import ClientGone
from regate_gateway.http.cors import CrossOrigin
from regate_gateway.http.errors import MethodNotAllowed
from regate_gateway.http.middleware import READ_HEADERS, Edge, bearer_token, request_id
from regate_orchestrator.errors import LimitExceeded, NotFound, PolicyUnavailable, RegateError, UpstreamError

pytestmark = pytest.mark.asyncio(loop_scope="module")

HEAD = b"Host: gateway.example:8080\r\nAuthorization: Bearer a.b.c\r\n"


async def show(scope: Scope, receive: Receive, send: Send) -> None:
    shown = {
        "id": request_id(scope),
        "headers": [name.decode() for name, _ in scope["headers"]],
        "path": scope["path"],
    }
    await answer(send, json.dumps(shown).encode())


async def show_token(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(send, json.dumps(bearer_token(scope)).encode())


def failing(error: BaseException) -> Handler:
    async def fail(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    return fail


async def exchange(
    served: Served,
    handler: Handler,
    connect: Connect,
    head: bytes = HEAD,
    *,
    line: bytes = b"GET /v1/models HTTP/1.1",
) -> Any:
    served.handler = handler
    async with connect(served.server) as raw:
        await raw.send(line + b"\r\n" + head + b"\r\n")
        status, headers, body = await raw.answer()
        return status, headers, json.loads(body)


async def test_request_id_is_minted_here_and_the_clients_is_ignored(served: Served, connect: Connect) -> None:
    _, headers, shown = await exchange(served, show, connect, HEAD + b"X-Request-Id: mine\r\n")
    assert (headers["x-request-id"], headers["x-request-id"][:4]) == (shown["id"], "req_")


async def test_processing_time_is_a_whole_number_of_milliseconds(served: Served, connect: Connect) -> None:
    _, headers, _ = await exchange(served, show, connect)
    assert headers["openai-processing-ms"].isdigit()


SMUGGLED = [
    "X-Tenant", "X-Tenant-Id", "X_Tenant", "X-User", "X-Forwarded-User", "X-Forwarded-For",
    "X-Forwarded-Host", "X-Forwarded-Uri",
    "X-Original-Url", "X-Rewrite-Url", "X-Http-Method-Override", "X-Auth-Request-User", "Remote-User",
    "Forwarded", "Cookie",
    "Proxy-Authorization", "X-Amzn-Oidc-Data", "Api-Key", "X-Api-Key", "OpenAI-Organization", "User-Agent",
    "X-Regate-Principal",
]  # fmt: skip


async def test_no_other_header_reaches_the_application(served: Served, connect: Connect) -> None:
    smuggled = "".join(f"{name}: globex\r\n" for name in SMUGGLED).encode()
    _, _, shown = await exchange(served, show, connect, HEAD + smuggled + b"Connection: Authorization\r\n")
    assert (len(SMUGGLED), sorted(shown["headers"])) == (22, ["authorization", "host"])


async def test_every_header_that_reaches_the_application_is_listed() -> None:
    assert not {name.lower().encode() for name in SMUGGLED} & READ_HEADERS


@pytest.mark.parametrize(
    "head",
    [
        b"Host: a\r\nAuthorization: Bearer a.b.c\r\nAuthorization: Bearer d.e.f\r\n",
        b"Host: a\r\nAuthorization: Bearer a.b.c\r\nauthorization: Basic x\r\n",
        b"Host: a\r\nHost: b\r\n",
        b"Authorization: Bearer a.b.c\r\n",
        b"Host: a/v1/files?x=#\r\n",
        b"Host: a@b\r\n",
        b"Host: a b\r\n",
        b"Host: \r\n",
        b"Host: a:999999\r\n",
        b"Host: a\r\nContent-Type: application/json\r\nContent-Type: text/plain\r\n",
    ],
)
async def test_headers_that_could_be_read_in_two_ways_are_refused(
    served: Served, connect: Connect, head: bytes
) -> None:
    status, _, body = await exchange(served, show, connect, head)
    assert (status, body["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "host", [b"localhost", b"127.0.0.1:8080", b"[::1]:8080", b"gateway.svc.cluster.local", b"my_service:1"]
)
async def test_ordinary_hosts_are_accepted(served: Served, connect: Connect, host: bytes) -> None:
    assert (await exchange(served, show, connect, b"Host: " + host + b"\r\n"))[0] == 200


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"a.b.c",
        b"Basic YTpi",
        b"Bearer",
        b"Bearer ",
        b"Bearer a b",
        b"Bearer a,b",
        b"Token a.b.c",
        b"Bearer \xff",
    ],
)
async def test_anything_but_one_bearer_token_is_401(
    served: Served, connect: Connect, value: bytes | None
) -> None:
    head = b"Host: a\r\n" + (b"" if value is None else b"Authorization: " + value + b"\r\n")
    status, headers, body = await exchange(served, show_token, connect, head)
    assert (status, headers["www-authenticate"], body["error"]["type"]) == (
        401,
        'bearer realm="regate"',
        "authentication_error",
    )


async def test_token_is_not_read_from_query_or_cookie(served: Served, connect: Connect) -> None:
    line = b"GET /v1/models?access_token=a.b.c&api_key=a.b.c HTTP/1.1"
    assert (await exchange(served, show_token, connect, b"Host: a\r\nCookie: token=a.b.c\r\n", line=line))[
        0
    ] == 401


async def test_bearer_is_read_in_any_case(served: Served, connect: Connect) -> None:
    assert (
        await exchange(served, show_token, connect, b"Host: a\r\nAuthorization: bEARER a.b-_~+/.c==\r\n")
    )[2] == "a.b-_~+/.c=="


ERRORS: list[tuple[BaseException, int, str | None, str | None]] = [
    (NotFound.of("file", "file-1"), 404, "not_found", None),
    (PolicyUnavailable("opa said: secret"), 503, "policy_unavailable", "5"),
    (LimitExceeded("Too many requests.", retry_after=1.2), 429, "rate_limit_exceeded", "2"),
    (UpstreamError("The backend failed.", status=502, detail="secret"), 502, "upstream_error", None),
    (ValueError("secret"), 500, None, None),
    (ExceptionGroup("two", [NotFound.of("file", "f"), ValueError("secret")]), 500, None, None),
    (ExceptionGroup("one", [PolicyUnavailable("secret")]), 503, "policy_unavailable", "5"),
]


@pytest.mark.parametrize(
    ("error", "status", "code", "retry_after"), ERRORS, ids=lambda value: type(value).__name__
)
async def test_error_before_the_answer_becomes_the_envelope_and_shows_no_detail(
    served: Served,
    connect: Connect,
    error: BaseException,
    status: int,
    code: str | None,
    retry_after: str | None,
) -> None:
    found, headers, body = await exchange(served, failing(error), connect)
    assert (found, body["error"]["code"], headers.get("retry-after"), "secret" in json.dumps(body)) == (
        status,
        code,
        retry_after,
        False,
    )


async def test_error_after_the_answer_began_cuts_the_connection_so_that_it_cannot_pass_for_whole(
    served: Served, connect: Connect
) -> None:
    async def fails_late(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RegateError("late")

    served.handler = fails_late
    async with connect(served.server) as raw:
        await raw.send(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")
        received = await raw.rest()
    assert (b"half" in received, received.endswith(b"0\r\n\r\n"), b"late" in received) == (True, False, False)


async def test_access_log_has_the_facts_and_no_secret(
    served: Served, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "regate.access")
    _, headers, _ = await exchange(served, show, connect, line=b"GET /v1/models?api_key=secret HTTP/1.1")
    (record,) = [record for record in caplog.records if record.name == "regate.access"]
    logged = {name: getattr(record, name) for name in ("request_id", "method", "path", "status", "complete")}
    expected = {
        "request_id": headers["x-request-id"],
        "method": "GET",
        "path": "/v1/models",
        "status": 200,
        "complete": True,
    }
    assert (logged, "secret" in repr(vars(record)), "a.b.c" in repr(vars(record))) == (expected, False, False)


async def test_client_that_left_is_logged_and_not_answered(
    served: Served, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "regate.access")
    entered, left = asyncio.Event(), asyncio.Event()

    async def waits(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        entered.set()
        await receive()
        left.set()
        raise ClientGone

    served.handler = waits
    async with connect(served.server) as raw:
        await raw.send(b"GET / HTTP/1.1\r\n" + HEAD + b"\r\n")
        await entered.wait()
    async with asyncio.timeout(120):
        await left.wait()
    await exchange(served, show, connect)
    statuses = [record.status for record in caplog.records if record.name == "regate.access"]  # type: ignore[attr-defined]
    assert statuses == [499, 200]


async def test_websocket_with_two_hosts_is_refused_with_the_envelope() -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await Edge(application(show), access_log=False)(
        {
            "type": "websocket",
            "http_version": "1.1",
            "path": "/",
            "headers": [(b"host", b"a"), (b"host", b"b")],
        },
        receive,
        send,
    )

    assert [message["type"] for message in sent] == [
        "websocket.http.response.start",
        "websocket.http.response.body",
    ]
    assert sent[0]["status"] == 400


ORIGIN = b"https://app.example.com"


async def asked_from(origin: bytes, *, method: bytes, more: bytes = b"") -> tuple[int, dict[bytes, bytes]]:
    """The answer's status and headers of a request from a page, at an edge that lists one origin."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def found(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "GET":
            raise MethodNotAllowed("no", allowed=("GET",))
        await answer(send)

    lines = [
        line.split(b": ", 1)
        for line in (b"host: h\r\norigin: " + origin + b"\r\n" + more).split(b"\r\n")
        if line
    ]
    scope = {
        "type": "http",
        "method": method.decode(),
        "path": "/v1/models",
        "http_version": "1.1",
        "headers": [tuple(one) for one in lines],
    }
    edge = Edge(found, access_log=False, cross_origin=CrossOrigin((ORIGIN.decode(),)))
    await edge(scope, receive, send)
    return sent[0]["status"], dict(sent[0]["headers"])


PREFLIGHT = (
    b"access-control-request-method: POST\r\naccess-control-request-headers: "
    b"authorization,content-type,x-stainless-os\r\n"
)


async def test_page_of_a_listed_origin_may_ask_and_read() -> None:
    preflight = await asked_from(ORIGIN, method=b"OPTIONS", more=PREFLIGHT)
    status, headers = await asked_from(ORIGIN, method=b"GET")
    assert preflight[0] == 204
    assert preflight[1][b"access-control-allow-origin"] == headers[b"access-control-allow-origin"] == ORIGIN
    assert preflight[1][b"access-control-allow-headers"] == b"authorization,content-type,x-stainless-os"
    shown = headers[b"access-control-expose-headers"].split(b", ")
    assert (status, headers[b"vary"]) == (200, b"origin")
    assert {b"x-request-id", b"regate-receipt"} <= {*shown}


async def test_page_of_a_listed_origin_can_read_why_it_was_refused() -> None:
    status, headers = await asked_from(ORIGIN, method=b"POST")
    assert (status, headers[b"access-control-allow-origin"]) == (405, ORIGIN)


OTHERS = [
    *(
        b"https://evil.example",
        b"null",
        b"http://app.example.com",
        b"https://app.example.com:8443",
        b"https://app.example.com.evil",
    ),
    *(ORIGIN + b"\r\norigin: https://evil.example", b"https://sub.app.example.com"),
]


@pytest.mark.parametrize("origin", OTHERS)
@pytest.mark.parametrize("method", [b"OPTIONS", b"GET"])
async def test_page_of_any_other_origin_may_not(origin: bytes, method: bytes) -> None:
    status, headers = await asked_from(origin, method=method, more=PREFLIGHT)
    assert (status, b"access-control-allow-origin" in headers) == (
        405 if method == b"OPTIONS" else 200,
        False,
    )


async def test_header_names_are_not_repeated_to_the_browser_unless_they_are_names() -> None:
    asked = b"access-control-request-method: POST\r\naccess-control-request-headers: a b;c\r\n"
    status, headers = await asked_from(ORIGIN, method=b"OPTIONS", more=asked)
    assert (status, b"access-control-allow-headers" in headers) == (204, False)
