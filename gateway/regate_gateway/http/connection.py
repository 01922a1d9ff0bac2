"""The client's connection: work that ends when the client leaves, and event streams that go out as they are
made.

A stream's headers are sent with its first event, so a failure before it is still an HTTP status, unless it
was silent for so long that it had to be kept alive.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from regate_gateway.http import sse
from regate_gateway.http.errors import describe, log_error
from regate_gateway.http.presence import presence_of
from regate_orchestrator.errors import RegateError
from regate_orchestrator.values import JsonObject

Result = TypeVar("Result")
Emit = Callable[[JsonObject], Awaitable[None]]


def tls_extension(transport: asyncio.BaseTransport) -> dict[str, Any] | None:
    """Return what ASGI's TLS extension says of a connection, or None without TLS. The certificate in it is
    the one that the server verified; no header comes near it.
    """
    connected = transport.get_extra_info("ssl_object")
    if connected is None:
        return None
    presented = connected.getpeercert(binary_form=True)
    chain = () if presented is None else (ssl.DER_cert_to_PEM_cert(presented),)
    return {
        "server_cert": None,
        "client_cert_chain": chain,
        "client_cert_name": None,
        "client_cert_error": None,
        "tls_version": None,
        "cipher_suite": None,
    }


def peer_certificate(scope: Scope) -> str | None:
    """Return the certificate of this request's client in PEM, or None when it presented none."""
    chain = scope.get("extensions", {}).get("tls", {}).get("client_cert_chain", ())
    return chain[0] if chain else None


class ClientGone(Exception):
    """The client left before the work was done. Nobody is there to be answered."""


async def while_connected(scope: Scope, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what the work returns; cancel it, wait for its end, and raise `ClientGone` as soon as the client
    disconnects.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 — INVARIANT: only tasks await
    left = False

    def leave() -> None:
        nonlocal left
        if not left:
            left = True
            task.cancel()

    try:
        with presence_of(scope).watched(leave):
            result = await work
    except asyncio.CancelledError:
        if left and task.uncancel() == 0:
            raise ClientGone from None
        raise
    except BaseException:
        if left:
            task.uncancel()
        raise
    if left:  # the work did not heed it
        task.uncancel()
        raise ClientGone
    return result


Produce = Callable[[Emit], Coroutine[Any, Any, object]]


class EventStream(Response):
    """A server-sent event stream made by `produce`, which is given the function that sends one event (one
    write, with its blank line).

    `obscured` says that deltas are padded, so that their sizes on the wire tell less of the text in them;
    `silence_s`, how long nothing is sent before a comment is.
    """

    def __init__(self, produce: Produce, *, obscured: bool, silence_s: float = sse.SILENCE_SECONDS) -> None:
        super().__init__(status_code=200)
        self._produce = produce
        self._silence_s = silence_s
        self._encode = sse.encode_obscured if obscured else sse.encode

    def wrap(self, around: Callable[[Produce], Produce]) -> None:
        """Put something around what makes the events: it hears each of them, and of the stream's end."""
        self._produce = around(self._produce)

    # The ASGI signature
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send the stream, ending with `[DONE]`. Raises what `produce` raises; the boundary answers it where
        nothing was sent yet.

        Where comments alone were sent, which make a status of 200, what it raises is told as an `error`
        event.
        """
        wire = _Wire(send, self._silence_s)

        async def emit(event: JsonObject) -> None:
            await wire.write(self._encode(str(event["type"]), event))

        try:
            await while_connected(scope, self._kept_alive(wire, emit))
        except RegateError as error:
            if not wire.is_kept_alive_alone:
                raise
            log_error(error, request_id=scope["state"]["request_id"])
            await wire.write(sse.encode("error", _error_event(error)))
        await wire.write(sse.DONE, last=True)

    async def _kept_alive(self, wire: _Wire, emit: Emit) -> None:
        """Make the events; whatever that raises is raised as it is."""
        async with asyncio.TaskGroup() as group:
            keeping = group.create_task(wire.keep_alive())
            failure: Exception | None = None
            try:
                await self._produce(emit)
            except Exception as error:  # noqa: BLE001 — carried out of the group as it is, below
                failure = error
            keeping.cancel()
        if failure is not None:
            raise failure


class _Wire:
    """The stream as it goes out: its headers with the first bytes, one write at a time, and a comment
    in each long silence.
    """

    def __init__(self, send: Send, silence_s: float) -> None:
        self._send = send
        self._silence_s = silence_s
        self._writing = asyncio.Lock()
        self._wrote_at = asyncio.get_running_loop().time()
        self._is_open = False
        self.is_kept_alive_alone = False
        """Whether comments were sent, and no event."""

    async def write(self, data: bytes, *, last: bool = False) -> None:
        """Send some of the stream."""
        async with self._writing:
            self.is_kept_alive_alone = False
            await self._write(data, last=last)

    async def keep_alive(self) -> None:
        """Send a comment in every long silence, so that nobody in between takes the connection for
        dead. Never returns.
        """
        clock = asyncio.get_running_loop().time
        while True:
            await asyncio.sleep(max(0.0, self._wrote_at + self._silence_s - clock()))
            async with self._writing:
                if clock() >= self._wrote_at + self._silence_s:
                    self.is_kept_alive_alone = self.is_kept_alive_alone or not self._is_open
                    await self._write(sse.COMMENT)

    async def _write(self, data: bytes, *, last: bool = False) -> None:
        if not self._is_open:
            await self._send({"type": "http.response.start", "status": 200, "headers": list(sse.HEADERS)})
            self._is_open = True
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})
        self._wrote_at = asyncio.get_running_loop().time()


def _error_event(error: RegateError) -> JsonObject:
    """Return the event by which a stream tells that there is no response (OpenAI, "error")."""
    answer = describe(error)
    return {
        "type": "error",
        "sequence_number": 0,
        "code": answer.code or answer.type,
        "message": answer.message,
        "param": answer.param,
    }


def reply(body: object, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
