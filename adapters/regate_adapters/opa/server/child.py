"""A child process whose words are read and logged for as long as it lives, so that it never waits for a
reader, and are kept in part.

A protocol of the event loop rather than a task that reads: there is no moment, before, between or after
tasks, at which nobody does.
"""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Final, cast

_log = logging.getLogger("regate.opa")

_LONGEST: Final = 4096
_KEPT: Final = 500
_SILENT_SECONDS: Final = 1.0


class Child(asyncio.SubprocessProtocol):
    """A running child process; made by `start_child`."""

    def __init__(self) -> None:
        self._transport: asyncio.SubprocessTransport | None = None
        self._begun = b""
        self._first_words = self._last_words = ""
        self._ended = asyncio.Event()
        self._silent = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Return the process id while it runs."""
        return None if self._running.get_returncode() is not None else self._running.get_pid()

    @property
    def words(self) -> str:
        """Return what it wrote, in one line, warnings left out; of much the beginning and the end.
        Empty when it wrote nothing.
        """
        return "; ".join(" … ".join(filter(None, (self._first_words, self._last_words))).splitlines())

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self.pid is not None:
            self._running.kill()

    async def wait(self) -> int:
        """Return its status once it has ended and its words are logged. Nothing that it left running
        is listened to any longer.
        """
        await self._ended.wait()
        try:  # a grandchild may hold the other end of the pipe
            async with asyncio.timeout(_SILENT_SECONDS):
                await self._silent.wait()
        except TimeoutError:
            pass
        transport = self._running
        transport.close()
        return transport.get_returncode() or 0

    async def end(self, *, within_s: float) -> None:
        """Ask it to end, and end it when it has not in this time."""
        if self.pid is not None:
            self._running.terminate()
        try:
            async with asyncio.timeout(within_s):
                await self._ended.wait()
        except TimeoutError:
            self.kill()
        await self.wait()

    @property
    def _running(self) -> asyncio.SubprocessTransport:
        # INVARIANT: asyncio gives it before anybody has the child
        assert self._transport is not None  # noqa: S101
        return self._transport

    # ------------------------------------------------------------ what the event loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002 — asyncio's signature
        """Log the lines that are whole, many at once where there are many, and parts of one that is
        too long to wait for.
        """
        self._begun += data
        while cut := self._begun.rfind(b"\n", 0, _LONGEST) + 1 or (
            _LONGEST if len(self._begun) >= _LONGEST else 0
        ):
            self._say(self._begun[:cut])
            self._begun = self._begun[cut:]

    # Asyncio's signature
    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002
        """Log what it wrote last."""
        self._say(self._begun)
        self._begun = b""
        self._silent.set()

    def process_exited(self) -> None:
        """Let those know who wait."""
        self._ended.set()

    def _say(self, said: bytes) -> None:
        words = said.decode(errors="replace").strip()
        if not words:
            return
        # As root OPA warns of root at every start; whatever else it writes at its level is an error.
        harmless = all(line.startswith("{") and '"level":"warning"' in line for line in words.splitlines())
        _log.log(logging.INFO if harmless else logging.ERROR, "opa_said", extra={"words": words})
        if not harmless:
            room = max(0, _KEPT - len(self._first_words))
            self._first_words += f"\n{words}"[:room] if self._first_words else words[:room]
            self._last_words = f"{self._last_words}\n{words[room:]}".strip()[-_KEPT:]


async def start_child(command: tuple[str, ...], *, at: Path) -> Child:
    """Return the program, started in this directory without anything of our environment. Raises
    `OSError` when it cannot be.
    """
    _, child = await asyncio.get_running_loop().subprocess_exec(
        Child,
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        # OPA tells why it did not start on the one, and all else on the other
        stderr=asyncio.subprocess.STDOUT,
        env={},  # policies can read OPA's environment, and ours holds secrets
        cwd=at,
    )
    return child
