"""Kernels of a Jupyter server or kernel gateway, over its HTTP and WebSocket API.

Files go in and out as code does: not every such server serves files. What a kernel says of its files is the
word of the code that ran in it, and is read as such.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias
from uuid import uuid4

import orjson

from regate_adapters.code.session import Written, execute
from regate_orchestrator.errors import CallerError
from regate_orchestrator.ports import (
    CodeFailed,
    CodeFile,
    CodeOutcome,
    KernelId,
    Outgoing,
    ServiceClient,
)
from regate_orchestrator.principal import Context

_Method: TypeAlias = Literal["GET", "POST", "DELETE"]

_FAILED: Final = "The container for the code could not be reached."
_TOO_LATE: Final = "The code did not end in time. Its container was deleted."
_MAX_ANSWER: Final = 1024 * 1024
_MAX_FILES: Final = 10
_REQUEST_SECONDS: Final = 30.0
_STOP_SECONDS: Final = 3.0
_ENTER: Final = "import os, tempfile\nos.chdir(tempfile.mkdtemp(prefix='cntr_'))\n"
_PUT: Final = "import base64\nwith open({name!r}, 'wb') as f:\n    f.write(base64.b64decode({data!r}))\n"
_LIST: Final = (
    "import json, os\n"
    "print(json.dumps({e.name: [e.stat().st_size, e.stat().st_mtime_ns] for e in os.scandir('.')"
    " if e.is_file(follow_symlinks=False)}))\n"
)
_GET: Final = "import base64\nprint(base64.b64encode(open({name!r}, 'rb').read({most})).decode())\n"


@dataclass(frozen=True, slots=True)
class CodeLimits:
    """What bounds a run, and what comes out of it."""

    deadline_s: float = 60.0
    max_output: int = 64 * 1024
    """Characters of what it writes."""
    max_file_bytes: int = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class JupyterKernels:
    """Runs code in kernels of one server."""

    client: ServiceClient
    base_url: str
    key: str = field(default="", repr=False)
    kernel_name: str = ""
    limits: CodeLimits = field(default_factory=CodeLimits)

    async def start(self, context: Context, files: Mapping[str, bytes]) -> KernelId:
        """Return a new kernel; see the port (`ports/code.py`)."""
        kernel = await self._begun(context)
        try:
            puts = [
                _PUT.format(name=name, data=base64.b64encode(data).decode()) for name, data in files.items()
            ]
            cells = [(cell, _MAX_ANSWER) for cell in (_ENTER, *puts)]
            if any(one.failed for one in await self._executed(context, kernel, cells)):
                raise CodeFailed(_FAILED)
        except BaseException:
            await self.stop(context, kernel)
            raise
        return kernel

    async def run(self, context: Context, kernel: KernelId, code: str) -> CodeOutcome:
        """Return what the code came to; see the port."""
        listing = (_LIST, _MAX_ANSWER)
        cells = [listing, (code, self.limits.max_output), listing]
        before, written, after = await self._executed(context, kernel, cells)
        known, found = _listed(before.text), _listed(after.text)
        changed = [
            name
            for name, (size, _) in sorted(found.items())
            if known.get(name) != found[name] and 0 < size <= self.limits.max_file_bytes
        ][:_MAX_FILES]
        most = self.limits.max_file_bytes
        gets = [(_GET.format(name=name, most=most), 2 * most) for name in changed]
        read = await self._executed(context, kernel, gets) if gets else []
        files = [
            CodeFile(name, data)
            for name, one in zip(changed, read, strict=True)
            if (data := _decoded(one.text))
        ]
        return CodeOutcome(written.text, written.failed, tuple(written.images), tuple(files))

    async def stop(self, context: Context, kernel: KernelId) -> None:
        """Interrupt and delete the kernel; see the port."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self._send(context, "DELETE", f"/{kernel}")
        except (CallerError, TimeoutError):
            return  # the server ends kernels that are idle, if it is told to

    async def _begun(self, context: Context) -> KernelId:
        """Return a new kernel. Who is cancelled waits for it all the same: only then can it be deleted."""
        asking = asyncio.ensure_future(self._new(context))  # noqa: TID251 — awaited below in every case
        try:
            return await asyncio.shield(asking)
        except asyncio.CancelledError:
            with suppress(CodeFailed):
                await self.stop(context, await asking)
            raise

    async def _new(self, context: Context) -> KernelId:
        wanted = {"name": self.kernel_name} if self.kernel_name else {}
        answer = await self._ask(context, "POST", "", orjson.dumps(wanted))
        kernel = answer.get("id")
        if not isinstance(kernel, str) or not kernel.replace("-", "").isalnum():
            raise CodeFailed(_FAILED)
        return KernelId(kernel)

    async def _executed(
        self, context: Context, kernel: KernelId, cells: Sequence[tuple[str, int]]
    ) -> Sequence[Written]:
        """Return what each cell wrote, each with the most that it may."""
        address = f"{self._kernels}/{kernel}/channels?session_id={uuid4().hex}"
        request = Outgoing("GET", address, self._headers)
        longest = 2 * max(2 * self.limits.max_file_bytes, _MAX_ANSWER)
        opened = self.client.channel(
            context, request, "code", limit_bytes=longest, deadline_s=_REQUEST_SECONDS
        )
        try:
            async with opened as channel, asyncio.timeout(self.limits.deadline_s):
                return [await execute(channel, code, most=most) for code, most in cells]
        except CallerError as error:
            raise CodeFailed(_FAILED) from error
        except TimeoutError:
            raise CodeFailed(_TOO_LATE) from None

    async def _ask(
        self, context: Context, method: _Method, path: str, body: bytes | None = None
    ) -> Mapping[str, Any]:
        try:
            answer = orjson.loads(await self._send(context, method, path, body))
        except (CallerError, ValueError) as error:
            raise CodeFailed(_FAILED) from error
        if not isinstance(answer, Mapping):
            raise CodeFailed(_FAILED)
        return answer

    async def _send(self, context: Context, method: _Method, path: str, body: bytes | None = None) -> bytes:
        headers = {**self._headers, "Content-Type": "application/json"}
        request = Outgoing(method, f"{self._kernels}{path}", headers, body)
        found = await self.client.send(
            context, request, "code", limit_bytes=_MAX_ANSWER, deadline_s=_REQUEST_SECONDS
        )
        return found.data

    @property
    def _kernels(self) -> str:
        return f"{self.base_url}/api/kernels"

    @property
    def _headers(self) -> Mapping[str, str]:
        return {"Authorization": f"token {self.key}"} if self.key else {}


def _listed(text: str) -> dict[str, tuple[int, int]]:
    """Return the files that a kernel lists: plain names, each with its size and when it was changed."""
    try:
        listed = orjson.loads(text)
        return {
            name: (int(size), int(changed))
            for name, (size, changed) in listed.items()
            if "/" not in name and name.isprintable() and len(name) <= 200
        }
    except (ValueError, TypeError, AttributeError):
        return {}


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text.strip(), validate=True)
    except binascii.Error:
        return b""
