"""Waiting for news of a response that another gateway makes: until a notice comes, or until it is time to
look again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from regate_orchestrator.ports import Notices

SAFETY_SECONDS: Final = 5.0
"""How often is looked where notices come, in case that one was lost."""


class Watches:
    """Who waits for news of which response."""

    def __init__(self, notices: Notices) -> None:
        self._notices = notices
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        notices.subscribe("events", self._hear)

    @contextmanager
    def of(self, response: str) -> Iterator[Watch]:
        """Yield what waits for news of the response: none that comes from now on is missed."""
        news = asyncio.Event()
        self._waiting[response].add(news)
        try:
            yield Watch(self._notices, news)
        finally:
            self._waiting[response].discard(news)
            if not self._waiting[response]:
                del self._waiting[response]

    def _hear(self, response: str) -> None:
        heard = self._waiting.get(response, set()) if response else {
            news for waiting in self._waiting.values() for news in waiting
        }  # fmt: skip
        for news in heard:
            news.set()


class Watch:
    """Waits for news of one response."""

    def __init__(self, notices: Notices, news: asyncio.Event) -> None:
        self._notices = notices
        self._news = news

    async def wait(self, *, poll_s: float) -> None:
        """Return when there is news, or may be: after `poll_s` where no notices come."""
        try:
            async with asyncio.timeout(SAFETY_SECONDS if self._notices.is_shared else poll_s):
                await self._news.wait()
        except TimeoutError:
            pass
        self._news.clear()
