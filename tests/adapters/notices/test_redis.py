"""Notices over a real Redis: all others hear them, and after a loss everybody is told to look."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop
from tests.link import Link
from tests.patience import PATIENT_SECONDS
from tests.redis_server import RedisServer

from regate_adapters.notices.redis import RedisNotices
from regate_adapters.redis import connected
from regate_orchestrator.ports import Topic

FORGED = (
    b"\xff",
    "no json",
    "[]",
    '{"topic": "cancel"}',
    '{"from": "x", "topic": [], "about": "y"}',
    f'{{"from": "x", "topic": "cancel", "about": "{"y" * 201}"}}',
)


class Ear:
    """What one gateway hears of a topic."""

    def __init__(self, notices: RedisNotices, topic: Topic) -> None:
        self.heard: asyncio.Queue[str] = asyncio.Queue()
        notices.subscribe(topic, self.heard.put_nowait)

    async def next(self) -> str:
        async with asyncio.timeout(PATIENT_SECONDS):
            return await self.heard.get()


@asynccontextmanager
async def hearing(url: str, prefix: str, *, silent_s: float = 60) -> AsyncIterator[tuple[RedisNotices, Ear]]:
    async with connected(url, deadline_s=PATIENT_SECONDS) as redis:
        notices = RedisNotices(redis, prefix=prefix, deadline_s=1, silent_s=silent_s)
        ear = Ear(notices, "cancel")
        async with asyncio.TaskGroup() as group:
            working = group.create_task(notices.work())
            assert await ear.next() == ""  # whoever joins may have missed something
            yield notices, ear
            working.cancel()


async def test_all_others_hear_what_one_tells_and_nobody_anything_else(redis_server: RedisServer) -> None:
    url, prefix = redis_server.url(), secrets.token_hex(8)
    async with (
        hearing(url, prefix) as (one, own),
        hearing(url, prefix) as (_, other),
        hearing(url, prefix + "2") as (_, stranger),
        connected(url, deadline_s=PATIENT_SECONDS) as redis,
    ):
        for forged in FORGED:
            await redis.publish(f"{prefix}:notices", forged)
        one.tell("forget")
        one.tell("cancel", "resp_1")
        heard = [await other.next()]
        one.tell("cancel", "resp_2")
        heard.append(await other.next())

        assert heard == ["resp_1", "resp_2"]
        assert (one.is_shared, own.heard.empty(), stranger.heard.empty()) == (True, True, True)


@pytest.mark.parametrize("state", ["swallow", "cut"])
async def test_after_a_loss_all_are_told_to_look_and_hear_again(
    redis_server: RedisServer, state: Any
) -> None:
    prefix = secrets.token_hex(8)
    async with (
        Link(redis_server.port) as link,
        hearing(redis_server.url(link.port), prefix, silent_s=0.2) as (notices, ear),
        hearing(redis_server.url(), prefix) as (other, _),
    ):
        link.become(state)
        async with asyncio.timeout(PATIENT_SECONDS):
            while notices.is_shared:
                await asyncio.sleep(0.01)
        notices.tell("cancel", "resp_0")  # is lost, and harms nothing
        link.become("cut")
        link.become("pass")
        looked = await ear.next()
        other.tell("cancel", "resp_1")

        assert (looked, await ear.next(), notices.is_shared) == ("", "resp_1", True)


def test_connection_that_was_reset_while_nobody_used_it_ends_nothing(redis_server: RedisServer) -> None:
    prefix = secrets.token_hex(8)

    async def lived() -> list[str]:
        async with (
            Link(redis_server.port) as link,
            hearing(redis_server.url(link.port), prefix) as (notices, _),
            hearing(redis_server.url(), prefix) as (_, ear),
        ):
            notices.tell("cancel", "resp_0")
            heard = [await ear.next()]
            link.become("reset")
            async with asyncio.timeout(PATIENT_SECONDS):
                while notices.is_shared:
                    await asyncio.sleep(0.01)
            notices.tell("cancel", "resp_1")
            link.become("pass")
            async with asyncio.timeout(PATIENT_SECONDS):
                while not notices.is_shared:
                    await asyncio.sleep(0.01)
            while "resp_2" not in heard:  # each connection that was reset loses one
                notices.tell("cancel", "resp_2")
                await asyncio.sleep(0.01)
                heard += [] if ear.heard.empty() else [ear.heard.get_nowait()]
            return heard

    # The loop that the gateway runs on: it refuses to write to a transport that is closed
    assert uvloop.run(lived())[-1] == "resp_2"
