"""A real OPA for tests: managed as in production, on policies of the test's choosing. Not a fake;
there is none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType

from regate_adapters.opa.engine import OpaEngine
from regate_adapters.opa.install import require_opa
from regate_adapters.opa.server.process import ManagedOpa
from regate_orchestrator.filters.schema import RowSchema


def running_opa(
    policies: Path,
    *,
    schemas: Mapping[str, RowSchema] | None = None,
    deadline_s: float = 1.5,
    required: Collection[str] = (),
    verification_key: Path | None = None,
) -> RunningOpa:
    """Return a context that yields an engine on the directory's policies, which are watched: `async with
    running_opa(path) as engine`.

    With a verification key the policies are a signed bundle.
    """
    process = ManagedOpa(policies, opa=require_opa(), required=required, verification_key=verification_key)
    return RunningOpa(process, schemas=schemas or {}, deadline_s=deadline_s)


class RunningOpa:
    """The process, its watcher and one engine. `process` is there for tests that kill it, break its
    policies or read its `problem`.
    """

    def __init__(self, process: ManagedOpa, *, schemas: Mapping[str, RowSchema], deadline_s: float) -> None:
        self.process = process
        self._schemas = schemas
        self._deadline_s = deadline_s
        self._stack = AsyncExitStack()
        self._watch: asyncio.Task[None] | None = None

    async def __aenter__(self) -> OpaEngine:
        """Return the engine once OPA answers with the directory's policies."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.process)
            # Entered here and left in `__aexit__`, so that no `yield` stands inside the task group.
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            self._watch = tasks.create_task(self.process.watch())
            engine = await stack.enter_async_context(
                OpaEngine(self.process.address, schemas=self._schemas, deadline_s=self._deadline_s)
            )
            self._stack = stack.pop_all()
        return engine

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it all."""
        if self._watch is not None:
            self._watch.cancel()
        await self._stack.aclose()
