"""One process that forks the readers of files for all gateways of a test process: to start and to warm it
takes longer than most tests.

Each file is read by a child of its own all the same. What becomes of the process itself is the matter of
`tests/adapters/files`, where each extractor has its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from regate_adapters.files.readers.extract import WORKER
from regate_adapters.files.readers.server_process import ServerProcess


class _Shared(ServerProcess):
    """A server that goes on when a gateway leaves it."""

    async def end(self) -> None:
        """Leave it to the next gateway."""

    async def end_for_all(self) -> None:
        await super().end()


@contextmanager
def shared_readers() -> Iterator[None]:
    """Have every gateway of this process use one server, until leaving. Who wants another program, or comes
    when it has failed, starts one.
    """
    start = ServerProcess.start
    with asyncio.Runner() as loop, ThreadPoolExecutor(1) as beside, pytest.MonkeyPatch.context() as patch:
        # A thread of its own, so that no test's loop is ever disturbed by the one that watches the process
        shared = beside.submit(loop.run, _Shared.start(WORKER)).result()

        async def started(program: Sequence[str]) -> ServerProcess:
            fit = tuple(program) == WORKER and not shared.has_failed
            return shared if fit else await start(program)

        patch.setattr(ServerProcess, "start", started)
        yield
        beside.submit(loop.run, shared.end_for_all()).result()
