"""The outermost layer, pure ASGI: request id, header checks, the error boundary, timing, and the access log.

Not the limits of connections (`server.py`), not authentication (a route hands `bearer_token` to the
verifier), not the error table (`errors.py`). Of a request's headers only those in `READ_HEADERS` go on to the
application: no other header can carry an identity, rename the method or move the path, because nothing behind
this layer can see it.
"""

from __future__ import annotations

import logging
import re
import time
from typing import Final, TypeVar

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from regate_gateway.http.bodies import header_values
from regate_gateway.http.connection import ClientGone
from regate_gateway.http.cors import NO_ORIGINS, CrossOrigin, Headers
from regate_gateway.http.errors import envelope, log_error
from regate_gateway.telemetry.receipts import begin_request
from regate_gateway.telemetry.request_spans import begin_span, end_span
from regate_gateway.telemetry.requests import RequestMetrics
from regate_orchestrator.errors import InvalidRequest, Unauthenticated
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.tracing.spans import Tracer, TraceSpan
from regate_orchestrator.values import RequestId, mint

_log = logging.getLogger("regate.access")

READ_HEADERS: Final = frozenset(
    {
        *(
            b"accept",
            b"authorization",
            b"content-encoding",
            b"content-length",
            b"content-type",
            b"expect",
            b"host",
        ),
        *(b"idempotency-key", b"transfer-encoding"),
    }
)
"""The request headers that the application can see."""

_HOST: Final = re.compile(
    rb"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,253})|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
)
_BEARER: Final = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/-]+=*)")
_CLIENT_GONE: Final = 499
"""Logged, never sent: the client left before there was an answer."""

_MAX_PATH: Final = 256
_AnyExchange = TypeVar("_AnyExchange", bound="_Exchange")


def request_id(scope: Scope) -> RequestId:
    """Return the id of this request, which is minted here and never taken from the client."""
    return RequestId(scope["state"]["request_id"])


def request_span(scope: Scope) -> TraceSpan | None:
    """Return the request's span; None where it is not traced."""
    span: TraceSpan | None = scope["state"].get("span")
    return span


def has_authorization(scope: Scope) -> bool:
    """Return whether the request carries a token at all; only anonymous access asks."""
    return bool(header_values(scope, b"authorization"))


def bearer_token(scope: Scope) -> str:
    """Return the one bearer token of this request, unverified. Raises `Unauthenticated` when there is
    none, or another scheme.
    """
    values = header_values(scope, b"authorization")
    if not values:
        raise Unauthenticated(
            "You did not provide a token. Send it in the header 'Authorization: Bearer TOKEN'.",
            code="missing_token",
        )
    found = _BEARER.fullmatch(values[0].decode("latin-1").strip())
    if len(values) > 1 or found is None:
        raise Unauthenticated("The Authorization header must be 'Bearer TOKEN', with one token.")
    return found.group(1)


class Edge:
    """Wraps the application. A route may set `scope["state"]["path_template"]`, which the access log then
    shows instead of the path.

    What it puts into `scope["state"]["answer_headers"]` is part of the answer, whichever that becomes.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        access_log: bool,
        metrics: Metrics | None = None,
        cross_origin: CrossOrigin = NO_ORIGINS,
        tracer: Tracer | None = None,
    ) -> None:
        self._app = app
        self._access_log = access_log
        self._requests = None if metrics is None else RequestMetrics(metrics)
        self._cross_origin = cross_origin
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request. Raises nothing but cancellation."""
        match scope["type"]:
            case "http":
                await self._serve(scope, receive, self._traced(_Exchange(scope, send)))
            case "websocket":
                scope["method"] = "GET"
                await self._serve_socket(scope, receive, self._traced(_Handshake(scope, send)))
            case _:
                await self._app(scope, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, exchange: _Exchange) -> None:
        try:
            exchange.cross_origin = self._cross_origin.headers(scope)
            _check_headers(scope)
            if (preflight := self._cross_origin.preflight(scope)) is not None:
                await exchange.answer(204, preflight)
                return
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name in READ_HEADERS]
            await self._app(scope, receive, exchange.send)
        except ClientGone:
            exchange.status = exchange.status or _CLIENT_GONE
        # The boundary: every error is answered or logged here, by the one table
        except Exception as error:  # noqa: BLE001
            await exchange.fail(error)
        finally:
            if self._access_log:
                exchange.log()
            if self._requests is not None:
                exchange.count(self._requests)
            if self._tracer is not None:
                exchange.end_span()

    async def _serve_socket(self, scope: Scope, receive: Receive, handshake: _Handshake) -> None:
        try:
            _check_headers(scope)
            scope["headers"] = [(name, value) for name, value in scope["headers"] if name in READ_HEADERS]
            await self._app(scope, receive, handshake.send)
        except ClientGone:
            handshake.complete = True
        except Exception as error:  # noqa: BLE001 - the boundary, as above
            await handshake.fail(error)
        finally:
            if self._access_log:
                handshake.log()
            if self._requests is not None:
                handshake.count(self._requests)
            if self._tracer is not None:
                handshake.end_span()

    def _traced(self, exchange: _AnyExchange) -> _AnyExchange:
        if self._tracer is not None:
            exchange.begin_span(self._tracer)
        return exchange


class _Exchange:
    """One request and its answer: what was sent so far, and when it began."""

    def __init__(self, scope: Scope, send: Send) -> None:
        self._scope = scope
        self._send = send
        self._began = time.perf_counter()
        self._id = mint("req_")
        self._latest_record = begin_request()
        scope.setdefault("state", {})["request_id"] = self._id
        self.status = 0
        self.complete = False
        self.cross_origin: Headers = []

    async def send(self, message: Message) -> None:
        """Pass a message on, the first with our own headers added."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = [*message.get("headers", ()), *self._own_headers()]
            message = {**message, "headers": headers}
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.complete = True

    async def fail(self, error: Exception) -> None:
        """Answer with the error's envelope; once an answer began, leave it unfinished, so that the
        server cuts the connection.
        """
        log_error(error, request_id=self._id)
        if self.status:
            return
        status, headers, body = envelope(error)
        await self.answer(status, headers, body)

    async def answer(self, status: int, headers: Headers, body: bytes = b"") -> None:
        """Send the whole answer."""
        await self.send({"type": "http.response.start", "status": status, "headers": headers})
        await self.send({"type": "http.response.body", "body": body, "more_body": False})

    def begin_span(self, tracer: Tracer) -> None:
        """Begin the request's trace, if it is to have one. What serves it finds the span in the scope."""
        path, method, given = (
            self._scope["path"],
            self._scope["method"],
            header_values(self._scope, b"traceparent"),
        )
        span = begin_span(tracer, path, method, request_id=self._id, traceparents=given)
        self._scope["state"]["span"] = span

    def end_span(self) -> None:
        """End the request's span, if it has one, under its route's template."""
        if (span := self._scope["state"]["span"]) is not None:
            template = self._scope["state"].get("path_template")
            end_span(span, template, self._scope["method"], self.status, latest=self._latest_record)

    def log(self) -> None:
        """Write the access log's line: no query string, no header, no body."""
        path = self._scope["state"].get("path_template") or self._scope["path"][:_MAX_PATH]
        _log.info(
            "request",
            extra={
                "request_id": self._id,
                "method": self._scope["method"],
                "path": path,
                "status": self.status,
                "ms": self._elapsed_ms(),
                "complete": self.complete,
            },
        )

    def count(self, requests: RequestMetrics) -> None:
        """Count the request under its route's template, never under the path that the client chose."""
        seconds = time.perf_counter() - self._began
        requests.served(
            self._scope["state"].get("path_template"), self._scope["method"], self.status, seconds=seconds
        )

    def _own_headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-request-id", self._id.encode()),
            (b"openai-processing-ms", str(round(self._elapsed_ms())).encode()),
            (b"x-content-type-options", b"nosniff"),
            *self._receipt(),
            *self.cross_origin,
            *self._scope["state"].get("answer_headers", ()),
        ]

    def _receipt(self) -> list[tuple[bytes, bytes]]:
        """Return the receipt for what was recorded of this request so far, if anything was."""
        receipt = self._latest_record.receipt
        return [(b"regate-receipt", receipt.encode())] if receipt else []

    def _elapsed_ms(self) -> float:
        return round((time.perf_counter() - self._began) * 1_000, 1)


class _Handshake(_Exchange):
    """A WebSocket: an answer as for any request where it is refused, else one line when it ends."""

    async def send(self, message: Message) -> None:
        """Pass a message on, the acceptance with our own headers added."""
        match message["type"]:
            case "websocket.accept":
                self.status = 101
                message = {**message, "headers": [*message.get("headers", ()), *self._own_headers()]}
            case "websocket.http.response.start":
                self.status = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *self._own_headers()]}
            case "websocket.close":
                self.complete = True
            case _:
                pass
        await self._send(message)

    async def fail(self, error: Exception) -> None:
        """Refuse the handshake with the error's envelope; a connection that stands is closed."""
        log_error(error, request_id=self._id)
        if self.status:
            await self.send({"type": "websocket.close", "code": 1011})
            return
        status, headers, body = envelope(error)
        await self.send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await self.send({"type": "websocket.http.response.body", "body": body, "more_body": False})
        self.complete = True


def _check_headers(scope: Scope) -> None:
    """Refuse a request whose framing headers could be read in two ways. Raises `InvalidRequest`."""
    hosts = header_values(scope, b"host")
    if (
        len(hosts) > 1
        or (not hosts and scope["http_version"] != "1.0")
        or not all(_HOST.fullmatch(host) for host in hosts)
    ):
        raise InvalidRequest(
            "The request needs exactly one Host header: a host name or address, with an optional port.",
            code="invalid_host",
        )
    for name in (
        b"authorization",
        b"content-type",
        b"content-length",
        b"transfer-encoding",
        b"idempotency-key",
    ):
        if len(header_values(scope, name)) > 1:
            shown = name.decode().title()
            raise InvalidRequest(f"The header {shown} is given more than once.", code="duplicate_header")
