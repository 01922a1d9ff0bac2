"""Background responses: runs that own themselves. A connection only follows a run's log, and leaving ends
nothing but the following.

Every event of a run is in its log: in memory while it runs, and in the state store where the client may come
back for the stream. Polling reads the row, cancelling ends the run and stores it as cancelled, and a run that
the gateway's own end interrupts is stored as failed.

A run goes on at one gateway. Another that is asked to cancel it says so in the state store, and tells a
notice: the one that has it looks there then, or every second where no notices come. One that is asked to
follow it reads the stored log, a second behind at most, when a notice says that there is more of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from regate_orchestrator.errors import GatewayStopped, RegateError
from regate_orchestrator.lineage import NOTHING_READ, Lineage
from regate_orchestrator.ports import Notices
from regate_orchestrator.principal import Principal
from regate_orchestrator.responses.driver import LoopPorts, Start, run
from regate_orchestrator.responses.events import ClientLeft, Event, Failed
from regate_orchestrator.responses.output.watching import Watches
from regate_orchestrator.rows import UNFINISHED, LoggedEvent
from regate_orchestrator.values import JsonObject, ResponseId

_log = logging.getLogger("regate.background")
_WRITTEN_AT_ONCE: Final = 64
_WRITTEN_NOW: Final = ("response.queued", "response.completed", "response.incomplete", "response.failed")
"""What is stored when it happens: that there is a log, before anybody knows of the response; and how
it ended.
"""
_LOOK_SECONDS: Final = 1.0
_POLL_SECONDS: Final = 0.1
_PATIENCE_SECONDS: Final = 10.0
"""How long another gateway is waited for to end its run: ten looks of that gateway, or a look and a slow last
save.
"""
_SAFETY_LOOKS: Final = 5
"""After how many seconds it is looked where notices come, in case that one was lost."""


@dataclass(frozen=True, slots=True)
class Heard:
    """An event of a run, and what of ours the model had read when it happened: whoever joins later may
    be told it only if that passes the gate.
    """

    event: JsonObject
    lineage: Lineage


class BackgroundRuns:
    """The background responses of this process. `work` must run for as long as any may be started."""

    def __init__(self, ports: LoopPorts, notices: Notices, *, most: int) -> None:
        self._ports = ports
        self._notices = notices
        self._asked = asyncio.Event()
        self.watches = Watches(notices)
        notices.subscribe("cancel", self._hear_cancel)
        self._slots = asyncio.Semaphore(most)
        self._runs: dict[ResponseId, _Run] = {}
        self._group: asyncio.TaskGroup | None = None
        self._begun = asyncio.Event()
        self._unlooked = 0

    async def work(self) -> None:
        """Hold the runs until cancelled, which ends them all as failed."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            try:
                while True:
                    await self._begun.wait()
                    await self._look()
                    for begun in tuple(self._runs.values()):
                        await begun.write()
            finally:
                self._group = None

    async def _look(self) -> None:
        """Wait a second, or until somebody wants a run of this gateway cancelled, and see whether."""
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                await self._asked.wait()
        except TimeoutError:
            self._unlooked += 1
            if self._notices.is_shared and self._unlooked < _SAFETY_LOOKS:
                return
        self._asked.clear()
        self._unlooked = 0
        await self._heed()

    def _hear_cancel(self, response: str) -> None:
        if not response or ResponseId(response) in self._runs:
            self._asked.set()

    async def start(self, start: Start) -> JsonObject:
        """Return the queued Response, stored, after which the run goes on by itself. Raises the refusal."""
        if self._group is None:
            raise GatewayStopped
        begun = _Run(start, self._ports, self._slots, self._notices)
        self._runs[start.response_id] = begun
        self._begun.set()
        begun.task = self._group.create_task(self._perform(begun))
        return await asyncio.shield(begun.queued)

    def follow(self, response: ResponseId, *, after: int) -> AsyncIterator[Heard] | None:
        """Return the events of a run that goes on, from the one after this number to the last; None
        when no such run does.
        """
        found = self._runs.get(response)
        return None if found is None else found.follow(after)

    async def cancel(self, principal: Principal, response: ResponseId) -> None:
        """End the run, wherever it goes on: when this returns it is stored as cancelled, or as it ended just
        before.

        Only where another gateway has it and is too slow, it may end as cancelled later.
        """
        found = self._runs.get(response)
        if found is not None and found.task is not None:
            found.cancel()
            await asyncio.wait({found.task})
        elif await self._ports.state.responses.request_cancel(principal, response):
            self._notices.tell("cancel", response)
            await self._until_ended(principal, response)

    async def _until_ended(self, principal: Principal, response: ResponseId) -> None:
        """Wait until another gateway has ended its run, not for ever."""
        give_up = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
        with self.watches.of(response) as watch:
            while await self._ports.state.responses.status(principal, response) in UNFINISHED:
                if asyncio.get_running_loop().time() >= give_up:
                    return
                await watch.wait(poll_s=_POLL_SECONDS)

    async def _heed(self) -> None:
        """Cancel the runs that other gateways were asked to cancel."""
        try:
            asked = await self._ports.state.responses.cancel_requests()
        except RegateError as error:
            _log.warning("cancel_requests_not_read", extra={"cause": getattr(error, "detail", "")})
            return
        for response in asked:
            if (found := self._runs.get(response)) is not None:
                found.cancel()

    async def _perform(self, begun: _Run) -> None:
        try:
            await begun.perform()
        finally:
            self._notices.tell("events", begun.response)
            del self._runs[begun.response]
            if not self._runs:
                self._begun.clear()


class _Run:
    """One background response: its log, who waits for it, and how it is ended."""

    def __init__(self, start: Start, ports: LoopPorts, slots: asyncio.Semaphore, notices: Notices) -> None:
        self._notices = notices
        self.response = start.response_id
        self.queued: asyncio.Future[JsonObject] = asyncio.get_running_loop().create_future()
        self.queued.add_done_callback(
            lambda future: future.cancelled() or future.exception()
        )  # whoever started the run may have left
        self.task: asyncio.Task[None] | None = None
        self.cancelled = False
        self._start = replace(start, left=self._left, reads=self._read)
        self._ports = ports
        self._slots = slots
        self._holds_slot = False
        self._lineage = NOTHING_READ
        self._logged = NOTHING_READ
        """What the stored log says that was read."""
        self._log: list[Heard] = []
        self._unwritten: list[Heard] = []
        self._writing = asyncio.Lock()
        self._ended = False
        self._news = asyncio.Event()

    def cancel(self) -> None:
        """Begin to end the run as cancelled. Whoever asks again does not disturb its last words."""
        if self.task is not None and not self.cancelled:
            self.cancelled = True
            self.task.cancel()

    async def perform(self) -> None:
        """Run to the end. Raises nothing but cancellation: a refusal goes to whoever started the run,
        a failure into the Response.
        """
        try:
            await run(self._start, ports=self._ports, emit=self._hear)
        except RegateError as refusal:
            self._tell(refusal)
        # One run must not end the others, which share its task group
        except Exception as error:  # noqa: BLE001
            _log.exception("background_run_broke", extra={"response": self.response})
            self._tell(error)
        finally:
            self._ended = True
            if self._holds_slot:
                self._slots.release()
            if not self.queued.done():
                self.queued.cancel()
            self._announce()

    async def follow(self, after: int) -> AsyncIterator[Heard]:
        """Yield the events after this number as they come, to the last."""
        position = after + 1  # an event's number is its place in the log
        while True:
            news = self._news
            while position < len(self._log):
                yield self._log[position]
                position += 1
            if self._ended:
                return
            await news.wait()

    def _left(self) -> Event:
        return ClientLeft() if self.cancelled else Failed(GatewayStopped())

    def _read(self, lineage: Lineage) -> None:
        self._lineage = lineage

    async def _hear(self, event: JsonObject) -> None:
        heard = Heard(event, self._lineage)
        self._log.append(heard)
        self._announce()
        if self._start.request.stream:
            self._unwritten.append(heard)
            # What a cancelled run still says comes before its last save, after which nobody waits for more.
            if event["type"] in _WRITTEN_NOW or len(self._unwritten) >= _WRITTEN_AT_ONCE or self.cancelled:
                await self.write()
        if event["type"] == "response.queued":
            self.queued.set_result(_response(event))
            await self._slots.acquire()
            self._holds_slot = True

    async def write(self) -> None:
        """Store what is not yet stored. A failure is no reason to end the run: its last save, which
        must succeed, will tell.
        """
        async with self._writing:
            if not self._unwritten:
                return
            # What has begun is finished, whoever is cancelled meanwhile: half-known events could not be
            # stored again, nor what follows them. Awaited below in every case
            writing = asyncio.ensure_future(self._append(tuple(self._unwritten)))  # noqa: TID251
            try:
                await asyncio.shield(writing)
            except asyncio.CancelledError:
                await writing
                raise

    async def _append(self, events: Sequence[Heard]) -> None:
        entries: list[LoggedEvent] = []
        logged = self._logged
        for heard in events:
            entries.append(LoggedEvent(heard.event, heard.lineage.since(logged)))
            logged = heard.lineage
        try:
            await self._ports.state.events.append(self._start.context.principal, self.response, entries)
            self._logged = logged
            del self._unwritten[: len(events)]
            self._notices.tell("events", self.response)
        except RegateError as error:
            _log.warning("events_not_stored", extra={"response": self.response, "cause": error.message})

    def _tell(self, error: Exception) -> None:
        if not self.queued.done():
            self.queued.set_exception(error)

    def _announce(self) -> None:
        news, self._news = self._news, asyncio.Event()
        news.set()


def _response(event: JsonObject) -> JsonObject:
    response = event["response"]
    # INVARIANT: the machine's lifecycle events carry the Response
    assert isinstance(response, dict)  # noqa: S101
    return response


def numbered_after(events: Sequence[JsonObject], after: int) -> list[JsonObject]:
    """Return the events whose number is greater."""
    return [
        event for event in events if isinstance(number := event["sequence_number"], int) and number > after
    ]
