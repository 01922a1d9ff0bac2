"""The `Extractor`: a fresh process for each file, bounded in memory, processor time, wall-clock time and output, and killed when unwanted.

A fresh process was measured at 0.1 s for a small text, of which most is loading the tokenizer; so none is kept warm, and nothing of one
tenant's file can be there when another's is read. The child gets no environment of ours, hence no secret. `worker.py` is the counterpart.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from regate_orchestrator.errors import StateUnavailable
from regate_orchestrator.ports import UnreadableFile

_WORKER: Final = "regate_adapters.files.worker"
_SOURCES: Final = Path(__file__).resolve().parents[2]
_MOST_OUTPUT: Final = 64 * 1024 * 1024
_PIECE: Final = 64 * 1024
_LONGEST_MESSAGE: Final = 300


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """What one file may take."""

    wall_s: float = 90.0
    cpu_s: int = 60
    memory_bytes: int = 1024 * 1024 * 1024
    output_bytes: int = _MOST_OUTPUT


class WorkerExtractor:
    """Takes the text out of files, two at a time. Leaving the context kills what still runs."""

    def __init__(self, *, limits: WorkerLimits | None = None, concurrency: int = 2) -> None:
        self._limits = limits or WorkerLimits()
        self._places = asyncio.Semaphore(concurrency)
        self._running: set[Process] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for process in self._running:
            _kill(process)

    async def chunks(self, path: Path, *, filename: str, max_tokens: int, overlap_tokens: int) -> list[str]:
        """Return the file's text in chunks. Raises `UnreadableFile`, also for a file whose reading was ended by a limit."""
        split = {"max_tokens": max_tokens, "overlap_tokens": overlap_tokens}
        return await self._ask({"path": str(path), "filename": filename, "split": split}, b"")

    async def text(self, source: Path | bytes, *, filename: str) -> str:
        """Return the whole text. Raises `UnreadableFile`, also for a file whose reading was ended by a limit."""
        place, inline = (None, source) if isinstance(source, bytes) else (str(source), b"")
        return "".join(await self._ask({"path": place, "filename": filename, "split": None}, inline))

    async def _ask(self, request: dict[str, Any], inline: bytes) -> list[str]:
        head = json.dumps({**request, "cpu_s": self._limits.cpu_s, "memory_bytes": self._limits.memory_bytes}).encode()
        async with self._places:
            output = await self._answer(head + b"\n", inline)
        return _read(output)

    async def _answer(self, head: bytes, inline: bytes) -> bytes:
        process = await _start()
        self._running.add(process)
        try:
            async with asyncio.timeout(self._limits.wall_s):
                return await _talk(process, (head, inline), most=self._limits.output_bytes)
        except TimeoutError as error:
            raise UnreadableFile("invalid_file", "The file takes longer to read than is allowed.") from error
        finally:
            _kill(process)
            self._running.discard(process)
            await process.wait()


async def _start() -> Process:
    environment = {"PYTHONPATH": str(_SOURCES), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8", "RAYON_NUM_THREADS": "1"}
    try:
        # A session of its own, so that whatever a parser may start dies with it. Its errors may quote the file: they are not kept.
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", _WORKER), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env=environment, start_new_session=True
        )
    except OSError as error:
        raise StateUnavailable(f"files: the extraction worker does not start: {error}") from error


async def _talk(process: Process, request: Iterable[bytes], *, most: int) -> bytes:
    assert process.stdin is not None  # noqa: S101 — INVARIANT: both are pipes
    assert process.stdout is not None  # noqa: S101
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it ended early; its output says why
        process.stdin.writelines(request)
        await process.stdin.drain()
        process.stdin.close()
    output = bytearray()
    while piece := await process.stdout.read(_PIECE):
        output += piece
        if len(output) > most:
            raise UnreadableFile("invalid_file", "The file holds more text than is allowed.")
    return bytes(output)


def _read(output: bytes) -> list[str]:
    """Return the chunks of a whole answer. No answer means that the processor or memory limit ended the worker.

    A parser that a file has taken over may answer anything, hence the checks.
    """
    try:
        answer = json.loads(output)
    except (ValueError, RecursionError) as error:
        raise UnreadableFile("invalid_file", "The file takes more time or memory to read than is allowed.") from error
    match answer:
        case {"chunks": [*chunks]} if chunks and all(isinstance(chunk, str) for chunk in chunks):
            return [chunk.encode(errors="replace").decode() for chunk in chunks]
        case {"code": "invalid_file" | "unsupported_file" as code, "message": str(message)}:
            raise UnreadableFile(code, message[:_LONGEST_MESSAGE])
        case _:
            raise UnreadableFile("invalid_file", "The file could not be read.")


def _kill(process: Process) -> None:
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
