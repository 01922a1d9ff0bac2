"""Steps that several phases of the machine share: handing over events, going on with another model call, and
the end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from regate_orchestrator.errors import LimitExceeded, RegateError, UpstreamError
from regate_orchestrator.responses.commands import Command, DecideContext, Emit, Finish, Save
from regate_orchestrator.responses.output.emitter import Status
from regate_orchestrator.responses.state import Ending, Output, Phase, State
from regate_orchestrator.rows import ResponseRow, StoredItem
from regate_orchestrator.values import JsonObject

Step = tuple[State, list[Command]]
"""What an event comes to: the next state, and what must be done, in order."""


def emit(state: State) -> Step:
    """Return the state with nothing unsent, and the commands that send it."""
    commands: list[Command] = [Emit(event) for event in state.output.emitter.written]
    return state.with_output(emitter=state.output.emitter.handed_over()), commands


def go_on(state: State, now: int) -> Step:
    """Return the next model call, its context decided before; or the end when the client's token budget is
    used up.
    """
    limit = state.turn.max_output_tokens
    if limit is not None and state.spent >= limit:
        return end(state, "incomplete", now, incomplete="max_output_tokens")
    emitted, commands = emit(replace(state, phase=Phase.READMITTING))
    return emitted, [*commands, DecideContext(emitted.context.lineage)]


def end(
    state: State, status: Status, now: int, *, incomplete: str | None = None, error: RegateError | None = None
) -> Step:
    """Return the commands that end the response in this status: what is unsent, the final row, and
    after it the terminal event.
    """
    response = state.must_header.response(
        status,
        state.output.bodies,
        usage=state.usage,
        completed_at=now if status == "completed" else None,
        incomplete=incomplete,
        error=None if error is None else reported(error),
    )
    event = None if status == "cancelled" else f"response.{status}"
    ending = Ending(response, row(state, status, response), event, error)
    state, commands = emit(replace(state, phase=Phase.SAVING, ending=ending))
    if not state.request.store:
        state, last = ended(state)
        return state, [*commands, *last]
    return state, [*commands, Save(ending.row)]


def ended(state: State) -> Step:
    """Return the end itself, once its row is stored where it is to be."""
    ending = state.ending
    assert ending is not None  # noqa: S101 — INVARIANT: set before saving begins
    told = state if ending.event is None else state.told(ending.event, response=ending.response)
    state, commands = emit(replace(told, phase=Phase.ENDED))
    return state, [*commands, Finish(ending.response, ending.row, ending.error)]


def reported(error: RegateError) -> JsonObject:
    """Return the error as the Response shows it."""
    if isinstance(error, LimitExceeded) or (isinstance(error, UpstreamError) and error.status == 429):
        code = "rate_limit_exceeded"
    else:
        code = "server_error" if isinstance(error, UpstreamError) else error.code or "server_error"
    return {"code": code, "message": error.message}


def row(state: State, status: Status, response: JsonObject) -> ResponseRow:
    """Return the response as it is stored in this status."""
    header, request = state.must_header, state.request
    return ResponseRow(
        id=header.id,
        tenant=state.turn.tenant,
        owner=state.turn.owner,
        created_at=header.created_at,
        status=status,
        previous_response_id=request.previous_response_id,
        model=request.model,
        policy_revision=state.turn.revision,
        body={name: value for name, value in response.items() if name != "output"},
        items=(*state.turn.inputs, *map(_stored, state.output.items)),
        conversation_id=request.conversation,
        background=request.background,
    )


def _stored(output: Output) -> StoredItem:
    # Passages are kept beside the item, never in it: what leaves again passes the gate first (I9).
    return StoredItem(
        id=cast("str", output.body["id"]),
        body=output.body if output.stored is None else output.stored,
        direction="output",
        lineage=output.lineage,
        results=tuple(passage.stored() for passage in output.passages),
    )
