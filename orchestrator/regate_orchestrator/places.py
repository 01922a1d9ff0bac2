"""Places for work that is dear, shared by tenants so that none holds up another: whoever waits is served in
turn, and no tenant fills them.

A tenant may take a further place only while more are free than it has already. So alone it takes half of
them, whatever it asks for, and several that ask for all they can get leave one to the next; work that takes
long is in the way of its own tenant's work alone.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager


class Places:
    """So many places, for the tasks of one event loop."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._taken: Counter[str] = Counter()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """Who waits, by tenant; the tenant that was served longest ago comes first."""

    def full(self) -> frozenset[str]:
        """Return the tenants that have places and may take no further one now."""
        return frozenset(tenant for tenant in self._taken if not self._may_take(tenant))

    @contextmanager
    def taken(self, tenant: str) -> Iterator[None]:
        """Hold a place, which must be one that the tenant may take now."""
        self._take(tenant)
        try:
            yield
        finally:
            self._requeue(tenant)

    @asynccontextmanager
    async def in_turn(self, tenant: str) -> AsyncIterator[None]:
        """Hold a place, once the tenant may take one and has its turn."""
        if self._may_take(tenant) and tenant not in self._waiting:
            self._take(tenant)
        else:
            await self._wait(tenant)
        try:
            yield
        finally:
            self._requeue(tenant)

    async def _wait(self, tenant: str) -> None:
        served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(tenant, deque()).append(served)
        try:
            await served
        except asyncio.CancelledError:
            if not served.cancelled():  # it was served at the moment at which it gave up
                self._requeue(tenant)
            raise

    def _may_take(self, tenant: str) -> bool:
        return self._taken[tenant] < self._free

    def _take(self, tenant: str) -> None:
        self._free -= 1
        self._taken[tenant] += 1

    def _requeue(self, tenant: str) -> None:
        self._free += 1
        self._taken[tenant] -= 1
        if not self._taken[tenant]:
            del self._taken[tenant]
        self._serve()

    def _serve(self) -> None:
        """Give what is free to those who wait, one tenant after the other."""
        while (tenant := next((one for one in self._waiting if self._may_take(one)), None)) is not None:
            waiting = self._waiting.pop(tenant)
            served = waiting.popleft()
            if waiting:
                self._waiting[tenant] = waiting  # as the last
            if not served.cancelled():
                self._take(tenant)
                served.set_result(None)
