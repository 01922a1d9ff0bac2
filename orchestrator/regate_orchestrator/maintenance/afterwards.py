"""What had to be let go of and could not, as the state store did not answer: it is done when it answers.

Not what a gateway that is gone left behind (`membership.py`): this one lives, so nobody else may do it.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from regate_orchestrator.errors import RegateError, StateUnavailable

_log = logging.getLogger("regate.afterwards")
_MOST: Final = 10_000

Deed = Callable[[], Awaitable[object]]


class Afterwards:
    """Deeds that are tried again until the state store answers. Each must do nothing where it was done
    already. `work` must run.
    """

    def __init__(self, *, again_s: float = 1.0) -> None:
        self._again_s = again_s
        self._left: deque[Deed] = deque(maxlen=_MOST)
        self._news = asyncio.Event()

    def do(self, deed: Deed) -> None:
        """Have this done as soon as the state store answers."""
        self._left.append(deed)
        self._news.set()

    async def work(self) -> None:
        """Do what is left, until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(self._again_s)
            await self._do_all()

    async def _do_all(self) -> None:
        self._news.clear()
        while self._left:
            deed = self._left.popleft()
            try:
                await deed()
            except StateUnavailable:
                self.do(deed)
                return
            except RegateError as error:  # somebody else has done it
                _log.warning("not_done_afterwards", extra={"cause": error.message})
