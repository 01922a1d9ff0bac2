"""`Idempotency-Key`: a create that is sent again is answered again, and nothing is made twice.

No answer is kept. What the first request created is read again, by the route that retrieves it and as the
caller may see it now, so that what leaves passes the same gate as ever (I9). A key is its principal's own:
(tenant, subject, key). Which creates take one, `app.py` says.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlencode

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from regate_gateway.http.bodies import body_pieces, content_type, header_values
from regate_gateway.http.connection import Emit, EventStream, Produce
from regate_gateway.http.errors import Conflict, Unprocessable
from regate_gateway.http.multipart import read_in_vain
from regate_gateway.routes.call import Call
from regate_orchestrator.errors import InvalidRequest, NotFound, StateUnavailable
from regate_orchestrator.values import Json, JsonObject, mint

_log = logging.getLogger("regate.idempotency")

Handler = Callable[[Call], Awaitable[Response]]

_HEADER: Final = b"idempotency-key"
_OF_BODIES: Final = frozenset({b"content-type", b"content-length", b"transfer-encoding"})
_REPLAYED: Final = (b"idempotent-replayed", b"true")
_KEY: Final = re.compile(r"[ -~]{1,255}")
_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_RETRY_SECONDS: Final = 1.0
_LARGE: Final = 256 * 1024
"""Bodies above this are looked at in a thread, so that one of them does not hold up everybody's streams."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """The route that reads what a create made; its last path parameter is the id."""

    template: str
    handler: Handler

    def of(self, call: Call, created: str, query: Mapping[str, list[str]]) -> Call:
        """Return the call that retrieves what was created, by the same caller."""
        parameters = {**call.request.path_params, _PARAMETER.findall(self.template)[-1]: created}
        scope = {
            **call.request.scope,
            "method": "GET",
            "path": _PARAMETER.sub(lambda found: str(parameters[found.group(1)]), self.template),
            "path_params": parameters,
            "query_string": urlencode(query, doseq=True).encode(),
            "headers": [header for header in call.request.scope["headers"] if header[0] not in _OF_BODIES],
        }
        return Call(call.services, call.context, Request(scope, call.request.receive))


async def once(call: Call, create: Handler, retrieval: Retrieval) -> Response:
    """Answer a create, at most once for a key. Raises `Unprocessable` for a key of another request,
    `Conflict` while the first is running.
    """
    key = _key(call.request.scope)
    if key is None:
        return await create(call)
    call, body = await _with_body(call)
    place, meaning = _place(call.request.scope), "" if body is None else await _meaning(body)
    claim = _Claim(call, key, mint("claim_"), place, meaning)
    use = await call.services.state.idempotency_keys.claim(
        call.context.principal,
        key,
        fingerprint=place + meaning,
        claim=claim.id,
        at=int(call.services.clock()),
    )
    if use is None:
        return await claim.settled(create)
    if not use.fingerprint.startswith(place + meaning):
        raise _reused()
    if use.created is None:
        message = "The first request with this Idempotency-Key is still running."
        raise Conflict(message, code="idempotency_in_progress", retry_after=_RETRY_SECONDS)
    if body is None and use.fingerprint != place + await _meaning_of_upload(call):
        raise _reused()
    return _Replayed(await _again(call, retrieval, use.created, body))


def _reused() -> Unprocessable:
    return Unprocessable(
        "This Idempotency-Key was used for another request: use a new one.", code="idempotency_key_reused"
    )


async def _again(call: Call, retrieval: Retrieval, created: str, body: bytes | None) -> Response:
    """Return what was created, in the form in which this create answers: as a stream, if it asked for
    one, and with what it asked to include.
    """
    asked = orjson.loads(body) if body else {}
    streamed = asked.get("stream") is True
    query = {"stream": ["true"] if streamed else [], "include": asked.get("include") or []}
    if streamed and (asked.get("stream_options") or {}).get("include_obfuscation") is False:
        query["include_obfuscation"] = ["false"]
    try:
        return await retrieval.handler(retrieval.of(call, created, query))
    except NotFound:
        message = (
            "What this Idempotency-Key created is no longer there, or was not stored: use a new key to "
            "create it again."
        )
        raise Conflict(message, code="idempotency_gone") from None
    except InvalidRequest:
        if not streamed:
            raise
        message = f"What this Idempotency-Key created cannot be streamed again: retrieve '{created}'."
        raise Conflict(message, code="idempotency_not_streamed") from None


@dataclass(frozen=True, slots=True)
class _Claim:
    """A key that is ours until the create has ended."""

    call: Call
    key: str
    id: str
    place: str
    meaning: str
    """What the body means; empty for an upload, which is known when it has arrived."""

    async def settled(self, create: Handler) -> Response:
        """Answer the create, and say under the key what came of it; the key of what failed is free again."""
        try:
            response = await create(self.call)
        except BaseException:
            await self.release()
            raise
        if isinstance(response, EventStream):
            response.wrap(self._settled_stream)
        elif response.status_code >= 400:
            await self.release()
        else:
            await self.finish(cast("str", orjson.loads(response.body)["id"]))
        return response

    def _settled_stream(self, produce: Produce) -> Produce:
        async def settled(emit: Emit) -> None:
            is_open = True

            async def heard(event: JsonObject) -> None:
                nonlocal is_open
                if is_open and (response := _stays(event)) is not None:
                    is_open = False
                    await self.finish(cast("str", response["id"]))
                await emit(event)

            try:
                await produce(heard)
            finally:
                if is_open:
                    await self.release()

        return settled

    async def finish(self, created: str) -> None:
        """Say what was created. When that fails the create is answered all the same, and the key stays
        claimed: nothing is made twice.
        """
        fingerprint = self.place + (self.meaning or self.call.meaning or "")
        try:
            await self.call.services.state.idempotency_keys.finish(
                self.call.context.principal, self.key, claim=self.id, created=created, fingerprint=fingerprint
            )
        except StateUnavailable as error:
            _log.warning(
                "key_not_finished", extra={"request_id": self.call.context.request_id, "detail": error.detail}
            )

    async def release(self) -> None:
        """Let the key go; afterwards, where the state store does not answer."""
        keys, principal = self.call.services.state.idempotency_keys, self.call.context.principal

        async def let_go() -> None:
            await keys.release(principal, self.key, claim=self.id)

        try:
            await let_go()
        except StateUnavailable as error:
            self.call.services.loop.afterwards.do(let_go)
            _log.warning(
                "key_not_released", extra={"request_id": self.call.context.request_id, "detail": error.detail}
            )


def _stays(event: JsonObject) -> Mapping[str, Json] | None:
    """Return the response of an event after which it is there to be read again: it has ended well, or
    goes on without its client.
    """
    response = cast("Mapping[str, Json] | None", event.get("response"))
    if response is None:
        return None
    ended = event["type"] in ("response.completed", "response.incomplete")
    return (
        response
        if ended or (response.get("background") is True and event["type"] != "response.failed")
        else None
    )


class _Replayed(Response):
    """An answer that says in a header that it is an earlier request's."""

    def __init__(self, answer: Response) -> None:
        super().__init__(status_code=answer.status_code)
        self._answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer with the header."""

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], _REPLAYED]}
            await send(message)

        await self._answer(scope, receive, marked)


def _key(scope: Scope) -> str | None:
    values = header_values(scope, _HEADER)
    if not values:
        return None
    key = values[0].decode("latin-1").strip()
    if not _KEY.fullmatch(key):
        raise InvalidRequest(
            "The header Idempotency-Key must be 1 to 255 printable ASCII characters.",
            code="invalid_idempotency_key",
        )
    return key


async def _with_body(call: Call) -> tuple[Call, bytes | None]:
    """Return the call, its body to be read again, and the body. An upload's is None: it is never held
    in memory.
    """
    scope, receive = call.request.scope, call.request.receive
    if content_type(scope) != "application/json":
        return call, None
    pieces = [
        piece
        async for piece in body_pieces(scope, receive, limit=call.services.settings.listen.max_body_bytes)
    ]
    body = b"".join(pieces)
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return Call(call.services, call.context, Request(scope, again)), body


def _place(scope: Scope) -> str:
    """Return what tells requests apart before their bodies do: method, path and query."""
    return _digest(scope["method"].encode(), scope["path"].encode(), scope["query_string"])


async def _meaning(body: bytes) -> str:
    """Return what tells JSON bodies apart: their values, in whatever order and spacing their members
    are written.
    """
    return await asyncio.to_thread(_of_json, body) if len(body) > _LARGE else _of_json(body)


def _of_json(body: bytes) -> str:
    try:
        return _digest(orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS))
    except (
        ValueError,
        TypeError,
    ):  # no JSON, or nested deeper than it is read: it will be refused, and is another than any that was not
        return _digest(body)


async def _meaning_of_upload(call: Call) -> str:
    """Return what tells uploads apart, for which all of it has to arrive; of the file nothing is kept."""
    limit = call.services.settings.listen.max_file_bytes
    return (await read_in_vain(call.request.scope, call.request.receive, limit=limit)).meaning()


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()
