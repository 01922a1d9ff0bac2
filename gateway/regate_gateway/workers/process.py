"""One worker as its supervisor has it: a process, the line to it, and the figures that it told last."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from typing import Any, Final, Self

from regate_gateway.telemetry.exposition import Figure, Figures
from regate_gateway.workers.line import Line

_PROGRAM: Final = ("-m", "regate_gateway.workers.worker")
_FIGURES_SECONDS: Final = 2.0


class WorkerProcess:
    """A worker that was started. Its line must be read until it has ended."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, line: Line) -> None:
        self.number = number
        self.figures: Figures = ()
        """What it counted when it was asked last."""
        self.line = line
        self._process = process

    @classmethod
    async def start(cls, number: int, handed: Any) -> Self:
        """Return a worker; `handed` is the JSON that it is told. It has a session of its own, so that the
        signals of a terminal reach the supervisor alone.
        """
        ours, its = socket.socketpair()
        with its:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, *_PROGRAM, str(its.fileno())),
                stdin=asyncio.subprocess.PIPE,
                pass_fds=(its.fileno(),),
                start_new_session=True,
            )
        assert process.stdin is not None  # noqa: S101 — INVARIANT: it is a pipe
        process.stdin.write(json.dumps(handed).encode())
        process.stdin.close()
        return cls(number, process, await Line.over(ours))

    def signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self._process.returncode is None:
            with suppress(ProcessLookupError):  # it has ended, and its end is on its way to us
                os.kill(self._process.pid, number)

    async def ended(self) -> int:
        """Return its status once it has ended; it is killed when this is cancelled."""
        try:
            return await self._process.wait()
        except asyncio.CancelledError:
            self.signal(signal.SIGKILL)
            await self._process.wait()
            raise

    async def figures_now(self) -> Figures:
        """Return what it counts; of one that does not say so soon, what it said last."""
        answer = self.line.ask("figures")
        answer.add_done_callback(self._note_figures)
        await asyncio.wait([answer], timeout=_FIGURES_SECONDS)
        return self.figures

    def _note_figures(self, answer: asyncio.Future[Any]) -> None:
        self.figures = tuple(map(Figure.of_document, answer.result()))
