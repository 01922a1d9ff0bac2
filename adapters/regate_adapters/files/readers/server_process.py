"""The process that forks readers, as the gateway sees it: started, asked, ended. What it does is in
`fork_server.py`, the counterpart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, Process
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from regate_adapters.files.readers.fork_server import ENDED, LENGTH, NOT_STARTED
from regate_orchestrator.errors import ExtractionUnavailable
from regate_orchestrator.ports import UnreadableFile

_SOURCES: Final = Path(__file__).resolve().parents[2]
_ENVIRONMENT: Final = {
    "PYTHONPATH": str(_SOURCES),
    "PYTHONDONTWRITEBYTECODE": "1",
    "LC_ALL": "C.UTF-8",
    "RAYON_NUM_THREADS": "1",  # a process with threads cannot be forked
    # Memory in large pages is shared with a child in half the time
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
_START_SECONDS: Final = 60.0
_DEATH_SECONDS: Final = 30.0
_PIECE: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Ended:
    """A reader that ended: its exit code, or the signal's number, negative; and what it had answered."""

    code: int
    output: bytes


class ServerProcess:
    """A running server. `confinement` is what it says of the processes that it forks: `in_force` and
    `lacking`.
    """

    def __init__(self, process: Process, control: socket.socket, confinement: dict[str, Any]) -> None:
        self.confinement = confinement
        self.has_failed = False
        """Whether another must take its place."""
        self._process = process
        self._control = control

    @classmethod
    async def start(cls, program: Sequence[str]) -> Self:
        """Return a server that is ready. Raises `ExtractionUnavailable` when it does not start."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            with theirs:
                # A session of its own, so that all its children can be ended with it. Their errors may quote
                # a file: they are not kept.
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-P", *program, str(theirs.fileno())),
                    stdin=DEVNULL,
                    stdout=DEVNULL,
                    stderr=DEVNULL,
                    env=_ENVIRONMENT,
                    pass_fds=(theirs.fileno(),),
                    start_new_session=True,
                )
        except OSError as error:
            ours.close()
            raise ExtractionUnavailable(f"the readers' process does not start: {error}") from error
        started = cls(process, ours, {})
        try:
            async with asyncio.timeout(_START_SECONDS):
                (length,) = LENGTH.unpack(await _exactly(ours, LENGTH.size))
                started.confinement = json.loads(await _exactly(ours, length))
        except (TimeoutError, OSError) as error:
            await started.end()
            raise ExtractionUnavailable("the readers' process does not start") from error
        except BaseException:
            await started.end()
            raise
        return started

    async def end(self) -> None:
        """Kill it and its children."""
        self._control.close()
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def ask(self, request: dict[str, Any], file: int, *, most: int, within_s: float) -> Ended:
        """Return what a reader made of the open file; it is dead by then, also when this is cancelled.

        Raises `UnreadableFile` when it answers more than `most` bytes, `ExtractionUnavailable` when it takes
        longer than `within_s`, or when the server fails.
        """
        with _pair() as (output, sink), _pair() as (life, their_life):
            self._send(request, (file, sink.fileno(), their_life.fileno()))
            sink.close()
            their_life.close()
            try:
                async with asyncio.timeout(within_s):
                    answered = await _all(output, most=most)
            except TimeoutError as error:
                raise ExtractionUnavailable("a reader took longer than its deadline") from error
            finally:
                code = await _end(life)
                self.has_failed |= code is None
        if code is None or code == NOT_STARTED:
            raise ExtractionUnavailable("the readers' process failed")
        return Ended(code, answered)

    def _send(self, request: dict[str, Any], descriptors: Sequence[int]) -> None:
        data = json.dumps(request).encode()
        try:
            sent = socket.send_fds(self._control, [LENGTH.pack(len(data)) + data], descriptors)
        except OSError as error:
            self.has_failed = True
            raise ExtractionUnavailable(f"the readers' process takes no requests: {error}") from error
        if sent != LENGTH.size + len(data):  # what comes after half a request could not be told from its rest
            self.has_failed = True
            raise ExtractionUnavailable("the readers' process takes no requests")


@contextmanager
def _pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def _all(output: socket.socket, *, most: int) -> bytes:
    loop = asyncio.get_running_loop()
    answered = bytearray()
    while piece := await loop.sock_recv(output, _PIECE):
        answered += piece
        if len(answered) > most:
            raise UnreadableFile("invalid_file", "The file holds more text than is allowed.")
    return bytes(answered)


async def _exactly(control: socket.socket, length: int) -> bytes:
    loop = asyncio.get_running_loop()
    received = b""
    while len(received) < length:
        piece = await loop.sock_recv(control, length - len(received))
        if not piece:
            raise ConnectionResetError
        received += piece
    return received


async def _end(life: socket.socket) -> int | None:
    """Have the child killed if it lives, and return how it ended, once it has; None when nobody can say."""
    try:
        life.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(_DEATH_SECONDS):
            said = await asyncio.get_running_loop().sock_recv(life, ENDED.size)
    except (TimeoutError, OSError):
        return None
    return ENDED.unpack(said)[0] if len(said) == ENDED.size else None
