"""The machine: what comes next in a response. Pure: `advance(state, event, now) -> (state, commands)`; only
the driver performs commands.

Rules that hold in every state:

- Nothing is sent to a backend before the turn was authorized, and nothing is announced to the client before
  the backend accepted the call.
- Whatever is sent again, in a later call of the same response or after waiting in a queue, is decided again
  before.
- After `response.created` every run ends with exactly one of completed, incomplete or failed (none where the
  client has left), and where the response is stored, only after that very state was saved.
- A call runs only if its tool was offered in this request and the call was decided; of its arguments only
  what its kind reads is used.

`TRANSITIONS` lists which events each phase expects and what may follow; anything else is a programming error
and raises. `output/assembler.py` says how the model's pieces become items, `tools/steps.py` how calls are
made, `asking.py` what the model is asked, `compacting.py` how a conversation that grew too long is
summarised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from regate_orchestrator.errors import InvalidRequest, RegateError, UpstreamError
from regate_orchestrator.model_events import (
    ArgumentsWritten,
    CallOpened,
    ModelEnded,
    ModelFailed,
    ReasoningWritten,
    RefusalWritten,
    TextWritten,
)
from regate_orchestrator.responses import compacting
from regate_orchestrator.responses.asking import asked, too_long, truncated
from regate_orchestrator.responses.client_tools.table import OUTPUTS, is_for_client
from regate_orchestrator.responses.commands import (
    AuthorizeTurn,
    CallModel,
    DecideContext,
    ListTools,
    Recall,
    Refuse,
    Save,
)
from regate_orchestrator.responses.context.withholding import withhold
from regate_orchestrator.responses.events import (
    ClientLeft,
    ContextDecided,
    Event,
    Failed,
    ModelOpened,
    QuotaGranted,
    Recalled,
    Requested,
    Saved,
    ToolDecided,
    ToolRan,
    ToolsListed,
    TurnAuthorized,
)
from regate_orchestrator.responses.output.assembler import abandon_turn, cite_quoted, close_turn, write
from regate_orchestrator.responses.output.emitter import Header
from regate_orchestrator.responses.output.listings import listed, tell_listed
from regate_orchestrator.responses.prompt import build_prompt
from regate_orchestrator.responses.state import Ending, Phase, State, TurnState
from regate_orchestrator.responses.steps import Step, emit, end, ended, go_on, reported, row
from regate_orchestrator.responses.tools import steps as tool_steps
from regate_orchestrator.values import Json

_END: Final = (Phase.SAVING, Phase.ENDED)
_CALLED: Final = (Phase.CALLING, Phase.OPENING, Phase.DECIDING, Phase.READMITTING, *_END)
"""What may follow where the model is to be called: calls that the client approved come before."""
_NEVER_OPENED: Final[Mapping[type, tuple[Phase, ...]]] = {Failed: (Phase.ENDED,), ClientLeft: (Phase.ENDED,)}
_ENDINGS: Final[Mapping[type, tuple[Phase, ...]]] = {Failed: _END, ClientLeft: _END}
_PIECES: Final = (TextWritten, RefusalWritten, ReasoningWritten, CallOpened, ArgumentsWritten)

TRANSITIONS: Final[Mapping[Phase, Mapping[type, tuple[Phase, ...]]]] = {
    Phase.IDLE: {Requested: (Phase.RECALLING, Phase.AUTHORIZING)},
    Phase.RECALLING: {Recalled: (Phase.AUTHORIZING, Phase.ENDED), **_NEVER_OPENED},
    Phase.AUTHORIZING: {
        QuotaGranted: (Phase.AUTHORIZING,),
        TurnAuthorized: (Phase.QUEUEING, Phase.LISTING, *_CALLED),
        **_NEVER_OPENED,
    },
    Phase.QUEUEING: {Saved: (Phase.READMITTING,), **_NEVER_OPENED},
    Phase.READMITTING: {ContextDecided: (Phase.LISTING, *_CALLED), **_ENDINGS},
    Phase.LISTING: {ToolsListed: _CALLED, **_ENDINGS},
    Phase.CALLING: {
        ModelOpened: (Phase.OPENING, Phase.WRITING, Phase.SUMMARIZING),
        **_ENDINGS,
        Failed: (Phase.CALLING, *_END),
    },
    Phase.OPENING: {
        Saved: (Phase.WRITING, Phase.SUMMARIZING, Phase.DECIDING, Phase.READMITTING, *_END),
        **_ENDINGS,
    },
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
    Phase.DECIDING: {ToolDecided: (Phase.DECIDING, Phase.RUNNING, Phase.READMITTING, *_END), **_ENDINGS},
    Phase.RUNNING: {ToolRan: (Phase.RUNNING, Phase.READMITTING, *_END), **_ENDINGS},
    Phase.SAVING: {Saved: (Phase.ENDED,), Failed: (Phase.ENDED,), ClientLeft: (Phase.SAVING,)},
    Phase.ENDED: {ClientLeft: (Phase.ENDED,)},
}
"""Which events each phase expects, and which phases may follow. `advance` holds itself to it; the
diagram in the docs is drawn from it.
"""


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
            return _proceed(withhold(state, items, sources), now)
        case ToolsListed():
            return _proceed(listed(state, event), now)
        case ModelOpened():
            return _model_opened(state, now)
        case Saved():
            return _saved(state, now)
        case TextWritten() | RefusalWritten() | ReasoningWritten() | CallOpened() | ArgumentsWritten():
            return (
                (compacting.write(state, event), [])
                if state.phase is Phase.SUMMARIZING
                else emit(write(state, event))
            )
        case ModelEnded():
            return (
                _summarized(state, event, now)
                if state.phase is Phase.SUMMARIZING
                else _model_ended(state, event, now)
            )
        case ToolDecided() | ToolRan():
            return tool_steps.follow(state, event, now)
        case ModelFailed(error) | Failed(error):
            return _failed(state, error, now)
        case ClientLeft():
            return _client_left(state, now)


def _requested(state: State, event: Requested, now: int) -> Step:
    request = event.request
    turn = TurnState(tenant=event.tenant, owner=event.owner)
    state = replace(state, header=Header(event.response_id, now, request), turn=turn)
    if request.refers_back:
        return replace(state, phase=Phase.RECALLING), [Recall(request)]
    return replace(state, phase=Phase.AUTHORIZING), [AuthorizeTurn(request, Recalled())]


def _recalled(state: State, recalled: Recalled) -> Step:
    if recalled.status not in (None, "completed", "incomplete"):
        message = f"The previous response is {recalled.status}; continue from one that has ended."
        return _failed(state, InvalidRequest(message, param="previous_response_id"), 0)
    return replace(state, phase=Phase.AUTHORIZING), [AuthorizeTurn(state.request, recalled)]


def _authorized(state: State, event: TurnAuthorized, now: int) -> Step:
    request = state.request.in_tiers() if event.capabilities.service_tiers else state.request
    limits = [most for most in (request.max_output_tokens, event.max_output_tokens) if most is not None]
    turn = replace(
        state.turn,
        upstream=event.upstream,
        alternates=event.alternates,
        capabilities=event.capabilities,
        max_output_tokens=min(limits, default=None),
        revision=event.revision,
        hidden=event.hidden,
        approvals=() if request.measured else event.approvals,
        inputs=event.inputs,
    )
    state = replace(state, header=replace(state.must_header, request=request), turn=turn)
    state = state.with_context(history=event.history, prompted=event.sent, lineage=event.lineage)
    unlisted = tuple(tool for tool in request.server_tools if not tool.is_listed)
    state = state.with_tools(trace=event.trace, unlisted=unlisted)
    if not request.generate:
        response = state.must_header.response("in_progress", ())
        state = state.told("response.created", response=response)
        state = state.told("response.in_progress", response=response)
        return end(state.with_output(opened=True, begun=True), "completed", now)
    state = compacting.begin(state)
    if request.background:
        queued = row(state, "queued", state.must_header.response("queued", ()))
        return replace(state, phase=Phase.QUEUEING), [Save(queued)]
    return _proceed(state, now)


def _proceed(state: State, now: int) -> Step:
    """Return what comes before the next model call, and else the call: listing what tools offer, and calls
    that the client approved.
    """
    if state.context.summary is None and state.tools.unlisted:
        listing = ListTools(state.tools.unlisted)
        return replace(state, phase=Phase.LISTING, tools=replace(state.tools, unlisted=())), [listing]
    if state.context.summary is None and state.turn.approvals:
        state = tool_steps.approved(state)
        if state.tools.pending and not state.output.begun:
            return _open(state, now)
        if state.tools.pending:
            return tool_steps.begin(state, now)
    return _call_model(state)


def _call_model(state: State) -> Step:
    """Return the command that opens the next model turn, or the refusal of a request whose items do
    not pair up.
    """
    request, turn = state.request, state.turn
    if state.context.summary is not None:
        payload: dict[str, Json] = {"model": request.model, "messages": compacting.messages(state)}
        return replace(state, phase=Phase.CALLING), [CallModel(turn.upstream, payload, turn.alternates)]
    forgotten = "reasoning" if request.forget_reasoning else None
    history = [item for item in state.context.history if item.body["type"] != forgotten]
    items = [*history, *state.context.prompted]
    try:
        reasoning_field = turn.capabilities.reasoning_field
        prompt = build_prompt(request.instructions, items, reasoning_field=reasoning_field)
    except InvalidRequest as error:
        return _failed(state, error, 0)
    window = turn.capabilities.context_window
    if window is not None and prompt.tokens > window:
        shorter = truncated(state) if request.truncation == "auto" else None
        return _failed(state, too_long(window), 0) if shorter is None else _call_model(shorter)
    payload, offered, client = asked(state, prompt)
    state = state.with_context(sources=prompt.sources).with_tools(offered=offered, client=client)
    state = replace(state, phase=Phase.CALLING, round=state.round + 1)
    return state, [CallModel(turn.upstream, payload, turn.alternates)]


def _model_opened(state: State, now: int) -> Step:
    if state.output.begun:
        return replace(state, phase=_reading(state)), []
    return _open(state, now)


def _open(state: State, now: int) -> Step:
    """Return the state that announces the response, once it is stored as in progress: where anybody hears of
    it before it has ended.
    """
    request = state.request
    if request.store and (request.stream or request.background or request.conversation is not None):
        begun = row(state, "in_progress", state.must_header.response("in_progress", ()))
        return replace(state, phase=Phase.OPENING), [Save(begun)]
    return _announce(state, now)


def _announce(state: State, now: int) -> Step:
    """Return the state that reads the model, or makes the calls that were approved, after telling the client
    that the response is in progress; a background response was created before.
    """
    response = state.must_header.response("in_progress", ())
    if not state.output.opened:
        state = state.told("response.created", response=response)
    state = state.told("response.in_progress", response=response).with_output(opened=True, begun=True)
    state = tell_listed(state)
    if state.tools.pending:
        return tool_steps.begin(state, now)
    return emit(replace(state, phase=_reading(state)))


def _reading(state: State) -> Phase:
    return Phase.WRITING if state.context.summary is None else Phase.SUMMARIZING


def _saved(state: State, now: int) -> Step:
    match state.phase:
        case Phase.QUEUEING:
            response = state.must_header.response("queued", ())
            state = state.told("response.created", response=response)
            state = state.told("response.queued", response=response).with_output(opened=True)
            emitted, commands = emit(replace(state, phase=Phase.READMITTING))
            return emitted, [*commands, DecideContext(emitted.context.lineage)]
        case Phase.OPENING:
            return _announce(state, now)
        case _:
            return ended(state)


def _summarized(state: State, event: ModelEnded, now: int) -> Step:
    """Return the turn itself, with the summary in place of what it stands for; or the end, where
    nothing but the summary was wanted.
    """
    if not str(state.context.summary or "").strip():
        return _failed(state, UpstreamError("The backend returned an empty summary."), now)
    usage = state.usage + event.usage
    state = compacting.finish(replace(state, usage=usage, summary_tokens=event.usage.output_tokens))
    return end(state, "completed", now) if state.request.compact else go_on(state, now)


def _model_ended(state: State, event: ModelEnded, now: int) -> Step:
    cut = event.reason in ("length", "content_filter")
    calls = state.output.calls.values()
    unseen = any(call.is_unseen for call in calls)
    searched = any(call.kind.is_answered_here and not call.is_unseen for call in calls)
    called = any(not (call.tool is None or call.is_unseen or call.kind.is_answered_here) for call in calls)
    if not cut and state.output.message is not None and not calls:
        state = cite_quoted(state)
    header = replace(state.must_header, request=state.request.served_in(event.service_tier))
    state = close_turn(replace(state, header=header, usage=state.usage + event.usage), cut=cut)
    if cut:
        why = "max_output_tokens" if event.reason == "length" else "content_filter"
        return end(state, "incomplete", now, incomplete=why)
    if state.tools.pending:
        return tool_steps.begin(state, now)
    if (unseen or searched) and not called and state.round < state.limits.max_rounds:
        return go_on(state, now)
    if not _is_answered(state, unseen=unseen):
        return _failed(state, _no_answer(state, unseen=unseen), now)
    return end(state, "completed", now)


def _is_answered(state: State, *, unseen: bool) -> bool:
    """Return whether the model said or called anything. To the output of a client's tool it may have
    nothing to add; to a question it must.
    """
    if any(body["type"] == "message" or is_for_client(body) for body in state.output.bodies):
        return True
    items = state.request.items
    return not unseen and bool(items) and items[-1]["type"] in OUTPUTS


def _no_answer(state: State, *, unseen: bool) -> UpstreamError:
    why = (
        "in its last turn it called a tool that it was not offered, or with arguments that do not fit"
        if unseen
        else "it ended its turn with nothing said"
    )
    detail = f"{state.turn.upstream}: no answer after {state.round} rounds, {why}"
    return UpstreamError(f"The model gave no answer: {why}.", detail=detail)


def _failed(state: State, error: RegateError, now: int) -> Step:
    too_long_for_it = state.phase is Phase.CALLING and error.code == "context_length_exceeded"
    if too_long_for_it and state.request.truncation == "auto":
        shorter = truncated(state)
        if shorter is not None:
            return _call_model(replace(shorter, round=max(0, state.round - 1)))
    if not state.output.opened:
        return replace(state, phase=Phase.ENDED), [Refuse(error)]
    if state.phase is Phase.SAVING:  # the final state could not be stored, so it is not claimed (DESIGN §7)
        failure = reported(error)
        response = state.must_header.response("failed", state.output.bodies, usage=state.usage, error=failure)
        told = state.ending is not None and state.ending.event is not None
        event = "response.failed" if told else None
        return ended(replace(state, ending=Ending(response, row(state, "failed", response), event, error)))
    return end(abandon_turn(state), "failed", now, error=error)


def _client_left(state: State, now: int) -> Step:
    if not state.output.opened:
        return replace(state, phase=Phase.ENDED), []
    if state.phase in (Phase.SAVING, Phase.ENDED):
        # The end was reached; leaving before the last bytes cancels nothing (pitfall 16).
        return state, []
    return end(abandon_turn(state), "cancelled", now)
