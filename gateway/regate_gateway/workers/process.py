"""One worker as its supervisor has it: a process, the line to it, and the figures that it told last."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import socket
import sys
from typing import Any, Final, Self

from regate_gateway.telemetry.exposition import Figure, Figures
from regate_gateway.workers.line import Line, Message

_PROGRAM: Final = ("-m", "regate_gateway.workers.worker")
_FIGURES_SECONDS: Final = 2.0


class WorkerProcess:
    """A worker that was started; `run` until it has ended."""

    def __init__(self, number: int, process: asyncio.subprocess.Process, line: Line) -> None:
        self.number = number
        self.figures: Figures = ()
        """What it counted when it was asked last."""
        self._process = process
        self._line = line
        self._questions = itertools.count()
        self._asked: dict[int, asyncio.Future[Figures]] = {}

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

    @property
    def pid(self) -> int:
        """Return its process id."""
        return self._process.pid

    def send(self, kind: str, **said: Any) -> None:
        """Tell it this."""
        self._line.send(kind, **said)

    def signal(self, number: int) -> None:
        """Send it a signal, if it runs."""
        if self._process.returncode is None:
            os.kill(self._process.pid, number)

    async def next_message(self) -> Message | None:
        """Return what it says next; None once it says nothing more. Its figures go to who asked for them."""
        async for message in self._line.messages():
            if message["kind"] != "figures":
                return message
            self.figures = tuple(map(Figure.of_document, message["figures"]))
            answer = self._asked.get(message["question"])
            if answer is not None and not answer.done():
                answer.set_result(self.figures)
        return None

    async def ended(self) -> int:
        """Return its status once it has ended; it is killed when this is cancelled."""
        try:
            return await self._process.wait()
        except asyncio.CancelledError:
            self.signal(signal.SIGKILL)
            await self._process.wait()
            raise

    def close(self) -> None:
        """Give up the line."""
        self._line.close()

    async def figures_now(self) -> Figures:
        """Return what it counts; of one that does not say so soon, what it said last."""
        question, answer = next(self._questions), asyncio.get_running_loop().create_future()
        self._asked[question] = answer
        self.send("figures", question=question)
        try:
            async with asyncio.timeout(_FIGURES_SECONDS):
                found: Figures = await answer
        except TimeoutError:
            return self.figures
        finally:
            del self._asked[question]
        return found
