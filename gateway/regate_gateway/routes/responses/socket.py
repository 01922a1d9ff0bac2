"""`/v1/responses` over a WebSocket: one connection, one response at a time, the stream's events as frames.

Every `response.create` passes what a `POST` passes, the token's expiry included: what was decided for the
last one says nothing for the next. With `store: false` the last response can be continued on this connection,
and nowhere else (Open Responses, "WebSocket transport").
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import Final, cast

from starlette.websockets import WebSocket, WebSocketDisconnect

from regate_gateway.http.bodies import parsed
from regate_gateway.http.errors import describe, log_error
from regate_gateway.http.sse import obscured, one_line
from regate_gateway.routes.call import Caller
from regate_gateway.routes.prompts.use import resolve_prompt
from regate_gateway.routes.quotas import granting
from regate_gateway.routes.responses.request import is_padded, read_response_request, read_warm_up
from regate_orchestrator.errors import InvalidRequest, LimitExceeded, RegateError, Unauthenticated
from regate_orchestrator.responses import driver
from regate_orchestrator.responses.driver import EmitEvent, Outcome, Start
from regate_orchestrator.rows import ResponseRow
from regate_orchestrator.values import JsonObject, RequestId, ResponseId, mint

_MAX_SECONDS: Final = 3_600.0
_MAX_WAITING: Final = 8
_POLICY_VIOLATION: Final = 1008


async def serve(caller: Caller, socket: WebSocket) -> None:
    """Serve the connection until the client closes it, its token expires, or an hour has gone."""
    await socket.accept()
    connection = _Connection(caller, socket)
    try:
        async with asyncio.timeout(_MAX_SECONDS), asyncio.TaskGroup() as group:
            working = group.create_task(connection.work())
            try:
                await connection.read()
            except WebSocketDisconnect:
                working.cancel()
    except TimeoutError:
        await connection.refuse(_limit_reached())
        await socket.close(_POLICY_VIOLATION)


@dataclass(slots=True)
class _Connection:
    caller: Caller
    socket: WebSocket
    frames: asyncio.Queue[str] = field(default_factory=lambda: asyncio.Queue(_MAX_WAITING))
    remembered: dict[ResponseId, tuple[ResponseRow, ...]] = field(default_factory=dict)
    """The chain of the last response, where it is kept here alone."""

    async def read(self) -> None:
        """Take in frames as they come, so that a client that leaves is noticed while a response is
        made. Raises `WebSocketDisconnect`.
        """
        while True:
            frame = await self._text()
            if frame is None:
                await self.refuse(
                    InvalidRequest(
                        "A frame must hold text: a JSON object of type 'response.create'.",
                        code="invalid_json",
                    )
                )
                continue
            try:
                self.frames.put_nowait(frame)
            except asyncio.QueueFull:
                message = f"More than {_MAX_WAITING} requests are waiting on this connection."
                await self.refuse(LimitExceeded(message, retry_after=1))

    async def _text(self) -> str | None:
        """Return the next message, None for one of bytes. Raises `WebSocketDisconnect`."""
        message = await self.socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message["code"], message.get("reason"))
        text = message.get("text")
        return text if isinstance(text, str) else None

    async def work(self) -> None:
        """Answer the frames, one after the other."""
        while True:
            frame = await self.frames.get()
            try:
                await self._answer(frame)
            except Unauthenticated as error:
                await self.refuse(error)
                await self.socket.close(_POLICY_VIOLATION)
                return
            except RegateError as error:
                await self.refuse(error)
            except (WebSocketDisconnect, RuntimeError):
                return  # the client left; the reader ends the connection
            # One request must not take down what others of this connection have left
            except Exception as error:  # noqa: BLE001
                log_error(error, request_id=self.caller.context.request_id)
                await self.refuse(error)

    async def refuse(self, error: BaseException) -> None:
        """Send the error as a frame. The connection stays open: a further turn may follow."""
        answer = describe(error)
        told: JsonObject = {**cast("JsonObject", answer.body()["error"]), "code": answer.code or answer.type}
        # OpenAI has the members of the error in the frame itself, Open Responses in a member of their own.
        flat: JsonObject = {name: told[name] for name in ("code", "message", "param")}
        await self._send({"type": "error", "status": answer.status, **flat, "error": told})

    async def _answer(self, frame: str) -> None:
        body = dict(await parsed(frame.encode()))
        if body.pop("type", None) != "response.create":
            raise InvalidRequest(
                "A frame must be an object of type 'response.create'.", param="type", code="invalid_value"
            )
        context = await self.caller.services.authenticator.context(
            self.socket.scope
        )  # a token that has expired meanwhile ends it here
        body.pop("stream", None)
        generate = read_warm_up(body)
        response_id = ResponseId(mint("resp_"))
        context = replace(context, response_id=response_id, request_id=RequestId(mint("req_")))
        body = await resolve_prompt(Caller(self.caller.services, context), body)
        services = self.caller.services
        tools = services.settings.tools
        request = read_response_request(
            body, omit=tools.omit, sections=tools.sections, listed=services.upstreams.extra_fields
        )
        previous, padded = request.previous_response_id, is_padded(body)
        request = replace(request, stream=True, generate=generate)

        async def emit(event: JsonObject) -> None:
            try:
                await self._send(obscured(event) if padded else event)
            except (WebSocketDisconnect, RuntimeError):
                # The client left: the run ends as when its request does
                raise asyncio.CancelledError from None

        try:
            outcome = await self._run(Start(request, context, response_id, remembered=self.remembered), emit)
        except RegateError:
            self.remembered.pop(
                previous or ResponseId(""), None
            )  # what could not be continued is not tried again
            raise
        kept_here = not request.store or previous in self.remembered
        self.remembered = {response_id: outcome.chain} if kept_here and outcome.error is None else {}

    async def _run(self, start: Start, emit: EmitEvent) -> Outcome:
        if start.request.generate:  # else no model is called, so nothing is spent
            start = replace(
                start, grant=granting(replace(self.caller, context=start.context), "/v1/responses")
            )
        return await driver.run(start, ports=self.caller.services.loop, emit=emit)

    async def _send(self, frame: JsonObject) -> None:
        await self.socket.send_text(one_line(frame).decode())


def _limit_reached() -> InvalidRequest:
    return InvalidRequest(
        "The connection has been open for an hour. Open a new one.", code="websocket_connection_limit_reached"
    )
