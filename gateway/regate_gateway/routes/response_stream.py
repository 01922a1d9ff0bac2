"""The stream of a response that was begun before: of its run, here or at another gateway, or told again once it has ended.

Who may read it is decided at the request. What is told of a response that has ended passes the same gate as history (I9).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final, cast

from regate_gateway.connection import Emit, EventStream, Produce
from regate_gateway.routes.call import Call
from regate_gateway.routes.shown import shown_items
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.responses import driver
from regate_orchestrator.responses.background import numbered_after
from regate_orchestrator.responses.history import Readmitted, held, history_of
from regate_orchestrator.responses.replay import events_of
from regate_orchestrator.rows import UNFINISHED, ResponseRow
from regate_orchestrator.values import JsonObject

_EVENTS_AT_ONCE: Final = 512
_POLL_S: Final = 0.25
_LAST_POLLS: Final = 20
"""How often it is looked for the last events of a run that has ended: it stores them right after its last save, unless it cannot."""
_LAST: Final = ("response.completed", "response.incomplete", "response.failed")


async def follow(call: Call, row: ResponseRow, after: int, *, obscured: bool) -> EventStream:
    """Return the stream of a response: of its run while that goes on, else from its log, decided again."""
    events = call.services.background.follow(row.id, after=after)
    if events is not None:
        return EventStream(sent(events), obscured=obscured)
    if row.status not in UNFINISHED:
        return EventStream(replay(call, row, after), obscured=obscured)
    if not (row.background and await call.services.state.events(call.context.principal, row.id, after=-1, limit=1)):
        message = (
            "This response is being made for another connection; only background responses that are streamed can be followed meanwhile."
        )
        raise InvalidRequest(message, param="stream", code="invalid_value")
    return EventStream(_elsewhere(call, row, after), obscured=obscured)


def sent(events: AsyncIterator[JsonObject]) -> Produce:
    """Return what sends the events as they come."""

    async def produce(emit: Emit) -> None:
        async for event in events:
            await emit(event)

    return produce


def _elsewhere(call: Call, row: ResponseRow, after: int) -> Produce:
    """Return what sends the log of a run at another gateway as it is written, to its end."""
    state, principal = call.services.state, call.context.principal

    async def produce(emit: Emit) -> None:
        last, polls = after, _LAST_POLLS
        while polls:
            status = await state.response_status(principal, row.id)  # asked first: what was written before it changed is read below
            async for event in _logged(call, row, last):
                await emit(event)
                last = cast("int", event["sequence_number"])
                if event["type"] in _LAST:
                    return
            if status in (None, "cancelled"):
                return
            if status not in UNFINISHED:
                polls -= 1
            await asyncio.sleep(_POLL_S)
        ended = await state.response(principal, row.id)
        if ended is not None:
            await replay(call, ended, last)(emit)

    return produce


def replay(call: Call, row: ResponseRow, after: int) -> Produce:
    """Return what replays an ended response. Where anything of it is withheld by now, only how it ended is told, without what is withheld."""

    async def produce(emit: Emit) -> None:
        left = await gated(call, row)
        response = {**row.body, "output": shown_items(left, call.query(), direction="output")}
        told = events_of(response)
        if left.withheld:
            for event in told[-1:]:
                await emit({**event, "sequence_number": after + 1})
            return
        last: JsonObject | None = None
        async for last in _logged(call, row, after - 1):
            if cast("int", last["sequence_number"]) > after:
                await emit(last)
        if last is None and not await call.services.state.events(call.context.principal, row.id, after=-1, limit=1):
            for event in numbered_after(told, after):
                await emit(event)
        elif (
            last is not None and last["type"] not in _LAST and told[-1]["type"] in _LAST
        ):  # its gateway died before it could log how it ended
            await emit({**told[-1], "sequence_number": cast("int", last["sequence_number"]) + 1})

    return produce


async def _logged(call: Call, row: ResponseRow, after: int) -> AsyncIterator[JsonObject]:
    """Yield the events after this number that are in the log by now."""
    while page := await call.services.state.events(call.context.principal, row.id, after=after, limit=_EVENTS_AT_ONCE):
        for event in page:
            yield event
        after = cast("int", page[-1]["sequence_number"])


async def gated(call: Call, row: ResponseRow) -> Readmitted:
    """Return what of a stored response the caller may see now."""
    return await driver.readmitted(call.context, history_of(held([row])), ports=call.services.loop, phase="response.read")
