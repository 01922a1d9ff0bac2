"""The client's connection: work that ends when the client leaves, and event streams that go out as they are made.

A stream's headers are sent with its first event, so a failure before it is still an HTTP status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

import orjson
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from regate_gateway import sse
from regate_orchestrator.values import JsonObject

Result = TypeVar("Result")
Emit = Callable[[JsonObject], Awaitable[None]]


class ClientGone(Exception):
    """The client left before the work was done. Nobody is there to be answered."""


async def while_connected(receive: Receive, work: Coroutine[Any, Any, Result]) -> Result:
    """Return what the work returns; cancel it, wait for its end, and raise `ClientGone` as soon as the client disconnects.

    The request's body must have been read: the next message is then the disconnect.
    """
    done: list[Result] = []
    failed: list[Exception] = []

    async def perform() -> None:
        try:
            done.append(await work)
        except Exception as error:  # noqa: BLE001 — carried out of the group as it is, below
            failed.append(error)

    async with asyncio.TaskGroup() as group:
        working = group.create_task(perform())
        watching = group.create_task(_until_disconnect(receive))
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        (watching if working.done() else working).cancel()
    if failed:
        raise failed[0]
    if not done:
        raise ClientGone
    return done[0]


async def _until_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


Produce = Callable[[Emit], Coroutine[Any, Any, object]]


class EventStream(Response):
    """A server-sent event stream made by `produce`, which is given the function that sends one event (one write, with its blank line).

    `obscured` says that deltas are padded, so that their sizes on the wire tell less of the text in them.
    """

    def __init__(self, produce: Produce, *, obscured: bool) -> None:
        super().__init__(status_code=200)
        self._produce = produce
        self._encode = sse.encode_obscured if obscured else sse.encode

    def wrap(self, around: Callable[[Produce], Produce]) -> None:
        """Put something around what makes the events: it hears each of them, and of the stream's end."""
        self._produce = around(self._produce)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 — the ASGI signature
        """Send the stream, ending with `[DONE]`. Raises what `produce` raises; the boundary answers it where nothing was sent yet."""
        started = False

        async def start() -> None:
            nonlocal started
            if not started:
                started = True
                await send({"type": "http.response.start", "status": 200, "headers": list(sse.HEADERS)})

        async def emit(event: JsonObject) -> None:
            await start()
            await send({"type": "http.response.body", "body": self._encode(str(event["type"]), event), "more_body": True})

        await while_connected(receive, self._produce(emit))
        await start()
        await send({"type": "http.response.body", "body": sse.DONE, "more_body": False})


def reply(body: object, status: int = 200) -> Response:
    """Return a JSON answer."""
    return Response(orjson.dumps(body), status_code=status, media_type="application/json")
