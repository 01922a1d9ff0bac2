"""The stream of a response that was begun before: of its run, here or at another gateway, or told again once
it has ended.

Who may read it is decided at the request. What is told passes the same gate as history (I9): of a response
that has ended everything at once, of one that goes on what there is when the reader joins, and again whenever
the model has read more.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Final, cast

from regate_gateway.http.connection import Emit, EventStream, Produce
from regate_gateway.routes.call import Call
from regate_gateway.routes.responses.include import ReadQuery
from regate_gateway.routes.responses.redaction import redacted_items
from regate_orchestrator.errors import InvalidRequest
from regate_orchestrator.lineage import NOTHING_READ, Lineage
from regate_orchestrator.responses.background import Heard, numbered_after
from regate_orchestrator.responses.context.history import History, Readmitted, held, history_of
from regate_orchestrator.responses.output.replay import events_of
from regate_orchestrator.rows import UNFINISHED, LoggedEvent, ResponseRow
from regate_orchestrator.values import JsonObject

_EVENTS_AT_ONCE: Final = 512
_POLL_SECONDS: Final = 0.25
_LAST_POLLS: Final = 20
"""How often it is looked for the last events of a run that has ended: it stores them right after its
last save, unless it cannot.
"""
_LAST: Final = ("response.completed", "response.incomplete", "response.failed")


async def follow(call: Call, row: ResponseRow, asked: ReadQuery) -> EventStream:
    """Return the stream of a response: of its run while that goes on, else from its log, decided again."""
    after, include, obscured = asked.starting_after, asked.include, asked.include_obfuscation
    events = call.services.background.follow(row.id, after=after)
    if events is not None:
        return EventStream(_joined(call, row, events, after, include), obscured=obscured)
    if row.status in UNFINISHED:  # its run may have ended since the row was read
        row = await call.services.state.responses.get(call.context.principal, row.id) or row
    if row.status not in UNFINISHED:
        return EventStream(replay(call, row, after, include), obscured=obscured)
    if not (
        row.background
        and await call.services.state.events.read(call.context.principal, row.id, after=-1, limit=1)
    ):
        message = (
            "This response is being made for another connection; only background responses that are "
            "streamed can be followed meanwhile."
        )
        raise InvalidRequest(message, param="stream", code="invalid_value")
    events = _elsewhere(call, row, after)
    return EventStream(_joined(call, row, events, after, include), obscured=obscured)


def sent(events: AsyncIterator[Heard]) -> Produce:
    """Return what sends the events as they come, to whom the response is made for."""

    async def produce(emit: Emit) -> None:
        async for heard in events:
            await emit(heard.event)

    return produce


def _joined(
    call: Call, row: ResponseRow, events: AsyncIterator[Heard], after: int, include: Sequence[str]
) -> Produce:
    """Return what sends the events of a run to a reader that joined it, as far as the reader may have
    what the model had read by then.
    """

    async def produce(emit: Emit) -> None:
        passed, last, withheld, ended = NOTHING_READ, after, False, False
        async for heard in events:
            if not withheld and heard.lineage is not passed:
                passed, withheld = heard.lineage, not await _may_have(call, heard.lineage)
            if not withheld:
                await emit(heard.event)
                last, ended = _number(heard.event), heard.event["type"] in _LAST
        if ended:
            return
        row_then = await call.services.state.responses.get(call.context.principal, row.id)
        if row_then is not None:
            await replay(call, row_then, last, include)(emit)

    return produce


async def _may_have(call: Call, lineage: Lineage) -> bool:
    """Return whether the caller may have everything of this now."""
    history = History((), {source.key: source for source in lineage})
    return not (await call.services.loop.gate.readmit(call.context, history, phase="response.read")).denied


async def _elsewhere(call: Call, row: ResponseRow, after: int) -> AsyncIterator[Heard]:
    """Yield the log of a run at another gateway as it is written, to its end, or until nothing more is
    written of a run that has ended.
    """
    state, principal = call.services.state, call.context.principal
    read, last, polls = (
        Lineage.of(await state.events.sources(principal, row.id, through=after)),
        after,
        _LAST_POLLS,
    )
    with call.services.background.watches.of(row.id) as watch:
        while polls:
            # Asked first: what was written before it changed is read below
            status = await state.responses.status(principal, row.id)
            async for logged in _logged(call, row, last):
                read = read.plus(logged.sources)
                yield Heard(logged.event, read)
                last = _number(logged.event)
                if logged.event["type"] in _LAST:
                    return
            if status in (None, "cancelled"):
                return
            if status in UNFINISHED:
                await watch.wait(poll_s=_POLL_SECONDS)
            else:  # its gateway may have died, so that nobody tells of what is missing
                polls -= 1
                await asyncio.sleep(_POLL_SECONDS)


def replay(call: Call, row: ResponseRow, after: int, include: Sequence[str]) -> Produce:
    """Return what replays an ended response. Where anything of it is withheld by now, only how it
    ended is told, without what is withheld.
    """

    async def produce(emit: Emit) -> None:
        left = await readmitted(call, row)
        response = {**row.body, "output": redacted_items(left, include, direction="output")}
        told = events_of(response)
        if left.withheld:
            for event in told[-1:]:
                await emit({**event, "sequence_number": after + 1})
            return
        last: JsonObject | None = None
        async for logged in _logged(call, row, after - 1):
            last = logged.event
            if _number(last) > after:
                await emit(last)
        if last is None and not await call.services.state.events.read(
            call.context.principal, row.id, after=-1, limit=1
        ):
            for event in numbered_after(told, after):
                await emit(event)
        elif (
            last is not None and last["type"] not in _LAST and told[-1]["type"] in _LAST
        ):  # its gateway died before it could log how it ended
            await emit({**told[-1], "sequence_number": _number(last) + 1})

    return produce


async def _logged(call: Call, row: ResponseRow, after: int) -> AsyncIterator[LoggedEvent]:
    """Yield the events after this number that are in the log by now."""
    while page := await call.services.state.events.read(
        call.context.principal, row.id, after=after, limit=_EVENTS_AT_ONCE
    ):
        for logged in page:
            yield logged
        after = _number(page[-1].event)


async def readmitted(call: Call, row: ResponseRow) -> Readmitted:
    """Return what of a stored response the caller may see now."""
    return (
        await call.services.loop.gate.readmit(call.context, history_of(held([row])), phase="response.read")
    ).left


def _number(event: JsonObject) -> int:
    return cast("int", event["sequence_number"])
