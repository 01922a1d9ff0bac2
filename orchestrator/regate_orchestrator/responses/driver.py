"""The driver: performs the machine's commands through the ports. The only place in the loop that awaits
anything.

It decides nothing and keeps nothing between two events but the queue of commands. `emit` receives each event
as it comes; a slow client therefore slows the reading of the upstream, and nothing is buffered without bound.
Cancelling `run` closes the upstream connection and stores what there was.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, assert_never, cast

from regate_orchestrator.authz.decisions import Context, Deny, Point, Question
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.authz.obligations import QUALITIES, demands_of
from regate_orchestrator.errors import CallerError, NotFound, RegateError, UpstreamError
from regate_orchestrator.lineage import Lineage
from regate_orchestrator.ports import StateStore
from regate_orchestrator.quota.metering import Grant, Granted, NullQuota
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
from regate_orchestrator.responses.context.authorizing import Authorizer, Turn, no_previous, tool_view
from regate_orchestrator.responses.context.gate import Gate
from regate_orchestrator.responses.context.history import held
from regate_orchestrator.responses.context.sealing import Sealer
from regate_orchestrator.responses.events import (
    ClientLeft,
    ContextDecided,
    Event,
    Failed,
    ModelEnded,
    ModelFailed,
    ModelOpened,
    QuotaGranted,
    Recalled,
    Requested,
    Saved,
    Searched,
    ToolDecided,
)
from regate_orchestrator.responses.machine import advance
from regate_orchestrator.responses.prompt import FILE_SEARCH, Passage
from regate_orchestrator.responses.request import Limits, ResponseRequest
from regate_orchestrator.responses.state import Phase, State
from regate_orchestrator.retrieval.search import Hit, Retrieval, Search, hit_attributes
from regate_orchestrator.rows import ItemWithParent, ResponseRow
from regate_orchestrator.tokens import estimated_tokens
from regate_orchestrator.values import Clock, ConversationId, JsonObject, ResponseId, wall_clock

_log = logging.getLogger("regate.driver")
_LAST_WORDS_SECONDS: Final = 5.0
_ENDED: Final = ("completed", "incomplete", "failed", "cancelled")

EmitEvent = Callable[[JsonObject], Awaitable[None]]
Remembered = Mapping[ResponseId, tuple[ResponseRow, ...]]
"""Chains that are kept by a connection rather than in the state store, by their last response (`store:
false` over a WebSocket).
"""


class RunBroke(RegateError):
    """A fault of ours ended the run; the log says which."""

    is_logged = True


@dataclass(frozen=True, slots=True)
class LoopPorts:
    """What a run needs of the world."""

    enforcer: Enforcer
    state: StateStore
    retrieval: Retrieval
    gate: Gate
    authorizer: Authorizer
    sealer: Sealer
    limits: Limits
    clock: Clock = wall_clock


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the Response object, what a further turn would continue from, and the error
    behind it when it failed.
    """

    response: JsonObject
    chain: tuple[ResponseRow, ...]
    """The responses continued from, oldest first, and this one's row, as it is or would be stored."""
    error: RegateError | None


@dataclass(frozen=True, slots=True)
class Start:
    """What a run begins with. `left` says, when the run is cancelled, what that means: by default that the
    client went away.

    Without a `grant` no model may be called. `reads` is told what of ours the model has in its context,
    before any event that rests on it.
    """

    request: ResponseRequest
    context: Context
    response_id: ResponseId
    grant: Grant | None = None
    remembered: Remembered = field(default_factory=dict)
    left: Callable[[], Event] = ClientLeft
    reads: Callable[[Lineage], None] = lambda _: None


async def run(start: Start, *, ports: LoopPorts, emit: EmitEvent) -> Outcome:
    """Return how the response ended, after sending every event to `emit`.

    Raises the refusal when nothing was begun (no event was emitted and nothing sent to a backend that it
    accepted), and `asyncio.CancelledError` after storing what there was when the client has left.
    """
    driver = _Driver(start, ports, emit)
    principal = start.context.principal
    try:
        driver.step(Requested(start.request, start.response_id, principal.tenant, principal.id))
        await driver.drain()
    except asyncio.CancelledError:
        await driver.leave()
        raise
    except Exception:
        if not driver.is_under_way:
            raise
        _log.exception(
            "run_broke", extra={"request_id": start.context.request_id, "response": start.response_id}
        )
        await driver.fail()
    finally:
        await driver.release()
    return driver.outcome()


async def measure(start: Start, *, ports: LoopPorts) -> int:
    """Return an estimate of the input tokens of the first model call, everything in it decided,
    without making the call. Raises the refusal.
    """
    driver = _Driver(replace(start, grant=None), ports, _null_sink)
    principal = start.context.principal
    try:
        driver.step(
            Requested(
                replace(start.request, background=False), start.response_id, principal.tenant, principal.id
            )
        )
        call = await driver.first_call()
    finally:
        await driver.release()
    return estimated_tokens([call.payload["messages"], call.payload.get("tools", [])])


class _Driver:
    def __init__(self, start: Start, ports: LoopPorts, emit: EmitEvent) -> None:
        self._start = start
        self._context = start.context
        self._ports = ports
        self._emit = emit
        self._state = State(limits=ports.limits, sealer=ports.sealer)
        self._commands: deque[Command] = deque()
        self._turn: Turn | None = None
        self._granted: Granted | None = None
        self._refusal: RegateError | None = None
        self._finish: Finish | None = None
        self._earlier: tuple[ResponseRow, ...] = ()
        self._conversation: ConversationId | None = None
        """The conversation that is held for this response, and is to be let go."""
        self._is_stored = False
        self._most_bytes: dict[str, int] = {}
        """The largest result that each permitted call may have."""

    def step(self, event: Event) -> None:
        """Tell the machine; queue what it wants done."""
        before = self._state.lineage
        self._state, commands = advance(self._state, event, int(self._ports.clock()))
        self._commands.extend(commands)
        if self._state.lineage is not before:
            self._start.reads(self._state.lineage)

    async def drain(self) -> None:
        """Perform commands until none is left."""
        while self._commands:
            command = self._commands.popleft()
            try:
                await self._perform(command)
            except RegateError as error:
                self.step(Failed(error))

    async def first_call(self) -> CallModel:
        """Return the first call of the model, everything before it performed. Raises the refusal."""
        while not (self._commands and isinstance(self._commands[0], CallModel)):
            command = self._commands.popleft()
            try:
                await self._perform(command)
            except RegateError as error:
                self.step(Failed(error))
            if self._refusal is not None:
                raise self._refusal
        first = self._commands[0]
        assert isinstance(first, CallModel)  # noqa: S101 — the loop's own condition
        return first

    async def leave(self) -> None:
        """Store what there was. Whoever is told of it is told; the client of a foreground response
        is gone.
        """
        self._commands.clear()
        reason = self._start.left()
        if isinstance(reason, ClientLeft) and not self._start.request.background:
            self._emit = _null_sink
        # What has ended stays as it ended, whatever became of its last words.
        self.step(ClientLeft() if self._state.phase in (Phase.SAVING, Phase.ENDED) else reason)
        try:
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self.drain()
        except TimeoutError:
            _log.error("response_not_stored", extra={"request_id": self._context.request_id})

    @property
    def is_under_way(self) -> bool:
        """Whether the client was told of the response, and not yet of its end."""
        return self._state.opened and self._state.phase is not Phase.ENDED

    async def fail(self) -> None:
        """End the response as failed, since a fault of ours must not leave it in progress for ever."""
        self._commands.clear()
        self.step(Failed(RunBroke("The server had an error while it made the response.")))
        async with asyncio.timeout(_LAST_WORDS_SECONDS):
            await self.drain()

    async def release(self) -> None:
        """Release the conversation where its turn did not end by being stored, and settle what was spent."""
        if self._granted is not None:
            await self._granted.finalize()
        conversation, self._conversation = self._conversation, None
        if conversation is None:
            return
        try:
            await self._ports.state.conversations.unlock(conversation, self._start.response_id)
        except RegateError as error:
            _log.error(
                "conversation_left_locked", extra={"conversation": conversation, "cause": error.message}
            )

    def outcome(self) -> Outcome:
        """Return how it ended; raises the refusal."""
        if self._refusal is not None:
            raise self._refusal
        # INVARIANT: the machine's last command is Finish or Refuse
        assert self._finish is not None  # noqa: S101
        return Outcome(self._finish.response, (*self._earlier, self._finish.row), self._finish.error)

    async def _perform(self, command: Command) -> None:
        match command:
            case Emit(event):
                await self._emit(event)
            case CallModel():
                await self._call_model(command)
            case Recall(request):
                self.step(await self._recall(request))
            case AuthorizeTurn(request, recalled):
                await self._authorize(request, recalled)
            case DecideContext(lineage):
                self.step(await self._decide_context(lineage))
            case DecideTool():
                self.step(await self._decide_tool(command))
            case RunSearch():
                self.step(await self._search(command))
            case Save(row):
                await self._save(row)
                self.step(Saved())
            case Finish(error=error):
                self._finish = command
                self._note(error)
            case Refuse(error):
                self._refusal = error
                self._note(error)
            case _:
                assert_never(command)

    def _note(self, error: RegateError | None) -> None:
        """Log why the response failed, once and with all by which it is found; what the caller can
        mend is not logged.
        """
        if error is None or error.is_logged or isinstance(error, CallerError):
            return
        error.is_logged = True
        about = {
            "request_id": self._context.request_id,
            "response": self._start.response_id,
            "upstream": self._state.upstream,
        }
        _log.warning(
            "response_failed",
            extra={**about, "code": error.code, "detail": getattr(error, "detail", "") or error.message},
        )

    async def _authorize(self, request: ResponseRequest, recalled: Recalled) -> None:
        """Ask what the caller may spend and what the turn may use, both at once: neither depends on
        the other, and nothing begins before both.
        """
        granted, turn = await asyncio.gather(
            self._grant(request),
            self._ports.authorizer.authorize(self._context, request, recalled),
            return_exceptions=True,
        )
        if isinstance(granted, BaseException):
            raise granted
        if isinstance(turn, BaseException):
            raise turn
        if granted is not None:
            self.step(QuotaGranted(granted.request, granted.limits))
        self._turn = turn
        self.step(turn.authorized)

    @property
    def _must_turn(self) -> Turn:
        # INVARIANT: the machine asks for nothing of a turn before it was authorized
        assert self._turn is not None  # noqa: S101
        return self._turn

    async def _decide_context(self, lineage: Lineage) -> ContextDecided:
        self._turn, decided = await self._ports.authorizer.decide_again(
            self._context, self._must_turn, lineage
        )
        return decided

    async def _grant(self, request: ResponseRequest) -> Granted | None:
        if self._start.grant is not None:
            self._granted = await self._start.grant(request)
        return self._granted

    async def _call_model(self, command: CallModel) -> None:
        last: Event = ModelFailed(UpstreamError("The backend's stream ended without a finish reason."))
        backend = NullQuota() if self._granted is None else self._granted.backend
        async with backend.chat(command.upstream, command.payload, alternates=command.alternates) as events:
            self.step(ModelOpened())
            await self.drain()
            if self._state.phase not in (Phase.WRITING, Phase.SUMMARIZING):
                return
            async for event in events:
                if isinstance(event, ModelEnded | ModelFailed):
                    last = event
                    break
                self.step(event)
                await self.drain()
        # The connection is closed before anything that follows, so that no upstream slot is held while a tool
        # runs.
        self.step(last)

    async def _recall(self, request: ResponseRequest) -> Recalled:
        referenced = [cast("str", item["id"]) for item in request.items if item["type"] == "item_reference"]
        found = (
            await self._ports.state.items.with_parents(self._context.principal, referenced)
            if referenced
            else {}
        )
        if request.conversation is not None:
            return Recalled(await self._recall_conversation(request.conversation), referenced=found)
        if request.previous_response_id is None:
            return Recalled(referenced=found)
        self._earlier = turns = tuple(await self._chain(request.previous_response_id))
        return Recalled(held(turns), turns[-1].status, found)

    async def _chain(self, response: ResponseId) -> Sequence[ResponseRow]:
        remembered = self._start.remembered.get(response)
        if remembered is None:
            turns = await self._ports.state.responses.chain(self._context.principal, response)
        else:
            turns = [row for row in [await self._present(row) for row in remembered] if row is not None]
        if not turns or (remembered is not None and len(turns) < len(remembered)):
            raise no_previous(response)
        return turns

    async def _present(self, row: ResponseRow) -> ResponseRow | None:
        """Return a remembered response as it is now. What is stored is as the store has it: deleted,
        it is gone here as well.
        """
        if not row.body["store"]:
            return row
        return await self._ports.state.responses.get(self._context.principal, row.id)

    async def _recall_conversation(self, conversation: ConversationId) -> tuple[ItemWithParent, ...]:
        """Hold the conversation for this response and return its items. Absent, foreign and denied are one.

        A turn adds to the conversation, so it is decided as a change of it: who may only read it must not
        hold it up.
        """
        row = await self._ports.state.conversations.get(self._context.principal, conversation)
        view: JsonObject = {"id": ""} if row is None else row.view()
        question = Question(Point.HISTORY, "conversation.update", {"item": view}, about=conversation)
        decision = await self._ports.enforcer.decide(self._context, question)
        items = None
        if row is not None and not isinstance(decision, Deny):
            self._conversation = (
                conversation  # before it is held: whatever becomes of this call, it is let go
            )
            items = await self._ports.state.conversations.lock(
                self._context.principal, conversation, self._start.response_id
            )
        if row is None or items is None:
            raise NotFound(
                f"Conversation with id '{conversation}' not found.", param="conversation", code="not_found"
            )
        return tuple(ItemWithParent(row.view(), item) for item in items)

    async def _decide_tool(self, command: DecideTool) -> ToolDecided:
        tool = tool_view(FILE_SEARCH, command.name, command.arguments)
        resource: JsonObject = {
            "tool": tool,
            "turn": {"index": command.round, "calls_so_far": command.calls_so_far},
        }
        question = Question(Point.TOOL, "tool.call", resource, about=command.name, companions=QUALITIES)
        decision = await self._ports.enforcer.decide(self._context, question)
        if isinstance(decision, Deny):
            return ToolDecided(command.call_id, allowed=False)
        demands = demands_of(decision.decision_attributes)
        if demands.unmet:
            notes: JsonObject = {"kind": "refused", "about": command.name, "reasons": list(demands.unmet)}
            await self._ports.enforcer.record(self._context, "tool.refused", notes)
        self._most_bytes[command.call_id] = demands.max_result_bytes
        return ToolDecided(command.call_id, allowed=not demands.unmet)

    async def _search(self, command: RunSearch) -> Searched:
        """Search the stores that the turn opened, then decide whether the result as a whole may enter
        the context.
        """
        search = Search((command.query,), command.tool.narrowing, command.tool.limit, command.tool.threshold)
        hits = await self._ports.retrieval.search(
            self._context, list(self._must_turn.stores.values()), search
        )
        labels = {
            label for hit in hits for label in cast("Sequence[str]", hit.candidate.stamp.get("labels", ()))
        }
        result: JsonObject = {
            "mime": "text/plain",
            "size": sum(len(hit.candidate.text.encode()) for hit in hits),
            "labels": sorted(labels),
        }
        resource: JsonObject = {"tool": tool_view(FILE_SEARCH, FILE_SEARCH), "result": result}
        question = Question(Point.TOOL_RESULT, "tool.result", resource, about=FILE_SEARCH)
        decision = await self._ports.enforcer.decide(self._context, question)
        admitted = (
            not isinstance(decision, Deny)
            and cast("int", result["size"]) <= self._most_bytes[command.call_id]
        )
        return Searched(command.call_id, tuple(_passage(hit) for hit in hits) if admitted else (), admitted)

    async def _save(self, row: ResponseRow) -> None:
        # A save that has begun is finished even when the client leaves in the middle of it.
        save = self._ports.state.responses.save(row, is_update=self._is_stored)
        saving = asyncio.ensure_future(save)  # noqa: TID251 — awaited below in every case
        try:
            await asyncio.shield(saving)
        except asyncio.CancelledError:
            await saving
            raise
        finally:
            if saving.done() and not saving.cancelled() and saving.exception() is None:
                self._is_stored = True
                if row.status in _ENDED:
                    self._conversation = None  # it was let go with the turn


def _passage(hit: Hit) -> Passage:
    return Passage(hit.source, hit.filename, hit.candidate.text, hit.candidate.score, hit_attributes(hit))


async def _null_sink(event: JsonObject) -> None:
    """Send an event to nobody."""
