"""The driver: performs the machine's commands through the ports. The only place in the loop that awaits anything.

It decides nothing and keeps nothing between two events but the queue of commands. `emit` receives each event as it comes; a slow client
therefore slows the reading of the upstream, and nothing is buffered without bound. Cancelling `run` closes the upstream connection and
stores what there was.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, assert_never, cast

from regate_orchestrator.decisions import Context, Deny, Point, Question
from regate_orchestrator.enforcer import Batch, Enforcer
from regate_orchestrator.errors import NotFound, NotPermitted, RegateError, UpstreamError
from regate_orchestrator.ports import Backend, Catalogue, StateStore
from regate_orchestrator.responses.commands import (
    AuthorizeTurn,
    CallModel,
    Command,
    DecideTool,
    Emit,
    Finish,
    Recall,
    Refuse,
    RunSearch,
    Save,
)
from regate_orchestrator.responses.events import (
    ClientLeft,
    Event,
    Failed,
    ModelEnded,
    ModelFailed,
    ModelOpened,
    Recalled,
    Requested,
    Saved,
    Searched,
    ToolDecided,
    TurnAuthorized,
)
from regate_orchestrator.responses.history import ChunkKey, History, Readmitted, batch_of, history_of, prompt_items, readmit
from regate_orchestrator.responses.machine import advance
from regate_orchestrator.responses.prompt import Passage, output_text
from regate_orchestrator.responses.request import ResponseRequest
from regate_orchestrator.responses.state import Limits, Phase, State
from regate_orchestrator.retrieval import Hit, OpenStore, Retrieval, Search, hit_attributes, opened
from regate_orchestrator.rows import ResponseRow
from regate_orchestrator.values import Clock, JsonObject, ResponseId, StoreId, wall_clock

_log = logging.getLogger("regate.driver")
_LAST_WORDS_SECONDS: Final = 5.0

EmitEvent = Callable[[JsonObject], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class LoopPorts:
    """What a run needs of the world."""

    enforcer: Enforcer
    state: StateStore
    retrieval: Retrieval
    backend: Backend
    catalogue: Catalogue
    limits: Limits
    clock: Clock = wall_clock


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended: the Response object, and the error behind it when it failed."""

    response: JsonObject
    error: RegateError | None


async def run(request: ResponseRequest, *, context: Context, response_id: ResponseId, ports: LoopPorts, emit: EmitEvent) -> Outcome:
    """Return how the response ended, after sending every event to `emit`.

    Raises the refusal when nothing was begun (no event was emitted and nothing sent to a backend that it accepted), and
    `asyncio.CancelledError` after storing what there was when the client has left.
    """
    driver = _Driver(context, ports, emit)
    started = Requested(request, response_id, context.principal.tenant, context.principal.id)
    try:
        driver.step(started)
        await driver.drain()
    except asyncio.CancelledError:
        await driver.leave()
        raise
    return driver.outcome()


async def readmitted(context: Context, history: History, *, ports: LoopPorts, phase: str) -> Readmitted:
    """Return what of the history the caller may use now, every item and chunk decided again in one batch (I9)."""
    batch, keys = await _live_batch(context, history, ports)
    admitted = await ports.enforcer.admit(context, phase, batch, notes={"chunks": [key[1] for key in keys]})
    return readmit(history, admitted, keys)


class _Driver:
    def __init__(self, context: Context, ports: LoopPorts, emit: EmitEvent) -> None:
        self._context = context
        self._ports = ports
        self._emit = emit
        self._state = State(limits=ports.limits)
        self._commands: deque[Command] = deque()
        self._stores: Mapping[StoreId, OpenStore] = {}
        self._refusal: RegateError | None = None
        self._finish: Finish | None = None

    def step(self, event: Event) -> None:
        """Tell the machine; queue what it wants done."""
        self._state, commands = advance(self._state, event, int(self._ports.clock()))
        self._commands.extend(commands)

    async def drain(self) -> None:
        """Perform commands until none is left."""
        while self._commands:
            command = self._commands.popleft()
            try:
                await self._perform(command)
            except RegateError as error:
                if detail := getattr(error, "detail", ""):
                    _log.warning("command_failed", extra={"command": type(command).__name__, "code": error.code, "detail": detail})
                self.step(Failed(error))

    async def leave(self) -> None:
        """Store what there was; the client is gone, so nothing is sent."""
        self._commands.clear()
        self._emit = _unheard
        self.step(ClientLeft())
        try:
            async with asyncio.timeout(_LAST_WORDS_SECONDS):
                await self.drain()
        except TimeoutError:
            _log.error("response_not_stored", extra={"request_id": self._context.request_id})

    def outcome(self) -> Outcome:
        """Return how it ended; raises the refusal."""
        if self._refusal is not None:
            raise self._refusal
        assert self._finish is not None  # noqa: S101 — INVARIANT: the machine's last command is Finish or Refuse
        return Outcome(self._finish.response, self._finish.error)

    async def _perform(self, command: Command) -> None:
        match command:
            case Emit(event):
                await self._emit(event)
            case CallModel():
                await self._call_model(command)
            case Recall(response):
                self.step(await self._recall(response))
            case AuthorizeTurn(request, turns):
                self.step(await self._authorize(request, turns))
            case DecideTool():
                self.step(await self._decide_tool(command))
            case RunSearch():
                self.step(await self._search(command))
            case Save(row):
                await self._save(row)
                self.step(Saved())
            case Finish():
                self._finish = command
            case Refuse(error):
                self._refusal = error
            case _:
                assert_never(command)

    async def _call_model(self, command: CallModel) -> None:
        last: Event = ModelFailed(UpstreamError("The backend's stream ended without a finish reason."))
        async with self._ports.backend.chat(command.upstream, command.payload) as events:
            self.step(ModelOpened())
            await self.drain()
            if self._state.phase is not Phase.WRITING:
                return
            async for event in events:
                if isinstance(event, ModelEnded | ModelFailed):
                    last = event
                    break
                self.step(event)
                await self.drain()
        # The connection is closed before anything that follows, so that no upstream slot is held while a tool runs.
        self.step(last)

    async def _recall(self, response: ResponseId) -> Recalled:
        turns = await self._ports.state.chain(self._context.principal, response)
        if not turns:
            raise NotFound(
                f"Previous response with id '{response}' not found.", param="previous_response_id", code="previous_response_not_found"
            )
        return Recalled(tuple(turns))

    async def _authorize(self, request: ResponseRequest, turns: tuple[ResponseRow, ...]) -> TurnAuthorized:
        """Decide everything that a turn needs before a token is spent, in one record: route and model, stores, history, tool outputs."""
        context, ports = self._context, self._ports
        ids = () if request.file_search is None else request.file_search.store_ids
        present = await ports.retrieval.candidates_to_open(context, ids)
        history = history_of(turns)
        batch, keys = await _live_batch(context, history, ports)
        asked: dict[str, JsonObject] = {store: present[store].view if store in present else {"id": ""} for store in ids}
        results: list[JsonObject] = [
            {"tool": _client_tool(), "result": {"mime": "text/plain", "size": len(output_text(item["output"]).encode()), "labels": []}}
            for item in request.items
            if item["type"] == "function_call_output"
        ]
        batch = replace(batch, stores={**batch.stores, **asked}, tool_results=results)
        route = Question(Point.ROUTE, "route.call", {"request": _route(request)}, about=request.model)
        (decision,), admitted = await ports.enforcer.settle(context, "turn", [route], batch=batch)
        upstream = None if isinstance(decision, Deny) else await ports.catalogue.upstream_for(request.model)
        if upstream is None or isinstance(decision, Deny):
            raise NotFound(
                f"The model '{request.model}' does not exist or you do not have access to it.", param="model", code="model_not_found"
            )
        stores = opened(ids, present, admitted.stores, param="tools")
        self._stores = {store.row.id: store for store in stores}
        if len(admitted.tool_results) < len(results):
            raise NotPermitted("The policy does not admit a function call output of this request.", param="input")
        left = readmit(history, admitted, keys)
        await self._check_own(turns, left, history, admitted.items)
        return TurnAuthorized(
            upstream, admitted.revision or decision.revision, tuple(prompt_items(left, left.refs)), tuple(left.refs.values())
        )

    async def _check_own(self, turns: Sequence[ResponseRow], left: Readmitted, history: History, items: frozenset[int]) -> None:
        """Refuse a chain that the caller may not continue, and one from which something is withheld where the policy says `refuse`."""
        if turns and history.items and not items:
            # Not one item may be reused: to this caller the chain does not exist.
            raise NotFound(
                f"Previous response with id '{turns[-1].id}' not found.", param="previous_response_id", code="previous_response_not_found"
            )
        if left.withheld == 0:
            return
        on_deny = await self._ports.enforcer.value(self._context, "regate/history/on_deny", "history.reuse", {"item": turns[-1].view()})
        await self._ports.enforcer.record(
            self._context, "history.withheld", {"kind": "withheld", "count": left.withheld, "on_deny": on_deny}
        )
        if on_deny != "redact":
            raise NotPermitted(
                "The policy does not permit continuing this conversation: part of it is no longer available to you.",
                param="previous_response_id",
            )

    async def _decide_tool(self, command: DecideTool) -> ToolDecided:
        tool: JsonObject = {
            "type": "file_search",
            "server_label": "",
            "name": command.name,
            "arguments": command.arguments,
            "side_effect": False,
        }
        resource: JsonObject = {"tool": tool, "turn": {"index": command.round, "calls_so_far": command.calls_so_far}}
        decision = await self._ports.enforcer.decide(self._context, Question(Point.TOOL, "tool.call", resource, about=command.name))
        return ToolDecided(command.call_id, allowed=not isinstance(decision, Deny))

    async def _search(self, command: RunSearch) -> Searched:
        """Search the stores that the turn opened, then decide whether the result as a whole may enter the context."""
        search = Search((command.query,), command.tool.narrowing, command.tool.limit, command.tool.threshold)
        hits = await self._ports.retrieval.search(self._context, list(self._stores.values()), search)
        labels = {label for hit in hits for label in cast("Sequence[str]", hit.candidate.stamp.get("labels", ()))}
        result: JsonObject = {
            "mime": "text/plain",
            "size": sum(len(hit.candidate.text.encode()) for hit in hits),
            "labels": sorted(labels),
        }
        tool: JsonObject = {"type": "file_search", "server_label": "", "name": "file_search", "arguments": {}, "side_effect": False}
        question = Question(Point.TOOL_RESULT, "tool.result", {"tool": tool, "result": result}, about="file_search")
        decision = await self._ports.enforcer.decide(self._context, question)
        admitted = not isinstance(decision, Deny)
        return Searched(command.call_id, tuple(_passage(hit) for hit in hits) if admitted else (), admitted)

    async def _save(self, row: ResponseRow) -> None:
        # A save that has begun is finished even when the client leaves in the middle of it.
        saving = asyncio.ensure_future(self._ports.state.save_response(row))  # noqa: TID251 — awaited below in every case
        try:
            await asyncio.shield(saving)
        except asyncio.CancelledError:
            await saving
            raise


async def _live_batch(context: Context, history: History, ports: LoopPorts) -> tuple[Batch, list[ChunkKey]]:
    """Return the batch that decides a history on what is true now: which files are still attached, and with which stamps."""
    live = await ports.state.live(context.principal, history.pairs) if history.pairs else {}
    stores = await ports.retrieval.candidates_to_open(context, list(dict.fromkeys(store for store, _ in history.pairs)))
    return batch_of(history, live, {store: opened_store.view for store, opened_store in stores.items()})


def _route(request: ResponseRequest) -> JsonObject:
    return {
        "method": "POST",
        "path": "/v1/responses",
        "model": request.model,
        "stream": request.stream,
        "tool_types": list(request.tool_types),
    }


def _client_tool() -> JsonObject:
    return {"type": "function", "server_label": "", "name": "", "arguments": {}, "side_effect": False}


def _passage(hit: Hit) -> Passage:
    return Passage(hit.ref, hit.filename, hit.candidate.text, hit.candidate.score, hit_attributes(hit))


async def _unheard(event: JsonObject) -> None:
    """Send an event to nobody."""
