"""A worker: a gateway on an address that others serve too, with the OPA of its supervisor. The supervisor
starts it as a program of its own (`process.py`), and hands it on standard input what it needs to know.
"""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from regate_adapters.opa.client import OpaAddress
from regate_gateway.composition.process import prepare
from regate_gateway.config.settings import Settings
from regate_gateway.telemetry.exposition import Figure, Figures, figures_of
from regate_gateway.telemetry.logs import configure_logging
from regate_gateway.workers.line import Line, Message
from regate_orchestrator.errors import ConfigurationError
from regate_orchestrator.metrics import Metrics

_log = logging.getLogger("regate.gateway")

_FIGURES_SECONDS: Final = 5.0


class WorkerSeat:
    """The worker's end, as `composition.seat.Seat`. Enter it before anything is said or heard."""

    def __init__(self, handed: Mapping[str, Any], end: socket.socket) -> None:
        self.number: int = handed["number"]
        self.of: int = handed["of"]
        opa = handed["opa"]
        self.policy = (
            None
            if opa is None
            else (
                OpaAddress(opa["url"], socket=Path(opa["socket"]), token=opa["token"]),
                Path(opa["directory"]),
            )
        )
        self.problem: str | None = handed["problem"]
        self._end = end
        self._line: Line | None = None
        self._on_change: list[Callable[[], None]] = []
        self._own: Callable[[], Awaitable[Figures]] = lambda: figures_of(Metrics())

    async def __aenter__(self) -> Self:
        """Open the line."""
        self._line = await Line.over(self._end)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._opened.close()

    def on_change(self, call: Callable[[], None]) -> None:
        """Have this called whenever OPA takes other policies, or is gone."""
        self._on_change.append(call)

    def count_with(self, own: Callable[[], Awaitable[Figures]]) -> None:
        """Take what returns this worker's own figures."""
        self._own = own

    async def figures(self) -> Figures:
        """Return the figures of all workers together. Raises `TimeoutError`."""
        async with asyncio.timeout(_FIGURES_SECONDS):
            found = await self._opened.ask("figures_of_all")
        return tuple(map(Figure.of_document, found))

    def say_serving(self, revision: str | None) -> None:
        """Tell the supervisor that requests are answered, under which policies."""
        self._opened.send("serving", revision=revision)

    async def work(self) -> None:
        """Listen to the supervisor until cancelled. Without it there is no OPA, so nothing can be answered:
        then the process is ended without waiting for what runs, and another supervisor can have its place.
        """
        line = self._opened
        async with asyncio.TaskGroup() as answers:
            async for message in line.messages():
                if message["kind"] == "figures":
                    answers.create_task(self._tell_figures(line, message))
                else:
                    self._hear(message)
            _log.error("supervisor_gone")
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    @property
    def _opened(self) -> Line:
        assert self._line is not None  # noqa: S101 — INVARIANT: it is entered before it is used
        return self._line

    def _hear(self, message: Message) -> None:
        match message["kind"]:
            case "forget":
                for call in self._on_change:
                    call()
            case "problem":
                self.problem = message["problem"]

    async def _tell_figures(self, line: Line, message: Message) -> None:
        line.answer(message, [one.document() for one in await self._own()])


def main() -> int:
    """Serve until told to end; return the exit code. The argument is the descriptor of the line."""
    handed = json.load(sys.stdin)
    settings = Settings.model_validate(handed["settings"])
    configure_logging(settings.telemetry.log_level, worker=handed["number"])
    prepare(most_connections=settings.listen.max_connections)
    end = socket.socket(fileno=int(sys.argv[1]))
    with end.dup() as last_words:  # the loop closes its own
        try:
            _serve(settings, WorkerSeat(handed, end))
        except ConfigurationError as error:
            last_words.sendall(json.dumps({"kind": "failed", "why": error.message}).encode() + b"\n")
            return 1
    return 0


def _serve(settings: Settings, seat: WorkerSeat) -> None:
    from regate_gateway.composition.wiring import gateway_app
    from regate_gateway.http.server import serve, share

    app, gateway = gateway_app(settings, seat=seat)

    async def say_serving(_: str) -> None:
        seat.say_serving(await gateway.revision())

    serve(app, settings.listen, listener=share(settings.listen), when_listening=say_serving)


if __name__ == "__main__":
    sys.exit(main())
