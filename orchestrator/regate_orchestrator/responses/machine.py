"""The machine: what comes next in a response. Pure: `advance(state, event, now) -> (state, commands)`; only
the driver performs commands.

Rules that hold in every state:

- Nothing is sent to a backend before the turn was authorized, and nothing is announced to the client before
  the backend accepted the call.
- Whatever is sent again, in a later call of the same response or after waiting in a queue, is decided again
  before.
- After `response.created` every run ends with exactly one of completed, incomplete or failed (none where the
  client has left), and where the response is stored, only after that very state was saved.
- A call runs only if its tool was offered in this request and was decided; its arguments are reduced to the
  query.

`TRANSITIONS` lists which events each phase expects and what may follow; anything else is a programming error
and raises. `responses/output/assembler.py` says how the model's pieces become items, `asking.py` what it is
asked, `compacting.py` how a conversation that grew too long is summarised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, cast

from regate_orchestrator.errors import InvalidRequest, LimitExceeded, RegateError, UpstreamError
from regate_orchestrator.responses import compacting
from regate_orchestrator.responses.asking import asked
from regate_orchestrator.responses.commands import (
    AuthorizeTurn,
    CallModel,
    Command,
    DecideContext,
    DecideTool,
    Emit,
    Finish,
    Recall,
    Refuse,
    RunSearch,
    Save,
)
from regate_orchestrator.responses.context.history import stored_result
from regate_orchestrator.responses.context.withholding import withhold
from regate_orchestrator.responses.events import (
    ArgumentsWritten,
    CallOpened,
    ClientLeft,
    ContextDecided,
    Event,
    Failed,
    ModelEnded,
    ModelFailed,
    ModelOpened,
    QuotaGranted,
    ReasoningWritten,
    Recalled,
    RefusalWritten,
    Requested,
    Saved,
    Searched,
    TextWritten,
    ToolDecided,
    TurnAuthorized,
)
from regate_orchestrator.responses.output.assembler import abandon_turn, cite, close_turn, finish_item, write
from regate_orchestrator.responses.output.citations import quotes
from regate_orchestrator.responses.output.emitter import Header, Status, search_item
from regate_orchestrator.responses.prompt import (
    CALLS,
    FILE_SEARCH,
    OUTPUTS,
    Passage,
    PromptItem,
    build_prompt,
)
from regate_orchestrator.responses.state import Ending, Output, Phase, State
from regate_orchestrator.rows import ResponseRow, StoredItem
from regate_orchestrator.values import Json, JsonObject

_END: Final = (Phase.SAVING, Phase.ENDED)
_NEVER_OPENED: Final[Mapping[type, tuple[Phase, ...]]] = {Failed: (Phase.ENDED,), ClientLeft: (Phase.ENDED,)}
_ENDINGS: Final[Mapping[type, tuple[Phase, ...]]] = {Failed: _END, ClientLeft: _END}
_PIECES: Final = (TextWritten, RefusalWritten, ReasoningWritten, CallOpened, ArgumentsWritten)

TRANSITIONS: Final[Mapping[Phase, Mapping[type, tuple[Phase, ...]]]] = {
    Phase.IDLE: {Requested: (Phase.RECALLING, Phase.AUTHORIZING)},
    Phase.RECALLING: {Recalled: (Phase.AUTHORIZING, Phase.ENDED), **_NEVER_OPENED},
    Phase.AUTHORIZING: {
        QuotaGranted: (Phase.AUTHORIZING,),
        TurnAuthorized: (Phase.QUEUEING, Phase.CALLING, *_END),
        **_NEVER_OPENED,
    },
    Phase.QUEUEING: {Saved: (Phase.READMITTING,), **_NEVER_OPENED},
    Phase.READMITTING: {ContextDecided: (Phase.CALLING, *_END), **_ENDINGS},
    Phase.CALLING: {
        ModelOpened: (Phase.OPENING, Phase.WRITING, Phase.SUMMARIZING),
        **_ENDINGS,
        Failed: (Phase.CALLING, *_END),
    },
    Phase.OPENING: {Saved: (Phase.WRITING, Phase.SUMMARIZING), **_ENDINGS},
    Phase.SUMMARIZING: {
        **dict.fromkeys(_PIECES, (Phase.SUMMARIZING,)),
        ModelEnded: (Phase.READMITTING, *_END),
        ModelFailed: _END,
        **_ENDINGS,
    },
    Phase.WRITING: {
        **dict.fromkeys(_PIECES, (Phase.WRITING,)),
        ModelEnded: (Phase.DECIDING, Phase.READMITTING, *_END),
        ModelFailed: _END,
        **_ENDINGS,
    },
    Phase.DECIDING: {ToolDecided: (Phase.SEARCHING, Phase.DECIDING, Phase.READMITTING, *_END), **_ENDINGS},
    Phase.SEARCHING: {Searched: (Phase.DECIDING, Phase.READMITTING, *_END), **_ENDINGS},
    Phase.SAVING: {Saved: (Phase.ENDED,), Failed: (Phase.ENDED,), ClientLeft: (Phase.SAVING,)},
    Phase.ENDED: {ClientLeft: (Phase.ENDED,)},
}
"""Which events each phase expects, and which phases may follow. `advance` holds itself to it; the
diagram in the docs is drawn from it.
"""

_ANSWERS: Final = frozenset({"message", *CALLS})
_BAD_ARGUMENTS: Final = 'The search did not run: its arguments must be a JSON object with a string "query".'
_TOOL_DENIED: Final = "The search did not run: it is not permitted."
_RESULT_DENIED: Final = "The search ran, but its result may not be used."

Step = tuple[State, list[Command]]


def advance(state: State, event: Event, now: int) -> Step:
    """Return the next state and what must be done, in order. `now` is in epoch seconds."""
    following = TRANSITIONS[state.phase].get(type(event))
    # See the docstring
    assert following is not None, f"{type(event).__name__} in {state.phase.name}"  # noqa: S101
    after, commands = _advance(state, event, now)
    # As above
    if after.phase not in following:
        raise AssertionError(f"{type(event).__name__} from {state.phase.name} to {after.phase.name}")
    return after, commands


def _advance(state: State, event: Event, now: int) -> Step:
    match event:
        case Requested():
            return _requested(state, event, now)
        case Recalled():
            return _recalled(state, event)
        case QuotaGranted(request, limits):
            return replace(state, header=replace(state.must_header, request=request), limits=limits), []
        case TurnAuthorized():
            return _authorized(state, event, now)
        case ContextDecided(items, sources):
            return _call_model(withhold(state, items, sources))
        case ModelOpened():
            return _model_opened(state)
        case Saved():
            return _saved(state)
        case TextWritten() | RefusalWritten() | ReasoningWritten() | CallOpened() | ArgumentsWritten():
            return (
                (compacting.write(state, event), [])
                if state.phase is Phase.SUMMARIZING
                else _emit(write(state, event))
            )
        case ModelEnded():
            return (
                _summarized(state, event, now)
                if state.phase is Phase.SUMMARIZING
                else _model_ended(state, event, now)
            )
        case ToolDecided(_, allowed):
            return _tool_decided(state, now, allowed=allowed)
        case Searched(_, passages, admitted):
            return _searched(state, passages, now, admitted=admitted)
        case ModelFailed(error) | Failed(error):
            return _failed(state, error, now)
        case ClientLeft():
            return _client_left(state, now)


def _requested(state: State, event: Requested, now: int) -> Step:
    request = event.request
    state = replace(
        state, header=Header(event.response_id, now, request), tenant=event.tenant, owner=event.owner
    )
    if request.refers_back:
        return replace(state, phase=Phase.RECALLING), [Recall(request)]
    return replace(state, phase=Phase.AUTHORIZING), [AuthorizeTurn(request, Recalled())]


def _recalled(state: State, recalled: Recalled) -> Step:
    if recalled.status not in (None, "completed", "incomplete"):
        message = f"The previous response is {recalled.status}; continue from one that has ended."
        return _failed(state, InvalidRequest(message, param="previous_response_id"), 0)
    return replace(state, phase=Phase.AUTHORIZING), [AuthorizeTurn(state.must_header.request, recalled)]


def _authorized(state: State, event: TurnAuthorized, now: int) -> Step:
    request = (
        state.must_header.request.in_tiers()
        if event.capabilities.service_tiers
        else state.must_header.request
    )
    state = replace(
        state,
        header=replace(state.must_header, request=request),
        upstream=event.upstream,
        alternates=event.alternates,
        capabilities=event.capabilities,
        max_output_tokens=min(
            (most for most in (request.max_output_tokens, event.max_output_tokens) if most is not None),
            default=None,
        ),
        revision=event.revision,
        history=event.history,
        prompted=event.sent,
        inputs=event.inputs,
        lineage=event.lineage,
        hidden=event.hidden,
    )
    if not request.generate:
        response = state.must_header.response("in_progress", ())
        emitter = state.emitter.write("response.created", response=response).write(
            "response.in_progress", response=response
        )
        return _end(replace(state, opened=True, begun=True, emitter=emitter), "completed", now)
    state = compacting.begin(state)
    if request.background:
        row = _row(state, "queued", state.must_header.response("queued", ()))
        return replace(state, phase=Phase.QUEUEING), [Save(row)]
    return _call_model(state)


def _call_model(state: State) -> Step:
    """Return the command that opens the next model turn, or the refusal of a request whose items do
    not pair up.
    """
    request = state.must_header.request
    if state.summary is not None:
        payload: dict[str, Json] = {"model": request.model, "messages": compacting.messages(state)}
        return replace(state, phase=Phase.CALLING), [CallModel(state.upstream, payload, state.alternates)]
    try:
        history = [
            item
            for item in state.history
            if not (request.forget_reasoning and item.body["type"] == "reasoning")
        ]
        prompt = build_prompt(
            request.instructions,
            [*history, *state.prompted],
            reasoning_field=state.capabilities.reasoning_field,
        )
    except InvalidRequest as error:
        return _failed(state, error, 0)
    window = state.capabilities.context_window
    if window is not None and prompt.tokens > window:
        shorter = _truncated(state) if request.truncation == "auto" else None
        return _failed(state, _too_long(window), 0) if shorter is None else _call_model(shorter)
    payload, offers_search = asked(state, prompt)
    state = replace(
        state,
        phase=Phase.CALLING,
        sources=prompt.sources,
        round=state.round + 1,
        searching_offered=offers_search,
    )
    return state, [CallModel(state.upstream, payload, state.alternates)]


def _model_opened(state: State) -> Step:
    if state.begun:
        return replace(state, phase=_reading(state)), []
    if state.must_header.request.store:
        return replace(state, phase=Phase.OPENING), [
            Save(_row(state, "in_progress", state.must_header.response("in_progress", ())))
        ]
    return _announce(state)


def _announce(state: State) -> Step:
    """Return the state that reads the model, after telling the client that it does; a background
    response was created before.
    """
    response = state.must_header.response("in_progress", ())
    emitter = state.emitter if state.opened else state.emitter.write("response.created", response=response)
    emitter = emitter.write("response.in_progress", response=response)
    return _emit(replace(state, phase=_reading(state), opened=True, begun=True, emitter=emitter))


def _reading(state: State) -> Phase:
    return Phase.WRITING if state.summary is None else Phase.SUMMARIZING


def _saved(state: State) -> Step:
    match state.phase:
        case Phase.QUEUEING:
            response = state.must_header.response("queued", ())
            emitter = state.emitter.write("response.created", response=response).write(
                "response.queued", response=response
            )
            emitted, commands = _emit(replace(state, opened=True, emitter=emitter, phase=Phase.READMITTING))
            return emitted, [*commands, DecideContext(emitted.lineage)]
        case Phase.OPENING:
            return _announce(state)
        case _:
            return _ended(state)


def _summarized(state: State, event: ModelEnded, now: int) -> Step:
    """Return the turn itself, with the summary in place of what it stands for; or the end, where
    nothing but the summary was wanted.
    """
    if not str(state.summary or "").strip():
        return _failed(state, UpstreamError("The backend returned an empty summary."), now)
    state = compacting.finish(
        replace(state, usage=state.usage + event.usage, summary_tokens=event.usage.output_tokens)
    )
    if state.must_header.request.compact:
        return _end(state, "completed", now)
    return _continue(state, now)


def _model_ended(state: State, event: ModelEnded, now: int) -> Step:
    cut = event.reason in ("length", "content_filter")
    called = any(call.index is not None and call.tool is not None for call in state.calls.values())
    unseen = any(call.index is None for call in state.calls.values())
    if not cut and state.message is not None and not state.calls:
        state = _cite_unmarked(state)
    header = replace(state.must_header, request=state.must_header.request.served_in(event.service_tier))
    state = close_turn(replace(state, header=header, usage=state.usage + event.usage), cut=cut)
    if cut:
        return _end(
            state,
            "incomplete",
            now,
            incomplete="max_output_tokens" if event.reason == "length" else "content_filter",
        )
    if state.searches:
        return _next_search(state, now)
    if unseen and not called and state.round < state.limits.max_rounds:
        return _continue(state, now)
    if not _is_answered(state, unseen=unseen):
        return _failed(state, _no_answer(state, unseen=unseen), now)
    return _end(state, "completed", now)


def _is_answered(state: State, *, unseen: bool) -> bool:
    """Return whether the model said or called anything. To the output of a client's tool it may have
    nothing to add; to a question it must.
    """
    if any(output.body["type"] in _ANSWERS for output in state.outputs):
        return True
    items = state.must_header.request.items
    return not unseen and bool(items) and items[-1]["type"] in OUTPUTS


def _no_answer(state: State, *, unseen: bool) -> UpstreamError:
    why = (
        "in its last turn it called a tool that it was not offered"
        if unseen
        else "it ended its turn with nothing said"
    )
    return UpstreamError(
        f"The model gave no answer: {why}.",
        detail=f"{state.upstream}: no answer after {state.round} rounds, {why}",
    )


def _cite_unmarked(state: State) -> State:
    """Return the state in which an answer without any marker cites each file of this response's
    passages that it quotes (pitfall 41).
    """
    message = state.message
    if message is None or message.annotations or "【" in message.held:
        return state
    answer = str(message.text) + message.held
    quoted = {
        passage.source.file_id
        for output in state.outputs
        for passage in output.passages
        if quotes(answer, passage.text)
    }
    for number, (file_id, _) in sorted(state.sources.items()):
        if file_id in quoted:
            quoted.discard(file_id)
            state = cite(state, number, len(answer))
    return state


def _continue(state: State, now: int) -> Step:
    """Return the next model turn, or the end when the client's token budget is used up."""
    limit = state.max_output_tokens
    if limit is not None and state.spent >= limit:
        return _end(state, "incomplete", now, incomplete="max_output_tokens")
    emitted, commands = _emit(replace(state, phase=Phase.READMITTING))
    return emitted, [*commands, DecideContext(emitted.lineage)]


def _next_search(state: State, now: int) -> Step:
    """Return the decision on the next pending search; when none is left, the next model turn or the end."""
    while state.searches:
        search = state.searches[0]
        if search.query is not None:
            emitted, commands = _emit(replace(state, phase=Phase.DECIDING))
            tool = state.must_header.request.file_search
            stores = [] if tool is None else list(tool.store_ids)
            arguments: JsonObject = {"query_length": len(search.query), "vector_store_ids": stores}
            done = state.searches_opened - len(state.searches)
            return emitted, [
                *commands,
                DecideTool(search.call_id, FILE_SEARCH, arguments, calls_so_far=done, round=state.round),
            ]
        state = _close_search(state, "failed", (), note=_BAD_ARGUMENTS)
    waiting = any(output.body["type"] in CALLS for output in state.outputs)
    return _end(state, "completed", now) if waiting else _continue(state, now)


def _tool_decided(state: State, now: int, *, allowed: bool) -> Step:
    search = state.searches[0]
    if not allowed:
        return _next_search(_close_search(state, "failed", (), note=_TOOL_DENIED), now)
    emitter = state.emitter.write(
        "response.file_search_call.searching", item_id=search.item_id, output_index=search.index
    )
    emitted, commands = _emit(replace(state, phase=Phase.SEARCHING, emitter=emitter))
    tool = state.must_header.request.file_search
    assert tool is not None  # noqa: S101 — INVARIANT: a search is pending only where the tool was offered
    assert search.query is not None  # noqa: S101 — INVARIANT: a search without a query is never decided
    return emitted, [*commands, RunSearch(search.call_id, search.query, tool)]


def _searched(state: State, passages: tuple[Passage, ...], now: int, *, admitted: bool) -> Step:
    search = state.searches[0]
    if not admitted:
        return _next_search(_close_search(state, "failed", (), note=_RESULT_DENIED), now)
    emitter = state.emitter.write(
        "response.file_search_call.completed", item_id=search.item_id, output_index=search.index
    )
    return _next_search(_close_search(replace(state, emitter=emitter), "completed", passages, note=""), now)


def _close_search(state: State, status: str, passages: tuple[Passage, ...], *, note: str) -> State:
    """Return the state with the current search done: its item closed, and what it found in the prompt
    and in the lineage from now on.
    """
    search, *rest = state.searches
    results = (
        [passage.as_result() for passage in passages] if state.must_header.request.include.results else None
    )
    queries = [] if search.query is None else [search.query]
    item = search_item(search.item_id, "completed" if status == "completed" else "failed", queries, results)
    state = finish_item(replace(state, searches=tuple(rest)), search.index, item)
    outputs = list(state.outputs)
    outputs[search.index] = replace(outputs[search.index], passages=passages)
    asked_from = outputs[search.index].lineage
    prompted = PromptItem(
        {**item, "call_id": search.call_id},
        passages=passages,
        note=note,
        lineage=asked_from,
        turn=state.round,
    )
    lineage = state.lineage.plus([passage.source for passage in passages])
    return replace(state, outputs=tuple(outputs), lineage=lineage, prompted=(*state.prompted, prompted))


def _end(
    state: State, status: Status, now: int, *, incomplete: str | None = None, error: RegateError | None = None
) -> Step:
    """Return the commands that end the response in this status: what is unsent, the final row, and
    after it the terminal event.
    """
    reported: JsonObject | None = (
        None if error is None else {"code": _error_code(error), "message": error.message}
    )
    completed_at = now if status == "completed" else None
    response = state.must_header.response(
        status,
        state.bodies,
        usage=state.usage,
        completed_at=completed_at,
        incomplete=incomplete,
        error=reported,
    )
    event = None if status == "cancelled" else f"response.{status}"
    row = _row(state, status, response)
    state, commands = _emit(replace(state, phase=Phase.SAVING, ending=Ending(response, row, event, error)))
    if not state.must_header.request.store:
        state, last = _ended(state)
        return state, [*commands, *last]
    return state, [*commands, Save(row)]


def _ended(state: State) -> Step:
    ending = state.ending
    assert ending is not None  # noqa: S101 — INVARIANT: set before saving begins
    emitter = (
        state.emitter if ending.event is None else state.emitter.write(ending.event, response=ending.response)
    )
    state, commands = _emit(replace(state, phase=Phase.ENDED, emitter=emitter))
    return state, [*commands, Finish(ending.response, ending.row, ending.error)]


def _failed(state: State, error: RegateError, now: int) -> Step:
    if (
        state.phase is Phase.CALLING
        and error.code == "context_length_exceeded"
        and state.must_header.request.truncation == "auto"
    ):
        shorter = _truncated(state)
        if shorter is not None:
            return _call_model(replace(shorter, round=max(0, state.round - 1)))
    if not state.opened:
        return replace(state, phase=Phase.ENDED), [Refuse(error)]
    if state.phase is Phase.SAVING:  # the final state could not be stored, so it is not claimed (DESIGN §7)
        reported: JsonObject = {"code": _error_code(error), "message": error.message}
        response = state.must_header.response("failed", state.bodies, usage=state.usage, error=reported)
        told = state.ending is not None and state.ending.event is not None
        ending = Ending(response, _row(state, "failed", response), "response.failed" if told else None, error)
        return _ended(replace(state, ending=ending))
    return _end(abandon_turn(state), "failed", now, error=error)


def _too_long(window: int) -> InvalidRequest:
    message = (
        f"The input is longer than the {window} tokens of this model's context. Send less, or set "
        "'truncation' to 'auto'."
    )
    return InvalidRequest(message, param="input", code="context_length_exceeded")


def _truncated(state: State) -> State | None:
    """Return the state without the older half of the conversation, cut where a turn of the user's
    begins; None when only one is left.
    """
    items = [*state.history, *state.prompted]
    starts = [
        place
        for place, item in enumerate(items)
        if item.body["type"] == "message" and item.body.get("role") == "user"
    ]
    if len(starts) < 2:
        return None
    cut = starts[(len(starts) + 1) // 2]
    return replace(
        state,
        history=tuple(items[cut : len(state.history)]),
        prompted=tuple(items[max(cut, len(state.history)) :]),
    )


def _client_left(state: State, now: int) -> Step:
    if not state.opened:
        return replace(state, phase=Phase.ENDED), []
    if state.phase in (
        Phase.SAVING,
        Phase.ENDED,
    ):  # the end was reached; leaving before the last bytes cancels nothing (pitfall 16)
        return state, []
    return _end(abandon_turn(state), "cancelled", now)


def _error_code(error: RegateError) -> str:
    if isinstance(error, LimitExceeded) or (isinstance(error, UpstreamError) and error.status == 429):
        return "rate_limit_exceeded"
    return "server_error" if isinstance(error, UpstreamError) else error.code or "server_error"


def _emit(state: State) -> Step:
    commands: list[Command] = [Emit(event) for event in state.emitter.written]
    return replace(state, emitter=state.emitter.handed_over()), commands


def _row(state: State, status: Status, response: JsonObject) -> ResponseRow:
    header = state.must_header
    return ResponseRow(
        id=header.id,
        tenant=state.tenant,
        owner=state.owner,
        created_at=header.created_at,
        status=status,
        previous_response_id=header.request.previous_response_id,
        model=header.request.model,
        policy_revision=state.revision,
        body={name: value for name, value in response.items() if name != "output"},
        items=(*state.inputs, *map(_output_item, state.outputs)),
        conversation_id=header.request.conversation,
        background=header.request.background,
    )


def _output_item(output: Output) -> StoredItem:
    # Results are kept beside the item, never in it: what leaves again passes the gate first (I9).
    return StoredItem(
        id=cast("str", output.body["id"]),
        body={**output.body, "results": None} if output.body["type"] == "file_search_call" else output.body,
        direction="output",
        lineage=output.lineage,
        results=tuple(stored_result(passage) for passage in output.passages),
    )
