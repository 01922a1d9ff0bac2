"""Containers: the kernels in which code of callers runs, each of one person, in the memory of this gateway.

One is found by its owner alone, on the gateway that made it, and until it was idle for too long. It holds
what all code that ran in it may have known, since a variable of an earlier turn can hold it still.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final

from regate_orchestrator.lineage import NOTHING_READ, Lineage
from regate_orchestrator.ports import CodeKernels, KernelId
from regate_orchestrator.principal import Context, Principal

_SWEEP_SECONDS: Final = 15.0


@dataclass(slots=True)
class Container:
    """A container. Who runs code in it must hold the lock."""

    id: str
    context: Context
    """On whose behalf it was made, without a credential: it outlives the request."""
    used_at: float
    kernel: KernelId | None = None
    """None until it was started."""
    lineage: Lineage = NOTHING_READ
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    """The calls that run in it or wait to."""
    is_over: bool = False
    """Whether it was ended, maybe while a call waited for it."""

    def is_of(self, principal: Principal) -> bool:
        """Return whether it is this person's."""
        own = self.context.principal
        return (own.tenant, own.id) == (principal.tenant, principal.id)


class Containers:
    """The containers of this gateway."""

    def __init__(
        self,
        kernels: CodeKernels,
        *,
        most: int,
        most_each: int,
        idle_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.kernels = kernels
        self._most = most
        self._most_each = most_each
        self._idle_s = idle_s
        self._clock = clock
        self._held: dict[str, Container] = {}

    @contextmanager
    def using(self, context: Context, container: str, *, is_new: bool) -> Iterator[Container | None]:
        """Yield the caller's container of this id, which is kept while it is used; a new one where there is
        none and it may be new. None where it is absent, another's, or one too many: nobody is told which.
        """
        found = self._held.get(container)
        if found is not None and not found.is_of(context.principal):
            found = None
        elif found is None and is_new and self._has_room(context.principal):
            found = self._held[container] = Container(
                container, replace(context, credential=None), self._clock()
            )
        if found is None:
            yield None
            return
        found.users += 1
        try:
            yield found
        finally:
            found.users -= 1
            found.used_at = self._clock()

    async def discard(self, container: Container) -> None:
        """Forget the container, and end its kernel."""
        container.is_over = True
        if self._held.get(container.id) is container:
            del self._held[container.id]
        kernel, container.kernel = container.kernel, None
        if kernel is not None:
            await self.kernels.stop(container.context, kernel)

    async def work(self) -> None:
        """End containers that were idle for too long, for ever."""
        while True:
            await asyncio.sleep(_SWEEP_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        """End the containers that were idle for too long."""
        over = self._clock() - self._idle_s
        for container in [one for one in self._held.values() if not one.users and one.used_at < over]:
            await self.discard(container)

    async def close(self) -> None:
        """End all containers."""
        async with asyncio.TaskGroup() as group:
            for container in list(self._held.values()):
                group.create_task(self.discard(container))

    def _has_room(self, principal: Principal) -> bool:
        own = sum(one.is_of(principal) for one in self._held.values())
        return len(self._held) < self._most and own < self._most_each
