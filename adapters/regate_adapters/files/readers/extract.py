"""The `Extractor`: each file is read by a process of its own, bounded in memory, processor time, wall-clock
time and output, and confined.

The processes are forked by one that is warm (`fork_server.py`, the counterpart); `server_process.py` talks to
it. Here it is decided who is read when: turns do not wait for ingestion, and within either tenants take
turns.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Any, Final, Self

from regate_adapters.files.blobs.local import in_thread
from regate_adapters.files.readers.server_process import Ended, ServerProcess
from regate_adapters.files.readers.version import reading_version
from regate_orchestrator.errors import ExtractionUnavailable
from regate_orchestrator.places import Places
from regate_orchestrator.ports import UnreadableFile
from regate_orchestrator.rows import Sections

_log = logging.getLogger("regate.files")

WORKER: Final = ("-m", "regate_adapters.files.readers.worker")
AT_ONCE: Final = 4
"""How many files of turns, and beside them of ingestion, are read at a time."""
_INGESTION_IS_NICER: Final = 10
_MAX_MESSAGE: Final = 2_000


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one file may take."""

    wall_s: float = 300.0
    """Longer, the machine is too slow, not the file too long: it may be read again later."""
    cpu_s: int = 60
    memory_bytes: int = 1024 * 1024 * 1024
    output_bytes: int = 64 * 1024 * 1024


class WorkerExtractor:
    """Takes the text out of files. Leaving the context kills what still runs. `program` is what Python
    runs as the server.
    """

    def __init__(
        self,
        *,
        limits: WorkerLimits = WorkerLimits(),
        at_once: int = AT_ONCE,
        program: Sequence[str] = WORKER,
    ) -> None:
        self._limits = limits
        self._turns = Places(at_once)
        self._ingestion = Places(at_once)
        self._program = program
        self._server: ServerProcess | None = None
        self._starting = asyncio.Lock()

    async def __aenter__(self) -> Self:
        try:
            await self._running()
        except ExtractionUnavailable as error:  # whoever wants a file read tries again, and is told
            _log.error("readers_not_started", extra={"cause": error.detail})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            await self._server.end()

    @property
    def version(self) -> str:
        """Return what decides what is read. See `ports.Extractor.version`."""
        return f"{reading_version()} {self._limits}"

    async def chunks(
        self,
        local: AbstractAsyncContextManager[Path],
        *,
        filename: str,
        tenant: str,
        max_tokens: int,
        overlap_tokens: int,
        sections: Sections | None = None,
    ) -> list[str]:
        """Return the file's text in chunks. See `ports.Extractor.chunks`."""
        request = {
            "filename": filename,
            "split": {"max_tokens": max_tokens, "overlap_tokens": overlap_tokens},
            "sections": None
            if sections is None
            else {"kind": sections.kind, "max_tokens": sections.max_tokens},
            "nice": _INGESTION_IS_NICER,
        }
        async with self._ingestion.in_turn(tenant):
            return await self._read(local, request)

    async def text(
        self, source: AbstractAsyncContextManager[Path] | bytes, *, filename: str, tenant: str
    ) -> str:
        """Return the whole text. See `ports.Extractor.text`."""
        async with self._turns.in_turn(tenant):
            return "".join(await self._read(source, {"filename": filename, "split": None, "nice": 0}))

    async def _read(
        self, source: AbstractAsyncContextManager[Path] | bytes, request: dict[str, Any]
    ) -> list[str]:
        bounds = {"cpu_s": self._limits.cpu_s, "memory_bytes": self._limits.memory_bytes}
        server = await self._running()
        async with AsyncExitStack() as stack:
            if isinstance(source, bytes):
                file = await in_thread(lambda: _in_memory(source))
            else:
                path = await stack.enter_async_context(source)
                file = await in_thread(lambda: _opened(path))
            try:
                answer = await server.ask(
                    {**request, **bounds}, file, most=self._limits.output_bytes, within_s=self._limits.wall_s
                )
            finally:
                os.close(file)
        return _chunks(answer)

    async def _running(self) -> ServerProcess:
        """Return the server, started if there is none or it ended. The log says once of each what
        holds the processes that read.
        """
        async with self._starting:
            if self._server is not None and self._server.has_failed:
                await self._server.end()
                self._server = None
            if self._server is None:
                self._server = await ServerProcess.start(self._program)
                held = self._server.confinement
                level = logging.WARNING if held["lacking"] else logging.INFO
                _log.log(
                    level,
                    "readers_confined",
                    extra={"in_force": held["in_force"], "lacking": held["lacking"]},
                )
            return self._server


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise UnreadableFile("invalid_file", "The file was deleted.") from None


def _in_memory(data: bytes) -> int:
    """Return a file, without a name, that holds the data."""
    with os.fdopen(os.memfd_create("inline"), "wb") if sys.platform == "linux" else TemporaryFile() as file:
        file.write(data)
        file.seek(0)
        return os.dup(file.fileno())


def _chunks(ended: Ended) -> list[str]:
    """Return the chunks of a whole answer. Raises for a reader that did not give one, by how it ended."""
    if ended.code == 0:
        return _parsed(ended.output)
    if ended.code == -signal.SIGXCPU:
        raise UnreadableFile("invalid_file", "The file takes more processor time to read than is allowed.")
    if ended.code == -signal.SIGKILL:  # not by us: the machine is short of memory
        raise ExtractionUnavailable("a reader was killed")
    raise UnreadableFile("invalid_file", "The file is damaged, or takes more memory to read than is allowed.")


def _parsed(output: bytes) -> list[str]:
    """Return the chunks of an answer. A reader that a file has taken over may answer anything, hence
    the checks.
    """
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError):
        answer = None
    match answer:
        case {"chunks": [*chunks]} if chunks and all(isinstance(chunk, str) for chunk in chunks):
            return [chunk.encode(errors="replace").decode() for chunk in chunks]
        case {"code": "invalid_file" | "unsupported_file" as code, "message": str(message)}:
            raise UnreadableFile(code, message[:_MAX_MESSAGE])
        case _:
            raise UnreadableFile("invalid_file", "The file could not be read.")
