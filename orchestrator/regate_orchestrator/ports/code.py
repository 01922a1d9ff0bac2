"""What runs code, in places of its own outside of this process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NewType, Protocol

from regate_orchestrator.principal import Context

KernelId = NewType("KernelId", str)
"""A kernel, as the server that runs it names it."""


class CodeFailed(Exception):
    """The server did not do what it was asked. The message is plain, and holds no address or key."""


@dataclass(frozen=True, slots=True)
class CodeFile:
    """A file in a kernel's directory."""

    name: str
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CodeOutcome:
    """What running code came to. An error of the code itself is in the logs."""

    logs: str = field(repr=False)
    """What was written and what was raised, cut where it is too long."""
    failed: bool = False
    images: Sequence[bytes] = field(default=(), repr=False)
    """PNG or JPEG."""
    files: Sequence[CodeFile] = field(default=(), repr=False)
    """The files that are new or changed since, without those that are too many or too large."""


class CodeKernels(Protocol):
    """Runs code in kernels, each with a directory of its own. Proven by `tests/adapters/code`.

    Nothing may run in this process. Each connection must be decided for the caller (`regate.egress`) before
    it is made.
    """

    async def start(self, context: Context, files: Mapping[str, bytes]) -> KernelId:
        """Return a new kernel with these files, by their plain names. When it raises, or is cancelled, no
        kernel may be left. Raises `CodeFailed`.
        """
        ...

    async def run(self, context: Context, kernel: KernelId, code: str) -> CodeOutcome:
        """Return what the code came to, under a deadline. Raises `CodeFailed`; the kernel must not be used
        then any more.
        """
        ...

    async def stop(self, context: Context, kernel: KernelId) -> None:
        """Interrupt and delete the kernel. Must be idempotent, and give up within seconds. Raises nothing."""
        ...
