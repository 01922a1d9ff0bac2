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
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar, assert_never

from regate_orchestrator.authz.decisions import Context
from regate_orchestrator.authz.enforcer import Enforcer
from regate_orchestrator.errors import CallerError, RegateError, UpstreamError
from regate_orchestrator.guards.checking import Guards
from regate_orchestrator.lineage import Lineage
from regate_orchestrator.maintenance.afterwards import Afterwards
from regate_orchestrator.model_events import ModelEnded, ModelFailed
from regate_orchestrator.ports import StateStore
from regate_orchestrator.responses.commands import (
    AuthorizeTurn,
    CallModel,
    Command,
    DecideContext,
    DecideTool,
    Emit,
    Finish,
    ListTools,
    Recall,
    Refuse,
    RunTool,
    Save,
)
from regate_orchestrator.responses.context.authorizing import Authorizer, Turn
from regate_orchestrator.responses.context.gate import Gate
from regate_orchestrator.responses.context.guarding import guard_turn
from regate_orchestrator.responses.context.recalling import Recollection, Remembered
from regate_orchestrator.responses.context.sealing import Sealer
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
)
from regate_orchestrator.responses.granting import Grant, Granted, NullQuota
from regate_orchestrator.responses.machine import advance
from regate_orchestrator.responses.request import Limits, ResponseRequest
from regate_orchestrator.responses.state import Phase, State
from regate_orchestrator.responses.tools.calls import ToolCalls
from regate_orchestrator.rows import ResponseRow
from regate_orchestrator.tokens import estimated_tokens
from regate_orchestrator.values import Clock, JsonObject, ResponseId, wall_clock

_log = logging.getLogger("regate.driver")
_LAST_WORDS_SECONDS: Final = 5.0
_ENDED: Final = ("completed", "incomplete", "failed", "cancelled")

EmitEvent = Callable[[JsonObject], Awaitable[None]]
_Kind = TypeVar("_Kind", DecideTool, RunTool)


class RunBroke(RegateError):
    """A fault of ours ended the run; the log says which."""

    is_logged = True


@dataclass(frozen=True, slots=True)
class LoopPorts:
    """What a run needs of the world."""

    enforcer: Enforcer
    state: StateStore
    tools: ToolCalls
    gate: Gate
    authorizer: Authorizer
    sealer: Sealer
    guards: Guards
    limits: Limits
    clock: Clock = wall_clock
    afterwards: Afterwards = field(default_factory=Afterwards)


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
    without making the call, nor those that the client approved. Raises the refusal.
    """
    driver = _Driver(replace(start, grant=None), ports, _null_sink)
    principal = start.context.principal
    request = replace(start.request, background=False, measured=True)
    try:
        driver.step(Requested(request, start.response_id, principal.tenant, principal.id))
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
        self._recollection = Recollection(
            ports.state, ports.enforcer, start.context, start.response_id, start.remembered, ports.afterwards
        )
        self._is_stored = self._has_stored_end = False

    def step(self, event: Event) -> None:
        """Tell the machine; queue what it wants done."""
        before = self._state.context.lineage
        self._state, commands = advance(self._state, event, int(self._ports.clock()))
        self._commands.extend(commands)
        if self._state.context.lineage is not before:
            self._start.reads(self._state.context.lineage)

    async def drain(self) -> None:
        """Perform commands until none is left."""
        while self._commands:
            await self._perform_next()

    async def first_call(self) -> CallModel:
        """Return the first call of the model, everything before it performed. Raises the refusal."""
        while not (self._commands and isinstance(self._commands[0], CallModel)):
            await self._perform_next()
            if self._refusal is not None:
                raise self._refusal
        first = self._commands[0]
        assert isinstance(first, CallModel)  # noqa: S101 — the loop's own condition
        return first

    async def leave(self) -> None:
        """Store what there was. Whoever is told of it is told; the client of a foreground response
        is gone.
        """
        if self._is_stored and self._state.phase in (Phase.QUEUEING, Phase.OPENING):
            self.step(Saved())  # it was, while the run was cancelled: it needs an end
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
        return self._state.output.opened and self._state.phase is not Phase.ENDED

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
        await self._recollection.release()
        if self._is_stored and not self._has_stored_end and self._finish is not None:
            last = self._finish.row  # as its client was told; what is stored says that it goes on
            self._ports.afterwards.do(lambda: self._ports.state.responses.save(last, is_update=True))

    def outcome(self) -> Outcome:
        """Return how it ended; raises the refusal."""
        if self._refusal is not None:
            raise self._refusal
        # INVARIANT: the machine's last command is Finish or Refuse
        assert self._finish is not None  # noqa: S101
        return Outcome(
            self._finish.response, (*self._recollection.earlier, self._finish.row), self._finish.error
        )

    async def _perform_next(self) -> None:
        command = self._commands.popleft()
        try:
            await self._perform(command)
        except RegateError as error:
            self.step(Failed(error))

    async def _perform(self, command: Command) -> None:
        match command:
            case Emit(event):
                await self._emit(event)
            case CallModel():
                await self._call_model(command)
            case Recall(request):
                self.step(await self._recollection.recall(request))
            case AuthorizeTurn(request, recalled):
                await self._authorize(request, recalled)
            case DecideContext(lineage):
                self.step(await self._decide_context(lineage))
            case ListTools(tools):
                self.step(await self._ports.tools.list_tools(self._context, tools))
            case DecideTool():
                commands = [command, *self._following(DecideTool)]
                for decided in await self._ports.tools.decide(self._context, commands):
                    self.step(decided)
            case RunTool(call):
                calls = [call, *(following.call for following in self._following(RunTool))]
                for ran in await self._ports.tools.run(self._context, calls, self._must_turn.stores):
                    self.step(ran)
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

    def _following(self, kind: type[_Kind]) -> list[_Kind]:
        """Take from the queue the commands of this kind that come next: they are performed together."""
        found: list[_Kind] = []
        while self._commands and isinstance(following := self._commands[0], kind):
            self._commands.popleft()
            found.append(following)
        return found

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
            "upstream": self._state.turn.upstream,
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
            if self._ports.guards.steps:
                granted, authorized = await guard_turn(
                    self._ports.guards, self._context, granted, turn.authorized
                )
                self._granted, turn = granted, replace(turn, authorized=authorized)
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
                    self._has_stored_end = True
                    self._recollection.was_released()


async def _null_sink(event: JsonObject) -> None:
    """Send an event to nobody."""
