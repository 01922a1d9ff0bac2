"""`RedisNotices`: notices over one channel of a Redis that gateways share (PUBLISH and SUBSCRIBE).

While the connection is lost it is made again once a second. Whoever subscribed is told then that notices may
have been missed. A connection that is silent is asked whether it still lives.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import deque
from typing import Any, Final

import orjson
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from regate_adapters.redis import FAILURES, cause, let_go_of_idle
from regate_orchestrator.metrics import Metrics
from regate_orchestrator.ports import TOPICS, Hear, Topic

_log = logging.getLogger("regate.notices")
_TRY_AGAIN_SECONDS: Final = 1.0
_SILENT_SECONDS: Final = 5.0
_MAX_WAITING: Final = 1_000
_MAX_ABOUT: Final = 200


class RedisNotices:
    """Tells and hears. `work` must run for as long as it is used."""

    def __init__(
        self,
        redis: Redis,
        *,
        prefix: str,
        deadline_s: float,
        metrics: Metrics | None = None,
        silent_s: float = _SILENT_SECONDS,
    ) -> None:
        self._redis = redis
        self._channel = f"{prefix}:notices"
        self._deadline_s = deadline_s
        self._silent_s = silent_s
        self._own = secrets.token_hex(8)
        self._heard: dict[Topic, list[Hear]] = {topic: [] for topic in TOPICS}
        self._waiting: deque[bytes] = deque(maxlen=_MAX_WAITING)
        self._news = asyncio.Event()
        self._was_lost = False
        self.is_shared = False
        (metrics or Metrics()).reading(
            "gauge",
            "regate_notices_shared",
            "Whether notices of other gateways reach this one.",
            lambda: {(): float(self.is_shared)},
            across="lowest",
        )

    def subscribe(self, topic: Topic, hear: Hear) -> None:
        """Have this called. See `ports.Notices.subscribe`."""
        self._heard[topic].append(hear)

    def tell(self, topic: Topic, about: str = "") -> None:
        """Have the others told. See `ports.Notices.tell`."""
        self._waiting.append(orjson.dumps({"from": self._own, "topic": topic, "about": about}))
        self._news.set()

    async def work(self) -> None:
        """Tell and hear until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._telling())
            group.create_task(self._hearing())

    async def _telling(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            told = list(dict.fromkeys(self._waiting))
            self._waiting.clear()
            try:
                async with asyncio.timeout(self._deadline_s):
                    pipeline = self._redis.pipeline(transaction=False)
                    for notice in told:
                        pipeline.publish(self._channel, notice)
                    await pipeline.execute()
            except FAILURES as error:  # whoever should have heard looks for itself in the end
                await let_go_of_idle(self._redis, error, within_s=self._deadline_s)
                _log.warning("notices_not_told", extra={"count": len(told), "cause": cause(error)})

    async def _hearing(self) -> None:
        while True:
            try:
                await self._listen()
            except FAILURES as error:
                if self.is_shared or not self._was_lost:
                    detail = "gateways look for themselves until it is back"
                    _log.warning("notices_lost", extra={"cause": cause(error), "detail": detail})
                self._was_lost, self.is_shared = True, False
            await asyncio.sleep(_TRY_AGAIN_SECONDS)

    async def _listen(self) -> None:
        """Hear until the connection is lost, which raises."""
        async with self._redis.pubsub() as listening:
            async with asyncio.timeout(self._deadline_s):
                await listening.subscribe(self._channel)
                await listening.get_message(timeout=self._deadline_s)  # that it is subscribed
            if self._was_lost:
                _log.warning("notices_again", extra={"detail": "notices of other gateways are heard again"})
            self.is_shared, self._was_lost = True, False
            for topic in TOPICS:
                self._say(topic, "")
            is_asked = False
            while True:
                message = await listening.get_message(timeout=self._silent_s)
                if message is not None:
                    is_asked = False
                    self._take(message)
                elif is_asked:
                    raise RedisConnectionError("it is silent")
                else:
                    is_asked = True
                    async with asyncio.timeout(self._deadline_s):
                        await listening.ping()

    def _take(self, message: dict[str, Any]) -> None:
        """Say a notice on. What is none is passed over: the channel is open to whoever reaches Redis."""
        if message.get("type") != "message":
            return
        try:
            notice = orjson.loads(message["data"])
        except ValueError:
            return
        match notice:
            case {"from": str() as sender, "topic": topic, "about": str() as about} if topic in TOPICS:
                if sender != self._own and len(about) <= _MAX_ABOUT:
                    self._say(topic, about)
            case _:
                pass

    def _say(self, topic: Topic, about: str) -> None:
        for hear in self._heard[topic]:
            hear(about)
