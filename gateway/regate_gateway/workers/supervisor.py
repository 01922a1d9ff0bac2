"""The supervisor of `regate serve --workers N`: it holds the address and the one OPA, starts the
workers, starts again the one that died, and ends all in order.

It serves nothing itself. What workers count is added up here (`figures_of_all`), so that a scrape of any of
them tells of all, and what a dead one counted stays counted.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, Final

from regate_gateway.composition.opening import OpenedPolicy, open_policy
from regate_gateway.config.loading import show
from regate_gateway.config.settings import Settings
from regate_gateway.http.server import LAST_WORDS_SECONDS, address_of, reserve
from regate_gateway.telemetry.exposition import Figures, figures_of, together
from regate_gateway.workers.line import Line, Message
from regate_gateway.workers.process import WorkerProcess
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.metrics import Metrics

_log = logging.getLogger("regate.gateway")

_LOOK_SECONDS: Final = 0.25
_STEADY_SECONDS: Final = 5.0
_MAX_DELAY_SECONDS: Final = 2.0
_LAST_WORD_SECONDS: Final = 1.0
_MARGIN_SECONDS: Final = 10.0
"""How much longer than it may take a worker has to end before it is killed."""

Announce = Callable[[str, str | None], None]


def supervise(settings: Settings, announce: Announce) -> None:
    """Serve with several workers until SIGINT or SIGTERM, then let running requests finish. Blocks.

    `announce` is called with the address and the revision of the policies once all workers answer. Raises
    `ConfigurationError` when the address cannot be had, or a worker does not start at first.
    """
    with reserve(settings.listen) as held:
        asyncio.run(Supervisor(settings, held, announce).run())


class WorkerMetrics:
    """What is counted of workers."""

    def __init__(self, metrics: Metrics, *, serving: Callable[[], int]) -> None:
        metrics.reading("gauge", "regate_workers", "Workers that serve.", lambda: {(): float(serving())})
        self.restarts = metrics.counter(
            "regate_worker_restarts", "Workers that died and were started again.", rows=[()]
        )


class Supervisor:
    """The workers, by their numbers, and what they share."""

    def __init__(self, settings: Settings, held: socket.socket, announce: Announce) -> None:
        listen = settings.listen.model_copy(update={"port": held.getsockname()[1]})
        self._settings = settings.model_copy(update={"listen": listen})
        self._address = address_of(held, listen)
        self._announce = announce
        self._policy: OpenedPolicy | None = None
        self._problem: str | None = None
        self._workers: dict[int, WorkerProcess] = {}
        self._serving: set[int] = set()
        self._is_announced = False
        self._ending = asyncio.Event()
        self._gone: Figures = ()
        self._metrics = Metrics()
        self._restarts = WorkerMetrics(self._metrics, serving=lambda: len(self._serving)).restarts

    async def run(self) -> None:
        """Run until it is told to end and all have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._end, number)
        async with AsyncExitStack() as stack:
            if self._settings.opa.mode == "managed":
                self._policy = await open_policy(stack, self._settings)
                self._policy.tell(self._forget)
            try:
                async with asyncio.TaskGroup() as group:
                    policy = () if self._policy is None else self._policy.workers
                    beside = [group.create_task(work()) for work in (self._tell_problem, *policy)]
                    keeping = [
                        group.create_task(self._keep(number, group))
                        for number in range(1, self._settings.listen.workers + 1)
                    ]
                    await asyncio.wait(keeping)
                    for task in beside:
                        task.cancel()
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None

    # ------------------------------------------------------------ the workers

    async def _keep(self, number: int, group: asyncio.TaskGroup) -> None:
        """Have a worker of this number until the end. Raises `ConfigurationError` when the first does not
        come to serve.
        """
        delay = 0.0
        while not self._ending.is_set():
            began = time.monotonic()
            worker = await WorkerProcess.start(number, self._handed(number))
            self._workers[number] = worker
            if self._ending.is_set():
                worker.signal(signal.SIGTERM)
            hearing = group.create_task(self._listen_to(worker, group))
            try:
                status = await worker.ended()
                why = await _soon(hearing)
            finally:
                worker.line.close()
                del self._workers[number]
                self._serving.discard(number)
            self._gone = together([self._gone, tuple(one for one in worker.figures if one.only_grows)])
            if self._ending.is_set():
                return
            if not self._is_announced:
                raise ConfigurationError(why or f"worker {number} ended while it started (status {status})")
            lived = time.monotonic() - began
            died = {"number": number, "status": status, "after_s": round(lived, 3), "cause": why}
            _log.error("worker_died", extra=died)
            self._restarts.add()
            delay = 0.0 if lived > _STEADY_SECONDS else min(max(2 * delay, 0.1), _MAX_DELAY_SECONDS)
            await self._ends_within(delay)

    async def _listen_to(self, worker: WorkerProcess, group: asyncio.TaskGroup) -> str | None:
        """Do what the worker asks for until it is gone; return why it did not start, if it says so."""
        why = None
        async for message in worker.line.messages():
            match message["kind"]:
                case "serving":
                    self._note_serving(worker.number, message)
                case "figures_of_all":
                    group.create_task(self._tell_figures(worker.line, message))
                case "failed":
                    why = str(message["why"])
        return why

    def _note_serving(self, number: int, message: Message) -> None:
        self._serving.add(number)
        if not self._is_announced and len(self._serving) == self._settings.listen.workers:
            self._is_announced = True
            self._announce(self._address, message["revision"])

    def _handed(self, number: int) -> dict[str, Any]:
        opa = None
        if self._policy is not None:
            address = self._policy.address
            opa = {
                "url": address.url,
                "socket": str(address.socket),
                "token": address.token,
                "directory": str(self._policy.directory),
            }
        return {
            "number": number,
            "of": self._settings.listen.workers,
            "opa": opa,
            "problem": self._problem,
            "settings": show(self._settings),
        }

    def _tell_all(self, kind: str, **said: Any) -> None:
        for worker in self._workers.values():
            worker.line.send(kind, **said)

    def _forget(self) -> None:
        self._tell_all("forget")

    async def _tell_problem(self) -> None:
        while self._policy is not None:
            if (problem := self._policy.problem()) != self._problem:
                self._problem = problem
                self._tell_all("problem", problem=problem)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _tell_figures(self, asker: Line, message: Message) -> None:
        """Answer with what all count, and what those counted that are gone."""
        workers = list(self._workers.values())
        each = await asyncio.gather(
            figures_of(self._metrics, of_process=False), *(worker.figures_now() for worker in workers)
        )
        found = together([self._gone, *each])
        asker.answer(message, [one.document() for one in found])

    # ------------------------------------------------------------ the end

    def _end(self, number: int) -> None:
        """Have all end in order, and at a second signal at once."""
        if not self._ending.is_set():
            self._ending.set()
            listen = self._settings.listen
            most = listen.shutdown_notice_s + listen.shutdown_grace_s + LAST_WORDS_SECONDS + _MARGIN_SECONDS
            asyncio.get_running_loop().call_later(most, partial(self._signal_all, signal.SIGKILL))
        self._signal_all(number)

    def _signal_all(self, number: int) -> None:
        for worker in self._workers.values():
            worker.signal(number)

    async def _ends_within(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ending.wait()
        except TimeoutError:
            pass


async def _soon(hearing: asyncio.Task[str | None]) -> str | None:
    """Return what was heard; None when a process that the dead one left behind holds the line open."""
    done, _ = await asyncio.wait([hearing], timeout=_LAST_WORD_SECONDS)
    hearing.cancel()
    return hearing.result() if done else None
